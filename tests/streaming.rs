//! Building from the command line: synthetic parents, a forecast, bounded memory, the same bytes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Two parents of 13.6 million parameters each in Hugging Face layout, and their fusions.
const PROGRAM: &str = r#"block layer(x) {
    norm1 = rms_norm(x)
    attn  = attention(norm1, heads: 8, rotary: rotary(base: 10000), mask: causal, bias: no)
    x     = x + attn
    norm2 = rms_norm(x)
    mlp   = mlp(norm2, hidden: 1376, act: silu, gated: yes, bias: no)
    x     = x + mlp
}

model first {
    tokens     = 8000
    context    = 128
    width      = 512
    x          = embed(tokens)
    repeat 2 { x = layer(x) }
    final_norm = rms_norm(x)
    logits     = unembed(final_norm, tied: no)
    weights    = "parents/first"
}

model second = first { weights = "parents/second" }

fuse mean = uniform(first, second, share: 0.25)
fuse wide = width(first, second, off_diagonal: average)
"#;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 512, "num_attention_heads": 8,
    "num_hidden_layers": 2, "intermediate_size": 1376, "vocab_size": 8000,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}"#;

fn jamc(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
        .current_dir(folder)
        .args(arguments)
        .output();
    output.expect("jamc starts")
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    (out, err)
}

fn lay_out(folder: &Path) {
    fs::write(folder.join("fuse.jam"), PROGRAM).unwrap();
    fs::create_dir(folder.join("llama")).unwrap();
    fs::write(folder.join("llama/config.json"), CONFIG).unwrap();
    for (name, seed) in [("first", "1"), ("second", "2")] {
        let place = format!("parents/{name}");
        let made = jamc(
            folder,
            &[
                "synth", "llama", "-o", &place, "--seed", seed, "--shards", "20MB",
            ],
        );
        assert!(told(&made).0.contains(&place));
    }
}

#[test]
fn a_forecast_tells_what_a_build_then_does() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path());
    let forecast = || {
        let (json, _) = told(&jamc(
            root.path(),
            &["build", "fuse.jam", "--dry-run", "--json", "-q"],
        ));
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["models"].take()
    };
    let dry = forecast();
    assert!(!root.path().join("runs").exists(), "nothing is written");
    let mean = &dry[0];
    assert_eq!(mean["name"], "mean");
    assert_eq!(mean["done"], false);
    assert_eq!(mean["reads"][0]["source"], "first");
    assert_eq!(mean["reads"][1]["tensors"], 21);
    assert_eq!(mean["reads"][1]["files"], 2);
    let parent = |name: &str| {
        let files = fs::read_dir(root.path().join("parents").join(name)).unwrap();
        let sizes = files
            .map(|file| file.unwrap())
            .filter(|file| file.file_name().to_string_lossy().ends_with(".safetensors"));
        sizes
            .map(|file| file.metadata().unwrap().len())
            .sum::<u64>()
    };
    let read = mean["reads"][0]["bytes"].as_u64().unwrap();
    assert!(
        read < parent("first") && parent("first") < read + 10_000,
        "{read}"
    );

    let (places, _) = told(&jamc(root.path(), &["build", "fuse.jam"]));
    for (index, place) in places.lines().enumerate() {
        let file = root.path().join(place).join("model.safetensors");
        let written = dry[index]["writes"]["bytes"].as_u64().unwrap();
        let size = fs::metadata(file).unwrap().len();
        assert!(
            written < size && size < written + 20_000,
            "{written} {size}"
        );
    }
    let done = forecast();
    assert_eq!(done[1]["done"], true);
    let (text, _) = told(&jamc(
        root.path(),
        &["build", "fuse.jam", "--dry-run", "-q"],
    ));
    assert!(
        text.contains("2 files of ") && text.contains("built from these inputs already"),
        "{text}"
    );

    // What an earlier step makes is counted by its graph.
    let later = PROGRAM.replace("width(first, second", "width(mean, second");
    fs::write(root.path().join("later.jam"), later).unwrap();
    let (text, _) = told(&jamc(
        root.path(),
        &["build", "later.jam", "wide", "--dry-run", "-q"],
    ));
    assert!(text.contains("which an earlier step makes"), "{text}");
    assert!(text.contains("not known before"), "{text}");
}

#[test]
fn memory_is_bounded_and_changes_no_byte() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path());
    for model in ["mean", "wide"] {
        bounded_build(root.path(), model);
    }
}

fn bounded_build(root: &Path, model: &str) {
    let build = |out: &str, memory: &str| {
        jamc(
            root,
            &[
                "build",
                "fuse.jam",
                model,
                "-v",
                "--max-memory",
                memory,
                "--out",
                out,
            ],
        )
    };
    let refused = build("no", "1MiB");
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    let least = message.split("--max-memory ").nth(1).expect(&message);
    let least: u64 = least.split("MiB").next().unwrap().parse().unwrap();
    // What the program holds is not the same to the page in every run.
    let bound = least + 24;
    assert!(!root.join("no/models").join(model).exists());

    let (_, plenty) = told(&build("plenty", "1GiB"));
    let (_, scarce) = told(&build("scarce", &format!("{bound}MiB")));
    let peak = |told: &str| {
        let line = told.split("peak memory: ").nth(1)?;
        line.split(' ').next()?.parse::<u64>().ok()
    };
    if let (Some(plenty), Some(scarce)) = (peak(&plenty), peak(&scarce)) {
        assert!(
            plenty <= 1024 && scarce <= bound,
            "{plenty} {scarce} {bound}"
        );
    }
    let bytes = |out: &str| {
        let folder = root.join(out).join("models").join(model);
        fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert!(bytes("plenty") == bytes("scarce"), "{model}");
    assert_eq!(build("bad", "12 apples").status.code(), Some(2));
}

#[test]
fn a_built_folder_that_has_lost_its_weights_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path());
    let build = || told(&jamc(root.path(), &["build", "fuse.jam", "mean"])).1;
    build();
    let weights = root.path().join("runs/fuse/models/mean/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    assert!(build().contains("done before"));
    fs::remove_file(&weights).unwrap();
    assert!(build().contains("made again"));
    assert!(fs::read(&weights).unwrap() == whole);
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    assert!(build().contains("made again"));
    assert!(fs::read(&weights).unwrap() == whole);
}
