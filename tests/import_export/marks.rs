//! Marks of published tokenizers: what their files name goes in, out and in again.

use std::fs;
use std::path::{Path, PathBuf};

use jam_data::tokens::text::TextTokenizer;
use jam_runtime::folders::ModelFolder;
use serde_json::Value;

use super::{done, json, text};

/// A small LLaMA folder as others publish it: weights, a tokenizer, and the names of its special tokens.
fn published(folder: &Path, tokenizer: &TextTokenizer, ids: Value, names: &Value) {
    let mut config = ids;
    for (field, value) in [
        ("vocab_size", tokenizer.size()),
        ("hidden_size", 8),
        ("intermediate_size", 12),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 2),
        ("max_position_embeddings", 16),
    ] {
        config[field] = value.into();
    }
    config["model_type"] = "llama".into();
    let seed = folder.with_extension("json");
    fs::write(&seed, config.to_string()).unwrap();
    done(&["synth", text(&seed), "-o", text(folder)]);
    tokenizer.save(&folder.join("tokenizer.json")).unwrap();
    fs::write(folder.join("tokenizer_config.json"), names.to_string()).unwrap();
}

/// Byte-pair encoding learned from one text, with marks of its own before its tokens.
fn tokenizer(learned: &str, marks: &[&str]) -> TextTokenizer {
    let texts = std::iter::repeat_n(learned.to_owned(), 4);
    let tokenizer = TextTokenizer::train(texts, 270).unwrap();
    let mut layout = jam_ir::TokenLayout::empty("");
    marks.iter().for_each(|mark| layout.add_mark(mark));
    layout.add(jam_ir::TokenKind::Text, tokenizer.size());
    tokenizer.placed(&layout).unwrap()
}

/// What the special tokens of published parents mean is known to a fusion of them, and to who opens its export.
#[test]
fn marks_of_published_tokenizers_go_in_out_and_in_again() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    let first = tokenizer("a red house and a red sun", &["unk", "bos", "eos"]);
    let first = first.beginning("<bos>").unwrap();
    let ids = serde_json::json!({"bos_token_id": 1, "eos_token_id": [1, 2], "pad_token_id": -1});
    let names = serde_json::json!({"unk_token": "<unk>", "eos_token": {"content": "<eos>", "special": true}});
    published(&place("first"), &first, ids, &names);
    let second = tokenizer("the blue tree, the blue sea", &["pad", "eos"]);
    let names = serde_json::json!({"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": null});
    published(&place("second"), &second, serde_json::json!({}), &names);
    let import = |name: &str| {
        let program = place(&format!("{name}.jam"));
        done(&["import", text(&place(name)), "-o", text(&program)]);
        fs::read_to_string(program).unwrap()
    };
    let source = import("first");
    for line in ["marks = [bos(1), eos(2, 1), unk(0)]", "begin = bos"] {
        let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(spaced(&source).contains(line), "{source}");
    }
    let source = import("second");
    assert!(
        source.contains("[pad(0), eos(1)]") && !source.contains("begin"),
        "{source}"
    );

    let build = |name: &str, source: &str| {
        let program = place(&format!("{name}.jam"));
        fs::write(&program, source).unwrap();
        let built = done(&["build", text(&program), "--out", text(&place("runs"))]);
        PathBuf::from(built.trim())
    };
    let built = build(
        "fuse",
        "use \"first.jam\"\nuse \"second.jam\"\nfuse fused = uniform(first, second)\n",
    );
    let tokens = ModelFolder::open(&built).unwrap().model.tokens;
    let pad = tokens.marks["pad"];
    assert!(pad >= first.size(), "the ids of the first are kept");
    let ids = ["unk", "bos", "eos"].map(|mark| tokens.marks[mark]);
    assert_eq!((ids, tokens.begin.as_str()), ([0, 1, 2], "bos"));
    // A document begins and ends as the parent knows it.
    let codec = jam_runtime::vocabulary::open_codec(
        tokens.clone(),
        Some(&built),
        None,
        &jam_backends::Device::flex(),
    )
    .unwrap();
    let (document, _) = codec
        .document(None, &[jam_data::tokens::Part::Text("a red sea")])
        .unwrap();
    assert_eq!((document[0], document.last()), (1, Some(&2)));

    let exported = place("exported");
    done(&["export", text(&built), "-o", text(&exported)]);
    for name in ["config.json", "generation_config.json"] {
        let told = json(&exported.join(name));
        let ids = ["bos", "pad"].map(|mark| told[format!("{mark}_token_id")].as_u64());
        assert_eq!(ids, [Some(1), Some(pad)], "{name}");
        // Both ends that the parent knew, the one of its tokenizer first.
        assert_eq!(told["eos_token_id"], serde_json::json!([2, 1]), "{name}");
    }
    let told = json(&exported.join("tokenizer_config.json"));
    let names = ["unk", "bos", "eos", "pad"].map(|mark| told[format!("{mark}_token")].clone());
    assert_eq!(names, ["<unk>", "<bos>", "<eos>", "<pad>"]);
    // Else transformers gives its models types of tokens, which they refuse.
    let inputs = serde_json::json!(["input_ids", "attention_mask"]);
    assert_eq!(told["model_input_names"], inputs);
    let joint = TextTokenizer::open(&exported).unwrap();
    assert_eq!(joint.id("<pad>").map(u64::from), Some(pad));
    let again = import("exported");
    let marks = format!("[bos(1), pad({pad}), eos(2, 1), unk(0)]");
    assert!(
        again.contains(&marks) && again.contains("begin = bos"),
        "{again}"
    );

    // Whatever reads a prompt answers: a folder of others, a parent that a program reads, what it builds.
    let page = text(&place("page")).to_owned();
    let answer = |file: &Path, more: &[&str]| {
        let mut arguments = vec!["generate", text(file), "--prompt", "a red", "-o", &page];
        arguments.push("--force");
        arguments.extend(more);
        assert!(done(&arguments).ends_with("index.html\n"));
    };
    answer(&place("first"), &[]);
    answer(&exported, &["-n", "2", "--continue"]);
    answer(&place("fuse.jam"), &["--model", "second"]);
    let runs = text(&place("runs")).to_owned();
    answer(&place("fuse.jam"), &["--model", "fused", "--out", &runs]);

    // Marks of the vocabulary's own move the tokenizer's ids, and so they do in what is exported.
    let plain = tokenizer("a red house and a red sun", &[]);
    fs::create_dir(place("plain")).unwrap();
    plain.save(&place("plain/tokenizer.json")).unwrap();
    // What its own files call the end is not the end of that vocabulary.
    fs::write(
        place("plain/tokenizer_config.json"),
        r#"{"eos_token": "a"}"#,
    )
    .unwrap();
    let own = |name: &str| {
        let source = fs::read_to_string(place(&format!("{name}.jam"))).unwrap();
        let end = source.find("block").unwrap();
        let tokens = format!(
            "tokens {name}_tokens {{ text = bpe(\"plain\", size: {}), marks = [bos, eos, break] }}\n",
            plain.size()
        );
        let path = place(&format!("own_{name}.jam"));
        fs::write(path, tokens + &source[end..]).unwrap();
    };
    own("first");
    let built = build(
        "moved",
        "use \"own_first.jam\"\nfuse moved = uniform(first, first)\n",
    );
    let exported = place("moved");
    done(&["export", text(&built), "-o", text(&exported)]);
    let moved = TextTokenizer::open(&exported).unwrap();
    let ids: Vec<u32> = plain.encode("a red sea").unwrap();
    let ids: Vec<u32> = ids.iter().map(|id| id + 2).collect();
    assert_eq!(moved.encode("a red sea").unwrap(), ids);
    assert_eq!(json(&exported.join("config.json"))["eos_token_id"], 1);
    assert_eq!(
        json(&exported.join("tokenizer_config.json"))["eos_token"],
        "<eos>"
    );
}
