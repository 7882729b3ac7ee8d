//! Text tokenizers against published ids, and against themselves.

mod marks;

use super::*;

/// A small text with several scripts, white space and repetition.
const TEXTS: [&str; 4] = [
    "How do I draw a red house with a yellow sun? Draw a red house. Draw a yellow sun.",
    "the the the the then there these\tthose\n\nthose  theirs",
    "naïve café, 豆沙包 and 🙂 — “quoted” ™",
    "</s> <pad> <break>",
];

fn trained(size: u64) -> TextTokenizer {
    TextTokenizer::train(TEXTS.iter().map(|text| text.to_string()), size).unwrap()
}

/// The folder in `JAM_TOKENIZERS` with the vocabulary of OPT; without it the test says so and passes over.
fn opt_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("JAM_TOKENIZERS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: JAM_TOKENIZERS does not name a folder with OPT's vocabulary");
    }
    folder
}

/// A row of the published cases: the text, and the ids under a key.
fn cases() -> Option<Vec<Value>> {
    let golden = std::env::var_os("JAM_GOLDEN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"));
    let path = golden.join("tokenizers/cases/gpt2_opt.json");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("left out: there is no {}", path.display());
        return None;
    };
    let cases: Value = serde_json::from_str(&text).unwrap();
    Some(cases["rows"].as_array().unwrap().clone())
}

fn ids(row: &Value, key: &str) -> Vec<u32> {
    serde_json::from_value(row[key].clone()).unwrap()
}

#[test]
fn training_is_reproducible_and_loses_nothing() {
    let tokenizer = trained(280);
    assert_eq!(tokenizer.size(), 280);
    assert_eq!(tokenizer.content_hash(), trained(280).content_hash());
    assert_ne!(tokenizer.content_hash(), trained(279).content_hash());
    for text in TEXTS
        .iter()
        .chain(&["", " ", "\u{0}\u{7f}", "never seen: ÆØÅ 👩‍🍳"])
    {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
        assert!(ids.iter().all(|id| u64::from(*id) < tokenizer.size()));
    }
    let bytes = trained(256);
    let long: usize = TEXTS
        .iter()
        .map(|text| bytes.encode(text).unwrap().len())
        .sum();
    let short: usize = TEXTS
        .iter()
        .map(|text| tokenizer.encode(text).unwrap().len())
        .sum();
    assert_eq!(long, TEXTS.iter().map(|text| text.len()).sum::<usize>());
    assert!(short < long * 9 / 10, "{short} tokens of {long} bytes");
    assert!(
        tokenizer
            .decode(&[300])
            .unwrap_err()
            .message
            .contains("300 is no text token")
    );
    assert!(TextTokenizer::train([].into_iter(), 200).is_err());
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(270);
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    for place in [folder.path(), &path] {
        let again = TextTokenizer::open(place).unwrap();
        assert_eq!(again.content_hash(), tokenizer.content_hash());
        for text in TEXTS {
            assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        }
    }
}

#[test]
fn marks_in_a_text_are_text_unless_told() {
    let folder = tempfile::tempdir().unwrap();
    let marked = trained(280).recognising(&["</s>", "<pad>"]).unwrap();
    assert_eq!(marked.size(), 282);
    assert_eq!(marked.encode("</s><pad>").unwrap(), [280, 281]);
    let path = folder.path().join("tokenizer.json");
    marked.save(&path).unwrap();
    let plain = TextTokenizer::open(&path).unwrap();
    assert_eq!(
        plain.encode("</s><pad>").unwrap(),
        trained(280).encode("</s><pad>").unwrap()
    );
    assert_eq!(plain.decode(&[280]).unwrap(), "</s>");
}

#[test]
fn wrong_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    assert!(TextTokenizer::open(place("absent")).is_err());
    assert!(
        TextTokenizer::open(folder.path())
            .unwrap_err()
            .message
            .contains("no text tokenizer")
    );
    fs::write(place("vocab.json"), r#"{"a":0,"b":1,"ab":2}"#).unwrap();
    for (merges, expected) in [
        ("#version: 0.2\na b c\n", "line 2: a merge is two tokens"),
        (
            "#version: 0.2\na b\nab c\n",
            "line 3: `c` is not in the vocabulary",
        ),
        ("b a\n", "`ba` is not in the vocabulary"),
    ] {
        fs::write(place("merges.txt"), merges).unwrap();
        let message = TextTokenizer::open(folder.path()).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }
    fs::write(place("merges.txt"), "a b\n").unwrap();
    assert_eq!(
        TextTokenizer::open(folder.path())
            .unwrap()
            .encode("ab")
            .unwrap(),
        [2]
    );
    fs::write(place("tokenizer.json"), "{}").unwrap();
    let error = TextTokenizer::open(folder.path()).unwrap_err();
    assert!(error.message.contains("not a tokenizer"), "{error}");
    assert!(error.path.is_some());
}

#[test]
fn the_files_of_a_tokenizer_are_those_that_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let none = TextTokenizer::files(folder.path()).unwrap_err();
    assert_eq!(none.kind, crate::ErrorKind::Absent);
    fs::create_dir(place("a.model")).unwrap();
    fs::write(place("opt-vocab.json"), "{}").unwrap();
    let half = TextTokenizer::files(folder.path()).unwrap_err();
    assert_eq!(half.kind, crate::ErrorKind::Input);
    // Each is read though those before it are there.
    for (added, read) in [
        ("tok512.bin", &["tok512.bin"][..]),
        ("spiece.model", &["spiece.model"]),
        ("tokenizer.model", &["tokenizer.model"]),
        ("opt-merges.txt", &["opt-vocab.json", "opt-merges.txt"]),
        ("my-tokenizer.json", &["my-tokenizer.json"]),
        ("tokenizer.json", &["tokenizer.json"]),
    ] {
        fs::write(place(added), "").unwrap();
        let wanted: Vec<PathBuf> = read.iter().map(|name| place(name)).collect();
        assert_eq!(TextTokenizer::files(folder.path()).unwrap(), wanted);
        assert!(TextTokenizer::open(folder.path()).is_err(), "{added}");
    }
    let file = place("spiece.model");
    assert_eq!(TextTokenizer::files(&file).unwrap(), [file]);
}

#[test]
fn bytes_are_spelled_as_gpt2_spells_them() {
    let bytes = gpt2_bytes();
    assert_eq!(bytes.len(), 256);
    assert_eq!(bytes[0], '!');
    assert_eq!(bytes[220], 'Ġ');
    assert_eq!(bytes[198], 'Ċ');
}

#[test]
fn opt_ids_are_the_published_ones() {
    let (Some(folder), Some(cases)) = (opt_folder(), cases()) else {
        return;
    };
    let tokenizer = TextTokenizer::open(&folder)
        .unwrap()
        .recognising(&["</s>", "<pad>"])
        .unwrap();
    assert_eq!(tokenizer.size(), 50_265);
    for row in &cases {
        let text = row["text"].as_str().unwrap();
        let expected = ids(row, "opt");
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected).unwrap(), text);
    }
    assert_eq!(cases.len(), 100);
}

#[test]
fn gpt2_ids_follow_from_the_merges() {
    let (Some(folder), Some(cases)) = (opt_folder(), cases()) else {
        return;
    };
    let merges = ["merges.txt", "gpt2-merges.txt"].map(|name| folder.join(name));
    let merges = merges.iter().find(|path| path.exists()).unwrap();
    let tokenizer = TextTokenizer::from_gpt2_merges(merges).unwrap();
    assert_eq!(tokenizer.size(), 50_257);
    let tokenizer = tokenizer.recognising(&["<|endoftext|>"]).unwrap();
    for row in &cases {
        let text = row["text"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text).unwrap(),
            ids(row, "gpt2"),
            "{text:?}"
        );
    }
}

/// Texts with pairs of their own.
const OTHER_TEXTS: [&str; 3] = [
    "zebra zebra zebras quack quack quacking",
    "a red house, a red horse; zigzag zigzag",
    "豆沙包豆沙包豆沙包",
];

fn other(size: u64) -> TextTokenizer {
    TextTokenizer::train(OTHER_TEXTS.iter().map(|text| text.to_string()), size).unwrap()
}

#[test]
fn a_union_keeps_the_firsts_ids_and_has_all_tokens() {
    let (first, second) = (trained(300), other(290));
    let first = first.recognising(&["<first>", "<both>"]).unwrap();
    let second = second.recognising(&["<both>", "<second>"]).unwrap();
    let joint = TextTokenizer::union(&[&first, &second]).unwrap();
    for (id, token) in first.spelled() {
        assert_eq!(joint.token(id).as_deref(), Some(token.as_str()));
    }
    let new: Vec<String> = second
        .spelled()
        .filter(|(_, token)| first.id(token).is_none())
        .map(|(_, token)| token)
        .collect();
    assert!(new.len() > 20, "{new:?}");
    assert_eq!(joint.size(), first.size() + new.len() as u64);
    let appended: Vec<String> = joint
        .spelled()
        .skip(first.size() as usize)
        .map(|t| t.1)
        .collect();
    assert_eq!(appended, new);
    // No text is lost, texts of both use tokens of both, and none takes more tokens than bytes.
    let mut used = std::collections::BTreeSet::new();
    for text in TEXTS.iter().chain(&OTHER_TEXTS).chain(&["never: ÆØÅ 👩‍🍳"]) {
        let ids = joint.encode(text).unwrap();
        assert_eq!(joint.decode(&ids).unwrap(), *text);
        used.extend(ids);
    }
    let is_new = |id: &&u32| u64::from(**id) >= first.size();
    assert!(used.iter().filter(is_new).count() >= 5);
    for text in OTHER_TEXTS {
        let alone = first.encode(text).unwrap().len();
        assert!(joint.encode(text).unwrap().len() < alone);
    }
    // A tokenizer beside itself is itself, and what is written is read again.
    let itself = TextTokenizer::union(&[&first, &first]).unwrap();
    assert_eq!(itself.size(), first.size());
    for text in TEXTS {
        assert_eq!(itself.encode(text).unwrap(), first.encode(text).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    joint.save(&path).unwrap();
    let again = TextTokenizer::open(&path).unwrap();
    assert_eq!(
        again.encode("zebras").unwrap(),
        joint.encode("zebras").unwrap()
    );
    let three = TextTokenizer::union(&[&joint, &second, &first]).unwrap();
    assert_eq!(three.size(), joint.size());
}

#[test]
fn unlike_tokenizers_are_not_united() {
    let first = trained(280);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut told: Value = serde_json::from_str(&other(270).to_json().unwrap()).unwrap();
        change(&mut told);
        TextTokenizer::from_json(&told.to_string()).unwrap()
    };
    let why = |second: &TextTokenizer| {
        let error = TextTokenizer::union(&[&first, second]).unwrap_err();
        error.message
    };
    let lower = changed(&|told| told["normalizer"] = json!({"type": "Lowercase"}));
    assert_eq!(
        why(&lower),
        "they differ in how texts are normalised: nothing and {\"type\":\"Lowercase\"}"
    );
    let spaced = changed(&|told| told["pre_tokenizer"]["add_prefix_space"] = json!(true));
    assert!(
        why(&spaced).contains("where texts are cut into words"),
        "{}",
        why(&spaced)
    );
    let whole = changed(&|told| told["model"]["ignore_merges"] = json!(true));
    assert_eq!(
        why(&whole),
        "they differ in `ignore_merges`: false and true"
    );
    let harmless = changed(&|told| {
        told["pre_tokenizer"]["trim_offsets"] = json!(false);
        told["decoder"]["add_prefix_space"] = json!(false);
    });
    assert!(TextTokenizer::union(&[&first, &harmless]).is_ok());
    // What they find differs, what a token stands for does not.
    for other in [&lower, &spaced, &whole, &harmless] {
        TextTokenizer::spelled_alike(&[&first, other]).unwrap();
    }
    let cut = TextTokenizer::cut_alike(&[&first, &harmless, &whole]);
    assert!(cut.unwrap_err().message.contains("`ignore_merges`"));
    TextTokenizer::cut_alike(&[&first, &first.clone(), &harmless]).unwrap();
    let spelled = changed(&|told| told["decoder"] = json!({"type": "Fuse"}));
    let error = TextTokenizer::spelled_alike(&[&first, &harmless, &spelled]).unwrap_err();
    assert!(error.message.contains("how tokens become text"), "{error}");
    let words = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
    });
    let words = TextTokenizer::from_json(&words.to_string()).unwrap();
    assert!(
        why(&words).contains("only byte-pair encodings"),
        "{}",
        why(&words)
    );
}
