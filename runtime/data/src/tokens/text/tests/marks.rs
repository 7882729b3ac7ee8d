//! Special tokens: as files name them, and as a vocabulary places them.

use jam_ir::{TokenKind, TokenLayout};

use super::*;

/// OPT's four special tokens behind 276 of text, in its own words.
fn specials() -> TextTokenizer {
    let marked = trained(276);
    marked
        .recognising(&["<s>", "<pad>", "</s>", "<unk>"])
        .unwrap()
}

fn changed(tokenizer: &TextTokenizer, change: impl Fn(&mut Value)) -> TextTokenizer {
    let mut told: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    change(&mut told);
    TextTokenizer::from_json(&told.to_string()).unwrap()
}

/// Marks before `size` tokens of text, room for pictures, and marks behind.
fn layout(before: &[&str], size: u64, behind: &[&str]) -> TokenLayout {
    let mut layout = TokenLayout::empty("mixed");
    before.iter().for_each(|mark| layout.add_mark(mark));
    layout.add(TokenKind::Text, size);
    layout.add(TokenKind::Image, 16);
    behind.iter().for_each(|mark| layout.add_mark(mark));
    layout
}

#[test]
fn files_beside_a_tokenizer_name_its_marks() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let tokenizer = specials();
    let told = |tokenizer: &TextTokenizer| tokenizer.special_tokens(folder.path()).unwrap();
    let marks = || told(&tokenizer).marks.into_iter().collect::<Vec<_>>();
    let named = |marks: &[(&str, u64)]| -> Vec<(String, u64)> {
        marks.iter().map(|(m, id)| ((*m).to_owned(), *id)).collect()
    };
    // Nothing is said: the names are SentencePiece's.
    assert_eq!(marks(), named(&[("bos", 276), ("eos", 278), ("unk", 279)]));
    assert_eq!(told(&tokenizer).begin, Some(true));
    assert_eq!(told(&trained(276)).marks.len(), 0);
    // What one file says goes before what the other does; a token that is not there is no mark.
    let map = r#"{"eos_token": "<unk>", "pad_token": {"content": "<pad>", "lstrip": false}}"#;
    fs::write(place("special_tokens_map.json"), map).unwrap();
    assert_eq!(marks(), named(&[("pad", 277), ("eos", 279)]));
    let config = r#"{"bos_token": "</s>", "eos_token": "</s>", "unk_token": "<absent>"}"#;
    fs::write(place("tokenizer_config.json"), config).unwrap();
    let found = named(&[("bos", 278), ("eos", 278), ("pad", 277)]);
    assert_eq!(marks(), found);
    // As they are written for others.
    let fields = tokenizer.named_marks(&found.into_iter().collect());
    let expected = json!({"bos_token": "</s>", "pad_token": "<pad>", "eos_token": "</s>"});
    assert_eq!(Value::Object(fields), expected);
    // Whether texts begin with a mark: what is put around them tells, where no file does.
    tokenizer.save(&place("tokenizer.json")).unwrap();
    let beginning = tokenizer.beginning("</s>").unwrap();
    assert_eq!(told(&beginning).begin, None);
    assert!(beginning.begins_with(278).unwrap() && !beginning.begins_with(276).unwrap());
    assert!(!tokenizer.begins_with(278).unwrap());
    let config = r#"{"bos_token": "</s>", "add_bos_token": false}"#;
    fs::write(place("tokenizer_config.json"), config).unwrap();
    assert_eq!(told(&beginning).begin, Some(false));
    fs::write(place("tokenizer_config.json"), "{").unwrap();
    assert!(tokenizer.special_tokens(folder.path()).is_err());
}

#[test]
fn a_word_is_no_mark_because_a_configuration_has_its_id() {
    let tokenizer = specials();
    let id = |token: &str| u64::from(tokenizer.id(token).unwrap());
    assert!(!tokenizer.may_be_mark(id("!")) && !tokenizer.may_be_mark(id("<")));
    assert!(tokenizer.may_be_mark(276) && tokenizer.may_be_mark(1000));
    // GPT-2's end is an ordinary entry of its vocabulary.
    let ordinary = changed(&trained(276), |told| {
        told["model"]["vocab"]["<|endoftext|>"] = json!(276);
    });
    assert!(ordinary.may_be_mark(276));
}

#[test]
fn a_placed_tokenizer_has_the_ids_of_the_vocabulary() {
    let own = trained(280);
    let placed = own
        .placed(&layout(&["bos", "eos"], 280, &["break"]))
        .unwrap();
    assert_eq!(placed.size(), 299);
    for text in TEXTS {
        let moved: Vec<u32> = own.encode(text).unwrap().iter().map(|id| id + 2).collect();
        assert_eq!(placed.encode(text).unwrap(), moved);
        assert_eq!(placed.decode(&moved).unwrap(), text);
    }
    for (token, id) in [("<bos>", 0), ("<eos>", 1), ("<break>", 298)] {
        assert_eq!(placed.id(token), Some(id));
    }
    assert_eq!(placed.id("<mask:0>"), None);
    // For a program that takes marks in a text for marks, they are one token each.
    let told = placed.clone().recognising(&["<eos>"]).unwrap();
    assert_eq!(told.encode("<eos>").unwrap(), [1]);

    // A vocabulary that is the tokenizer's own changes nothing.
    let mut inside = TokenLayout::empty("inside");
    inside.add(TokenKind::Text, 280);
    assert!(inside.take_mark("eos", 278));
    let own = specials();
    let same = own.placed(&inside).unwrap();
    assert_eq!(same.content_hash(), own.content_hash());
}

/// Tokens that were added to a vocabulary are numbered behind it; marks of a vocabulary come behind them, and
/// a name that is taken is not taken again.
#[test]
fn added_tokens_are_placed_with_the_others() {
    let own = changed(&specials(), |told| {
        // As LLaMA 3 has them: no part of the model.
        let vocabulary = told["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.retain(|_, id| id.as_u64() < Some(276));
    });
    assert_eq!(own.size(), 280);
    let placed = own
        .placed(&layout(&["bos", "pad"], 280, &["break"]))
        .unwrap();
    for (token, id) in [
        ("<bos>", 0),
        ("<<pad>>", 1),
        ("<s>", 278),
        ("<pad>", 279),
        ("<unk>", 281),
        ("<break>", 298),
    ] {
        assert_eq!(placed.id(token), Some(id), "{token}");
    }
}

#[test]
fn what_is_put_around_texts_is_placed_too() {
    let before = layout(&["pad"], 280, &[]);
    let first = |tokenizer: &TextTokenizer| {
        let whole = tokenizer.inner.encode("red", true).unwrap();
        (whole.get_ids()[0], whole.get_tokens()[0].clone())
    };
    let plain = specials();
    let template = plain.beginning("<s>").unwrap();
    assert_eq!(first(&template), (276, "<s>".to_owned()));
    assert!(template.puts_around().unwrap() && !plain.puts_around().unwrap());
    let bare = template.bare().unwrap();
    assert_eq!(bare.content_hash(), plain.content_hash());
    // Among several, as LLaMA 3 has it.
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true,
    });
    let several = changed(&template, |told| {
        let template = told["post_processor"].take();
        let all = json!([byte_level, template]);
        told["post_processor"] = json!({"type": "Sequence", "processors": all});
    });
    let roberta = json!({
        "type": "RobertaProcessing", "sep": ["</s>", 278], "cls": ["<s>", 276],
        "trim_offsets": false, "add_prefix_space": false,
    });
    let roberta = changed(&plain, |told| told["post_processor"] = roberta.clone());
    for tokenizer in [template, several, roberta] {
        let placed = tokenizer.placed(&before).unwrap();
        assert_eq!(first(&placed), (277, "<s>".to_owned()));
    }
    assert!(plain.beginning("<absent>").is_err());
}

/// Pieces of a unigram model have their ids by place, and chances: a mark must never be the likeliest.
#[test]
fn marks_among_pieces_are_no_text() {
    let pieces = [
        ("<unk>", 0.0),
        ("▁the", -2.0),
        ("▁", -3.0),
        ("e", -4.0),
        ("o", -4.0),
        ("s", -4.0),
        ("<", -5.0),
        (">", -5.0),
    ];
    let told = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false},
    });
    let own = TextTokenizer::from_json(&told.to_string()).unwrap();
    let mut vocabulary = layout(&["bos", "eos"], 8, &[]);
    vocabulary.add(TokenKind::Reserved, 3);
    vocabulary.add_mark("break");
    let placed = own.placed(&vocabulary).unwrap();
    for text in ["the <eos>", "<bos>", "so"] {
        let moved: Vec<u32> = own.encode(text).unwrap().iter().map(|id| id + 2).collect();
        assert_eq!(placed.encode(text).unwrap(), moved, "{text}");
    }
    assert_eq!(placed.token(1).unwrap(), "<eos>\u{fdd0}");
    assert_eq!(placed.id("<break>\u{fdd0}"), None);

    // Whole words are found as they stand.
    let words = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"the": 0, "<?>": 1}, "unk_token": "<?>"},
    });
    let own = TextTokenizer::from_json(&words.to_string()).unwrap();
    let placed = own.placed(&layout(&["bos", "eos"], 2, &[])).unwrap();
    assert_eq!(placed.encode("the <eos>").unwrap(), [2, 3]);
    assert_eq!(placed.token(1).unwrap(), "<eos>\u{fdd0}");
}
