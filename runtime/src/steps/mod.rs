//! The steps of a program, carried out in order; what is done already is passed over.
//!
//! A kind of step states what its result is made from ([`kinds`]); order, needs and keys follow from it ([`graph`]).
//! A result is done when one with its key stands finished and whole in the folder of results, see
//! [`crate::results`]. So a program can be interrupted anywhere and goes on, and what another version of it made
//! stays.

mod corpora;
mod forecast;
mod graph;
mod kinds;
mod lock;
mod overview;
mod workload;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use indexmap::IndexMap;
use jam_backends::{Device, ExecOptions, Executable, Precision};
use jam_data::tokens::Codec;
use jam_data::tokens::text::TextTokenizer;
use jam_ir::recipe::Step;
use jam_ir::{DType, Model, ModelRef, TextTokens};
use jam_weights::checkpoints::import::open_weights_of;
use jam_weights::checkpoints::{Numbers, WeightSource};
use jam_weights::memory;
use jam_weights::plans::{Limits, NoSources, PlanRows, PlanSources};
use jam_weights::progress::{Ended, Progress, Stop};

pub use forecast::{Forecast, Reads, Writes};
use graph::Graph;
pub use graph::needed;
pub use kinds::{Measured, Report, ReportRow, read_report};
use kinds::{Task, kind};
use lock::Lock;
pub use overview::{Listed, overview, remove_result};
pub use workload::Workload;

use crate::folders::TEXT_TOKENIZER;
use crate::memory_check::check_room;
use crate::results::{Hashes, Place, Record, Standing, find, set_aside};
use crate::vocabulary::open_codec;
use crate::{Error, ErrorKind, Result};

/// Carries out the steps of a workload.
pub struct Runner<'w> {
    work: &'w Workload,
    hashes: Hashes,
    /// What was told of data.
    told: RefCell<BTreeSet<String>>,
    device: Device,
    progress: &'w dyn Progress,
    stop: Stop,
    /// What building a model may take; by default what [`Limits::default`] gives when it begins.
    limits: Option<Limits>,
    /// Which numbers weights may have.
    numbers: Numbers,
    /// Bytes that were resident before the first step.
    held: u64,
}

impl<'w> Runner<'w> {
    /// A runner of `work` on a device.
    pub fn new(
        work: &'w Workload,
        device: Device,
        progress: &'w dyn Progress,
        stop: Stop,
    ) -> Runner<'w> {
        Runner {
            work,
            hashes: Hashes::open(&work.out),
            told: RefCell::default(),
            device,
            progress,
            stop,
            limits: None,
            numbers: Numbers::default(),
            held: memory::held(),
        }
    }

    /// The same with other limits on what building a model may take. What steps before it left in memory
    /// is not counted.
    pub fn with_limits(mut self, limits: Limits) -> Runner<'w> {
        self.limits = Some(limits);
        self
    }

    /// The same with a choice of the numbers that weights may have.
    pub fn taking(mut self, numbers: Numbers) -> Runner<'w> {
        self.numbers = numbers;
        self
    }

    /// Carries out steps in order. Data, pictures that they name, and weights that are not there are told before the
    /// first. Those of `anew` begin anew, whatever is there: it is kept beside the new result.
    ///
    /// # Errors
    /// When another process works in the folder of results, or a step fails; those before it stay
    /// done.
    pub fn run(&self, steps: &[Step], anew: &[Step]) -> Result<Ended> {
        let _lock = Lock::take(&self.work.out)?;
        let graph = Graph::new(self.work, &self.hashes);
        let wanted: Vec<Record> = steps
            .iter()
            .map(|step| graph.wanted(step))
            .collect::<Result<_>>()?;
        self.hashes.keep();
        let mut looked = false;
        for (step, record) in steps.iter().zip(wanted) {
            let folder = self.work.result(step);
            if anew.contains(step)
                && let Some(kept) = set_aside(&folder, "")?
            {
                let kept = kept.display();
                self.progress.note(&format!(
                    "{step}: begins anew; what was there is kept in {kept}"
                ));
            }
            let Some(task) = self.task(step, record, folder)? else {
                self.progress
                    .note(&format!("{:<28} done before", step.to_string()));
                continue;
            };
            // What keeps a later step from its data is told before hours go into the first.
            if !looked {
                self.check_pictures(&graph)?;
                looked = true;
            }
            let begun = Instant::now();
            let ended = match kind(step).make(self, &task) {
                // Work that cannot be halved gives up with an error when it is asked to stop.
                Err(_) if self.stop.asked() => Ended::Stopped,
                ended => ended.map_err(|error| self.about(error))?,
            };
            self.hashes.keep();
            if ended == Ended::Stopped {
                self.progress.note(&format!(
                    "{step}: stopped; the same command goes on from here"
                ));
                return Ok(Ended::Stopped);
            }
            let seconds = begun.elapsed().as_secs_f64();
            self.progress
                .note(&format!("{:<28} done in {seconds:.1} s", step.to_string()));
        }
        Ok(Ended::Complete)
    }

    /// What is to be made of a step; `None` where it is done.
    fn task<'s>(
        &self,
        step: &'s Step,
        wanted: Record,
        folder: PathBuf,
    ) -> Result<Option<Task<'s>>> {
        let kind = kind(step);
        let setting = |name: &str| self.work.place_of(step, name);
        let note = |text: &str| self.progress.note(text);
        let standing = find(&Place {
            folder: &folder,
            wanted: &wanted,
            sound: &|folder| kind.sound(&self.hashes, folder),
            heal: &|folder| kind.other_record(folder),
            setting: &setting,
            note: &note,
        })?;
        let task = |record, begun| {
            Some(Task {
                name: step.name(),
                folder: folder.clone(),
                record,
                begun,
            })
        };
        Ok(match standing {
            Standing::Done => None,
            Standing::Absent => task(wanted, false),
            Standing::Begun(before) => {
                let changed = wanted.ingredients.changes(&before.ingredients, &setting);
                for change in &changed {
                    note(&format!("{step}: goes on, though {change}"));
                }
                let record = wanted.going_on(&before, changed);
                task(record, true)
            }
            Standing::Damaged(why) if kind.is_learned(self.work, step.name()) => {
                return Err(self.damaged(step, why));
            }
            Standing::Damaged(why) => {
                let kept = set_aside(&folder, "damaged")?;
                let kept = kept.map_or_else(String::new, |kept| kept.display().to_string());
                note(&format!(
                    "{step}: made again, since {why}; the damaged one is kept in {kept}"
                ));
                task(wanted, false)
            }
        })
    }

    /// An error that says how a damaged result is made anew.
    fn damaged(&self, step: &Step, why: Error) -> Error {
        let command = match step {
            Step::Train(name) => format!("jamc train {} {name} --restart", self.program()),
            step => format!("jamc run {} --restart {}", self.program(), step.name()),
        };
        let message = match &why.path {
            Some(path) => format!(
                "the result of `{step}` is damaged: {}: {}",
                path.display(),
                why.message
            ),
            None => format!("the result of `{step}` is damaged: {}", why.message),
        };
        Error::damaged(message)
            .with_path(self.work.result(step))
            .with_help(format!(
                "`{command}` makes it anew, and keeps the damaged one beside it"
            ))
    }

    /// The program as a command line would name it.
    fn program(&self) -> String {
        let file = self
            .work
            .folder
            .join(format!("{}.jam", self.work.program.name));
        let shown = file.strip_prefix(".").unwrap_or(&file);
        shown.display().to_string()
    }

    /// A failure of a step that read what it or others made: where that turns out to be damaged, it is looked at again
    /// from now on, and the error says how it is made anew.
    fn about(&self, error: Error) -> Error {
        let Some(path) = error
            .path
            .clone()
            .filter(|_| error.kind == ErrorKind::Damaged)
        else {
            return error;
        };
        self.hashes.forget(path.parent().unwrap_or(&path));
        self.hashes.forget(&path);
        let mut steps = self.work.program.steps.iter();
        let made_it = steps.find(|step| path.starts_with(self.work.result(step)));
        match made_it {
            Some(step) if kind(step).is_learned(self.work, step.name()) => {
                self.damaged(step, error)
            }
            Some(step) => error.with_help(format!("the next command makes `{step}` again")),
            None => error,
        }
    }

    /// Whether the result of a step stands finished and whole.
    fn is_done(&self, step: &Step) -> Result<bool> {
        overview::is_done(self.work, &self.hashes, step)
    }

    /// Opens everything that the plans of a model load from.
    fn plan_sources(&self, model: &Model) -> Result<IndexMap<String, Box<dyn WeightSource>>> {
        let mut sources = IndexMap::new();
        for weight in model.weights.values() {
            for source in weight.plan.sources() {
                if !sources.contains_key(&source) {
                    let weights = self.open_source(&source)?;
                    sources.insert(source, weights);
                }
            }
        }
        Ok(sources)
    }

    fn open_source(&self, source: &str) -> Result<Box<dyn WeightSource>> {
        let reference = ModelRef::parse(source);
        match self.work.weights(&reference) {
            Some(folder) => open_weights_of(&folder, self.numbers),
            None => Ok(Box::new(FreshWeights {
                model: self.work.model(&reference.name)?.clone(),
                seed: self.work.program.seed,
            })),
        }
    }

    /// The model behind a reference, on the device.
    fn load(&self, reference: &ModelRef, precision: DType) -> Result<Executable> {
        let model = self.work.model(&reference.name)?;
        let weights = self.open_source(&reference.to_string())?;
        load_executable(model, &*weights, &self.device, precision)
    }

    /// The vocabulary of a model with its tokenizers.
    fn codec(&self, model: &Model) -> Result<Codec> {
        let (text, image) = self.tokenizer_paths(model)?;
        open_codec(
            model.tokens.clone(),
            text.as_deref(),
            image.as_deref(),
            &self.device,
        )
    }

    /// Where the tokenizers lie that travel with a model.
    fn tokenizer_folders(&self, model: &Model) -> Result<Vec<PathBuf>> {
        let (text, image) = self.tokenizer_paths(model)?;
        Ok(text.into_iter().chain(image).collect())
    }

    /// Where the text and the image tokenizer of a model lie; a joint one is made.
    fn tokenizer_paths(&self, model: &Model) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
        let text = match &model.tokens.text {
            TextTokens::Joint(paths) => Some(self.joint_tokenizer(paths)?),
            text => self.work.text_tokenizer(text),
        };
        let image = self.work.image_tokenizer(&model.tokens.image);
        Ok((text, image))
    }

    /// Writes the union of several text tokenizers, under the name of what it holds.
    fn joint_tokenizer(&self, paths: &[String]) -> Result<PathBuf> {
        let open = |path: &String| TextTokenizer::open(self.work.path(path));
        let all: Vec<TextTokenizer> = paths.iter().map(open).collect::<Result<_>>()?;
        let joint = TextTokenizer::union(&all.iter().collect::<Vec<_>>())?;
        let name = format!("{}.tokenizer", &joint.content_hash()[..32]);
        let folder = self.work.out.join("cache").join(name);
        joint.save(&folder.join(TEXT_TOKENIZER))?;
        Ok(folder)
    }
}

/// A model on a device, its weights read from a source.
///
/// # Errors
/// When the weights do not fit into memory, one is missing or of another shape, or the device fails.
pub fn load_executable(
    model: &Model,
    weights: &dyn WeightSource,
    device: &Device,
    precision: DType,
) -> Result<Executable> {
    check_room(model, 1, device)?;
    let precision = match precision {
        DType::BF16 => Precision::Bf16,
        DType::F32 => Precision::F32,
        DType::F16 | DType::U32 => {
            let message = format!("a model cannot compute in {}", precision.word());
            return Err(Error::new(message).with_help("it computes in f32 or bf16"));
        }
    };
    let options = ExecOptions { precision };
    let mut read = |name: &str, shape: &[usize]| {
        let found = weights.shape(name);
        let wanted: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
        if found.as_ref() != Some(&wanted) {
            let found = found.map_or("is missing".to_owned(), |found| format!("is {found:?}"));
            return Err(Error::new(format!("{found}, and {wanted:?} is asked for")).into());
        }
        Ok(weights.rows(name, 0..wanted.first().copied().unwrap_or(1))?)
    };
    Ok(Executable::new(model, &mut read, device, options)?)
}

/// A fresh model: its plans draw every number.
struct FreshWeights {
    model: Model,
    seed: u64,
}

impl WeightSource for FreshWeights {
    fn names(&self) -> Vec<String> {
        self.model.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let uses = self.model.weight_uses();
        self.model.weight_shape(&uses.get(name)?.ty)
    }

    fn rows(&self, name: &str, rows: std::ops::Range<u64>) -> Result<Vec<f32>> {
        let missing = || Error::new(format!("`{}` has no weight `{name}`", self.model.name));
        let weight = self.model.weights.get(name).ok_or_else(missing)?;
        let shape = self.shape(name).ok_or_else(missing)?;
        // The model's name is in the seed: two fresh parents differ.
        let place = format!("{}/{name}", self.model.name);
        let sources: &dyn PlanSources = &NoSources;
        PlanRows::new(&weight.plan, &place, &shape, self.seed, sources).rows(rows)
    }
}
