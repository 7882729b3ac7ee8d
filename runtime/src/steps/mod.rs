//! The steps of a program, carried out in order; what is done already is passed over.
//!
//! A step is done when the key of its recipe, inputs and format is the one in its folder (see
//! `keys`). Its folder is written under a temporary name and renamed, but for training, whose
//! folder grows and is marked at the end. So a program can be interrupted anywhere and goes on.

mod corpora;
mod forecast;
mod keys;
mod learn;
mod listed;
mod lock;
mod needs;
mod report;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Instant;

use indexmap::IndexMap;
use jam_backends::{Device, ExecOptions, Executable, Precision};
use jam_ir::recipe::Step;
use jam_ir::{DType, Model, ModelRef, TextTokens};

pub use forecast::{Forecast, Reads, Writes};
use keys::Keys;
use lock::Lock;
pub use needs::needed;
pub use report::{Measured, Report, ReportRow, read_report};
pub use workload::{ResultKind, Workload};
use workload::{is_done, mark, mark_done};

use crate::folders::{ModelDraft, ModelFolder, TEXT_TOKENIZER, model_card, write_model};
use crate::memory_check::check_room;
use crate::vocabulary::open_codec;
use crate::{Error, Result};
use jam_data::tokens::Codec;
use jam_data::tokens::text::TextTokenizer;
use jam_lessons::LessonsSettings;
use jam_weights::checkpoints::import::open_weights_of;
use jam_weights::checkpoints::{CheckpointWriter, Numbers, WeightSource, WriteOptions};
use jam_weights::memory;
use jam_weights::plans::{Limits, NoSources, PlanRows, PlanSources, WeightStream};
use jam_weights::progress::{Bar, Ended, Progress, Stop};

/// Carries out the steps of a workload.
pub struct Runner<'w> {
    work: &'w Workload,
    keys: Keys<'w>,
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
            keys: Keys::new(work),
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

    /// Carries out steps in order. Data and weights that are not there are told before the first.
    ///
    /// # Errors
    /// When another process works in the folder of results, or a step fails; those before it stay
    /// done.
    pub fn run(&self, steps: &[Step]) -> Result<Ended> {
        let _lock = Lock::take(&self.work.out)?;
        let keys: Vec<String> = steps
            .iter()
            .map(|step| self.key(step))
            .collect::<Result<_>>()?;
        for (step, key) in steps.iter().zip(keys) {
            let (kind, name) = place(step);
            let folder = self.work.result(kind, name);
            if is_done(&folder, &key) {
                let Err(damage) = sound(step, &folder) else {
                    self.progress
                        .note(&format!("{:<28} done before", title(step)));
                    continue;
                };
                self.progress
                    .note(&format!("{}: made again, since {damage}", title(step)));
            }
            let begun = Instant::now();
            let ended = match self.step(step, &folder, &key) {
                // Work that cannot be halved gives up with an error when it is asked to stop.
                Err(_) if self.stop.asked() => Ended::Stopped,
                ended => ended?,
            };
            if ended == Ended::Stopped {
                self.progress.note(&format!(
                    "{}: stopped; the same command goes on from here",
                    title(step)
                ));
                return Ok(Ended::Stopped);
            }
            let seconds = begun.elapsed().as_secs_f64();
            self.progress
                .note(&format!("{:<28} done in {seconds:.1} s", title(step)));
        }
        Ok(Ended::Complete)
    }

    /// Removes what a step has made so far, so that it begins anew.
    ///
    /// # Errors
    /// When another process works in the folder of results, or something cannot be removed.
    pub fn forget(&self, step: &Step) -> Result<()> {
        let _lock = Lock::take(&self.work.out)?;
        let (kind, name) = place(step);
        let folder = self.work.result(kind, name);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &folder, error))
            }
            _ => Ok(()),
        }
    }

    fn key(&self, step: &Step) -> Result<String> {
        match step {
            Step::Lessons(name) => self.keys.lessons(name),
            Step::Tokenizer(name) => self.keys.tokenizer(name),
            Step::Fuse(name) => self.keys.model(&ModelRef::last(name)),
            Step::Train(name) => self.keys.train(name),
            Step::Eval(name) => self.keys.eval(name),
            Step::Page(name) => self.keys.page(name),
        }
    }

    fn step(&self, step: &Step, folder: &Path, key: &str) -> Result<Ended> {
        match step {
            Step::Lessons(name) => self.write_lessons(name, folder, key),
            Step::Tokenizer(name) => self.train_tokenizer(name, folder, key),
            Step::Fuse(name) => self.fuse(name, folder, key),
            Step::Train(name) => self.train(name, folder, key),
            Step::Eval(name) => self.evaluate(name, folder, key),
            Step::Page(name) => self.write_page(name, folder, key),
        }
    }

    fn write_lessons(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        let recipe = self.work.lessons(name)?;
        let part = recipe.choices as usize;
        let settings = LessonsSettings {
            seed: recipe.seed,
            texts: recipe.texts as usize,
            pairs: recipe.pairs as usize,
            articles: recipe.articles as usize,
            choices: part,
            val_texts: part,
            val_pairs: part,
            test_pairs: part,
            val_articles: part.div_ceil(4),
            test_articles: part.div_ceil(4),
            val_choices: part,
            ..LessonsSettings::default()
        };
        let mut bar = self
            .progress
            .begin(&format!("lessons {name}"), settings.records());
        jam_lessons::write(&settings, folder, &mut |done, _| bar.at(done, ""))
            .map_err(|error| Error::new(error.to_string()))?;
        mark_done(folder, key)?;
        Ok(Ended::Complete)
    }

    /// Carries out the weight plan of a fusion and writes its folder.
    fn fuse(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        let model = self.work.model(name)?;
        let fusion = self.work.program.fusions.get(name);
        let fusion = fusion.ok_or_else(|| Error::new(format!("`{name}` is not a fusion")))?;
        let sources = self.plan_sources(model)?;
        let parents: Vec<_> = fusion
            .parents
            .iter()
            .map(|parent| format!("`{parent}`"))
            .collect();
        let made_by = format!("Fusion `{}` of {}.", fusion.strategy, parents.join(" and "));
        let draft = ModelDraft {
            model,
            source: &self.work.source,
            card: model_card(model, &made_by),
            tokenizers: self.tokenizer_folders(model)?,
            files: vec![mark(key)],
        };
        let stream = WeightStream::new(model, self.work.program.seed, &sources)?;
        let limits = self.limits.map_or_else(Limits::default, |limits| Limits {
            memory: limits.memory + memory::held().saturating_sub(self.held),
            ..limits
        });
        let mut write = |writer: &mut CheckpointWriter, bar: &mut dyn Bar| {
            stream.write(writer, limits, bar, &self.stop)
        };
        let options = WriteOptions::default();
        match write_model(folder, &draft, options, &mut write, self.progress)? {
            true => Ok(Ended::Complete),
            false => Ok(Ended::Stopped),
        }
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
        DType::BF16 | DType::F16 => Precision::Bf16,
        DType::F32 | DType::U32 => Precision::F32,
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

/// Whether what a step once made is still there: a fused model has its files, and they are whole as
/// far as that is seen without reading its tensors.
fn sound(step: &Step, folder: &Path) -> Result<()> {
    match step {
        Step::Fuse(_) => ModelFolder::open(folder).map(drop),
        _ => Ok(()),
    }
}

/// Kind and name of a step's result.
fn place(step: &Step) -> (ResultKind, &str) {
    match step {
        Step::Lessons(name) => (ResultKind::Lessons, name),
        Step::Tokenizer(name) => (ResultKind::Tokenizer, name),
        Step::Fuse(name) => (ResultKind::Model, name),
        Step::Train(name) => (ResultKind::Training, name),
        Step::Eval(name) => (ResultKind::Report, name),
        Step::Page(name) => (ResultKind::Page, name),
    }
}

/// A step as the program writes it.
fn title(step: &Step) -> String {
    match step {
        Step::Lessons(name) => format!("lessons {name}"),
        Step::Tokenizer(name) => format!("tokenizer {name}"),
        Step::Fuse(name) => format!("fuse {name}"),
        Step::Train(name) => format!("train {name}"),
        Step::Eval(name) => format!("eval {name}"),
        Step::Page(name) => format!("page {name}"),
    }
}
