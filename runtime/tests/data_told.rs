//! What of data is told before the first step, and what is told once.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use indexmap::IndexMap;
use jam_backends::Device;
use jam_ir::recipe::{DataRecipe, DataRef, DataSource, Step};
use jam_ir::{Called, ErrorKind, Program, SettingValue};
use jam_runtime::steps::{Runner, Workload};
use jam_weights::progress::{Bar, Ended, Progress, Stop};

/// Keeps the notes.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _label: &str, _total: u64) -> Box<dyn Bar> {
        Box::new(Silent)
    }

    fn note(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }
}

struct Silent;

impl Bar for Silent {
    fn at(&mut self, _done: u64, _message: &str) {}
}

/// A word with one setting or several.
fn called<const N: usize>(name: &str, settings: [(&str, SettingValue); N]) -> Called {
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    Called {
        name: name.to_owned(),
        settings: settings.into(),
    }
}

fn data(format: Called, splits: &[(&str, &str)]) -> DataRecipe {
    let source = |pattern: &str| DataSource::Files(vec![pattern.to_owned()]);
    let splits = splits
        .iter()
        .map(|(split, pattern)| ((*split).to_owned(), source(pattern)));
    DataRecipe {
        format,
        splits: splits.collect(),
        held_out: 0.0,
        span: None,
    }
}

/// A tokenizer that learns from each of these data sets, in the order of the program.
fn work(folder: &Path) -> Workload {
    let mut program = Program::default();
    let text = called("text", [("field", SettingValue::Text("text".to_owned()))]);
    let splits = [("train", "*.txt"), ("val", "val.txt")];
    program
        .data
        .insert("corpus".to_owned(), data(text, &splits));
    let splits = [("train", "a.jsonl"), ("val", "v.jsonl")];
    let articles = data(called("interleaved", []), &splits);
    program.data.insert("articles".to_owned(), articles);
    for (name, learns) in [
        ("words", ["corpus", "corpus"]),
        ("both", ["articles", "corpus"]),
    ] {
        let reference = |name: &str| DataRef {
            name: name.to_owned(),
            split: "train".to_owned(),
        };
        let train = learns.map(|name| SettingValue::Data(reference(name)));
        let train = ("train", SettingValue::List(train.into()));
        let recipe = called("bpe", [train, ("size", SettingValue::Count(257))]);
        program.tokenizers.insert(name.to_owned(), recipe);
        program.steps.push(Step::Tokenizer(name.to_owned()));
    }
    Workload {
        program,
        models: IndexMap::new(),
        source: String::new(),
        file: folder.join("t.jam"),
        folder: folder.to_owned(),
        out: folder.join("out"),
        places: Default::default(),
        flags: Vec::new(),
    }
}

#[test]
fn an_absent_picture_is_told_before_the_first_step_and_what_is_left_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    for (name, text) in [
        ("a.txt", "a red house"),
        ("val.txt", "a blue tree"),
        (
            "a.jsonl",
            "{\"segments\":[{\"text\":\"a house\"},{\"image\":\"house.png\"}]}\n",
        ),
        ("v.jsonl", "{\"segments\":[{\"text\":\"a tree\"}]}\n"),
    ] {
        fs::write(place.join(name), text).unwrap();
    }
    let work = work(place);
    let notes = Notes::default();
    let runner = Runner::new(&work, Device::flex(), &notes, Stop::default());
    let error = runner.run(&work.program.steps, &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Absent);
    assert!(error.message.contains("a picture is not there"), "{error}");
    assert!(error.path.unwrap().ends_with("house.png"));
    assert!(!work.out.join("tokenizers").exists(), "no step was begun");

    fs::write(place.join("house.png"), "not looked at").unwrap();
    let ended = runner.run(&work.program.steps, &[]).unwrap();
    assert_eq!(ended, Ended::Complete);
    let notes = notes.0.borrow();
    let told = notes.iter().filter(|note| note.contains("val.txt"));
    let told: Vec<&String> = told.collect();
    assert_eq!(told.len(), 1, "{notes:?}");
    assert!(told[0].ends_with("left out of `train`"), "{}", told[0]);
}
