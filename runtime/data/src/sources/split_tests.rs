//! Small files, and the sentences about what is left out of them.

use std::fs;

use indexmap::IndexMap;
use jam_ir::{Called, SettingValue};

use super::*;
use crate::sources::formats::plain;
use crate::sources::matching_files;

struct Data {
    folder: tempfile::TempDir,
    recipe: DataRecipe,
}

impl Data {
    fn new(format: Called, splits: &[(&str, &str)]) -> Data {
        let splits: IndexMap<String, DataSource> = splits
            .iter()
            .map(|(split, pattern)| {
                (
                    (*split).to_owned(),
                    DataSource::Files(vec![(*pattern).to_owned()]),
                )
            })
            .collect();
        let held_out = if splits.contains_key("val") {
            0.0
        } else {
            0.05
        };
        Data {
            folder: tempfile::tempdir().unwrap(),
            recipe: DataRecipe {
                format,
                splits,
                held_out,
                span: None,
            },
        }
    }

    fn text(splits: &[(&str, &str)]) -> Data {
        Data::new(plain("text"), splits)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn split(&self, split: &str) -> Result<SplitDocuments> {
        let find = |source: &DataSource| match source {
            DataSource::Files(patterns) => matching_files(self.folder.path(), patterns),
            DataSource::Lessons { .. } => Err(Error::new("no lessons here")),
        };
        split_documents(&self.recipe, &reference(split), &find)
    }
}

fn reference(split: &str) -> DataRef {
    DataRef {
        name: "corpus".to_owned(),
        split: split.to_owned(),
    }
}

fn texts(split: &SplitDocuments) -> Vec<&str> {
    split.documents.iter().flat_map(Document::texts).collect()
}

/// One reading of what is divided gives what one for each split does, what is wrong with it too.
#[test]
fn train_and_val_come_from_one_reading() {
    let mut data = Data::text(&[("train", "*.jsonl")]);
    let line = |n: usize| format!("{{\"id\": {n}, \"text\": \"{}\"}}\n", "a".repeat(n % 9));
    data.write("a.jsonl", &(0..200).map(line).collect::<String>());
    for share in [0.05, 0.5, 1e-9] {
        data.recipe.held_out = share;
        assert!(holds_out(&data.recipe, "train") && !holds_out(&data.recipe, "test"));
        let find = |_: &DataSource| matching_files(data.folder.path(), &["*.jsonl".to_owned()]);
        let read = divided_documents(&data.recipe, "corpus", &find).unwrap();
        assert_eq!(read, ["train", "val"].map(|split| data.split(split)));
        let counts = read.map(|split| split.map_or(0, |split| split.documents.len()));
        assert_eq!(counts.iter().sum::<usize>(), 200 - 23);
    }
}

#[test]
fn files_of_val_and_test_are_never_trained_on() {
    let splits = [
        ("train", "data/*.txt"),
        ("val", "data/val.txt"),
        ("test", "data/sub"),
    ];
    let data = Data::text(&splits);
    for name in ["a", "b", "val"] {
        data.write(&format!("data/{name}.txt"), name);
    }
    data.write("data/sub/t.jsonl", "{\"text\":\"t\"}");
    let train = data.split("train").unwrap();
    assert_eq!(texts(&train), ["a", "b"]);
    assert_eq!(train.notes.len(), 1);
    let note = &train.notes[0];
    assert!(
        note.starts_with("data `corpus`: `")
            && note.ends_with("val.txt` is of `val` or `test`, and left out of `train`"),
        "{note}"
    );
    let val = data.split("val").unwrap();
    assert_eq!((texts(&val), val.notes.len()), (vec!["val"], 0));

    // Other spellings and links are the same file; what is in a folder counts as well.
    let data = Data::text(&[
        ("train", "t"),
        ("val", "t/../t/v.jsonl"),
        ("test", "linked/w.jsonl"),
    ]);
    for name in ["a", "v", "w"] {
        data.write(
            &format!("t/{name}.jsonl"),
            &format!("{{\"text\":\"{name}\"}}"),
        );
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("t", data.folder.path().join("linked")).unwrap();
    #[cfg(not(unix))]
    data.write("linked/w.jsonl", "{\"text\":\"w\"}");
    let train = data.split("train").unwrap();
    assert_eq!(texts(&train)[0], "a");
    if cfg!(unix) {
        assert_eq!(train.documents.len(), 1);
        assert!(
            train.notes[0].contains("2 files, the first of them `"),
            "{}",
            train.notes[0]
        );
    }

    let data = Data::text(&[("train", "*.txt"), ("val", "a.txt")]);
    data.write("a.txt", "a");
    let error = data.split("train").unwrap_err();
    assert_eq!(
        error.message,
        "data `corpus` has no file to train on: each is one of `val` or `test` too"
    );
}

/// What is held out comes from the training files, without those of `test`.
#[test]
fn held_out_records_are_none_of_test() {
    let mut data = Data::text(&[("train", "*.txt"), ("test", "t.txt")]);
    data.recipe.held_out = 0.5;
    for index in 0..40 {
        data.write(&format!("{index}.txt"), "x");
    }
    data.write("t.txt", "of the test");
    let (train, val) = (data.split("train").unwrap(), data.split("val").unwrap());
    assert_eq!(train.documents.len() + val.documents.len(), 40);
    assert!(
        texts(&train)
            .iter()
            .chain(&texts(&val))
            .all(|text| *text == "x")
    );
    assert_eq!(texts(&data.split("test").unwrap()), ["of the test"]);
}

#[test]
fn empty_texts_are_left_out_and_counted() {
    let picture =
        "{\"image\":\"a.png\",\"caption\":\"x\"}\n{\"image\":\"a.png\",\"caption\":\" \"}\n";
    let segment = |text: &str| format!("{{\"segments\":[{{\"text\":\"{text}\"}}]}}\n");
    let answer = |prompt: &str, response: &str| {
        format!("{{\"prompt\":\"{prompt}\",\"response\":\"{response}\"}}\n")
    };
    let text = plain("text");
    for (kind, content, kept, blank) in [
        (
            text,
            "{\"text\":\"\"}\n{\"text\":\"a\"}\n{\"text\":\" \\n\"}\n".to_owned(),
            1,
            2,
        ),
        (plain("image_text"), picture.to_owned(), 1, 1),
        (
            plain("interleaved"),
            segment("") + &segment("a") + "{\"segments\":[]}\n",
            1,
            2,
        ),
        (
            plain("interleaved"),
            "{\"segments\":[{\"image\":\"a.png\"}]}\n".to_owned() + &segment(""),
            1,
            1,
        ),
        (
            plain("instruct"),
            answer("q", "") + &answer("q", "a") + &answer(" ", "a"),
            1,
            2,
        ),
    ] {
        let data = Data::new(kind.clone(), &[("train", "a.jsonl"), ("val", "b.jsonl")]);
        data.write("a.jsonl", &content);
        data.write("b.jsonl", &content);
        let split = data.split("train").unwrap();
        assert_eq!(split.documents.len(), kept, "{kind:?}");
        let all = kept + blank;
        let told = format!(
            "data `corpus`: {blank} of {all} records are left out, for their text is empty; the first is `"
        );
        assert_eq!(split.notes.len(), 1, "{kind:?}");
        assert!(split.notes[0].starts_with(&told), "{}", split.notes[0]);
    }
    let data = Data::text(&[("train", "a.jsonl"), ("val", "a.jsonl")]);
    data.write("a.jsonl", "{\"text\":\"\"}\n");
    assert_eq!(
        data.split("val").unwrap_err().message,
        "data `corpus.val` has no documents: of 1 records, 1 have an empty text"
    );
}

#[test]
fn a_draw_that_leaves_nothing_says_so() {
    let records = |ids: &dyn Fn(usize) -> String, count: usize| {
        let line = |n| format!("{{\"text\":\"t\",\"id\":\"{}\"}}\n", ids(n));
        (0..count).map(line).collect::<String>()
    };
    let told = |content: &str, held_out: f64, split: &str| {
        let mut data = Data::text(&[("train", "a.jsonl")]);
        data.recipe.held_out = held_out;
        data.write("a.jsonl", content);
        data.split(split).unwrap_err()
    };
    let few = told(&records(&|n| n.to_string(), 6), 0.05, "val");
    assert_eq!(
        few.message,
        "data `corpus.val` has no documents: the draw of the 5% that are held out took none of 6 records"
    );
    assert!(few.help.unwrap().contains("held_out: 20%"));
    let one = told(&records(&|_| "x".to_owned(), 300), 0.05, "val");
    assert!(
        one.message.contains("all 300 records have one `id`"),
        "{one}"
    );
    let train = told(&records(&|_| "x".to_owned(), 1), 0.9, "train");
    assert!(train.message.ends_with("took the only record"), "{train}");
    assert_eq!(
        told("\n", 0.05, "train").message,
        "data `corpus.train` has no documents: its files have no records"
    );
}

#[test]
fn pictures_that_are_not_there_are_found_by_name() {
    let mut data = Data::new(
        plain("interleaved"),
        &[("train", "a.jsonl"), ("val", "a.jsonl")],
    );
    data.write("p/1.png", "not looked at");
    let article = |names: &[&str]| {
        let parts: Vec<String> = names
            .iter()
            .map(|name| format!("{{\"image\":\"p/{name}\"}}"))
            .collect();
        format!("{{\"segments\":[{}]}}\n", parts.join(","))
    };
    let lines = article(&["1.png"]) + &article(&["1.png", "2.png"]) + &article(&["3.png"; 3]);
    data.write("a.jsonl", &lines);
    let documents = |data: &Data| data.split("val").unwrap().documents;
    let error = absent_pictures(&reference("val"), &documents(&data)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Absent);
    assert!(
        error
            .message
            .starts_with("data `corpus.val`: 4 pictures are not there"),
        "{error}"
    );
    assert!(error.message.contains("a.jsonl:2` names") && error.path.unwrap().ends_with("p/2.png"));
    data.write("p/2.png", "");
    // An article that is left out need not have its pictures.
    let at_most = |count| ("max_pictures".to_owned(), SettingValue::Count(count));
    data.recipe.format.settings.extend([at_most(2)]);
    absent_pictures(&reference("val"), &documents(&data)).unwrap();
    data.recipe.format.settings.extend([at_most(3)]);
    assert!(absent_pictures(&reference("val"), &documents(&data)).is_err());
}
