//! Checkpoints in and out through the commands: `import`, `build`, `export`, and back.
//!
//! Checkpoints are those of `tests/golden` (or `$JAM_GOLDEN`), found by their files; there is no list of
//! them here. A real trained model is read where `$JAM_STORIES` names the folder of llama2.c's stories260K.

#[path = "import_export/marks.rs"]
mod marks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jam_data::images::Picture;
use jam_data::tokens::PictureTokenizer;
use jam_data::tokens::text::TextTokenizer;
use jam_runtime::folders::ModelFolder;
use jam_runtime::image_tokenizers::ImageTokenizer;
use jam_weights::checkpoints::import::open_weights;
use jam_weights::checkpoints::{CheckpointReader, write_file};
use serde_json::Value;

/// A tied head that files may hold all the same is no weight of the model.
const TIED: &str = "lm_head.weight";

fn jamc(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
        .args(arguments)
        .output();
    output.expect("jamc starts")
}

/// What a command prints; it must succeed.
fn done(arguments: &[&str]) -> String {
    let output = jamc(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{notes}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every folder below the golden files that has a file of this name, in order.
fn folders_with(name: &str) -> Vec<PathBuf> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let root = std::env::var_os("JAM_GOLDEN").map_or_else(own, PathBuf::from);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|found| found == name) {
                found.push(folder.clone());
            }
        }
    }
    found.sort();
    found
}

/// Whether a folder is a checkpoint of a language model that there is a table of.
fn is_checkpoint(folder: &Path) -> bool {
    let kind = json(&folder.join("config.json"))["model_type"].clone();
    let known = ["opt", "llama", "gpt2", "chameleon"];
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    known.iter().any(|known| kind == *known)
        && weights.iter().any(|name| folder.join(name).is_file())
}

/// Compares two checkpoints bit for bit: every tensor of `after` is that of `before`, and no more is missing
/// from it than a head that is the token table, and `left_out`.
fn same_tensors(before: &Path, after: &Path, left_out: &str) {
    let [before_reader, after_reader] =
        [before, after].map(|folder| CheckpointReader::open(folder).unwrap());
    for (name, info) in after_reader.tensors() {
        let own = before_reader.tensor(name).unwrap();
        assert_eq!((own.dtype, &own.shape), (info.dtype, &info.shape), "{name}");
        let all = 0..info.elements();
        assert!(
            before_reader.read_bytes(name, all.clone()).unwrap()
                == after_reader.read_bytes(name, all).unwrap(),
            "{} {name}",
            before.display()
        );
    }
    for name in before_reader.tensors().keys() {
        assert!(
            after_reader.tensors().contains_key(name) || name == TIED || name.contains(left_out),
            "{} lost {name}",
            before.display()
        );
    }
}

/// Compares two checkpoints by JAM's names, whatever their layout.
fn same_weights(before: &Path, after: &Path) {
    let [before, after] = [before, after].map(|folder| open_weights(folder).unwrap());
    assert_eq!(before.names().len(), after.names().len());
    for name in before.names() {
        let shape = before.shape(&name).unwrap();
        assert_eq!(after.shape(&name), Some(shape.clone()), "{name}");
        let all = 0..shape[0];
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(
            bits(before.rows(&name, all.clone()).unwrap()) == bits(after.rows(&name, all).unwrap()),
            "{name}"
        );
    }
}

/// Logits of a few tokens.
fn logits(model: &Path, scratch: &Path) -> Vec<f32> {
    let ids: Vec<u8> = [5i64, 9, 31, 6, 23, 7, 17, 12]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![2, 4], &ids).unwrap();
    let tokens = scratch.join("tokens.safetensors");
    write_file(
        &tokens,
        &safetensors::serialize([("input_ids", view)], None).unwrap(),
    )
    .unwrap();
    let out = scratch.join("logits.safetensors");
    done(&[
        "forward",
        text(model),
        "--tokens",
        text(&tokens),
        "-o",
        text(&out),
        "--force",
        "--device",
        "cpu",
    ]);
    CheckpointReader::open(&out)
        .unwrap()
        .read_f32("logits")
        .unwrap()
}

#[test]
fn every_checkpoint_goes_in_out_and_in_again_to_the_same_bits() {
    let mut count = 0;
    for folder in folders_with("config.json") {
        if !is_checkpoint(&folder) {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("parent.jam");
        done(&["import", text(&folder), "-o", text(&program)]);
        done(&["check", text(&program)]);
        let layout = fs::read_to_string(&program).unwrap();
        done(&["fmt", "--check", text(&program)]);
        assert!(layout.contains("model parent {"), "{layout}");

        let out = scratch.path().join("exported");
        done(&[
            "export",
            text(&folder),
            "-o",
            text(&out),
            "--shard-size",
            "15kB",
        ]);
        let index = json(&out.join("model.safetensors.index.json"));
        let shards = index["weight_map"].as_object().unwrap().values();
        let shards: std::collections::BTreeSet<&str> = shards.filter_map(Value::as_str).collect();
        assert!(shards.len() > 1, "{}", folder.display());
        same_weights(&folder, &out);
        if out.join("config.json").is_file() {
            same_tensors(&folder, &out, TIED);
            let again = scratch.path().join("again.jam");
            done(&["import", text(&out), "-o", text(&again)]);
            let second = scratch.path().join("second");
            done(&["export", text(&out), "-o", text(&second)]);
            same_tensors(&out, &second, "none");
            assert!(second.join("model.safetensors").is_file());
        } else {
            ModelFolder::open(&out).unwrap();
        }
        for name in ["README.md", "source.jam", "checksums.json"] {
            assert!(out.join(name).is_file(), "{name}");
        }
        assert_eq!(
            logits(&folder, scratch.path()),
            logits(&out, scratch.path()),
            "{}",
            folder.display()
        );
        count += 1;
    }
    assert!(count > 5, "{count} checkpoints");
}

/// A checkpoint with an image tokenizer: its program says which ids are pictures, and what is built from it has the
/// tokenizer, which makes the same codes.
#[test]
fn image_tokenizers_are_imported_and_travel_with_what_is_built() {
    let mut count = 0;
    for folder in folders_with("inputs.safetensors") {
        let inputs = CheckpointReader::open(folder.join("inputs.safetensors")).unwrap();
        if !inputs.tensors().contains_key("image.pixel_values") {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        for name in ["first", "second"] {
            let program = scratch.path().join(format!("{name}.jam"));
            done(&["import", text(&folder), "-o", text(&program)]);
        }
        let first = fs::read_to_string(scratch.path().join("first.jam")).unwrap();
        let config = json(&folder.join("config.json"));
        let map = config["vocabulary_map"].as_object().unwrap();
        let start = map["IMGIMGAZ"].as_u64().unwrap();
        assert!(first.contains(&format!("from: {start})")), "{first}");

        let program = scratch.path().join("fuse.jam");
        let source =
            "use \"first.jam\"\nuse \"second.jam\"\n\nfuse fused = uniform(first, second)\n";
        fs::write(&program, source).unwrap();
        let out = scratch.path().join("runs");
        let built = done(&["build", text(&program), "--out", text(&out)]);
        let built = PathBuf::from(built.trim());
        let kinds = ModelFolder::open(&built).unwrap().model.tokens;
        assert_eq!(kinds.kind(start), Some(jam_ir::TokenKind::Image));
        let device = jam_backends::Device::flex();
        let exported = scratch.path().join("exported");
        done(&["export", text(&folder), "-o", text(&exported)]);
        let [before, after, handed_on] = [&folder, &built, &exported].map(|folder| {
            let tokenizer = ImageTokenizer::open(folder, &device).unwrap();
            let side = tokenizer.picture();
            let pixels = (0..side * side * 3).map(|i| (i * 7 % 251) as u8).collect();
            let picture = Picture::from_pixels(side, side, pixels).unwrap();
            tokenizer.encode(&[picture]).unwrap()
        });
        assert_eq!(before, after);
        assert_eq!(before, handed_on);

        // The sizes of the program are compared with the tokenizer.
        let other = first.replace("grid: ", "grid: 1");
        fs::write(scratch.path().join("first.jam"), other).unwrap();
        let output = jamc(&["check", text(&scratch.path().join("first.jam"))]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && told.contains("misfit-vocabulary"),
            "{told}"
        );
        count += 1;
    }
    if count == 0 {
        eprintln!("left out: no checkpoint with pictures among the golden files");
    }
}

/// Folders that hold torch's own format alone are read as those with safetensors.
#[test]
fn torch_files_are_imported() {
    let mut count = 0;
    for folder in folders_with("pytorch_model.bin") {
        let scratch = tempfile::tempdir().unwrap();
        let own = scratch.path().join("torch");
        fs::create_dir(&own).unwrap();
        for name in ["config.json", "pytorch_model.bin"] {
            fs::copy(folder.join(name), own.join(name)).unwrap();
        }
        let program = scratch.path().join("parent.jam");
        done(&["import", text(&own), "-o", text(&program)]);
        same_weights(&folder, &own);
        let out = scratch.path().join("exported");
        done(&["export", text(&own), "-o", text(&out)]);
        same_tensors(&folder, &out, TIED);
        // The same in shards under an index.
        let reader = CheckpointReader::open(&own).unwrap();
        let names = reader.tensors().keys();
        let map: serde_json::Map<String, Value> = names
            .map(|name| (name.clone(), "part.bin".into()))
            .collect();
        fs::rename(own.join("pytorch_model.bin"), own.join("part.bin")).unwrap();
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        fs::write(own.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
        same_weights(&folder, &own);
        // Cut short, it is an error with a reason.
        let bytes = fs::read(own.join("part.bin")).unwrap();
        fs::write(own.join("part.bin"), &bytes[..bytes.len() - 1]).unwrap();
        let again = scratch.path().join("cut.jam");
        let output = jamc(&["import", text(&own), "-o", text(&again)]);
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("cut short"), "{told}");
        count += 1;
    }
    if count == 0 {
        eprintln!("left out: no pytorch_model.bin among the golden files");
    }
}

/// A fusion whose result has a Hugging Face architecture: parents imported, fused by a program, exported, and
/// compared with what others computed.
#[test]
fn fusions_of_a_known_architecture_are_exported_as_one() {
    let mut count = 0;
    for folder in folders_with("case.json") {
        let case = json(&folder.join("case.json"));
        let config = folder.join("config.json");
        if case["kind"] != "fusion" || !config.is_file() || json(&config)["model_type"].is_null() {
            continue;
        }
        let settings = case["settings"].as_object().cloned().unwrap_or_default();
        let mut call: Vec<String> = vec!["first".to_owned(), "second".to_owned()];
        call.extend(settings.iter().map(|(name, value)| match value.as_str() {
            Some(word) => format!("{name}: {word}"),
            None => format!("{name}: {value}"),
        }));
        let strategy = case["strategy"].as_str().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for (name, parent) in ["first", "second"]
            .iter()
            .zip(case["parents"].as_array().unwrap())
        {
            let parent = folder.join(parent.as_str().unwrap());
            let program = scratch.path().join(format!("{name}.jam"));
            done(&["import", text(&parent), "-o", text(&program)]);
        }
        let program = scratch.path().join("fuse.jam");
        let source = format!(
            "use \"first.jam\"\nuse \"second.jam\"\n\nfuse fused = {strategy}({})\n",
            call.join(", ")
        );
        fs::write(&program, source).unwrap();
        let out = scratch.path().join("runs");
        let built = done(&["build", text(&program), "--out", text(&out)]);
        let built = PathBuf::from(built.trim());
        let exported = scratch.path().join("exported");
        done(&["export", text(&built), "-o", text(&exported)]);
        if !exported.join("config.json").is_file() {
            // A factor on the head, say, is no part of any architecture.
            let built = ModelFolder::open(&exported).unwrap();
            assert!(built.model.weights.len() > 1);
            continue;
        }
        let [found, told] = [&exported, &folder].map(|f| CheckpointReader::open(f).unwrap());
        for (name, info) in told.tensors() {
            let own = found.tensor(name).unwrap();
            assert_eq!(own.shape, info.shape, "{name}");
            let (own, told) = (found.read_f32(name).unwrap(), told.read_f32(name).unwrap());
            let off = own.iter().zip(&told).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) <= 1e-6, "{name}");
        }
        let [own, other] = [&config, &exported.join("config.json")].map(|f| json(f));
        for name in [
            "model_type",
            "hidden_size",
            "num_attention_heads",
            "vocab_size",
        ] {
            assert_eq!(own[name], other[name], "{name}");
        }
        let card = fs::read_to_string(exported.join("README.md")).unwrap();
        for part in ["first", "second", strategy, "parameters", "library_name"] {
            assert!(card.contains(part), "{part} in {card}");
        }
        assert_eq!(
            logits(&built, scratch.path()),
            logits(&exported, scratch.path())
        );
        count += 1;
    }
    assert!(count > 0, "no fusion of a known architecture");
}

#[test]
fn what_cannot_be_imported_or_exported_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let told = |arguments: &[&str]| {
        let output = jamc(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let folder = scratch.path().join("empty");
    fs::create_dir(&folder).unwrap();
    let program = scratch.path().join("parent.jam");
    let import = |folder: &Path| told(&["import", text(folder), "-o", text(&program)]);
    assert!(import(&folder).contains("no model.safetensors"));
    fs::write(folder.join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    assert!(import(&folder).contains("`bert` are not known"));
    assert!(!program.exists());
    let Some(whole) = folders_with("config.json")
        .into_iter()
        .find(|f| is_checkpoint(f))
    else {
        return;
    };
    // A tensor that the model would not read is no small thing.
    let surplus = scratch.path().join("surplus");
    fs::create_dir(&surplus).unwrap();
    fs::copy(whole.join("config.json"), surplus.join("config.json")).unwrap();
    let bytes = fs::read(whole.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut views = tensors.tensors();
    let copy = views[0].1.clone();
    views.push(("model.decoder.layers.0.adapter.weight".to_owned(), copy));
    write_file(
        &surplus.join("model.safetensors"),
        &safetensors::serialize(views, None).unwrap(),
    )
    .unwrap();
    assert!(import(&surplus).contains("adapter.weight"));
    let there = told(&["export", text(&whole), "-o", text(&folder)]);
    assert!(there.contains("something already"), "{there}");
}

/// A trained model in its original names: the same from its safetensors and its own format, and it goes on
/// with its prompts as its own program does.
#[test]
fn a_trained_model_tells_its_stories() {
    let Some(folder) = std::env::var_os("JAM_STORIES").map(PathBuf::from) else {
        eprintln!("left out: JAM_STORIES names no folder of llama2.c's stories260K");
        return;
    };
    let expected = json(&folder.join("expected_greedy.json"));
    let ids = |name: &str| -> Vec<u32> {
        let list = expected[name].as_array().unwrap();
        list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let (prompt, told) = (ids("prompt_ids"), ids("greedy_ids"));

    // The vocabulary, in both of its forms, gives the text that the ids stand for.
    let said = expected["text"].as_str().unwrap().replace("<0x0A>", "\n");
    let files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("tok") && (name.ends_with(".model") || name.ends_with(".bin"))
        })
        .collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let tokenizer = TextTokenizer::open(&file).unwrap();
        assert_eq!(tokenizer.decode(&told).unwrap(), said, "{}", file.display());
        let ids = tokenizer.encode("Once upon a time, there was a").unwrap();
        assert_eq!(ids, told[..ids.len()]);
        // As SentencePiece itself has it.
        if file.extension().is_some_and(|end| end == "model") {
            let ids = tokenizer.encode("  two  spaces é\n").unwrap();
            assert_eq!(ids, [259, 424, 414, 262, 427, 412, 331, 419, 410, 485, 13]);
        }
    }

    let scratch = tempfile::tempdir().unwrap();
    let own_format: PathBuf = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("stories") && name.ends_with(".bin")
        })
        .unwrap();
    same_weights(&folder, &own_format);
    let halves = scratch.path().join("halves");
    done(&["export", text(&folder), "-o", text(&halves)]);
    let config = json(&halves.join("config.json"));
    assert_eq!(config["model_type"], "llama");
    assert_eq!(
        (&config["bos_token_id"], &config["eos_token_id"]),
        (&1.into(), &2.into())
    );
    for (number, checkpoint) in [&folder, &own_format, &halves].into_iter().enumerate() {
        let program = scratch.path().join(format!("stories{number}.jam"));
        done(&["import", text(checkpoint), "-o", text(&program)]);
        done(&["check", text(&program)]);
        let source = fs::read_to_string(&program).unwrap();
        assert!(
            source.contains("bpe(") && source.contains("[bos(1), eos(2), unk(0)]"),
            "{source}"
        );
        assert_eq!(continued(checkpoint, &prompt, told.len()), told);
    }
    let program = fs::read_to_string(scratch.path().join("stories0.jam")).unwrap();
    assert!(program.contains("layout: pairs"), "{program}");
}

/// The likeliest tokens after a prompt.
fn continued(checkpoint: &Path, prompt: &[u32], count: usize) -> Vec<u32> {
    use jam_backends::kernels::sampling::likeliest;
    use jam_backends::{Device, ExecOptions, Executable, Tokens};
    let config = jam_weights::checkpoints::import::ImportedConfig::read(checkpoint).unwrap();
    let model = jam_weights::checkpoints::decoder::decoder_only(&config.decoder);
    let source = open_weights(checkpoint).unwrap();
    let mut weights = |name: &str, _: &[usize]| {
        let rows = source.shape(name).map_or(0, |shape| shape[0]);
        source
            .rows(name, 0..rows)
            .map_err(|error| error.to_string().into())
    };
    let executable = Executable::new(
        &model,
        &mut weights,
        &Device::flex(),
        ExecOptions::default(),
    )
    .unwrap();
    let mut decoder = executable.decoder(1, prompt.len() + count).unwrap();
    let mut logits = decoder.prefill(Tokens::new(prompt, 1)).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let next = likeliest(&logits).unwrap() as u32;
        found.push(next);
        if found.len() < count {
            logits = decoder.step(&[next]).unwrap();
        }
    }
    found
}
