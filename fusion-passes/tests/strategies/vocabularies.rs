//! Parents whose vocabularies differ: rows are taken by token.

use jam_fusion_passes::{Fused, NoPieces, Pieces, fuse_by_tokens};
use jam_ir::origins::{From, cut, origins};
use jam_ir::plan_shape::plan_shape;
use jam_ir::{Diagnostic, Model, Role, SettingValue, TextTokens, TokenKind, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

use crate::parents::{Family, cm3leon, llama, opt, settings, word};
use crate::reference::plan::{concat, slice};
use crate::reference::{Tensor, graph, plan};

/// A vocabulary of these ranges, with marks by name.
pub(crate) fn layout(kinds: &[(TokenKind, u64)], marks: &[(&str, u64)]) -> TokenLayout {
    let mut layout = TokenLayout::empty("");
    kinds.iter().for_each(|(kind, len)| layout.add(*kind, *len));
    let marks = marks.iter();
    layout.marks = marks.map(|(name, id)| ((*name).to_owned(), *id)).collect();
    layout
}

/// bos, eos, ten text tokens.
fn text_only() -> TokenLayout {
    use TokenKind::{Mark, Text};
    layout(&[(Mark, 2), (Text, 10)], &[("bos", 0), ("eos", 1)])
}

/// bos, pad, eos, the same ten text tokens, five image tokens, break.
fn with_images() -> TokenLayout {
    use TokenKind::{Image, Mark, Text};
    let marks = [("bos", 0), ("pad", 1), ("eos", 2), ("break", 18)];
    let mut layout = layout(&[(Mark, 3), (Text, 10), (Image, 5), (Mark, 1)], &marks);
    layout.grid = 1;
    layout
}

/// Row of the text-only parent for every id of the other.
const OWN: [Option<u64>; 19] = {
    let mut own = [None; 19];
    own[0] = Some(0);
    own[2] = Some(1);
    let mut text = 0;
    while text < 10 {
        own[3 + text] = Some(2 + text as u64);
        text += 1;
    }
    own
};

pub(crate) fn family(
    kind: fn(u64, u64, u64) -> DecoderConfig,
    widths: [u64; 2],
    layouts: [TokenLayout; 2],
) -> Family {
    let [first, second] = layouts;
    let model = |width: u64, tokens: TokenLayout| {
        let mut config = kind(width, 2, width / 4);
        config.tokens = tokens;
        decoder_only(&config)
    };
    Family::of([model(widths[0], first), model(widths[1], second)])
}

/// Rows of `first` by joint id where it has them, of `second` elsewhere, along an axis.
fn by_token(first: &Tensor, second: &Tensor, axis: usize) -> Tensor {
    let rows: Vec<Tensor> = (0..OWN.len())
        .map(|id| match OWN[id] {
            Some(own) => slice(first, axis, own as usize, 1),
            None => slice(second, axis, id, 1),
        })
        .collect();
    concat(&rows, axis)
}

#[test]
fn a_shared_table_has_the_rows_of_every_token() {
    let family = family(cm3leon, [8, 8], [text_only(), with_images()]);
    let table = |source: &str| &family.sources[source]["embed.table"];
    let (llm, img) = (table("llm"), table("img"));
    let rows = |given: &str| {
        let fused = family.fuse("cross", &[("rows", word(given))]);
        assert_eq!(fused.model.tokens, with_images());
        let said = &fused.notes[0].message;
        assert!(
            said.contains("`llm` lacks 7 tokens of `img` (<pad>, image token 0"),
            "{said}"
        );
        family.weights(&fused)["shared.embed"].clone()
    };
    let first = by_token(llm, img, 0);
    assert_eq!(rows("kinds"), first);
    assert_eq!(rows("first"), first);
    assert_eq!(rows("second"), *img);
    let mean = first.zip(img, |a, b| 0.5 * (a + b));
    assert!(rows("mean").distance(&mean) < 1e-12);
}

#[test]
fn a_mean_of_models_takes_tokens_of_one_parent_from_it_alone() {
    let family = family(llama, [8, 8], [text_only(), with_images()]);
    let weights = family.weights(&family.fuse("uniform", &[("share", SettingValue::Number(0.25))]));
    for (name, axis) in [("embed.table", 0), ("unembed.weight", 1)] {
        let [llm, img] = ["llm", "img"].map(|source| &family.sources[source][name]);
        let mean = by_token(llm, img, axis).zip(img, |a, b| 0.25 * a + 0.75 * b);
        assert!(weights[name].distance(&mean) < 1e-12, "{name}");
    }
}

/// Logits of parents and of a fusion that begins as they do, for text that both know.
fn keeps_its_parents(family: &Family, strategy: &str) {
    let fused = family.fuse(strategy, &[("start", word("parents"))]);
    assert_eq!(fused.model.tokens.size, 19);
    let joint: Vec<Vec<usize>> = vec![vec![0, 5, 9, 3, 12, 2], vec![4, 7, 7, 10, 6, 11]];
    let own = |id: &usize| OWN[*id].unwrap() as usize;
    let own: Vec<Vec<usize>> = joint
        .iter()
        .map(|ids| ids.iter().map(own).collect())
        .collect();
    let logits = graph::logits(&fused.model, &family.weights(&fused), &joint);
    let of = |index: usize, ids: &[Vec<usize>]| {
        let source = ["llm", "img"][index];
        graph::logits(&family.models[index], &family.sources[source], ids)
    };
    let (llm, img) = (of(0, &own), of(1, &joint));
    assert_eq!(logits.shape, [2, 6, 19]);
    for token in 0..12 {
        for (id, own) in OWN.into_iter().enumerate() {
            let found = logits.data[token * 19 + id];
            // Tokens that the text model lacks are read from the other: image tokens, marks.
            let expected = match own {
                Some(own) => llm.data[token * 12 + own as usize],
                None => img.data[token * 19 + id],
            };
            assert!((found - expected).abs() < 1e-9, "{strategy} {token} {id}");
        }
    }
}

#[test]
fn parents_are_kept_whatever_their_ids() {
    for widths in [[8, 8], [8, 12]] {
        for strategy in ["width", "cross"] {
            for kind in [cm3leon, opt] {
                keeps_its_parents(
                    &family(kind, widths, [text_only(), with_images()]),
                    strategy,
                );
            }
        }
    }
    keeps_its_parents(
        &family(llama, [8, 16], [text_only(), with_images()]),
        "cross",
    );
}

#[test]
fn tokens_that_a_narrower_tower_lacks_are_zeros_there() {
    let family = family(cm3leon, [8, 12], [text_only(), with_images()]);
    let weights = family.weights(&family.fuse("cross", &[]));
    let table = &weights["llm.embed.table"];
    assert_eq!(table.shape, [19, 8]);
    for (id, own) in OWN.into_iter().enumerate() {
        let row = slice(table, 0, id, 1);
        match own {
            Some(own) => assert_eq!(
                row,
                slice(&family.sources["llm"]["embed.table"], 0, own as usize, 1)
            ),
            None => assert_eq!(row.data, [0.0; 8], "{id}"),
        }
    }
}

/// Tokenizers whose tokens are spelled so.
pub(crate) struct Spelled(pub(crate) Vec<(&'static str, Vec<&'static str>)>);

impl Pieces for Spelled {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        let TextTokens::Files(path) = text else {
            return None;
        };
        let (_, pieces) = self.0.iter().find(|(file, _)| file == path)?;
        Some(pieces.iter().map(|piece| (*piece).to_owned()).collect())
    }

    fn spelled_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Ok(())
    }

    fn cut_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Ok(())
    }

    fn union(&self, texts: &[&TextTokens]) -> Result<Vec<String>, String> {
        let mut joint: Vec<String> = Vec::new();
        for text in texts {
            for piece in self.pieces(text).ok_or("a tokenizer is not there")? {
                if !joint.contains(&piece) {
                    joint.push(piece);
                }
            }
        }
        Ok(joint)
    }
}

/// Knows tokens, and unites none.
struct Apart(Spelled);

impl Pieces for Apart {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        self.0.pieces(text)
    }

    fn spelled_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        self.0.spelled_alike(texts)
    }

    fn cut_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        self.0.cut_alike(texts)
    }

    fn union(&self, _: &[&TextTokens]) -> Result<Vec<String>, String> {
        Err("they cut texts in other ways".to_owned())
    }
}

pub(crate) fn spelled_family() -> (Family, Spelled) {
    use TokenKind::{Filler, Image, Text};
    let mut first = layout(&[(Text, 4)], &[]);
    first.text = TextTokens::Files("a".to_owned());
    // One row more than the tokenizer has tokens.
    let mut second = layout(&[(Text, 6), (Image, 4), (Filler, 2)], &[]);
    second.text = TextTokens::Files("b".to_owned());
    second.grid = 1;
    let pieces = Spelled(vec![
        ("a", vec!["x", "y", "z", "w"]),
        ("b", vec!["w", "v", "z", "x", "y"]),
    ]);
    (family(cm3leon, [8, 8], [first, second]), pieces)
}

pub(crate) fn fused(
    family: &Family,
    strategy: &str,
    pieces: &dyn Pieces,
) -> Result<Fused, Vec<Diagnostic>> {
    fuse_by_tokens(strategy, "fused", &family.parents(), &settings(&[]), pieces)
}

#[test]
fn tokens_of_two_tokenizers_are_paired_by_their_spelling() {
    let (family, pieces) = spelled_family();
    let model: Model = fused(&family, "cross", &pieces).unwrap().model;
    assert_eq!(model.tokens, family.models[1].tokens);
    let embed = &plan::weights(&model, &family.sources)["shared.embed"];
    let row = |source: &str, id: usize| slice(&family.sources[source]["embed.table"], 0, id, 1);
    let ids = [("llm", 3), ("img", 1), ("llm", 2), ("llm", 0), ("llm", 1)];
    for (id, (source, own)) in ids.into_iter().enumerate() {
        assert_eq!(slice(embed, 0, id, 1), row(source, own), "{id}");
    }
    for id in 5..12 {
        assert_eq!(slice(embed, 0, id, 1), row("img", id), "{id}");
    }
    // Without their spelling they cannot be told apart.
    let errors = fused(&family, "cross", &NoPieces).unwrap_err();
    assert!(errors[0].message.contains("4 and 12 ids"), "{errors:?}");
}

#[test]
fn parents_that_both_have_tokens_of_their_own_are_told_which() {
    let (family, mut pieces) = spelled_family();
    pieces.0[0].1[1] = "q";
    let errors = fused(&family, "cross", &Apart(pieces)).unwrap_err();
    assert_eq!(errors.len(), 1);
    let message = &errors[0].message;
    assert!(
        message.contains("they cut texts in other ways"),
        "{message}"
    );
    let expected = [
        "`llm` lacks 6 tokens of `img` (\"v\", \"y\", image token 0, …)",
        "`img` lacks 1 token of `llm` (\"q\")",
    ];
    assert_eq!(errors[0].notes, expected);
    let said: Vec<&str> = errors[0].labels.iter().map(|l| l.text.as_str()).collect();
    assert_eq!(said.len(), 2);
    assert!(
        expected.iter().all(|words| said.contains(words)),
        "{said:?}"
    );
}

/// What an id of a vocabulary is, in words; `None` for filler.
fn meaning(tokens: &TokenLayout, spelled: &[String], id: u64) -> Option<String> {
    let range = tokens
        .ranges
        .iter()
        .find(|r| id >= r.start && id < r.start + r.len)?;
    let place = id - range.start;
    match range.kind {
        TokenKind::Mark => {
            let mut marks = tokens.marks.iter();
            marks
                .find(|(_, own)| **own == id)
                .map(|(name, _)| name.clone())
        }
        TokenKind::Text => spelled
            .get(place as usize)
            .map(|piece| format!("{piece:?}")),
        TokenKind::Image => Some(format!("code {place}")),
        TokenKind::Reserved => Some(format!("reserved {place}")),
        TokenKind::Filler => None,
    }
}

/// Two vocabularies with tokens of their own, text tokens in an order of their own.
fn two_of_their_own(seed: u64) -> ([TokenLayout; 2], Spelled, [Vec<String>; 2]) {
    use TokenKind::{Filler, Image, Mark, Reserved, Text};
    let shuffled = |pieces: &[&'static str], seed: u64| -> Vec<&'static str> {
        let mut pieces = pieces.to_vec();
        pieces.sort_by_key(|piece| {
            let byte = u64::from(piece.as_bytes()[0]);
            (byte * 2_654_435_761 + seed).wrapping_mul(6_364_136_223_846_793_005) >> 40
        });
        pieces
    };
    let llm = shuffled(&["a", "b", "c", "d", "e", "q"], seed);
    let img = shuffled(&["v", "e", "d", "c", "w"], seed + 7);
    let marks = [("bos", 0), ("eos", 1), ("mask:0", 11)];
    let kinds = [(Mark, 2), (Text, 6), (Reserved, 3), (Mark, 1), (Filler, 4)];
    let mut first = layout(&kinds, &marks);
    first.text = TextTokens::Files("llm".to_owned());
    let marks = [("pad", 0), ("eos", 1), ("break", 11)];
    let mut second = layout(&[(Mark, 2), (Text, 5), (Image, 4), (Mark, 1)], &marks);
    second.text = TextTokens::Files("img".to_owned());
    second.grid = 2;
    let owned = |pieces: &[&str]| pieces.iter().map(|piece| (*piece).to_owned()).collect();
    let spelled = [owned(&llm), owned(&img)];
    (
        [first, second],
        Spelled(vec![("llm", llm), ("img", img)]),
        spelled,
    )
}

/// Every row of every table of a fused model is made of rows of the token that its id means, and only of
/// rows of parents that have it; both where both have it and the strategy takes both.
fn rows_are_of_their_token(
    family: &Family,
    pieces: &Spelled,
    spelled: &[Vec<String>; 2],
    (strategy, given): (&str, &[(&str, SettingValue)]),
) {
    let parents = family.parents();
    let fused = fuse_by_tokens(strategy, "fused", &parents, &settings(given), pieces);
    let model = fused.unwrap_or_else(|errors| panic!("{errors:#?}")).model;
    let files = TextTokens::Joint(vec!["llm".to_owned(), "img".to_owned()]);
    assert_eq!(model.tokens.text, files);
    let all = [
        TextTokens::Files("llm".into()),
        TextTokens::Files("img".into()),
    ];
    let joint = pieces.union(&[&all[0], &all[1]]).unwrap();
    assert_eq!(joint[..6], spelled[0], "the first parent's ids are kept");
    let names = ["llm", "img"];
    let has = |parent: usize, token: &str| {
        let tokens = &family.models[parent].tokens;
        let ids = 0..tokens.size;
        let own = |id| meaning(tokens, &spelled[parent], id);
        ids.into_iter()
            .find(|id| own(*id).as_deref() == Some(token))
    };
    let mut both = 0;
    for (name, param) in model.weight_uses() {
        let mut axes = param.ty.axes();
        let Some(axis) = axes.position(|axis| model.axis(axis).role == Role::Vocab) else {
            continue;
        };
        let shape = model.weight_shape(&param.ty).unwrap();
        let plan = &model.weights[&name].plan;
        let shaped = plan_shape(plan, &shape, &|_, _| None).unwrap();
        let told = origins(&shaped, axis).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            told.iter().map(|run| run.len).sum::<u64>(),
            model.tokens.size
        );
        for id in 0..model.tokens.size {
            let token = meaning(&model.tokens, &joint, id);
            let mut found = Vec::new();
            let run = cut(&told, id, 1);
            sources(&run[0].from, &mut found);
            let Some(token) = token else {
                // Rows without a meaning are of nobody.
                assert_eq!(found, [], "{strategy} {name} {id}");
                continue;
            };
            let owners: Vec<usize> = (0..2)
                .filter(|parent| has(*parent, &token).is_some())
                .collect();
            assert!(!owners.is_empty(), "{token}");
            for (source, row) in &found {
                let parent = names.iter().position(|name| name == source).unwrap();
                assert_eq!(has(parent, &token), Some(*row), "{strategy} {name} {token}");
            }
            if found.len() > 1 && found.iter().any(|(source, _)| *source != found[0].0) {
                both += 1;
            }
        }
    }
    if strategy != "cross" && given.is_empty() {
        assert!(
            both >= 4,
            "{strategy} {given:?}: only {both} rows of both parents"
        );
    }
    // The sizes fit, and the numbers are there.
    let weights = plan::weights(&model, &family.sources);
    let logits = graph::logits(&model, &weights, &[vec![0, 1, 2]]);
    assert_eq!(logits.shape, [1, 3, model.tokens.size as usize]);
}

/// Source and row of everything an origin is made of.
pub(crate) fn sources(from: &From, found: &mut Vec<(String, u64)>) {
    match from {
        From::Weight { source, start, .. } => found.push((source.clone(), *start)),
        From::Sum(terms) => terms.iter().for_each(|(_, from)| sources(from, found)),
        From::Beside(parts) => parts.iter().for_each(|from| sources(from, found)),
        From::Fresh => {}
    }
}

#[test]
fn in_a_union_every_row_is_of_its_token() {
    for seed in 0..8 {
        for kind in [cm3leon, llama] {
            let (layouts, pieces, spelled) = two_of_their_own(seed);
            let family = family(kind, [8, 8], layouts);
            let rows = |how: &str| vec![("rows", word(how))];
            let cases = [
                ("uniform", vec![]),
                ("linear", vec![]),
                ("width", vec![]),
                ("width", vec![("head", word("rows"))]),
                ("cross", rows("kinds")),
                ("cross", rows("first")),
                ("cross", rows("second")),
                ("cross", rows("mean")),
                (
                    "cross",
                    vec![("tokens", word("own")), ("head", word("rows"))],
                ),
            ];
            for (strategy, given) in &cases {
                rows_are_of_their_token(&family, &pieces, &spelled, (strategy, given));
            }
        }
    }
    let (layouts, pieces, spelled) = two_of_their_own(1);
    let family = family(cm3leon, [8, 12], layouts);
    for strategy in ["width", "cross"] {
        let given = [("start", word("parents"))];
        rows_are_of_their_token(&family, &pieces, &spelled, (strategy, &given));
    }
}

/// Parents of one tokenizer, each with marks of its own.
#[test]
fn marks_of_both_parents_are_joined() {
    use TokenKind::{Mark, Text};
    let first = layout(&[(Mark, 2), (Text, 10)], &[("bos", 0), ("eos", 1)]);
    let second = layout(&[(Mark, 2), (Text, 10)], &[("pad", 0), ("eos", 1)]);
    let family = family(llama, [8, 8], [first, second]);
    let fused = family.fuse("uniform", &[]);
    let marks: Vec<_> = fused.model.tokens.marks.iter().collect();
    let expected = [("bos", 0), ("pad", 1), ("eos", 2)].map(|(name, id)| (name.to_owned(), id));
    assert_eq!(
        marks,
        expected.iter().map(|(n, id)| (n, id)).collect::<Vec<_>>()
    );
    assert_eq!(fused.model.tokens.size, 16, "as even as 12 and 12: by four");
    let table = &family.weights(&fused)["embed.table"];
    let row = |source: &str, id: usize| slice(&family.sources[source]["embed.table"], 0, id, 1);
    assert_eq!(slice(table, 0, 0, 1), row("llm", 0));
    assert_eq!(slice(table, 0, 1, 1), row("img", 0));
    let mean = row("llm", 1).zip(&row("img", 1), |a, b| 0.5 * (a + b));
    assert!(slice(table, 0, 2, 1).distance(&mean) < 1e-12);
}
