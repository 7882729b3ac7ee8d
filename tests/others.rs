//! Checkpoints of others that are not what they seem: every command opens them by the same comparison, and says
//! what is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jam_weights::checkpoints::CheckpointReader;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A small LLaMA that transformers made.
fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parents/llama_gqa")
}

fn jamc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
    command.args(arguments);
    if ["forward", "generate", "build"].contains(&arguments[0]) {
        command.args(["--device", "cpu"]);
    }
    command.output().expect("jamc starts")
}

/// What a command that succeeds tells on standard error.
fn done(arguments: &[&str]) -> String {
    let output = jamc(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

/// What a command that fails tells.
fn refused(arguments: &[&str]) -> String {
    let output = jamc(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
    told
}

/// Tensors by name: format, sizes, bytes.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// A checkpoint that can be changed.
struct Changed {
    place: tempfile::TempDir,
    config: Value,
    tensors: Tensors,
}

impl Changed {
    fn new() -> Changed {
        let folder = original();
        let config = fs::read(folder.join("config.json")).unwrap();
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let shape = view.shape().to_vec();
            (name, view.dtype(), shape, view.data().to_vec())
        });
        Changed {
            place: tempfile::tempdir().unwrap(),
            config: serde_json::from_slice(&config).unwrap(),
            tensors: tensors.collect(),
        }
    }

    fn find(&mut self, end: &str) -> &mut (String, Dtype, Vec<usize>, Vec<u8>) {
        let mut found = self.tensors.iter_mut();
        found.find(|(name, ..)| name.ends_with(end)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes the folder, and a file of tokens beside it.
    fn write(&self) -> String {
        let folder = self.place.path().join("model");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        let views = self.tensors.iter().map(|(name, dtype, shape, data)| {
            let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
            (name.clone(), view)
        });
        let written = safetensors::serialize(views, None).unwrap();
        fs::write(folder.join("model.safetensors"), written).unwrap();
        let ids: Vec<u8> = [5i64, 9, 31, 6]
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        let ids = TensorView::new(Dtype::I64, vec![1, 4], &ids).unwrap();
        let tokens = safetensors::serialize([("input_ids", ids)], None).unwrap();
        fs::write(self.path("tokens.safetensors"), tokens).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// What every command tells that opens it.
    fn refused_by_all(&self) -> Vec<(&'static str, String)> {
        let model = self.write();
        let (tokens, output) = (self.path("tokens.safetensors"), self.path("out"));
        let program = self.path("parent.jam");
        let told = vec![
            ("import", refused(&["import", &model, "-o", &program])),
            (
                "forward",
                refused(&["forward", &model, "--tokens", &tokens, "-o", &output]),
            ),
            ("export", refused(&["export", &model, "-o", &output])),
            (
                "generate",
                refused(&["generate", &model, "--prompt", "a", "-o", &output]),
            ),
        ];
        assert!(!Path::new(&output).exists() && !Path::new(&program).exists());
        told
    }
}

/// Tensors that the model would not read, whatever the command.
#[test]
fn what_a_model_would_not_read_is_refused_by_every_command() {
    let mut scaled = Changed::new();
    let mut scale = scaled.find("0.self_attn.q_proj.weight").clone();
    scale.0.push_str("_scale");
    scaled.tensors.push(scale);

    let mut fewer = Changed::new();
    fewer.config["num_hidden_layers"] = json!(1);

    let mut biased = Changed::new();
    let (name, dtype, shape, data) = biased.find("0.self_attn.q_proj.weight").clone();
    let bias = name.replace(".weight", ".bias");
    let bytes = data.len() / shape[1];
    biased
        .tensors
        .push((bias, dtype, vec![shape[0]], data[..bytes].to_vec()));

    for (changed, what) in [
        (scaled, "weight_scale"),
        (fewer, "layers.1."),
        (biased, "q_bias"),
    ] {
        for (command, told) in changed.refused_by_all() {
            let needed = told.contains(what) && told.contains("does not ask for");
            assert!(needed, "{command}, {what}: {told}");
        }
    }
}

/// Fields of a configuration that are not read, whatever the command.
#[test]
fn what_a_configuration_says_and_nobody_reads_is_refused_by_every_command() {
    for (field, value) in [
        ("embedding_multiplier", json!(12.0)),
        ("attention_multiplier", json!(0.015)),
        ("sliding_window", json!(8)),
        ("quantization_config", json!({"quant_method": "fp8"})),
    ] {
        let mut changed = Changed::new();
        changed.config[field] = value;
        let what = match field {
            "quantization_config" => "quantised by `fp8`".to_owned(),
            field => format!("`{field}`"),
        };
        for (command, told) in changed.refused_by_all() {
            assert!(told.contains(&what), "{command}: {told}");
        }
    }
    // A window as long as the context changes nothing.
    let mut changed = Changed::new();
    changed.config["sliding_window"] = json!(4096);
    let program = changed.path("parent.jam");
    done(&["import", &changed.write(), "-o", &program]);
}

/// A number that is none: told with its tensor and place where weights are read, and passed on where that is meant.
#[test]
fn numbers_that_are_none_are_refused_where_weights_are_read() {
    let mut changed = Changed::new();
    let (_, dtype, shape, data) = changed.find("0.mlp.up_proj.weight");
    assert_eq!(*dtype, Dtype::F32);
    let place = (3 * shape[1] + 2) * 4; // [hidden, width]
    data[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = changed.write();
    let tokens = changed.path("tokens.safetensors");
    let (program, fusion) = (changed.path("parent.jam"), changed.path("fuse.jam"));
    done(&["import", &model, "-o", &program]);
    fs::write(
        &fusion,
        "use \"parent.jam\"\n\nfuse mean = linear(parent, parent)\n",
    )
    .unwrap();
    let out = changed.path("out");
    let runs = changed.path("runs");
    let commands: [&[&str]; 3] = [
        &["forward", &model, "--tokens", &tokens, "-o", &out],
        &["export", &model, "-o", &out],
        &["build", &fusion, "--out", &runs],
    ];
    for command in commands {
        let told = refused(command);
        assert!(
            told.contains("`layers.0.mlp.up` has NaN at [2, 3]"),
            "{told}"
        );
        assert!(told.contains("--allow-nonfinite"), "{told}");
        assert!(!Path::new(&out).exists());
        let told = refused(&[command, &["--json"]].concat());
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!(told["code"], "not_finite", "{told}");
        let path = told["path"].as_str().unwrap();
        assert!(path.ends_with("model.safetensors"), "{told}");
    }
    done(&["build", &fusion, "--out", &runs, "--allow-nonfinite"]);
    done(&["export", &model, "-o", &out, "--allow-nonfinite"]);
    let exported = CheckpointReader::open(&out).unwrap();
    let values = exported
        .read_f32("model.layers.0.mlp.up_proj.weight")
        .unwrap();
    assert_eq!(values.iter().filter(|x| x.is_nan()).count(), 1);
}

/// What training programs put before all names is told, and read past.
#[test]
fn wrapped_names_are_told_and_read_past() {
    let mut changed = Changed::new();
    for (name, ..) in &mut changed.tensors {
        *name = format!("module._orig_mod.{name}");
    }
    let model = changed.write();
    let (program, out) = (changed.path("parent.jam"), changed.path("out"));
    for told in [
        done(&["import", &model, "-o", &program]),
        done(&["export", &model, "-o", &out]),
    ] {
        assert!(told.contains("the prefix `module._orig_mod.`"), "{told}");
    }
    let [before, after] =
        [&original(), Path::new(&out)].map(|f| CheckpointReader::open(f).unwrap());
    for name in after.tensors().keys() {
        assert_eq!(
            before.read_f32(name).unwrap(),
            after.read_f32(name).unwrap()
        );
    }
}

/// How positions were stretched, and every end of a text, come out as they came in.
#[test]
fn stretched_positions_and_several_ends_are_kept() {
    let mut changed = Changed::new();
    let scaling = json!({"rope_type": "dynamic", "factor": 2.0});
    changed.config["rope_scaling"] = scaling.clone();
    changed.config["eos_token_id"] = json!([2, 30]);
    let model = changed.write();
    let generation = json!({"eos_token_id": [2, 31]}).to_string();
    fs::write(Path::new(&model).join("generation_config.json"), generation).unwrap();
    let (program, out) = (changed.path("parent.jam"), changed.path("out"));
    done(&["import", &model, "-o", &program]);
    let source = fs::read_to_string(&program).unwrap();
    assert!(source.contains("scaling: dynamic(factor: 2)"), "{source}");
    assert!(source.contains("eos(2, 30, 31)"), "{source}");
    done(&["check", &program]);
    done(&["export", &model, "-o", &out]);
    let written = fs::read(Path::new(&out).join("config.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["rope_scaling"], scaling);
    assert_eq!(written["eos_token_id"], json!([2, 30, 31]));
}

/// Links that lead back are not followed.
#[cfg(unix)]
#[test]
fn a_folder_that_links_to_itself_comes_to_an_end() {
    let changed = Changed::new();
    let model = changed.write();
    for name in ["one", "two"] {
        std::os::unix::fs::symlink(".", Path::new(&model).join(name)).unwrap();
    }
    let program = changed.path("parent.jam");
    done(&["import", &model, "-o", &program]);
    let fusion = changed.path("fuse.jam");
    fs::write(
        &fusion,
        "use \"parent.jam\"\n\nfuse mean = linear(parent, parent)\n",
    )
    .unwrap();
    done(&["build", &fusion, "--out", &changed.path("runs")]);
    done(&["export", &model, "-o", &changed.path("out")]);
}

/// A tokenizer with more tokens than the tables have rows: the way out is told.
#[test]
fn a_tokenizer_beyond_the_table_is_told_with_a_way_out() {
    let changed = Changed::new();
    let model = changed.write();
    let vocabulary: serde_json::Map<String, Value> = (0..400)
        .map(|id| (char::from_u32(0x4e00 + id).unwrap().to_string(), json!(id)))
        .collect();
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
    fs::write(
        Path::new(&model).join("tokenizer.json"),
        tokenizer.to_string(),
    )
    .unwrap();
    let told = refused(&["import", &model, "-o", &changed.path("parent.jam")]);
    assert!(
        told.contains("has 400 tokens") && told.contains("help: "),
        "{told}"
    );
}

/// A checkpoint of llama2.c tells its own sizes: the file is enough, wherever it is named.
#[test]
fn a_checkpoint_that_is_one_file_is_read_by_every_command() {
    let place = Changed::new();
    place.write(); // the tokens
    let (dim, hidden, heads, kv_heads, vocab, context) = (8i32, 12, 2, 1, 40, 16);
    let attention = dim * dim * 2 + 2 * dim * (dim / heads * kv_heads);
    let layer = 2 * dim + attention + 3 * dim * hidden;
    let angles = context * (dim / heads);
    let numbers = layer + dim + vocab * dim + angles;
    let sizes = [dim, hidden, 1, heads, kv_heads, vocab, context];
    let mut bytes: Vec<u8> = sizes.iter().flat_map(|n| n.to_le_bytes()).collect();
    let weights = (0..numbers).map(|n| (n % 7) as f32 * 0.01);
    bytes.extend(weights.flat_map(f32::to_le_bytes));
    fs::create_dir(place.path("small")).unwrap();
    fs::write(place.path("small/stories.bin"), bytes).unwrap();
    let file = place.path("small/stories.bin");
    let program = place.path("parent.jam");
    done(&["import", &file, "-o", &program]);
    let source = fs::read_to_string(&program).unwrap();
    assert!(source.contains("\"small/stories.bin\""), "{source}");
    done(&["check", &program]);
    done(&["export", &file, "-o", &place.path("folder")]);
    let tokens = place.path("tokens.safetensors");
    let logits = ["file", "folder"].map(|name| {
        let from = if name == "file" {
            &file
        } else {
            &place.path(name)
        };
        let out = place.path(&format!("{name}.logits"));
        done(&["forward", from, "--tokens", &tokens, "-o", &out]);
        CheckpointReader::open(&out)
            .unwrap()
            .read_f32("logits")
            .unwrap()
    });
    assert_eq!(logits[0], logits[1]);
}

/// A tokenizer that cannot be read is not absent, whatever its file is called.
#[test]
fn a_tokenizer_of_any_name_must_be_sound() {
    for name in [
        "tokenizer.model",
        "spiece.model",
        "my-tokenizer.json",
        "tok512.bin",
    ] {
        let changed = Changed::new();
        let model = changed.write();
        fs::write(Path::new(&model).join(name), "garbage").unwrap();
        let told = refused(&["import", &model, "-o", &changed.path("parent.jam")]);
        assert!(told.contains(name), "{told}");
    }
}

/// What lies beside weights and is not read of them, the program among it, is no part of what is made from them.
#[test]
fn only_what_is_read_of_a_checkpoint_counts() {
    let changed = Changed::new();
    let model = changed.write();
    let beside = |name: &str| format!("{model}/{name}");
    let program = beside("parent.jam");
    done(&["import", &model, "-o", &program]);
    let mut text = fs::read_to_string(&program).unwrap();
    text.push_str("\nfuse mean = linear(parent, parent)\n");
    fs::write(&program, &text).unwrap();
    let build = || done(&["build", &program, "--out", &changed.path("runs")]);
    assert!(!build().contains("done before"));
    fs::write(&program, text + "// of no weight\n").unwrap();
    fs::write(beside("README.md"), "a card").unwrap();
    let told = build();
    assert!(told.contains("done before"), "{told}");
    let config = changed.config.to_string() + "\n";
    fs::write(beside("config.json"), config).unwrap();
    let told = build();
    assert!(told.contains("config.json has changed"), "{told}");
}
