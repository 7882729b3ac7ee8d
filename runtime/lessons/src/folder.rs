//! The folder of lessons: its settings, where its files are, and what their records hold.

use std::fs;
use std::path::{Path, PathBuf};

use jam_ir::signature::LessonsPart;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

use super::scene::Scene;
use super::splits::Split;

/// The version of the folder's format and of the world in it.
pub const FORMAT: &str = "jam-lessons-1";

/// The file that marks a complete folder.
pub(super) const MANIFEST: &str = "lessons.json";

/// How much to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LessonsSettings {
    /// Where every random draw begins. The split into parts does not depend on it.
    pub seed: u64,
    /// Text documents for training.
    pub texts: usize,
    /// Captioned pictures for training.
    pub pairs: usize,
    /// How-to articles for training.
    pub articles: usize,
    /// Multiple-choice items for the test.
    pub choices: usize,
    /// Text documents for validation.
    pub val_texts: usize,
    /// Captioned pictures for validation.
    pub val_pairs: usize,
    /// Captioned pictures for the test.
    pub test_pairs: usize,
    /// Articles for validation.
    pub val_articles: usize,
    /// Articles for the test.
    pub test_articles: usize,
    /// Multiple-choice items for validation.
    pub val_choices: usize,
    /// The most things in a captioned picture, 1 to 6.
    pub most_things: usize,
    /// The most pictures in an article, 2 to 6.
    pub most_steps: usize,
}

impl LessonsSettings {
    /// Enough to see every step run: under a second to write.
    pub fn smoke() -> Self {
        Self {
            texts: 400,
            pairs: 600,
            articles: 80,
            choices: 60,
            val_texts: 40,
            val_pairs: 40,
            test_pairs: 40,
            val_articles: 10,
            test_articles: 10,
            val_choices: 40,
            ..Self::default()
        }
    }

    /// For a training run of two hours on two cores.
    pub fn full() -> Self {
        Self {
            texts: 60_000,
            pairs: 80_000,
            articles: 8_000,
            choices: 1_000,
            ..Self::default()
        }
    }

    /// The number of records that these settings ask for.
    pub fn records(&self) -> u64 {
        let parts = [
            self.texts + self.val_texts,
            self.pairs + self.val_pairs + self.test_pairs,
            self.articles + self.val_articles + self.test_articles,
            self.choices + self.val_choices,
        ];
        parts.into_iter().sum::<usize>() as u64
    }

    pub(super) fn pairs_of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.pairs,
            Split::Val => self.val_pairs,
            Split::Test => self.test_pairs,
        }
    }

    pub(super) fn articles_of(&self, split: Split) -> usize {
        match split {
            Split::Train => self.articles,
            Split::Val => self.val_articles,
            Split::Test => self.test_articles,
        }
    }
}

impl Default for LessonsSettings {
    /// For a first look in minutes.
    fn default() -> Self {
        Self {
            seed: 1,
            texts: 16_000,
            pairs: 24_000,
            articles: 3_000,
            choices: 600,
            val_texts: 400,
            val_pairs: 300,
            test_pairs: 300,
            val_articles: 60,
            test_articles: 100,
            val_choices: 200,
            most_things: 3,
            most_steps: 6,
        }
    }
}

/// A complete folder of lessons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LessonsFolder {
    /// Where it is.
    pub folder: PathBuf,
    /// What it was written with.
    pub settings: LessonsSettings,
}

/// The parts of drawing lessons, for the language: each with the format that reads it, and its splits.
pub fn parts() -> Vec<LessonsPart> {
    let part = |name: &str, format: &str, splits: &[Split]| LessonsPart {
        name: name.to_owned(),
        format: format.to_owned(),
        splits: splits.iter().map(|split| split.name().to_owned()).collect(),
    };
    let all = Split::ALL;
    vec![
        part("text", "text", &all[..2]),
        part("pairs", "image_text", &all),
        part("articles", "interleaved", &all),
        part("choice", "choice", &all[1..]),
    ]
}

impl LessonsFolder {
    /// Opens a folder that [`write`](fn@super::write::write) has completed.
    ///
    /// # Errors
    /// When it is absent, incomplete, or of another version.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("this is no list of lessons: {error}")).with_path(&path)
        })?;
        if manifest.format != FORMAT {
            let given = manifest.format;
            return Err(Error::new(format!(
                "its format is `{given}`, and this version reads `{FORMAT}`"
            ))
            .with_path(path)
            .with_help("remove the folder, and the lessons are made again"));
        }
        Ok(Self {
            folder: folder.to_owned(),
            settings: manifest.settings,
        })
    }

    /// Where a split of a part of [`parts`] lies: a file, or a folder of shards; `None` where there is no such
    /// part.
    pub fn part(&self, part: &str, split: Split) -> Option<PathBuf> {
        match part {
            "text" => Some(self.text(split)),
            "pairs" => Some(self.pairs(split)),
            "articles" => Some(self.articles(split)),
            "choice" => Some(self.choice(split)),
            _ => None,
        }
    }

    /// The text documents of a part (there are none for the test).
    pub fn text(&self, split: Split) -> PathBuf {
        self.folder.join(format!("text/{}.jsonl", split.name()))
    }

    /// The folder of tar files with the captioned pictures of a part.
    pub fn pairs(&self, split: Split) -> PathBuf {
        self.folder.join(format!("pairs/{}", split.name()))
    }

    /// The articles of a part.
    pub fn articles(&self, split: Split) -> PathBuf {
        self.folder.join(format!("articles/{}.jsonl", split.name()))
    }

    /// The multiple-choice items of a part (there are none for training).
    pub fn choice(&self, split: Split) -> PathBuf {
        self.folder.join(format!("choice/{}.jsonl", split.name()))
    }
}

/// What stands in the manifest.
#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: String,
    pub(super) settings: LessonsSettings,
}

/// The `.json` beside a captioned picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRecord {
    /// What the caption asks for and the picture shows.
    pub scene: Scene,
}

/// One line of an articles file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArticleRecord {
    /// A name that no other article has.
    pub id: String,
    /// `drawing`.
    pub kind: String,
    /// The question.
    pub prompt: String,
    /// Texts and pictures in their order.
    pub segments: Vec<Segment>,
    /// The number of pictures.
    pub n_images: usize,
    /// The characters of the prompt and of all texts.
    pub n_chars: usize,
    /// Whether the prompt names the places; where not, judge without places.
    pub placed: bool,
    /// What the last picture has to show.
    pub asked: Scene,
    /// What each picture shows.
    pub scenes: Vec<Scene>,
}

/// A piece of an article.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segment {
    /// Some text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Its path, relative to the folder of the articles file.
        image: String,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
    },
}
