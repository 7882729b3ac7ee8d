//! What building a fusion will take, from headers alone: nothing is written, and of the weights only a
//! sample is read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::recipe::Step;
use jam_ir::{Model, ModelRef, Plan};
use serde::Serialize;

use super::Runner;
use crate::{Error, Result};
use jam_weights::checkpoints::{
    CheckpointWriter, Dtype, Stored, TensorSpec, WeightSource, WriteOptions,
};
use jam_weights::plans::weight_shapes;
use jam_weights::plans::{Limits, WeightStream};

/// Entries of a run that is evaluated to see how long all of them take.
const SAMPLE: u64 = 16 << 20;
/// Bytes that a disk takes in a second: an ordinary one.
const DISK: f64 = 1e9;

/// Opened sources by name.
type Sources = IndexMap<String, Box<dyn WeightSource>>;

/// What building one fusion will take.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The fusion.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// It is built already, from the same inputs: nothing will be done.
    pub done: bool,
    /// What is read, by source.
    pub reads: Vec<Reads>,
    /// What is written; small files (graph, card, tokenizers) are not counted.
    pub writes: Writes,
    /// Bytes resident at most under the limits.
    pub peak_memory: u64,
    /// The least that the limit may be.
    pub least_memory: u64,
    /// The least that the limit may be without slowing the build down.
    pub fast_memory: u64,
    /// Seconds, by a sample of the work; `None` where a source is not there yet.
    pub seconds: Option<f64>,
}

/// What is read of one source.
#[derive(Clone, Debug, Serialize)]
pub struct Reads {
    /// The source as the program names it.
    pub source: String,
    /// Where it lies; `None` for a fresh model, whose numbers are drawn.
    pub folder: Option<PathBuf>,
    /// False for what an earlier step makes.
    pub there: bool,
    /// Tensors, each once.
    pub tensors: usize,
    /// Bytes as stored; for what is not there, as its graph will store them.
    pub bytes: u64,
    /// Files they lie in; 0 where that is not known.
    pub files: usize,
}

/// What is written.
#[derive(Clone, Debug, Serialize)]
pub struct Writes {
    /// Tensors.
    pub tensors: usize,
    /// Bytes of tensors.
    pub bytes: u64,
    /// Files of tensors.
    pub files: usize,
}

/// A model that an earlier step makes: its shapes are known, its numbers are not.
struct Unmade {
    model: Model,
}

impl WeightSource for Unmade {
    fn names(&self) -> Vec<String> {
        self.model.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let uses = self.model.weight_uses();
        self.model.weight_shape(&uses.get(name)?.ty)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let uses = self.model.weight_uses();
        let dtype = Dtype::from(uses.get(name)?.ty.dtype);
        let entries: u64 = self.shape(name)?.iter().product();
        Some(Stored {
            dtype,
            bytes: entries * dtype.size(),
            file: Arc::default(),
        })
    }

    fn rows(&self, name: &str, _: std::ops::Range<u64>) -> Result<Vec<f32>> {
        let model = &self.model.name;
        Err(Error::new(format!("`{name}` of `{model}` is not made yet")))
    }
}

impl Runner<'_> {
    /// What building the fusion `name` will take, its parents' own steps left out.
    ///
    /// # Errors
    /// When it is not a fusion, a source cannot be opened, a tensor is missing or of another shape, or
    /// the limit on memory is too low.
    pub fn forecast(&self, name: &str) -> Result<Forecast> {
        self.hashes.only_look();
        let model = self.work.model(name)?;
        if !self.work.program.fusions.contains_key(name) {
            return Err(Error::new(format!("`{name}` is not a fusion")));
        }
        let limits = self.limits.unwrap_or_default();
        let (sources, mut reads) = self.sources_as_they_are(model)?;
        for read in &mut reads {
            count(model, &sources, read);
        }
        let stream = WeightStream::new(model, self.work.program.seed, &sources)?;
        let uses = model.weight_uses();
        let specs: Vec<TensorSpec> = weight_shapes(model)?
            .into_iter()
            .map(|(name, shape)| {
                let dtype = Dtype::from(uses[&name].ty.dtype);
                TensorSpec::new(name, dtype, shape)
            })
            .collect();
        let writes = Writes {
            tensors: specs.len(),
            bytes: stream.written_bytes(),
            files: CheckpointWriter::files(&specs, &WriteOptions::default())?,
        };
        let seconds = match reads.iter().all(|read| read.there) {
            true => Some(seconds(&stream, limits, writes.bytes)?),
            false => None,
        };
        let step = Step::Fuse(name.to_owned());
        let folder = self.work.result(&step);
        Ok(Forecast {
            name: name.to_owned(),
            done: self.is_done(&step)?,
            folder,
            reads,
            writes,
            peak_memory: stream.peak_memory(limits)?,
            least_memory: stream.least_memory(),
            fast_memory: stream.fast_memory(),
            seconds,
        })
    }

    /// Every source of a model: opened where it is there, by its graph where a step makes it.
    fn sources_as_they_are(&self, model: &Model) -> Result<(Sources, Vec<Reads>)> {
        let (mut sources, mut reads) = (IndexMap::new(), Vec::new());
        for weight in model.weights.values() {
            for source in weight.plan.sources() {
                if sources.contains_key(&source) {
                    continue;
                }
                let reference = ModelRef::parse(&source);
                let folder = self.work.weights(&reference);
                // What a step makes is there when it is what the program asks for now: another one is no input.
                let there = match self.work.made_by(&reference) {
                    Some(step) => self.is_done(&step)?,
                    None => true,
                };
                let opened: Box<dyn WeightSource> = match there {
                    true => self.open_source(&source)?,
                    false => Box::new(Unmade {
                        model: self.work.model(&reference.name)?.clone(),
                    }),
                };
                sources.insert(source.clone(), opened);
                reads.push(Reads {
                    source,
                    folder,
                    there,
                    tensors: 0,
                    bytes: 0,
                    files: 0,
                });
            }
        }
        Ok((sources, reads))
    }
}

/// Counts what the plans of a model load from one source.
fn count(model: &Model, sources: &Sources, reads: &mut Reads) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for weight in model.weights.values() {
        weight.plan.for_each(&mut |plan| {
            if let Plan::Load { source, name } = plan
                && *source == reads.source
            {
                names.insert(name.clone());
            }
        });
    }
    let Some(source) = sources.get(&reads.source) else {
        return;
    };
    let mut files = BTreeSet::new();
    reads.tensors = names.len();
    for name in names {
        if let Some(stored) = source.stored(&name) {
            reads.bytes += stored.bytes;
            files.insert(stored.file);
        }
    }
    // What is not made yet lies in no file.
    files.retain(|file| !file.as_os_str().is_empty());
    reads.files = files.len();
}

/// Computing, which reads, and writing go on at once: the slower one counts.
fn seconds(stream: &WeightStream<'_>, limits: Limits, written: u64) -> Result<f64> {
    let computing = stream.sample_seconds(limits, SAMPLE)? / limits.threads.max(1) as f64;
    Ok(computing.max(written as f64 / DISK))
}
