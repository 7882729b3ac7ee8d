//! Recipes: what a program asks to be made, trained, sampled and measured, as plain data.
//!
//! The language fills a [`Program`]; the runtime carries its steps out in order. Names refer to
//! other entries of the same program.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{Called, DType, Model, Settings, Span, TokenLayout};

/// A whole program: everything that its files define, in order of definition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the main file without its ending.
    pub name: String,
    /// Folder of the main file; relative paths of the program start here.
    pub folder: String,
    /// Seed of everything random that has no seed of its own.
    pub seed: u64,
    /// Values of the program's settings, as printed.
    pub settings: IndexMap<String, String>,
    /// Worlds of drawing lessons.
    pub lessons: IndexMap<String, LessonsRecipe>,
    /// Data sets.
    pub data: IndexMap<String, DataRecipe>,
    /// Tokenizers trained by the program.
    pub tokenizers: IndexMap<String, Called>,
    /// Joint vocabularies.
    pub tokens: IndexMap<String, TokenLayout>,
    /// Models that are described layer by layer.
    pub models: IndexMap<String, ModelRecipe>,
    /// Fusions.
    pub fusions: IndexMap<String, FusionRecipe>,
    /// Training runs.
    pub trainings: IndexMap<String, TrainRecipe>,
    /// Ways of sampling.
    pub decodings: IndexMap<String, DecodeRecipe>,
    /// Reports.
    pub evaluations: IndexMap<String, EvalRecipe>,
    /// Pages of illustrated answers.
    pub pages: IndexMap<String, PageRecipe>,
    /// Every step in the order of the file.
    pub steps: Vec<Step>,
}

/// One thing that `jamc run` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Writes the drawing lessons of this name.
    Lessons(String),
    /// Trains the tokenizer of this name.
    Tokenizer(String),
    /// Builds the fusion of this name.
    Fuse(String),
    /// Carries out the training of this name.
    Train(String),
    /// Makes the report of this name.
    Eval(String),
    /// Writes the page of this name.
    Page(String),
}

impl Step {
    /// The word that begins its statement in a program.
    pub fn word(&self) -> &'static str {
        match self {
            Step::Lessons(_) => "lessons",
            Step::Tokenizer(_) => "tokenizer",
            Step::Fuse(_) => "fuse",
            Step::Train(_) => "train",
            Step::Eval(_) => "eval",
            Step::Page(_) => "page",
        }
    }

    /// The folder of its results below the folder of all.
    pub fn folder(&self) -> &'static str {
        match self {
            Step::Lessons(_) => "lessons",
            Step::Tokenizer(_) => "tokenizers",
            Step::Fuse(_) => "models",
            Step::Train(_) => "training",
            Step::Eval(_) => "reports",
            Step::Page(_) => "pages",
        }
    }

    /// Every kind of step, in the order in which they are listed.
    pub const KINDS: [fn(String) -> Step; 6] = [
        Step::Lessons,
        Step::Tokenizer,
        Step::Fuse,
        Step::Train,
        Step::Eval,
        Step::Page,
    ];

    /// Its name in the program.
    pub fn name(&self) -> &str {
        match self {
            Step::Lessons(name)
            | Step::Tokenizer(name)
            | Step::Fuse(name)
            | Step::Train(name)
            | Step::Eval(name)
            | Step::Page(name) => name,
        }
    }
}

/// As the program writes it: `train tune`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.word(), self.name())
    }
}

/// Reference to a model by the name of a model, fusion or training: `llm`, `tune.best`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Name of a model, a fusion or a training.
    pub name: String,
    /// Which state of a training; [`Checkpoint::Last`] for models and fusions.
    pub checkpoint: Checkpoint,
}

/// Which state of a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Checkpoint {
    /// After the last step.
    #[default]
    Last,
    /// With the least loss on the validation data.
    Best,
}

impl ModelRef {
    /// The last (or only) state of `name`.
    pub fn last(name: impl Into<String>) -> ModelRef {
        ModelRef {
            name: name.into(),
            checkpoint: Checkpoint::Last,
        }
    }

    /// The reference that prints as `text`.
    pub fn parse(text: &str) -> ModelRef {
        match text.strip_suffix(".best") {
            Some(name) => ModelRef {
                name: name.to_owned(),
                checkpoint: Checkpoint::Best,
            },
            None => ModelRef::last(text.strip_suffix(".last").unwrap_or(text)),
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.checkpoint {
            Checkpoint::Last => write!(f, "{}", self.name),
            Checkpoint::Best => write!(f, "{}.best", self.name),
        }
    }
}

/// Drawing lessons: a small world that the program makes itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LessonsRecipe {
    /// Seed of the world's records.
    pub seed: u64,
    /// Records of the text corpus.
    pub texts: u64,
    /// Picture-caption pairs for training.
    pub pairs: u64,
    /// How-to articles for training.
    pub articles: u64,
    /// Multiple-choice items, and records of each validation and test part.
    pub choices: u64,
}

/// A data set with its splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecipe {
    /// What its records are: a format, with its settings.
    pub format: Called,
    /// Where each split comes from: those that the program or the lessons give.
    pub splits: IndexMap<String, DataSource>,
    /// Share of the training records set aside as `val` where no `val` is given, by a stable hash.
    pub held_out: f64,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSource {
    /// Files that match a pattern with `*` and `**`, relative to the program's folder.
    Files(Vec<String>),
    /// A part (`text`, `pairs`, `articles`, `choice`) of drawing lessons, in a split.
    Lessons {
        /// Name of the lessons.
        lessons: String,
        /// The part.
        part: String,
        /// `train`, `val` or `test`.
        split: String,
    },
}

/// A split of a data set: `pairs`, `pairs.val`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataRef {
    /// Name of the data set.
    pub name: String,
    /// Its split; `train` where the program is silent.
    pub split: String,
}

impl fmt::Display for DataRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.split)
    }
}

/// A model described layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecipe {
    /// The graph. Plans of a model with weights load from the model's own name.
    pub model: Model,
    /// Folder of its weights, relative to the program's folder; `None` for a fresh model.
    pub weights: Option<String>,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// A fusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FusionRecipe {
    /// Name of the strategy.
    pub strategy: String,
    /// Parents; the first is the text model.
    pub parents: Vec<ModelRef>,
    /// Where each parent is named.
    pub parent_spans: Vec<Option<Span>>,
    /// Settings, defaults filled in.
    pub settings: Settings,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRecipe {
    /// What is trained.
    pub model: ModelRef,
    /// Training data by weight; weights are shares of documents, normalised.
    pub data: Vec<(f64, DataRef)>,
    /// Data whose loss picks the best state; empty for none.
    pub validate: Vec<DataRef>,
    /// What is learned of each token.
    pub objective: Called,
    /// How gradients change weights.
    pub optimizer: Called,
    /// Course of the learning rate.
    pub schedule: Called,
    /// Size of a step.
    pub batch: BatchSize,
    /// How documents fill a batch.
    pub form: BatchForm,
    /// Longest row, in tokens; at most the model's context.
    pub length: u64,
    /// Number of optimizer steps.
    pub steps: u64,
    /// Precision of the forward and backward pass; weights and moments stay f32.
    pub precision: DType,
    /// Recompute each block in the backward pass instead of keeping its values.
    pub recompute: bool,
    /// Steps between validations.
    pub validate_every: u64,
    /// Documents of each validation set that are read, the first ones; 0 for all.
    pub validate_limit: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Seed of order and sampling.
    pub seed: u64,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// A kind of weights, by what a model does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WeightKind {
    /// Gains and biases of norms.
    Norms,
    /// Biases of linear layers and of heads.
    Biases,
    /// Token tables, a tied head's too, and learned positions.
    Embeddings,
}

impl WeightKind {
    /// Every kind.
    pub const ALL: [WeightKind; 3] = [
        WeightKind::Norms,
        WeightKind::Biases,
        WeightKind::Embeddings,
    ];

    /// Its word in a program.
    pub fn word(self) -> &'static str {
        match self {
            WeightKind::Norms => "norms",
            WeightKind::Biases => "biases",
            WeightKind::Embeddings => "embeddings",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<WeightKind> {
        WeightKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Size of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchSize {
    /// About this many tokens, padding counted.
    Tokens(u64),
    /// This many rows.
    Rows(u64),
}

/// How documents fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchForm {
    /// Documents one after the other, cut at the row's length.
    Packed,
    /// One document a row, padded to the longest of the batch.
    Rows,
}

/// How one kind of token is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Keeps the most likely tokens up to this mass; 1 keeps all.
    pub top_p: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: u64,
    /// α of classifier-free guidance; 1 for none.
    pub guidance: f64,
}

/// A way of sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecodeRecipe {
    /// What is sampled; `None` where the user of the recipe says it.
    pub model: Option<ModelRef>,
    /// Text tokens.
    pub text: Sampling,
    /// Image tokens.
    pub image: Sampling,
    /// Longest answer in tokens; 0 for the room that the context leaves.
    pub max_tokens: u64,
    /// Most pictures of an answer; 0 sets no bound.
    pub max_pictures: u64,
    /// Seed of the draws.
    pub seed: u64,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// A report: measures of models, a table row a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecipe {
    /// Rows.
    pub models: Vec<ModelRef>,
    /// Columns.
    pub measures: Vec<Called>,
    /// Where the program defines it.
    pub span: Option<Span>,
}

/// A page of illustrated answers with pictures, curves and tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageRecipe {
    /// Heading.
    pub title: String,
    /// Questions: documents with prompts.
    pub questions: DataRef,
    /// Number of questions answered.
    pub count: u64,
    /// How answers are sampled.
    pub decode: String,
    /// Models that answer; the first is shown first.
    pub models: Vec<ModelRef>,
    /// Reports whose tables are shown.
    pub reports: Vec<String>,
    /// Image tokenizers whose reconstructions are shown, beside pictures of this data.
    pub tokenizers: Vec<(String, DataRef)>,
    /// Trainings whose curves are shown.
    pub curves: Vec<String>,
    /// Where the program defines it.
    pub span: Option<Span>,
}
