//! Tables of names, and what they make of files.

use super::*;

#[test]
fn every_table_is_read_and_names_each_weight_once() {
    let sizes = Sizes {
        layers: 3,
        vocab: 11,
        embed: 4,
        width: 8,
        heads: 2,
        kv_heads: 1,
        head_dim: 5,
        hidden: 6,
        positions: 7,
        tied: false,
    };
    for model_type in ["opt", "llama", "gpt2", "chameleon", "llama_original"] {
        let table = NameTable::of(model_type).unwrap();
        let weights = file_weights(&table, &sizes, "p.").unwrap();
        let per_layer = table
            .weights
            .iter()
            .filter(|row| row.jam.contains("{}"))
            .count();
        assert_eq!(
            weights.len(),
            table.weights.len() + 2 * per_layer,
            "{model_type}"
        );
        assert!(weights.keys().all(|name| !name.contains('{')));
        let q = &weights["layers.2.attn.q"];
        assert_eq!(q.shape, [8, 2, 5]);
    }
    assert!(
        NameTable::of("bert")
            .unwrap_err()
            .help
            .unwrap()
            .contains("opt, llama, gpt2, chameleon")
    );
}

#[test]
fn weights_have_the_names_that_their_file_would_give_them() {
    let names = |model_type: &str, stored: &[&str]| StoredNames::of(model_type, stored).unwrap();
    let name = |names: StoredNames, weight: &str| names.name(weight).unwrap();
    let gpt2 = names("gpt2", &["h.0.ln_1.weight"]);
    assert_eq!(name(gpt2, "layers.11.attn.k"), "h.11.attn.c_attn.weight");
    let usual = names("llama", &["lm_head.weight", "model.norm.weight"]);
    assert_eq!(usual.name("layers.x.mlp.up"), None);
    assert_eq!(usual.name("positions.table"), None);
    assert_eq!(name(usual, "unembed.weight"), "lm_head.weight");
    let opt = names("opt", &["decoder.embed_tokens.weight"]);
    assert_eq!(name(opt, "embed.table"), "decoder.embed_tokens.weight");
    let unlike = names("opt", &["something"]);
    assert_eq!(
        name(unlike, "embed.table"),
        "model.decoder.embed_tokens.weight"
    );
}

#[test]
fn patterns_stand_for_numbers_only() {
    assert!(fits("h.{}.attn.bias", "h.12.attn.bias"));
    assert!(!fits("h.{}.attn.bias", "h.x.attn.bias"));
    assert!(!fits("h.{}.attn.bias", "h.1.attn.c_attn.bias"));
    assert!(fits("a", "a") && !fits("a", "b"));
    assert!(fits("vq.*", "vq.a.b") && !fits("vq.*", "a.vq.b"));
}
