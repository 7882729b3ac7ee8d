//! Programs that are right: the examples, and what they become.

#[path = "programs/models.rs"]
mod models;
mod support;

use std::cell::RefCell;
use std::time::Instant;

use jam_dsl::{CompileOptions, Compiled, World, compile, report};
use jam_ir::recipe::{BatchSize, DataSource};
use jam_ir::span::FileId;
use jam_ir::verify::verify;
use jam_ir::{Part, Program, SettingValue, TokenLayout};
use support::{repository, words};

/// Files of the repository; nothing else is there.
struct Repository;

impl World for Repository {
    fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(repository().join(path)).map_err(|error| error.to_string())
    }

    fn exists(&self, _: &str) -> bool {
        false
    }
}

fn compile_file(path: &str, set: &[(&str, &str)]) -> Compiled {
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    compile_text(path, &text, set)
}

fn compile_text(path: &str, text: &str, set: &[(&str, &str)]) -> Compiled {
    let words = words();
    let set: Vec<(String, String)> = set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let options = CompileOptions {
        words: &words,
        set: &set,
        seed: None,
    };
    compile(path, text, &Repository, &options)
}

/// The program of a text without errors.
fn sound(compiled: Compiled) -> Program {
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    assert!(!compiled.diagnostics.has_errors(), "{text}");
    compiled.program.unwrap()
}

fn parameters(program: &Program, model: &str) -> u64 {
    let model = &program.models[model].model;
    let uses = model.weight_uses();
    let sizes = uses
        .values()
        .map(|param| model.weight_shape(&param.ty).unwrap());
    sizes.map(|shape| shape.iter().product::<u64>()).sum()
}

#[test]
fn every_example_compiles_at_every_size() {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(repository().join("examples")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path())
            .into_iter()
            .flatten()
        {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jam") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 4);
    for file in files {
        let path = file
            .strip_prefix(repository())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let program = sound(compile_file(&path, &[]));
        if program.settings.contains_key("size") {
            for size in ["smoke", "quick", "full"] {
                let program = sound(compile_file(&path, &[("size", size)]));
                assert_eq!(program.settings["size"], size);
            }
        }
        for (name, recipe) in &program.models {
            assert_eq!(verify(&recipe.model), Ok(()), "{path}: {name}");
        }
    }
}

#[test]
fn the_parents_of_the_paper_have_its_sizes() {
    let program = sound(compile_file("examples/paper/parents.jam", &[]));
    assert_eq!(parameters(&program, "llm"), 6_729_801_728);
    assert_eq!(
        program.models["cm3leon"].weights.as_deref(),
        Some("weights/cm3leon")
    );
    let layout = &program.tokens["mixed"];
    assert_eq!((layout.size, layout.grid), (66_056, 32));
    assert_eq!((layout.marks["bos"], layout.marks["eos"]), (0, 2));
    assert_eq!(layout.marks["mask:511"], layout.marks["break"] + 2 + 511);
    let names: Vec<&str> = program.models["llm"]
        .model
        .weights
        .keys()
        .map(String::as_str)
        .take(4)
        .collect();
    assert_eq!(
        names,
        [
            "embed.table",
            "positions.table",
            "layers.0.attn.q",
            "layers.0.attn.k"
        ]
    );
}

#[test]
fn records_update_one_another_and_the_command_line_updates_both() {
    let text = "
setting size = one_of(quick, full)
setting data = \"data\"
seed 7
data corpus = text(data + \"/*.txt\", val: data + \"/val.txt\")
model small { tokens = 100, context = 32, width = 8, logits = unembed(embed(tokens)) }
train first {
    model     = small
    data      = mix(0.75 * corpus, 25% * corpus.val)
    validate  = corpus.val
    optimizer = adamw(lr: 3e-5, betas: [0.9, 0.95])
    schedule  = linear(warmup: 5, floor: 10%)
    batch     = tokens(8Ki)
    steps     = choose(size, quick: 10, full: 1k)
}
train second = first { model = first.best, form = rows, length = 16 }
";
    let program = sound(compile_text("a/b.jam", text, &[]));
    assert_eq!((program.name.as_str(), program.seed), ("b", 7));
    let (first, second) = (&program.trainings["first"], &program.trainings["second"]);
    assert_eq!((first.steps, first.length, first.seed), (10, 32, 7));
    assert_eq!((second.steps, second.length), (10, 16));
    assert_eq!(second.model.to_string(), "first.best");
    assert_eq!(first.optimizer.number("lr"), Ok(3e-5));
    assert_eq!(first.schedule.number("floor"), Ok(0.1));
    let shares: Vec<f64> = first.data.iter().map(|(share, _)| *share).collect();
    assert_eq!(shares, [0.75, 0.25]);

    let set = [
        ("size", "full"),
        ("data", "\"/other\""),
        ("second.steps", "5"),
        ("seed", "9"),
    ];
    let program = sound(compile_text("a/b.jam", text, &set));
    assert_eq!(program.trainings["first"].steps, 1000);
    assert_eq!(program.trainings["second"].steps, 5);
    assert_eq!(program.seed, 9);
    assert_eq!(program.settings["size"], "full");
    for folder in ["/other", "../elsewhere/data", "C:\\data", "(1", "one_of"] {
        let program = sound(compile_text("a/b.jam", text, &[("data", folder)]));
        let files = DataSource::Files(vec![format!("{folder}/*.txt")]);
        assert_eq!(program.data["corpus"].splits["train"], files);
    }
    let files = DataSource::Files(vec!["/other/*.txt".to_owned()]);
    assert_eq!(program.data["corpus"].splits["train"], files);
    assert_eq!(program.data["corpus"].held_out, 0.0);
    let order: Vec<String> = program
        .steps
        .iter()
        .map(|step| format!("{step:?}"))
        .collect();
    assert_eq!(order, ["Train(\"first\")", "Train(\"second\")"]);
    let set = [
        ("second.optimizer.lr", "1e-2"),
        ("second.optimizer.clip", "1"),
    ];
    let program = sound(compile_text("a/b.jam", text, &set));
    assert_eq!(program.trainings["second"].optimizer.number("lr"), Ok(1e-2));
    assert_eq!(
        program.trainings["second"].optimizer.number("clip"),
        Ok(1.0)
    );
    assert_eq!(program.trainings["first"].optimizer.number("lr"), Ok(3e-5));
    // A bare word may be given settings.
    let bare = text.replace("linear(warmup: 5, floor: 10%)", "linear");
    let set = [("second.schedule.warmup", "3")];
    let program = sound(compile_text("a/b.jam", &bare, &set));
    assert_eq!(program.trainings["second"].schedule.count("warmup"), Ok(3));
    // What the command line says of a recipe is part of what others update, unless they say it anew.
    let set = [
        ("first.length", "8"),
        ("first.batch", "rows(3)"),
        ("first.optimizer.lr", "1e-2"),
    ];
    let program = sound(compile_text("a/b.jam", text, &set));
    let second = &program.trainings["second"];
    assert_eq!((second.length, second.batch), (16, BatchSize::Rows(3)));
    assert_eq!(second.optimizer.number("lr"), Ok(1e-2));
    // A record may be called as a word of the language is.
    let named = text.replace("second", "seed").replace("first", "f");
    let program = sound(compile_text("a/b.jam", &named, &[("seed.steps", "3")]));
    assert_eq!((program.seed, program.trainings["seed"].steps), (7, 3));
    let program = sound(compile_text("a/b.jam", text, &[("small.width", "16")]));
    assert_eq!(parameters(&program, "small"), 1600);
}

#[test]
fn a_setting_chooses_among_words_that_are_called() {
    let text = "
setting course = one_of(cosine, linear)
data corpus = text(\"a.txt\")
model small { tokens = 100, context = 32, width = 8, logits = unembed(embed(tokens)) }
model long = small { context = 64 }
fuse both = uniform(long, small)
train t {
    model = both, data = corpus, optimizer = adamw(lr: 1e-3), batch = rows(1), steps = 2
    schedule = course
}
";
    for course in ["cosine", "linear"] {
        let program = sound(compile_text("a.jam", text, &[("course", course)]));
        let training = &program.trainings["t"];
        assert_eq!(training.schedule.name, course);
        // Both parents bound the sequences of the fusion.
        assert_eq!(training.length, 32);
    }
}

/// Files by path, and which of those that a program names it asks for.
struct Folder(Vec<(&'static str, &'static str)>, RefCell<Vec<String>>);

impl World for Folder {
    fn read(&self, path: &str) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found
            .map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| format!("no {path}"))
    }

    fn exists(&self, path: &str) -> bool {
        self.1.borrow_mut().push(path.to_owned());
        true
    }
}

#[test]
fn paths_start_in_the_folder_of_the_program_that_names_them() {
    let named = "model m { tokens = 10, width = 4, weights = \"weights/w\", logits = unembed(embed(tokens)) }";
    let main = "use \"../x.jam\"\nuse \"./../x.jam\"";
    let cases = [
        ("main.jam", "../x.jam", "../weights/w"),
        ("./main.jam", "./../x.jam", "./../weights/w"),
        ("dir/main.jam", "x.jam", "weights/w"),
        ("s/t/main.jam", "s/x.jam", "s/weights/w"),
        ("/p/dir/main.jam", "/p/x.jam", "/p/weights/w"),
    ];
    for (path, used, weights) in cases {
        let world = Folder(vec![(used, named)], RefCell::default());
        let compiled = compile(path, main, &world, &CompileOptions::default());
        let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
        assert!(text.is_empty(), "{path}: {text}");
        assert_eq!(*world.1.borrow(), [weights], "{path}");
        let model = &compiled.program.unwrap().models["m"];
        assert!(
            model.weights.as_deref().unwrap().ends_with("../weights/w"),
            "{path}"
        );
    }
}

#[test]
fn a_setting_of_a_fusion_brings_those_that_it_implies() {
    let text = "use \"examples/paper/parents.jam\"\n\
                fuse exact = cross(llm, cm3leon, start: parents)\n\
                fuse paper = cross(llm, cm3leon)\n";
    let program = sound(compile_text("fusions.jam", text, &[]));
    let head = |fusion: &str| program.fusions[fusion].settings["head"].to_string();
    assert_eq!(
        (head("exact").as_str(), head("paper").as_str()),
        ("rows", "joint")
    );
}

#[test]
fn the_language_of_the_design_is_understood() {
    // The program of the design page, without what comes later.
    let program = sound(compile_file("examples/paper/tables.jam", &[]));
    assert_eq!(program.fusions["jam_cross"].strategy, "cross");
    let parents: Vec<String> = program.fusions["jam_cross"]
        .parents
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(parents, ["llm", "cm3leon"]);
    assert_eq!(
        program.fusions["jam_cross"].settings["every"],
        SettingValue::Count(2)
    );
    let never = SettingValue::Word("never".to_owned());
    assert_eq!(program.fusions["jam_cross_never"].settings["every"], never);
    assert_eq!(program.trainings["align"].batch, BatchSize::Tokens(8 << 20));
    assert_eq!(program.trainings["align"].length, 4096);
    assert_eq!(program.decodings["answer"].image.guidance, 3.5);
}

#[test]
fn a_long_program_is_checked_fast() {
    let mut text =
        std::fs::read_to_string(repository().join("examples/drawing/drawing.jam")).unwrap();
    let mut copies = 0;
    while text.lines().count() < 300 {
        text.push_str(&format!(
            "
train more_{copies} = tune_cross {{
    steps    = {copies} + 10
    data     = mix(0.5 * articles, 0.5 * pairs)
    validate = [articles.val, pairs.val]
}}
"
        ));
        copies += 1;
    }
    sound(compile_text("long.jam", &text, &[("size", "full")]));
    let start = Instant::now();
    sound(compile_text("long.jam", &text, &[("size", "full")]));
    eprintln!("{} lines in {:?}", text.lines().count(), start.elapsed());
    // Printed for those who measure; a machine under load must not fail a test.
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn the_examples_keep_their_meaning_and_comments_when_formatted() {
    for path in [
        "examples/drawing/drawing.jam",
        "examples/emoji/emoji.jam",
        "examples/paper/tables.jam",
    ] {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let formatted = jam_dsl::format(FileId(0), &text).unwrap();
        assert_eq!(jam_dsl::format(FileId(0), &formatted).unwrap(), formatted);
        assert_eq!(
            text.matches("//").count(),
            formatted.matches("//").count(),
            "{path}"
        );
        let strip = |program: &Program| format!("{:?} {:?}", program.steps, program.settings);
        let before = sound(compile_text(path, &text, &[]));
        let after = sound(compile_text(path, &formatted, &[]));
        assert_eq!(strip(&before), strip(&after));
    }
}

#[test]
fn the_programs_of_the_language_page_compile() {
    let page = std::fs::read_to_string(repository().join("docs/language.md")).unwrap();
    let programs: Vec<&str> = page
        .split("```jam\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(programs.len() >= 4);
    for program in programs {
        sound(compile_text("language.jam", program, &[]));
        let formatted = jam_dsl::format(FileId(0), program).unwrap();
        sound(compile_text("language.jam", &formatted, &[]));
    }
}

#[test]
fn settings_differ_by_parent_layer_and_part() {
    let models = "model a { tokens = 8, width = 4, logits = unembed(embed(tokens)) }
        model b = a {}
        model c = a {}
    ";
    let fuse = "fuse m = ties(a, b, base: c, lambda: 50%,
        weight: [ramp(0.2, 0.5, 1), parts(mlp: 0.25, head: ramp(0, 1))])
    fuse n = passthrough(a, a, layers: [[0, 2], [1, 4]])";
    let program = sound(compile_text("merge.jam", &format!("{models}{fuse}"), &[]));
    let fusion = &program.fusions["m"];
    let parents: Vec<String> = fusion.parents.iter().map(ToString::to_string).collect();
    assert_eq!(parents, ["a", "b", "c"]);
    assert_eq!(fusion.parent_spans.len(), 3);
    let number = SettingValue::Number;
    assert_eq!(fusion.settings["base"], SettingValue::Parent(2));
    assert_eq!(fusion.settings["lambda"], number(0.5));
    let parts = vec![
        (Part::Mlp, number(0.25)),
        (Part::Head, SettingValue::Ramp(vec![0.0, 1.0])),
    ];
    assert_eq!(
        fusion.settings["weight"],
        SettingValue::List(vec![
            SettingValue::Ramp(vec![0.2, 0.5, 1.0]),
            SettingValue::Parts(parts, Box::new(number(1.0))),
        ])
    );
    assert_eq!(
        fusion.settings["weight"].to_string(),
        "[ramp(0.2, 0.5, 1), parts(mlp: 0.25, head: ramp(0, 1), rest: 1)]"
    );
    let runs = &program.fusions["n"].settings["layers"];
    assert_eq!(runs.to_string(), "[[0, 2], [1, 4]]");
}

/// The ids of Chameleon's folders: pictures and marks are tokens of the text tokenizer.
#[test]
fn pictures_and_marks_stand_among_the_ids_of_a_text_tokenizer() {
    let program = |image: &str| {
        let text = format!(
            "tokens inside {{\n    text = 100\n    image = vq(\"weights\", codes: 64, grid: 8, {image})\n    \
             marks = [bos, eos(2), break(99)]\n    pad_to = 8\n}}\n"
        );
        let program = sound(compile_text("inside.jam", &text, &[]));
        program.tokens["inside"].clone()
    };
    use jam_ir::TokenKind::{Filler, Image, Mark, Text};
    let kinds = |layout: &TokenLayout| -> Vec<_> {
        let ranges = layout.ranges.iter();
        ranges
            .map(|range| (range.kind, range.start, range.len))
            .collect()
    };
    // A mark of its own stands before them all.
    let layout = program("from: 4");
    let own = [
        (Mark, 0, 1),
        (Text, 1, 2),
        (Mark, 3, 1),
        (Text, 4, 1),
        (Image, 5, 64),
        (Text, 69, 31),
        (Mark, 100, 1),
        (Filler, 101, 3),
    ];
    assert_eq!(kinds(&layout), own);
    assert_eq!((layout.marks["eos"], layout.marks["break"]), (3, 100));
    assert_eq!((layout.first(Text), layout.first(Image)), (1, 5));
    let layout = program("from: 3");
    assert_eq!(kinds(&layout)[2..4], [(Mark, 3, 1), (Image, 4, 64)]);
}

/// As in OPT's files: one token begins and ends documents, and another is the first of all.
#[test]
fn a_token_may_be_several_marks_and_the_first_of_its_tokenizer() {
    let tokens = |rest: &str| {
        let text = format!("tokens t {{\n    text  = 10\n    {rest}\n}}\n");
        sound(compile_text("t.jam", &text, &[])).tokens["t"].clone()
    };
    use jam_ir::TokenKind::{Mark, Text};
    let layout = tokens("marks = [unk(0), bos(2), eos(2)]");
    let marks: Vec<_> = layout.marks.iter().collect();
    let marks: Vec<_> = marks
        .iter()
        .map(|(name, id)| (name.as_str(), **id))
        .collect();
    assert_eq!(marks, [("unk", 0), ("bos", 2), ("eos", 2)]);
    assert_eq!(layout.rows(Text), [(1, 2), (3, 10)]);
    assert_eq!((layout.first(Text), layout.room(Text)), (0, 10));
    assert_eq!(layout.begin, "eos");
    // A mark of its own before them does not belong to the tokenizer.
    let layout = tokens("marks = [pad, bos(0), eos(1)], begin = bos");
    assert_eq!(layout.rows(Mark), [(0, 1), (1, 2), (2, 3)]);
    assert_eq!((layout.first(Text), layout.room(Text)), (1, 10));
    assert_eq!(layout.begin, "bos");
}
