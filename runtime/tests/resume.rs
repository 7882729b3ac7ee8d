//! A training run that is stopped goes on to the same bits as one that is not.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use jam_backends::AdamW;
use jam_data::batches::EncodedSet;
use jam_ir::recipe::{BatchForm, BatchSize, ModelRef, TrainRecipe};
use jam_ir::{Called, DType, Model, SettingValue, TokenLayout};
use jam_runtime::folders::Tokenizers;
use jam_runtime::steps::load_executable;
use jam_runtime::training::{Training, read_log};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use jam_weights::plans::{NoSources, PlanRows};
use jam_weights::progress::{Bar, Ended, Progress, Silent, Stop};

fn model() -> Model {
    decoder_only(&DecoderConfig::cm3leon(
        TokenLayout::bare(24),
        16,
        16,
        2,
        2,
        32,
    ))
}

/// Counting upwards from different numbers: something that can be learned.
fn documents() -> EncodedSet {
    let mut set = EncodedSet::default();
    for first in 0..12 {
        let ids: Vec<u32> = (first..first + 9).collect();
        set.push(&ids, 1);
    }
    set
}

/// A word with these settings and no others.
fn called(name: &str, settings: &[(&str, SettingValue)]) -> Called {
    let settings = settings.iter();
    Called {
        name: name.to_owned(),
        settings: settings
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    }
}

fn recipe() -> TrainRecipe {
    TrainRecipe {
        model: ModelRef::last("small"),
        data: Vec::new(),
        validate: Vec::new(),
        objective: called("next_token", &[]),
        optimizer: AdamW {
            lr: 1e-2,
            betas: (0.9, 0.95),
            eps: 1e-8,
            decay: 0.1,
            no_decay: Vec::new(),
            clip: 1.0,
        }
        .called(),
        schedule: called(
            "cosine",
            &[
                ("warmup", SettingValue::Count(2)),
                ("floor", SettingValue::Number(0.1)),
            ],
        ),
        batch: BatchSize::Rows(4),
        form: BatchForm::Rows,
        length: 16,
        steps: 24,
        precision: DType::F32,
        recompute: false,
        validate_every: 6,
        validate_limit: 0,
        save_every: 5,
        seed: 3,
        span: None,
    }
}

/// Asks for a stop after a number of steps.
struct StopAfter<'a>(&'a Stop, u64, &'a Cell<u64>);

struct Counter(Stop, u64);

impl Progress for StopAfter<'_> {
    fn begin(&self, _label: &str, _total: u64) -> Box<dyn Bar> {
        self.2.set(self.2.get() + 1);
        Box::new(Counter(self.0.clone(), self.1))
    }

    fn note(&self, _line: &str) {}
}

impl Bar for Counter {
    fn at(&mut self, done: u64, _message: &str) {
        if done >= self.1 {
            self.0.ask();
        }
    }
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

fn train(folder: &Path, progress: &dyn Progress, stop: &Stop, key: &str) -> Ended {
    train_on(&documents(), &recipe(), folder, progress, stop, key)
}

fn train_on(
    set: &EncodedSet,
    recipe: &TrainRecipe,
    folder: &Path,
    progress: &dyn Progress,
    stop: &Stop,
    key: &str,
) -> Ended {
    try_train(set, recipe, folder, progress, stop, key).unwrap()
}

fn try_train(
    set: &EncodedSet,
    recipe: &TrainRecipe,
    folder: &Path,
    progress: &dyn Progress,
    stop: &Stop,
    key: &str,
) -> jam_ir::Result<Ended> {
    let model = model();
    let fresh = Fresh(&model);
    let device = jam_backends::DeviceChoice::Cpu.open().unwrap();
    let mut executable = load_executable(&model, &fresh, &device, DType::F32).unwrap();
    let training = Training {
        name: "small",
        recipe,
        model: &model,
        data: vec![(1.0, set)],
        validate: vec![("same".to_owned(), set)],
        source: "",
        made_by: "A test.".to_owned(),
        tokenizers: Tokenizers::default(),
        key,
        record: b"the record",
    };
    training.run(folder, &mut executable, progress, stop)
}

/// Weights drawn by the model's own plans.
struct Fresh<'m>(&'m Model);

impl jam_weights::checkpoints::WeightSource for Fresh<'_> {
    fn names(&self) -> Vec<String> {
        self.0.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.weight_shape(&self.0.weight_uses().get(name)?.ty)
    }

    fn rows(&self, name: &str, rows: std::ops::Range<u64>) -> jam_ir::Result<Vec<f32>> {
        let shape = self.shape(name).unwrap();
        PlanRows::new(&self.0.weights[name].plan, name, &shape, 5, &NoSources).rows(rows)
    }
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("last/model.safetensors")).unwrap()
}

#[test]
fn a_run_stopped_anywhere_goes_on_to_the_same_bits() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    assert_eq!(
        train(&whole, &Silent, &Stop::default(), "k"),
        Ended::Complete
    );
    let log = read_log(&whole.join("log.jsonl")).unwrap();
    assert_eq!(log.len(), 24);
    let losses: Vec<f64> = log.iter().filter_map(|line| line.loss).collect();
    assert!(losses[23] < 0.7 * losses[0], "it learns: {losses:?}");
    for steps in [1, 4, 5, 17, 23] {
        let folder = root.path().join(format!("stopped-{steps}"));
        let (stop, begun) = (Stop::default(), Cell::new(0));
        assert_eq!(
            train(&folder, &StopAfter(&stop, steps, &begun), &stop, "k"),
            Ended::Stopped
        );
        assert_eq!(begun.get(), 1);
        assert!(!folder.join("last").exists());
        assert_eq!(
            train(&folder, &Silent, &Stop::default(), "k"),
            Ended::Complete
        );
        assert!(
            weights(&folder) == weights(&whole),
            "stopped after {steps} steps"
        );
        let losses = |folder: &Path| {
            let log = read_log(&folder.join("log.jsonl")).unwrap();
            log.iter()
                .map(|line| (line.step, line.loss.map(f64::to_bits)))
                .collect::<Vec<_>>()
        };
        assert_eq!(losses(&folder), losses(&whole));
    }
}

/// Questions without an answer are read and not learnt from: such a step counts, moves no moments,
/// and can be stopped at like any other.
#[test]
fn a_step_without_anything_to_learn_is_resumed_over() {
    let mut set = EncodedSet::default();
    for first in 0..12 {
        let ids: Vec<u32> = (first..first + 9).collect();
        set.push(&ids, if first % 3 == 0 { ids.len() } else { 1 });
    }
    let recipe = TrainRecipe {
        objective: called("answers", &[]),
        batch: BatchSize::Rows(1),
        ..recipe()
    };
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    let none = Stop::default();
    let notes = Notes::default();
    let ended = train_on(&set, &recipe, &whole, &notes, &none, "k");
    assert_eq!(ended, Ended::Complete);
    let log = read_log(&whole.join("log.jsonl")).unwrap();
    assert_eq!(log.len(), 24);
    let empty: Vec<_> = log.iter().filter(|line| line.loss.is_none()).collect();
    assert_eq!(empty.len(), 8, "a third of the steps has nothing to learn");
    assert!(empty.iter().all(|line| line.grad_norm.is_none()));
    let validations = log.iter().filter(|line| !line.validation.is_empty());
    assert_eq!(validations.count(), 4, "whatever the step had to learn");
    let told = notes.0.borrow().join("\n");
    assert!(
        told.contains("8 of 24 steps had nothing to learn"),
        "{told}"
    );
    for steps in 1..24 {
        let folder = root.path().join(format!("stopped-{steps}"));
        let (stop, begun) = (Stop::default(), Cell::new(0));
        let progress = StopAfter(&stop, steps, &begun);
        let ended = train_on(&set, &recipe, &folder, &progress, &stop, "k");
        assert_eq!(ended, Ended::Stopped, "at step {steps}");
        let notes = Notes::default();
        let ended = train_on(&set, &recipe, &folder, &notes, &none, "k");
        assert_eq!(ended, Ended::Complete);
        assert!(weights(&folder) == weights(&whole), "stopped after {steps}");
        let told = notes.0.borrow().join("\n");
        assert!(
            told.contains("8 of 24 steps"),
            "stopped after {steps}: {told}"
        );
    }
}

/// A kill leaves the last saved state and a log that has gone further.
#[test]
fn a_run_killed_between_saves_goes_on_from_the_last_one() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    train(&whole, &Silent, &Stop::default(), "k");
    let stop = Stop::default();
    let begun = Cell::new(0);
    train(&killed, &StopAfter(&stop, 10, &begun), &stop, "k");
    let log = killed.join("log.jsonl");
    let more = fs::read_to_string(whole.join("log.jsonl")).unwrap();
    let cut: String = more
        .lines()
        .take(13)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&log, cut + "{\"step\":14,\"tok").unwrap();
    assert_eq!(
        train(&killed, &Silent, &Stop::default(), "k"),
        Ended::Complete
    );
    assert!(weights(&killed) == weights(&whole));
    assert_eq!(read_log(&log).unwrap().len(), 24);
}

#[test]
fn a_state_of_another_recipe_is_refused_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let other = root.path().join("other");
    let stop = Stop::default();
    let begun = Cell::new(0);
    train(&other, &StopAfter(&stop, 5, &begun), &stop, "another key");
    let none = Stop::default();
    let refused = try_train(&documents(), &recipe(), &other, &Silent, &none, "k");
    assert!(refused.unwrap_err().message.contains("another run"));
    assert_eq!(
        train(&other, &Silent, &none, "another key"),
        Ended::Complete,
        "it is still there"
    );
}

/// Every damage to the last state, and to one of two, is told, and the one before it goes on to the same bits.
#[test]
fn a_damaged_state_is_passed_over_for_the_one_before_it() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    train(&whole, &Silent, &Stop::default(), "k");
    for name in [
        "state.json",
        "model.safetensors",
        "checksums.json",
        "record.json",
    ] {
        let folder = root.path().join(name);
        let (stop, begun) = (Stop::default(), Cell::new(0));
        train(&folder, &StopAfter(&stop, 12, &begun), &stop, "k");
        let steps = |folder: &Path| -> Vec<String> {
            let states = fs::read_dir(folder.join("state")).unwrap();
            let names = states.map(|state| state.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(steps(&folder), ["00000010", "00000012"]);
        let file = folder.join("state/00000012").join(name);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let told = Notes::default();
        let ended = try_train(
            &documents(),
            &recipe(),
            &folder,
            &told,
            &Stop::default(),
            "k",
        );
        assert_eq!(ended.unwrap(), Ended::Complete, "{name}");
        let told = told.0.borrow().join("\n");
        assert!(told.contains("of step 10"), "{name}: {told}");
        assert!(weights(&folder) == weights(&whole), "{name}");
    }
    // Where none is whole, nothing begins anew by itself.
    let folder = root.path().join("none");
    let (stop, begun) = (Stop::default(), Cell::new(0));
    train(&folder, &StopAfter(&stop, 12, &begun), &stop, "k");
    for step in ["00000010", "00000012"] {
        fs::write(folder.join("state").join(step).join("state.json"), "{}").unwrap();
    }
    let none = Stop::default();
    let error = try_train(&documents(), &recipe(), &folder, &Silent, &none, "k").unwrap_err();
    assert_eq!(error.kind, jam_ir::ErrorKind::Damaged);
    assert!(error.help.unwrap().contains("--restart"));
    assert!(folder.join("state/00000010/model.safetensors").exists());
}
