//! Parents whose vocabularies differ: rows are taken by token.

use jam_fusion_passes::{Fused, NoPieces, Pieces, fuse_by_tokens};
use jam_ir::decoder::{DecoderConfig, decoder_only};
use jam_ir::{Diagnostic, Model, SettingValue, TextTokens, TokenKind, TokenLayout, TokenRange};

use crate::parents::{Family, cm3leon, llama, opt, settings, word};
use crate::reference::plan::{concat, slice};
use crate::reference::{Tensor, graph, plan};

/// A vocabulary of these ranges, with marks by name.
fn layout(kinds: &[(TokenKind, u64)], marks: &[(&str, u64)]) -> TokenLayout {
    let mut layout = TokenLayout::bare(0);
    layout.ranges.clear();
    for (kind, len) in kinds {
        let start = layout.size;
        layout.ranges.push(TokenRange {
            kind: *kind,
            start,
            len: *len,
        });
        layout.size += len;
    }
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

fn family(
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
        for id in 0..19 {
            let found = logits.data[token * 19 + id];
            let expected = match (OWN[id], (13..18).contains(&id)) {
                (Some(own), _) => llm.data[token * 12 + own as usize],
                (None, true) => img.data[token * 19 + id],
                (None, false) => continue, // Marks that the text model lacks.
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
    for id in 0..19 {
        let row = slice(table, 0, id, 1);
        match OWN[id] {
            Some(own) => assert_eq!(
                row,
                slice(&family.sources["llm"]["embed.table"], 0, own as usize, 1)
            ),
            None => assert_eq!(row.data, [0.0; 8], "{id}"),
        }
    }
}

/// Tokenizers whose tokens are spelled so.
struct Spelled(Vec<(&'static str, Vec<&'static str>)>);

impl Pieces for Spelled {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        let TextTokens::Files(path) = text else {
            return None;
        };
        let (_, pieces) = self.0.iter().find(|(file, _)| file == path)?;
        Some(pieces.iter().map(|piece| (*piece).to_owned()).collect())
    }
}

fn spelled_family() -> (Family, Spelled) {
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

fn fused(family: &Family, strategy: &str, pieces: &dyn Pieces) -> Result<Fused, Vec<Diagnostic>> {
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
    let errors = fused(&family, "cross", &pieces).unwrap_err();
    assert_eq!(errors.len(), 1);
    let message = &errors[0].message;
    assert!(
        message.contains("`img` lacks 1 tokens of `llm` (\"q\")"),
        "{message}"
    );
    assert!(
        message.contains("`llm` lacks 6 tokens of `img` (\"v\", \"y\", image"),
        "{message}"
    );
    assert_eq!(errors[0].labels.len(), 2);
}
