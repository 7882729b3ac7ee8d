//! Words that only the table knows: one that is added to it is read, checked and suggested without a line
//! of the language.

use jam_dsl::{CompileOptions, Compiled, World, compile, report};
use jam_ir::signature::{FormatSignature, Makes, Rule, TokenizerSignature};
use jam_ir::{
    Holds, ModelRef, Program, Reference, SettingKind, SettingSignature, SettingValue, Signature,
    TextTokens, Words,
};

/// There are no files.
struct Nowhere;

impl World for Nowhere {
    fn read(&self, path: &str) -> Result<String, String> {
        Err(format!("there is no file `{path}`"))
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

/// A measure with a setting of every kind that recipes have.
fn compare() -> Signature {
    let new = SettingSignature::new;
    let pair = SettingValue::List([0.25, 0.75].map(SettingValue::Number).to_vec());
    Signature::new("compare", "how far a model is from another")
        .of_each(SettingSignature::data(
            "data",
            Holds::Documents,
            false,
            "what both read",
        ))
        .with([
            new("with", SettingKind::Model, None, "the other model"),
            new("decode", SettingKind::Decode, None, "how both are sampled"),
            new(
                "share",
                SettingKind::Pair { min: 0.0, max: 1.0 },
                Some(pair),
                "of what",
            ),
            new(
                "side",
                SettingKind::OneOf(vec![1, 3]),
                Some(SettingValue::Count(1)),
                "a side",
            ),
            SettingSignature::word("by", &["sum", "mean"], "how it adds up"),
            SettingSignature::flag("norm", false, "whether by length"),
            SettingSignature::text("field", "text", "which field"),
            SettingSignature::count("limit", (0, 100), 0, "at most"),
            SettingSignature::count("tall", (1, 64), 8, "rows"),
            SettingSignature::count("wide", (1, 64), 2, "columns"),
            SettingSignature::number("scale", (0.0, 2.0), 1.0, "a factor"),
            SettingSignature::seed("of the draws"),
        ])
        .where_holds(Rule::PowerOfTwoTimes {
            setting: "tall".to_owned(),
            of: "wide".to_owned(),
        })
}

/// The words of the house and one more of everything.
fn words() -> Words {
    let mut words = Words::read(include_str!("words.ron")).unwrap();
    words.formats.push(FormatSignature {
        signature: Signature::new("letters", "letters").with([SettingSignature::flag(
            "upright",
            true,
            "as they stand",
        )]),
        holds: vec![Holds::Documents],
        held_out: true,
    });
    words.tokenizers.push(TokenizerSignature {
        signature: Signature::new("runes", "letters as tokens").with([
            SettingSignature::data("train", Holds::Documents, true, "letters"),
            SettingSignature::count("most", (2, 64), None, "how many"),
        ]),
        makes: Makes::Texts {
            size: "most".to_owned(),
        },
    });
    let rate = SettingSignature::number("lr", (0.0, 1.0), None, "a rate");
    words
        .optimizers
        .push(Signature::new("lion", "signs").with([rate]));
    words.schedules.push(Signature::new("steps", "steps down"));
    words
        .objectives
        .push(Signature::new("middle", "what is left out"));
    words.measures.push(compare());
    words
}

/// A program whose report is measured by `measure`.
fn program(measure: &str) -> String {
    format!(
        "seed 7
data post = letters(\"data/*.txt\", val: \"data/val.txt\", upright: no)
data old  = text(\"data/old/*.txt\")
tokenizer small = runes(train: [post, old], most: 40)
tokens mixed {{ text = small, marks = [bos, pad, eos, unk] }}
model one {{ tokens = mixed, context = 32, width = 8, logits = unembed(embed(tokens)) }}
model two = one {{ width = 16 }}
train run {{
    model     = one
    data      = post
    objective = middle
    optimizer = lion(lr: 0.5)
    schedule  = steps
    batch     = rows(2)
    steps     = 3
}}
decode plain {{ text = greedy }}
eval report {{ models = [one, run], measure = {measure} }}
"
    )
}

fn compiled(measure: &str) -> Compiled {
    let words = words();
    let options = CompileOptions {
        words: &words,
        set: &[],
        seed: None,
    };
    compile("a.jam", &program(measure), &Nowhere, &options)
}

fn sound(measure: &str) -> Program {
    let compiled = compiled(measure);
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    assert!(!compiled.diagnostics.has_errors(), "{text}");
    compiled.program.unwrap()
}

/// The messages and ways out of what is reported.
fn told(measure: &str) -> Vec<(String, String)> {
    let diagnostics = compiled(measure).diagnostics;
    diagnostics
        .iter()
        .map(|found| {
            (
                found.message.clone(),
                found.help.clone().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn a_word_of_the_table_is_read_with_all_its_settings() {
    let measure = "compare(post.val, old, with: two, decode: plain, share: [0.5, 1], side: 3, \
                   by: mean, norm: yes, field: \"body\", limit: 5, scale: 1/2)";
    let program = sound(measure);
    let measures = &program.evaluations["report"].measures;
    assert_eq!(measures.len(), 2, "a use for each data set");
    let first = &measures[0];
    assert_eq!(first.split("data").unwrap().to_string(), "post.val");
    assert_eq!(measures[1].split("data").unwrap().to_string(), "old.train");
    assert_eq!(first.model("with").unwrap(), &ModelRef::last("two"));
    assert_eq!(first.pair("share"), Ok((0.5, 1.0)));
    assert_eq!(first.count("side"), Ok(3));
    assert_eq!(
        (first.word("by"), first.flag("norm")),
        (Ok("mean"), Ok(true))
    );
    assert_eq!(
        (first.text("field"), first.count("limit")),
        (Ok("body"), Ok(5))
    );
    assert_eq!(
        (first.number("scale"), first.count("seed")),
        (Ok(0.5), Ok(7))
    );
    let two = ModelRef::last("two");
    assert_eq!(
        first.references(),
        [
            Reference::Data(first.split("data").unwrap()),
            Reference::Model(&two),
            Reference::Decode("plain")
        ]
    );
    assert_eq!(program.data["post"].format.flag("upright"), Ok(false));
    assert_eq!(program.data["old"].held_out, 0.05);
    let train = &program.trainings["run"];
    let names = [&train.objective, &train.optimizer, &train.schedule].map(|of| of.name.as_str());
    assert_eq!(names, ["middle", "lion", "steps"]);
    let tokens = &program.tokens["mixed"];
    assert_eq!(tokens.text, TextTokens::Tokenizer("small".to_owned()));
    assert_eq!(tokens.size, 40 + 4);
}

#[test]
fn what_is_silent_has_its_default_and_the_program_s_seed() {
    let program = sound("compare(post, with: run.last, decode: plain)");
    let first = &program.evaluations["report"].measures[0];
    assert_eq!(first.pair("share"), Ok((0.25, 0.75)));
    assert_eq!((first.count("side"), first.word("by")), (Ok(1), Ok("sum")));
    assert_eq!(first.count("seed"), Ok(7));
    let order: Vec<&String> = first.settings.keys().collect();
    assert_eq!(order[..3], ["data", "with", "decode"]);
}

#[test]
fn mistakes_in_a_word_of_the_table_are_told_as_in_any_other() {
    let one = |measure: &str| {
        let mut all = told(measure);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    };
    let rest = "with: two, decode: plain";
    let (message, help) = one(&format!("compar(post, {rest})"));
    assert_eq!(message, "`measure` cannot be `compar`");
    assert_eq!(help, "did you mean `compare`?");
    let (message, help) = one("compare(post, with: two)");
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("`compare` needs `decode`", "add `decode: …`")
    );
    let (message, help) = one(&format!("compare(post, {rest}, limt: 3)"));
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("`compare` has no `limt`", "did you mean `limit`?")
    );
    let (message, help) = one(&format!("compare(post, {rest}, by: maen)"));
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("`by` cannot be `maen`", "did you mean `mean`?")
    );
    let (message, _) = one(&format!("compare(post, {rest}, side: 2)"));
    assert_eq!(message, "`side` is 2, but must be 1 or 3");
    let (message, _) = one(&format!("compare(post, {rest}, limit: 101)"));
    assert_eq!(message, "`limit` is 101, but must be at most 100");
    let (message, help) = one(&format!("compare(post, {rest}, share: [1, 1, 1])"));
    assert_eq!(message, "`share` are two numbers, not 3");
    assert_eq!(help, "write `share: [0.25, 0.75]`");
    let (message, _) = one("compare(post, with: post, decode: plain)");
    assert_eq!(
        message,
        "`post` is a data set, not a model or a fusion or a training"
    );
    let (message, _) = one("compare(post, with: two, decode: two)");
    assert_eq!(message, "`two` is a model, not a way of sampling");
    let (message, _) = one(&format!("compare({rest})"));
    assert_eq!(message, "`compare` needs a value: what both read");
    let (message, _) = one(&format!("compare(post, {rest}, tall: 12, wide: 4)"));
    assert_eq!(
        message,
        "`tall` must be 1, 2, 4, 8, … times `wide`, and 12 is 3 times 4"
    );
    let (message, _) = one(&format!("compare(post, {rest}, wide: 3)"));
    assert_eq!(
        message,
        "`tall` must be 1, 2, 4, 8, … times `wide`, and 8 is no multiple of 3"
    );
    let (message, _) = one("drawn(post, decode: plain)");
    assert_eq!(message, "`drawn` takes pictures with captions, not `post`");
}
