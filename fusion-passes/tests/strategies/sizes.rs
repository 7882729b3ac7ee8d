//! Sizes of the paper's models.

use jam_fusion_passes::{Parent, fuse};
use jam_ir::{Model, SettingValue, TokenKind, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

use crate::parents::{settings, word};

/// The paper's vocabulary: 66,056 rows.
fn mixed() -> TokenLayout {
    let mut layout = TokenLayout::empty("");
    let runs = [
        (TokenKind::Mark, 4),
        (TokenKind::Text, 56_320),
        (TokenKind::Image, 8192),
        (TokenKind::Reserved, 1024),
        (TokenKind::Mark, 514),
        (TokenKind::Filler, 2),
    ];
    runs.into_iter()
        .for_each(|(kind, len)| layout.add(kind, len));
    layout
}

fn parameters(model: &Model) -> u64 {
    let uses = model.weight_uses();
    let counts = uses
        .values()
        .map(|param| model.weight_shape(&param.ty).unwrap());
    counts.map(|shape| shape.iter().product::<u64>()).sum()
}

#[test]
fn the_papers_models_have_the_papers_sizes() {
    let parent = decoder_only(&DecoderConfig::cm3leon(mixed(), 4096, 4096, 32, 32, 16384));
    let parents = ["llm", "cm3leon"].map(|source| Parent {
        model: &parent,
        source: source.to_owned(),
        span: None,
    });
    let count = |strategy: &str, given: &[(&str, SettingValue)]| {
        parameters(
            &fuse(strategy, "jam", &parents, &settings(given))
                .unwrap()
                .model,
        )
    };
    let every = |every: SettingValue| count("cross", &[("every", every)]);
    let (width, layer) = (4096u64, 12 * 4096u64 * 4096);
    let tables = (mixed().size + 4098) * width;
    assert_eq!(parameters(&parent), 32 * layer + tables);
    assert_eq!(count("uniform", &[]), 32 * layer + tables);
    assert_eq!(count("width", &[]), 4 * 32 * layer + 2 * tables);
    let cross = |exchanges: u64| (64 + 2 * exchanges) * layer + tables + 2 * width * width;
    assert_eq!(every(word("never")), cross(0));
    assert_eq!(every(SettingValue::Count(4)), cross(8));
    assert_eq!(every(SettingValue::Count(2)), cross(16));
    assert_eq!(every(SettingValue::Count(1)), cross(32));
    let billions = [
        parameters(&parent),
        cross(0),
        cross(8),
        cross(16),
        cross(32),
        count("width", &[]),
    ];
    let billions = billions.map(|n| (n as f64 / 1e9 * 100.0).round() / 100.0);
    assert_eq!(billions, [6.73, 13.21, 16.43, 19.65, 26.09, 26.34]);
}
