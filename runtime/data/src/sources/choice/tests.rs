//! Items made here, and the published sets where `JAM_DATA` names their folder.

use std::fs;

use super::*;

fn written(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn read(format: &str, name: &str, content: &str) -> std::result::Result<Vec<ChoiceItem>, String> {
    let (_folder, path) = written(name, content.as_bytes());
    choices(format, &[path]).map_err(|error| error.message)
}

fn option(context: &str, continuation: &str) -> ChoiceOption {
    ChoiceOption {
        context: context.to_owned(),
        continuation: continuation.to_owned(),
    }
}

#[test]
fn plain_items_and_their_mistakes() {
    let items = read(
        "jsonl",
        "a.jsonl",
        "{\"question\":\"1 + 1 is\",\"choices\":[\"one\",\" two\"],\"gold\":1}\n\n{\"query\":\"q\",\"choices\":[\"a\",\"b\",\"c\"],\"gold\":0}",
    )
    .unwrap();
    assert_eq!(items[0].options[1], option("1 + 1 is", " two"));
    assert_eq!(
        (items[0].id.as_str(), items[1].id.as_str()),
        ("a.jsonl:1", "a.jsonl:3")
    );
    assert_eq!((items[0].gold, items[1].options.len()), (1, 3));
    for (line, expected) in [
        ("{", "line 1: not JSON"),
        (
            r#"{"question":"q","choices":["a"],"gold":0}"#,
            "line 1: the item has 1 choices",
        ),
        (
            r#"{"question":"q","choices":["a","b"],"gold":2}"#,
            "line 1: the gold answer is 2 of 2",
        ),
        (
            r#"{"question":"q","choices":["a"," "],"gold":0}"#,
            "line 1: there is nothing to score",
        ),
        (
            r#"{"question":"q","choices":["a",1],"gold":0}"#,
            "line 1: a choice is not a string",
        ),
        (
            r#"{"question":"q","choices":["a","b"],"gold":-1}"#,
            "line 1: `gold` is not",
        ),
        (
            r#"{"choices":["a","b"],"gold":1}"#,
            "line 1: there is no `query`",
        ),
        ("\n", "the file has no items"),
    ] {
        let message = read("jsonl", "a.jsonl", line).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(
        read("hellaswag", "a.jsonl", "")
            .unwrap_err()
            .contains("`hellaswag`")
    );
}

#[test]
fn labels_of_arc_are_looked_up_and_not_counted() {
    let item = |key: &str| {
        format!(
            r#"{{"id":"x","question":{{"stem":"Why?","choices":[{{"text":"p","label":"1"}},{{"text":"q","label":"3"}},{{"text":"r","label":"2"}}]}},"answerKey":"{key}"}}"#
        )
    };
    let items = read("arc", "a.jsonl", &item("2")).unwrap();
    assert_eq!((items[0].gold, items[0].id.as_str()), (2, "x"));
    assert_eq!(items[0].options[2], option("Question: Why?\nAnswer:", " r"));
    assert!(
        read("arc", "a.jsonl", &item("B"))
            .unwrap_err()
            .contains("no choice has the label `B`")
    );
    let doubled = item("2").replace("\"3\"", "\"2\"");
    assert!(
        read("arc", "a.jsonl", &doubled)
            .unwrap_err()
            .contains("two choices")
    );
}

/// The same question as the publication and as the hub have it.
#[test]
fn arc_is_read_as_the_hub_has_it() {
    let published = r#"{"id":"x","question":{"stem":"Why?","choices":[{"text":"p","label":"A"},{"text":"q","label":"B"}]},"answerKey":"B"}"#;
    let hub = r#"{"id":"x","question":"Why?","choices":{"text":["p","q"],"label":["A","B"]},"answerKey":"B"}"#;
    let expected = read("arc", "a.jsonl", published).unwrap();
    assert_eq!(read("arc", "a.jsonl", hub).unwrap(), expected);
    assert_eq!(expected[0].gold, 1);
    for (from, to, told) in [
        ("\"p\",\"q\"", "\"p\"", "1 choices and 2 labels"),
        ("\"choices\"", "\"options\"", "there is no `choices`"),
        ("\"text\"", "\"texts\"", "`choices.text` is not a list"),
        ("\"p\"", "7", "an entry of `choices.text` is not a string"),
    ] {
        let message = read("arc", "a.jsonl", &hub.replace(from, to)).unwrap_err();
        assert!(message.contains(told), "{message}");
    }
    let numbers = hub
        .replace("[\"A\",\"B\"]", "[\"1\",\"2\"]")
        .replace("\"B\"}", "2}");
    assert_eq!(read("arc", "a.jsonl", &numbers).unwrap()[0].gold, 1);
}

/// SuperGLUE's form, the first publication's, and items that are asked already are one.
#[test]
fn copa_is_read_as_it_was_published() {
    let glue = r#"{"premise":"The woman retired.","choice1":"She received her pension.","choice2":"She paid off her mortgage.","question":"effect","idx":0,"label":0}"#;
    let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE copa-corpus SYSTEM \"copa.dtd\">\n<copa-corpus version=\"1.0\">\n<item id=\"1\" asks-for=\"effect\" most-plausible-alternative=\"1\">\n<p>The woman retired.</p>\n<a1>She received her pension.</a1>\n<a2>She paid off her mortgage.</a2>\n</item></copa-corpus>";
    let asked = r#"{"query":"The woman retired therefore","choices":["she received her pension.","she paid off her mortgage."],"gold":0}"#;
    let of = |name: &str, text: &str| {
        let items = read("copa", name, text).unwrap();
        (items[0].options.clone(), items[0].gold)
    };
    let expected = of("a.jsonl", asked);
    assert_eq!(
        expected.0[0],
        option("The woman retired therefore", " she received her pension.")
    );
    assert_eq!(of("a.jsonl", glue), expected);
    assert_eq!(of("a.xml", xml), expected);
    let cause = of(
        "a.jsonl",
        &glue
            .replace("effect", "cause")
            .replace("\"label\":0", "\"label\":1"),
    );
    assert_eq!(
        (cause.0[0].context.as_str(), cause.1),
        ("The woman retired because", 1)
    );
    for (from, to, told) in [
        ("effect", "reason", "line 1: `reason` is asked for"),
        (
            "\"label\":0",
            "\"label\":2",
            "line 1: the right one is `2`, not 0 or 1",
        ),
        (
            "\"label\":0",
            "\"label\":-1",
            "line 1: the right one is `-1`",
        ),
        (",\"label\":0", "", "line 1: there is no `label`"),
    ] {
        let message = read("copa", "a.jsonl", &glue.replace(from, to)).unwrap_err();
        assert!(message.starts_with(told), "{message}");
    }
    let message = read(
        "copa",
        "a.xml",
        &xml.replace("=\"1\">\n<p>", "=\"3\">\n<p>"),
    )
    .unwrap_err();
    assert!(
        message.starts_with("line 4: the right one is `3`, not 1 or 2"),
        "{message}"
    );
}

#[test]
fn labels_may_be_numbers_and_files_begin_with_a_mark() {
    let number = "\u{feff}{\"sentence\":\"It was the _.\",\"option1\":\"cat\",\"option2\":\"dog\",\"answer\":2}";
    let text = number.replace(":2}", ":\"2\"}");
    let items = read("winogrande", "a.jsonl", number).unwrap();
    assert_eq!(items, read("winogrande", "a.jsonl", &text).unwrap());
    assert_eq!(items[0].gold, 1);
    let piqa = "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":1}";
    let items = read("piqa", "a.jsonl", piqa).unwrap();
    assert_eq!(
        items,
        read("piqa", "a.jsonl", &piqa.replace(":1}", ":\"1\"}")).unwrap()
    );
    let plain = "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"gold\":\"1\"}";
    assert_eq!(read("jsonl", "a.jsonl", plain).unwrap()[0].gold, 1);
    let (_folder, path) = written("a.jsonl", &[0xff, 0xfe, b'{', 0]);
    let error = choices("jsonl", &[path]).unwrap_err();
    assert_eq!(error.message, "the file is text in UTF-16");
}

#[test]
fn labels_beside_the_file_must_be_as_many() {
    let (folder, path) = written(
        "dev.jsonl",
        b"{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\"}\n{\"goal\":\"h\",\"sol1\":\"c\",\"sol2\":\"d\"}\n",
    );
    let files = [path.clone(), folder.path().join("dev-labels.lst")];
    assert!(
        choices("piqa", &files[..1])
            .unwrap_err()
            .message
            .contains("no label")
    );
    fs::write(&files[1], "1\n0\n").unwrap();
    let items = choices("piqa", &files).unwrap();
    assert_eq!(
        items.iter().map(|item| item.gold).collect::<Vec<_>>(),
        [1, 0]
    );
    assert_eq!(items[1].options[0], option("Question: h\nAnswer:", " c"));
    fs::write(&files[1], "1\n0\n0\n").unwrap();
    assert!(
        choices("piqa", &files)
            .unwrap_err()
            .message
            .contains("2 items and 3 labels")
    );
    fs::write(&files[1], "1\n2\n").unwrap();
    assert!(
        choices("piqa", &files)
            .unwrap_err()
            .message
            .contains("`2`, not 0 or 1")
    );
}

#[test]
fn options_stand_in_the_context_of_partial_items() {
    let text = r#"{"sentence":"The _ is big, so the _ stays.","option1":"cat","option2":"dog ","answer":"2"}"#;
    let items = read("winogrande", "a.jsonl", text).unwrap();
    assert_eq!(
        items[0].options[0],
        option("The cat", " is big, so the _ stays.")
    );
    assert_eq!(items[0].options[1].context, "The dog");
    assert_eq!(items[0].gold, 1);
    let end = r#"{"sentence":"It was the _.","option1":"cat","option2":"dog","answer":"1"}"#;
    assert_eq!(
        read("winogrande", "a.jsonl", end).unwrap()[0].options[0].continuation,
        "."
    );
    assert!(
        read("winogrande", "a.jsonl", &end.replace("_", "x"))
            .unwrap_err()
            .contains("no `_`")
    );
}

#[test]
fn schemas_are_read_in_their_encoding() {
    let schema = |before: &str, pronoun: &str, correct: &str| {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<collection>\n<schema><text><txt1>\n{before}\n</txt1>\
             <pron> {pronoun}  </pron><txt2> was late.\n</txt2></text><answers><answer>The caf\u{e9} </answer>\
             <answer>Ann</answer></answers><correctAnswer>{correct}</correctAnswer></schema>\n</collection>"
        );
        let latin: Vec<u8> = text.chars().map(|c| c as u32 as u8).collect();
        let (_folder, path) = written("w.xml", &latin);
        choices("winograd", &[path]).map_err(|error| error.message)
    };
    let items = schema("We waited because", "it", "  A. ").unwrap();
    assert_eq!(
        items[0].options[0],
        option("We waited because the café", " was late.")
    );
    assert_eq!(
        (items[0].options[1].context.as_str(), items[0].gold),
        ("We waited because Ann", 0)
    );
    let items = schema("We waited.", "His", " B").unwrap();
    assert_eq!(items[0].options[0].context, "We waited. The café's");
    assert_eq!(items[0].gold, 1);
    assert!(
        schema("x", "it", "C")
            .unwrap_err()
            .contains("line 3, schema 1: the correct answer is `C`")
    );
    let (_folder, path) = written("w.xml", b"<?xml version=\"1.0\"?><a>caf\xe9</a>");
    assert!(
        choices("winograd", &[path])
            .unwrap_err()
            .message
            .contains("not in the encoding")
    );
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
    assert!(
        read("winograd", "w.xml", bomb)
            .unwrap_err()
            .contains("not XML")
    );
}

#[test]
fn stories_have_two_endings() {
    let header = "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding";
    let text = format!("\u{feff}{header}\ns1,A.,\"B, b.\",C.,D.,Good.,Bad.,2\n");
    let items = read("storycloze", "a.csv", &text).unwrap();
    assert_eq!(items[0].options[1], option("A. B, b. C. D.", " Bad."));
    assert_eq!((items[0].id.as_str(), items[0].gold), ("s1", 1));
    let wrong = read("storycloze", "a.csv", &text.replace(",2\n", ",3\n")).unwrap_err();
    assert!(
        wrong.starts_with("line 2: the right ending is `3`"),
        "{wrong}"
    );
    let wrong = read("storycloze", "a.csv", &text.replace("InputSentence3", "x")).unwrap_err();
    assert!(wrong.contains("no column `InputSentence3`"), "{wrong}");
}

/// Numbers of items, of choices in an item, and the sum of the golds, of the published files.
#[test]
fn published_sets_are_read() {
    let Some(data) = std::env::var_os("JAM_DATA").map(PathBuf::from) else {
        eprintln!("left out: JAM_DATA does not name a folder of real data");
        return;
    };
    let tasks = data.join("tasks");
    for (format, pattern, count, most) in [
        ("piqa", "piqa/valid*", 1076, 2),
        ("arc", "arc/ARC-Easy-Dev.jsonl", 570, 5),
        ("arc", "arc/ARC-Easy-Test.jsonl", 1201, 5),
        ("arc", "arc/ARC-Challenge-*.jsonl", 299 + 577, 5),
        ("winograd", "winograd/WSCollection.xml", 169, 2),
        ("winogrande", "winogrande/dev.jsonl", 754, 2),
        ("copa", "copa/copa.jsonl", 100, 2),
        ("storycloze", "storycloze_surrogate/*.csv", 147, 2),
    ] {
        let files = crate::sources::matching_files(&tasks, &[pattern.to_owned()]).unwrap();
        let items = choices(format, &files).unwrap();
        assert_eq!(items.len(), count, "{pattern}");
        assert_eq!(
            items.iter().map(|item| item.options.len()).max(),
            Some(most),
            "{pattern}"
        );
        let first = items.iter().filter(|item| item.gold == 0).count();
        assert!(
            first > count / 8 && first < count * 3 / 4,
            "{pattern}: {first} of {count} golds come first"
        );
        for item in &items {
            for option in &item.options {
                assert!(
                    !option.context.contains("  ") || format != "winograd",
                    "{}",
                    option.context
                );
                assert_eq!(option.context.trim_end(), option.context, "{}", item.id);
            }
        }
    }
}
