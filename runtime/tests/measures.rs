//! What is measured counts what it says, and numbers that are none end a measure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_backends::{Device, DeviceChoice, Executable, Targets, Tokens};
use jam_data::batches::{Answers, EncodedSet, NextToken, Objective};
use jam_data::images::Picture;
use jam_data::sources::{ChoiceItem, ChoiceOption};
use jam_data::tokens::text::TextTokenizer;
use jam_data::tokens::{Codec, PictureTokenizer};
use jam_ir::recipe::{
    DataRecipe, DataRef, DataSource, DecodeRecipe, EvalRecipe, ModelRecipe, Sampling, Step,
};
use jam_ir::{
    Called, DType, ErrorKind, Model, ModelRef, Plan, Program, SettingValue, TextTokens, TokenKind,
    TokenLayout,
};
use jam_lessons::Scene;
use jam_runtime::decoding::{Limits, Request, generate};
use jam_runtime::evaluation::{
    AskedPicture, ChoiceRules, Reading, mean_loss, score_choices, score_drawn,
};
use jam_runtime::steps::{Runner, Workload, load_executable, read_report};
use jam_weights::checkpoints::WeightSource;
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use jam_weights::plans::{NoSources, PlanRows};
use jam_weights::progress::{Bar, Ended, Progress, Silent, Stop};

fn device() -> Device {
    DeviceChoice::Cpu.open().unwrap()
}

/// eos, 300 text ids, four codes in a grid of 2, a break.
fn layout() -> TokenLayout {
    let mut layout = TokenLayout::empty("small");
    layout.add_mark("eos");
    layout.add(TokenKind::Text, 300);
    layout.add(TokenKind::Image, 4);
    layout.add_mark("break");
    layout.grid = 2;
    layout
}

fn tokenizer() -> TextTokenizer {
    let texts = ["a red house", "a blue tree"];
    TextTokenizer::train(texts.map(str::to_owned).into_iter(), 270).unwrap()
}

fn codec() -> Codec {
    Codec::new(layout(), Some(tokenizer()), Some(Arc::new(Greys))).unwrap()
}

/// An image tokenizer of four codes, each a grey.
#[derive(Debug)]
struct Greys;

impl PictureTokenizer for Greys {
    fn codes(&self) -> usize {
        4
    }

    fn picture(&self) -> usize {
        4
    }

    fn tokens_per_picture(&self) -> usize {
        4
    }

    fn decodes(&self) -> bool {
        true
    }

    fn encode(&self, pictures: &[Picture]) -> jam_ir::Result<Vec<Vec<u32>>> {
        Ok(pictures.iter().map(|_| vec![0; 4]).collect())
    }

    fn decode(&self, pictures: &[&[u32]]) -> jam_ir::Result<Vec<Picture>> {
        let grey = |codes: &&[u32]| Picture::new(4, 4, [codes[0] as u8; 3]);
        pictures.iter().map(grey).collect()
    }
}

fn model() -> Model {
    decoder_only(&DecoderConfig::llama(layout(), 48, 16, 2, 2, 24))
}

/// Weights drawn by the model's own plans, all of them changed by a function of their name.
struct Drawn<'m>(&'m Model, fn(&str, f32) -> f32);

impl WeightSource for Drawn<'_> {
    fn names(&self) -> Vec<String> {
        self.0.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.weight_shape(&self.0.weight_uses().get(name)?.ty)
    }

    fn rows(&self, name: &str, rows: std::ops::Range<u64>) -> jam_ir::Result<Vec<f32>> {
        let shape = self.shape(name).unwrap();
        let plan = &self.0.weights[name].plan;
        let mut numbers = PlanRows::new(plan, name, &shape, 5, &NoSources).rows(rows)?;
        numbers.iter_mut().for_each(|x| *x = (self.1)(name, *x));
        Ok(numbers)
    }
}

fn executable(change: fn(&str, f32) -> f32) -> Executable {
    let model = model();
    load_executable(&model, &Drawn(&model, change), &device(), DType::F32).unwrap()
}

fn sound() -> Executable {
    executable(|_, x| x)
}

fn item(context: &str, choices: &[&str]) -> ChoiceItem {
    let options = choices.iter().map(|choice| ChoiceOption {
        context: context.to_owned(),
        continuation: format!(" {choice}"),
    });
    ChoiceItem {
        id: "first".to_owned(),
        options: options.collect(),
        gold: 0,
    }
}

const RULES: ChoiceRules = ChoiceRules {
    context: 48,
    begin: false,
};

/// Questions of different lengths before answers.
fn questions(count: u32) -> EncodedSet {
    let mut set = EncodedSet::default();
    for first in 0..count {
        let ids: Vec<u32> = (0..9)
            .map(|step| 1 + (first * 7 + step * 5) % 290)
            .collect();
        set.push(&ids, 2 + (first % 4) as usize);
    }
    set
}

fn reading(objective: &'static dyn Objective, limit: usize) -> Reading {
    Reading {
        limit,
        length: 32,
        objective,
    }
}

#[test]
fn answers_alone_count_where_answers_are_learnt() {
    let (model, set) = (sound(), questions(300));
    let (mut all, mut answers) = (0.0, 0.0);
    let mut counted = 0;
    for index in 0..set.len() {
        let ids = set.document(index);
        let weights = vec![1.0; ids.len() - 1];
        let targets = Targets {
            ids: &ids[1..],
            weights: &weights,
        };
        let losses = model.token_losses(Tokens::new(&ids[..ids.len() - 1], 1), targets);
        for (place, loss) in losses.unwrap().into_iter().enumerate() {
            all += f64::from(loss);
            if place + 1 >= set.prompt(index) {
                answers += f64::from(loss);
                counted += 1;
            }
        }
    }
    let measure =
        |objective, limit| mean_loss(&model, &layout(), &set, &reading(objective, limit)).unwrap();
    // All documents, more than were once read.
    let found = measure(&NextToken, 0);
    assert_eq!(found.all.count, 300 * 8);
    assert!(
        (found.all.sum - all).abs() < 1e-2,
        "{} {all}",
        found.all.sum
    );
    let found = measure(&Answers, 0);
    assert_eq!(found.all.count, counted);
    assert!(
        (found.all.sum - answers).abs() < 1e-2,
        "{} {answers}",
        found.all.sum
    );
    assert_eq!(measure(&NextToken, 100).all.count, 100 * 8);

    let mut silent = EncodedSet::default();
    silent.push(&[1, 2, 3], 3);
    let error = mean_loss(&model, &layout(), &silent, &reading(&Answers, 0));
    let message = error.unwrap_err().message;
    assert!(message.contains("nothing to measure"), "{message}");
}

/// A weight that is not a number, and weights so large that sums leave all numbers.
#[test]
fn logits_that_are_no_numbers_end_every_measure() {
    let codec = codec();
    let broken: [fn(&str, f32) -> f32; 2] = [
        |name, x| {
            if name == "final_norm.gain" {
                f32::NAN
            } else {
                x
            }
        },
        |name, x| {
            if name.starts_with("unembed") {
                x.signum() * 3e38
            } else {
                x
            }
        },
    ];
    for change in broken {
        let model = executable(change);
        let not_finite = |error: jam_ir::Error| {
            assert_eq!(error.kind, ErrorKind::NotFinite, "{error}");
        };
        let items = [item("a red", &["house", "tree"])];
        not_finite(score_choices(&model, &codec, &items, RULES).unwrap_err());
        let set = questions(3);
        let all = reading(&NextToken, 0);
        not_finite(mean_loss(&model, &layout(), &set, &all).unwrap_err());
        for temperature in [0.0, 1.0] {
            let sampling = Sampling {
                temperature,
                top_p: 1.0,
                top_k: 0,
                guidance: 1.0,
            };
            let recipe = DecodeRecipe {
                model: None,
                text: sampling.clone(),
                image: sampling,
                max_tokens: 4,
                max_pictures: 0,
                seed: 1,
                span: None,
            };
            let limits = Limits {
                context: 48,
                max_tokens: 4,
                max_pictures: 0,
                end_with_picture: false,
            };
            let request = Request {
                prompt: codec.prompt("a red house?").unwrap(),
                picture_next: false,
                seed: 0,
            };
            let layout = codec.layout();
            let told = &mut |_, _| {};
            let none = Stop::default();
            let answer = generate(&model, layout, &recipe, limits, &[request], told, &none);
            not_finite(answer.unwrap_err());
            let asked = [AskedPicture {
                caption: "a red house".to_owned(),
                scene: Scene::default(),
            }];
            let drawn = score_drawn(&model, &codec, &recipe, &asked, 48, &mut Silent, &none);
            not_finite(drawn.unwrap_err());
        }
    }
}

#[test]
fn questions_that_do_not_fit_are_counted() {
    let (model, codec) = (sound(), codec());
    let long = "a red house ".repeat(40);
    let items = [
        item("a red", &["house", "tree"]),
        item(&long, &["house", "tree"]),
    ];
    let score = score_choices(&model, &codec, &items, RULES).unwrap();
    assert_eq!((score.items, score.cut), (2, 1));
    let items = [item("a red", &["house", &long])];
    let error = score_choices(&model, &codec, &items, RULES).unwrap_err();
    assert!(
        error
            .message
            .contains("option 2 do not fit the model's context of 48"),
        "{error}"
    );
}

/// Keeps what is told.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, label: &str, total: u64) -> Box<dyn Bar> {
        Silent.begin(label, total)
    }

    fn note(&self, line: &str) {
        self.0.borrow_mut().push(line.to_owned());
    }
}

/// A program that measures a fresh model on questions.
fn workload(folder: &Path, change: fn(&mut Model)) -> Workload {
    tokenizer()
        .save(&folder.join("words/tokenizer.json"))
        .unwrap();
    let long = "a red house ".repeat(40);
    let lines = ["a red", "a blue", &long].map(|question| {
        format!(
            "{{\"question\": \"{question}\", \"choices\": [\"house\", \"tree\"], \"gold\": 0}}\n"
        )
    });
    fs::write(folder.join("quiz.jsonl"), lines.concat()).unwrap();
    let mut layout = layout();
    layout.text = TextTokens::Files("words".to_owned());
    let mut model = decoder_only(&DecoderConfig::llama(layout, 48, 16, 2, 2, 24));
    model.name = "small".to_owned();
    change(&mut model);
    let quiz = DataRef {
        name: "quiz".to_owned(),
        split: "test".to_owned(),
    };
    let mut program = Program::default();
    let files = DataSource::Files(vec!["quiz.jsonl".to_owned()]);
    program.data.insert(
        "quiz".to_owned(),
        DataRecipe {
            format: Called {
                name: "choice".to_owned(),
                settings: [("format".to_owned(), SettingValue::Word("jsonl".to_owned()))].into(),
            },
            splits: IndexMap::from([("test".to_owned(), files)]),
            held_out: 0.0,
            span: None,
        },
    );
    program.models.insert(
        "small".to_owned(),
        ModelRecipe {
            model: model.clone(),
            weights: None,
            span: None,
        },
    );
    program.evaluations.insert(
        "report".to_owned(),
        EvalRecipe {
            models: vec![ModelRef::last("small")],
            measures: vec![Called {
                name: "choice".to_owned(),
                settings: [
                    ("data".to_owned(), SettingValue::Data(quiz)),
                    ("limit".to_owned(), SettingValue::Count(0)),
                    ("begin".to_owned(), SettingValue::Flag(false)),
                ]
                .into(),
            }],
            span: None,
        },
    );
    Workload {
        program,
        models: IndexMap::from([("small".to_owned(), Arc::new(model))]),
        source: String::new(),
        file: folder.join("t.jam"),
        folder: folder.to_owned(),
        out: folder.join("out"),
        places: BTreeMap::new(),
        flags: Vec::new(),
    }
}

fn evaluate(work: &Workload, notes: &Notes) -> jam_ir::Result<Ended> {
    Runner::new(work, device(), notes, Stop::default()).run(&[report()], &[])
}

fn report() -> Step {
    Step::Eval("report".to_owned())
}

#[test]
fn a_report_tells_what_was_cut_and_is_made_again_where_it_holds_no_number() {
    let root = tempfile::tempdir().unwrap();
    let work = workload(root.path(), |_| {});
    let notes = Notes::default();
    assert_eq!(evaluate(&work, &notes).unwrap(), Ended::Complete);
    let told = "1 of 3 questions of quiz.test do not fit the context of small";
    assert!(notes.0.borrow().join("\n").contains(told));
    let made = read_report(&work, "report").unwrap();
    assert!(made.table().unwrap().markdown().contains(told));
    let place = work.result(&report()).join("report.json");
    let whole = fs::read_to_string(&place).unwrap();
    assert!(whole.contains("\"cut\": 1"), "{whole}");

    // What a version wrote that let such numbers pass.
    fs::write(
        &place,
        r#"{"name": "report", "rows": [{"model": "small", "measures": [{"perplexity": {"data": "quiz.test",
        "losses": {"all": {"sum": null, "count": 3}, "text": {"sum": 0.0, "count": 0},
        "image": {"sum": 0.0, "count": 0}}}}]}]}"#,
    )
    .unwrap();
    let error = read_report(&work, "report").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("--restart report"), "{error}");
    let notes = Notes::default();
    assert_eq!(evaluate(&work, &notes).unwrap(), Ended::Complete);
    assert!(notes.0.borrow().join("\n").contains("made again"));
    assert_eq!(fs::read_to_string(&place).unwrap(), whole);
}

#[test]
fn a_report_of_a_model_without_numbers_is_not_marked_done() {
    let root = tempfile::tempdir().unwrap();
    let work = workload(root.path(), |model| {
        for (name, weight) in &mut model.weights {
            if name.starts_with("unembed") {
                weight.plan = Plan::Sum(vec![(1e300, weight.plan.clone())]);
            }
        }
    });
    let error = evaluate(&work, &Notes::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFinite, "{error}");
    assert!(!work.result(&report()).exists());
}
