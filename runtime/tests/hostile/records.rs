//! Lists of checksums, configurations and models that lie.

use std::fs;

use super::{As, Cases, SOUND, checkpoint, many};

/// Lists of checksums.
pub(super) fn checksums(cases: &mut Cases) {
    let list = |tensors: &str, files: &str| {
        format!("{{\"algorithm\":\"blake3\",\"tensors\":{{{tensors}}},\"files\":{{{files}}}}}")
    };
    let zeros = "0".repeat(64);
    let sound = format!("\"a\":\"{zeros}\",\"b\":\"{zeros}\"");
    cases.checksums(
        As::Checkpoint,
        "not the tensor that was written",
        list(&sound, ""),
    );
    cases.checksums(
        As::Checkpoint,
        "is in no file",
        list(&format!("{sound},\"c\":\"{zeros}\""), ""),
    );
    cases.checksums(
        As::Checkpoint,
        "has no checksum",
        list(&format!("\"a\":\"{zeros}\""), ""),
    );
    cases.checksums(
        As::Checkpoint,
        "occurs twice",
        list(&format!("{sound},\"a\":\"{zeros}\""), ""),
    );
    for name in ["../secret", "/etc/passwd", "..", "\\u0000"] {
        cases.checksums(
            As::Files,
            "outside its folder",
            list(&sound, &format!("\"{name}\":\"{zeros}\"")),
        );
    }
    cases.checksums(
        As::Files,
        "cannot read",
        list(&sound, &format!("\"gone\":\"{zeros}\"")),
    );
    cases.checksums(As::Files, "list of checksums is wrong", "{}");
    cases.checksums(As::Files, "list of checksums is wrong", "[1]");
    cases.checksums(
        As::Files,
        "unknown field",
        "{\"algorithm\":\"blake3\",\"tensors\":{},\"more\":1}",
    );
    cases.checksums(
        As::Files,
        "unknown checksums",
        "{\"algorithm\":\"md5\",\"tensors\":{}}",
    );
    cases.checksums(
        As::Files,
        "deeper",
        format!("{{\"algorithm\":{}", "[".repeat(1_000_000)),
    );
    cases.checksums(
        As::Files,
        "values",
        list(&many(250_000, |i| format!("\"{i}\":\"\"")), ""),
    );
    cases.checksums(As::Files, "at most", vec![b' '; 21_000_000]);
    let own = format!(
        "{{\"algorithm\":\"blake3\",\"tensors\":{{{sound}}},\"files\":{{}},\"manifest\":\"{zeros}\"}}"
    );
    cases.checksums(As::Files, "not the list that was written", own);
}

/// Configurations.
pub(super) fn configurations(cases: &mut Cases) {
    cases.config("not a configuration", "");
    cases.config("`model_type` is missing", "{}");
    cases.config("are not known", r#"{"model_type":"../../etc"}"#);
    cases.config(
        "deeper",
        format!("{{\"model_type\":{}", "[".repeat(1_000_000)),
    );
    cases.config(
        "deeper",
        format!(
            "{{\"x\":{}{},\"model_type\":\"opt\"}}",
            "[".repeat(1000),
            "]".repeat(1000)
        ),
    );
    cases.config(
        "values",
        format!(
            "{{\"model_type\":\"opt\",\"x\":[{}]}}",
            many(500_000, |i| i.to_string())
        ),
    );
    cases.config("at most", vec![b' '; 30_000_000]);
    let llama = |field: &str| {
        format!(
            "{{\"model_type\":\"llama\",\"hidden_size\":8,\"num_attention_heads\":2,\"num_hidden_layers\":1,\
             \"intermediate_size\":8,\"vocab_size\":9,\"max_position_embeddings\":4,{field}}}"
        )
    };
    cases.config("not a size", llama("\"vocab_size\":18446744073709551615"));
    cases.config("not a size", llama("\"hidden_size\":-8"));
    cases.config("not a size", llama("\"hidden_size\":0"));
    cases.config(
        "not divided",
        llama("\"num_attention_heads\":3").as_str().to_owned(),
    );
    cases.add(
        "as many layers as can be said",
        As::Weights,
        "layers",
        move |folder| {
            checkpoint(folder, "model.safetensors", SOUND, 8);
            fs::write(
                folder.join("config.json"),
                llama("\"num_hidden_layers\":1073741824"),
            )
            .unwrap();
        },
    );
}

/// Graphs of models.
pub(super) fn models(cases: &mut Cases) {
    cases.model("is not a model", "");
    cases.model("is not a model", "(name: 3)");
    cases.model("is not a model", "[".repeat(100_000));
    cases.model("is not a model", "Some(".repeat(100_000));
    cases.model("at most", vec![b' '; 40_000_000]);
    cases.model("UTF-8", vec![0xff; 100]);
}
