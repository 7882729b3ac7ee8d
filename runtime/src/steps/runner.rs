//! What carries out steps, and what making a result needs of the others: models, vocabularies, tokenizers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use indexmap::IndexMap;
use jam_backends::{Device, ExecOptions, Executable, Precision};
use jam_data::tokens::Codec;
use jam_data::tokens::text::TextTokenizer;
use jam_ir::{DType, Model, ModelRef, TextTokens};
use jam_weights::checkpoints::import::open_weights_of;
use jam_weights::checkpoints::{Numbers, WeightSource};
use jam_weights::plans::{Limits, NoSources, PlanRows, PlanSources};
use jam_weights::progress::{Progress, Stop};

use super::kind::KindOf;
use super::look::Look;
use super::workload::Workload;
use crate::folders::{TEXT_TOKENIZER, Tokenizers};
use crate::memory_check::check_room;
use crate::results::Hashes;
use crate::vocabulary::open_codec;
use crate::{Error, Result};

/// Carries out the steps of a workload.
pub struct Runner<'w> {
    pub(super) work: &'w Workload,
    pub(super) hashes: Hashes,
    /// What is known of kinds of steps.
    pub(super) kind: KindOf,
    /// What was told of data.
    pub(super) told: RefCell<BTreeSet<String>>,
    /// The files of the program as they were seen last.
    pub(super) look: RefCell<Rc<Look>>,
    /// The joint tokenizers that were made.
    pub(super) joint: RefCell<Vec<JointTokenizer>>,
    pub(super) device: Device,
    pub(super) progress: &'w dyn Progress,
    pub(super) stop: Stop,
    /// What building a model may take; by default what [`Limits::default`] gives when it begins.
    pub(super) limits: Option<Limits>,
    /// Which numbers weights may have.
    pub(super) numbers: Numbers,
    /// Bytes that were resident before the first step.
    pub(super) held: u64,
}

/// A joint tokenizer that was made.
pub(super) struct JointTokenizer {
    /// The files of those that it unites, with hashes of their contents.
    parents: Vec<(PathBuf, String)>,
    /// Where it was written.
    folder: PathBuf,
}

impl<'w> Runner<'w> {
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

    /// Opens everything that the plans of a model load from.
    pub(super) fn plan_sources(
        &self,
        model: &Model,
    ) -> Result<IndexMap<String, Box<dyn WeightSource>>> {
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

    pub(super) fn open_source(&self, source: &str) -> Result<Box<dyn WeightSource>> {
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
    pub(super) fn load(&self, reference: &ModelRef, precision: DType) -> Result<Executable> {
        let model = self.work.model(&reference.name)?;
        let weights = self.open_source(&reference.to_string())?;
        load_executable(model, &*weights, &self.device, precision)
    }

    /// The vocabulary of a model with its tokenizers.
    pub(super) fn codec(&self, model: &Model) -> Result<Codec> {
        let Tokenizers { text, image } = self.tokenizers(model)?;
        open_codec(
            model.tokens.clone(),
            text.as_deref(),
            image.as_deref(),
            &self.device,
        )
    }

    /// Where the tokenizers of a model lie; a joint one is made.
    pub(super) fn tokenizers(&self, model: &Model) -> Result<Tokenizers> {
        let text = match &model.tokens.text {
            TextTokens::Joint(paths) => Some(self.joint_tokenizer(paths)?),
            text => self.work.text_tokenizer(text),
        };
        let image = self.work.image_tokenizer(&model.tokens.image);
        Ok(Tokenizers { text, image })
    }

    /// Writes the union of several text tokenizers, under the name of what it holds; once, while their files stay as
    /// they are.
    fn joint_tokenizer(&self, paths: &[String]) -> Result<PathBuf> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| self.work.path(path)).collect();
        let mut parents = Vec::new();
        for path in &paths {
            for file in TextTokenizer::files(path)? {
                let hash = self.hashes.content(&file)?;
                parents.push((file, hash));
            }
        }
        let made = self.joint.borrow().iter().find_map(|joint| {
            let is_this = joint.parents == parents && joint.folder.join(TEXT_TOKENIZER).is_file();
            is_this.then(|| joint.folder.clone())
        });
        if let Some(folder) = made {
            return Ok(folder);
        }
        let open = |path: &PathBuf| TextTokenizer::open(path);
        let all: Vec<TextTokenizer> = paths.iter().map(open).collect::<Result<_>>()?;
        let joint = TextTokenizer::union(&all.iter().collect::<Vec<_>>())?;
        let name = format!("{}.tokenizer", &joint.content_hash()[..32]);
        let folder = self.work.out.join("cache").join(name);
        joint.save(&folder.join(TEXT_TOKENIZER))?;
        let made = JointTokenizer {
            parents,
            folder: folder.clone(),
        };
        self.joint.borrow_mut().push(made);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jam_ir::Program;
    use jam_weights::progress::Silent;

    use super::*;

    #[test]
    fn a_joint_tokenizer_is_written_once_while_its_parents_stay() {
        let place = tempfile::tempdir().unwrap();
        let work = Workload {
            program: Program::default(),
            models: IndexMap::new(),
            source: String::new(),
            file: place.path().join("p.jam"),
            folder: place.path().to_owned(),
            out: place.path().join("out"),
            places: BTreeMap::new(),
            flags: Vec::new(),
        };
        let write = |name: &str, text: &str| {
            let made = TextTokenizer::train([text.to_owned()].into_iter(), 262).unwrap();
            made.save(&place.path().join(name)).unwrap();
        };
        write("a.json", "a red house and a red hose");
        write("b.json", "zebras quack and quack");
        let paths = ["a.json", "b.json"].map(str::to_owned);
        let runner = Runner::new(&work, Device::flex(), &Silent, Stop::default());
        let folder = runner.joint_tokenizer(&paths).unwrap();
        let written = || std::fs::metadata(folder.join(TEXT_TOKENIZER)).unwrap();
        let first = written().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(runner.joint_tokenizer(&paths).unwrap(), folder);
        assert_eq!(written().modified().unwrap(), first, "written once");
        write("b.json", "zigzag zigzag");
        assert_ne!(runner.joint_tokenizer(&paths).unwrap(), folder);
    }
}
