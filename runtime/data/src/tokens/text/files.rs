//! Which files of a path are a text tokenizer, and of what form.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// The files of a text tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A `tokenizer.json`.
    Whole(PathBuf),
    /// GPT-2's two files.
    Gpt2 {
        /// Token → id.
        vocabulary: PathBuf,
        /// The merges in the order of rank.
        merges: PathBuf,
    },
    /// GPT-2's merges, from which its own ids follow.
    Merges(PathBuf),
    /// A SentencePiece `.model`.
    SentencePiece(PathBuf),
    /// A vocabulary of llama2.c.
    Llama2c(PathBuf),
}

impl Found {
    /// What a file is, by its ending; or what is found in a folder, where a whole `tokenizer.json` comes first and of
    /// several files of a form the first by name.
    ///
    /// # Errors
    /// When the path cannot be looked at, a vocabulary has no merges beside it, or, with [`ErrorKind::Absent`], there is no
    /// tokenizer.
    pub(super) fn of(path: &Path) -> Result<Found> {
        let kind = fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        if !kind.is_dir() {
            return Ok(Found::file(path.to_owned()));
        }
        let whole = path.join("tokenizer.json");
        if whole.is_file() {
            return Ok(Found::Whole(whole));
        }
        let failed = |error| Error::io("list", path, error);
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if !file.is_dir() {
                files.push(file);
            }
        }
        files.sort();
        let named = |start: &str, end: &str| {
            let found = files.iter().find(|file| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(start) && name.ends_with(end)
            });
            found.cloned()
        };
        if let Some(whole) = named("", "tokenizer.json") {
            return Ok(Found::Whole(whole));
        }
        let vocabulary = match (named("", "vocab.json"), named("", "merges.txt")) {
            (Some(vocabulary), Some(merges)) => return Ok(Found::Gpt2 { vocabulary, merges }),
            (None, Some(merges)) => return Ok(Found::Merges(merges)),
            (vocabulary, None) => vocabulary,
        };
        let sentencepiece = named("tokenizer", ".model").or_else(|| named("", ".model"));
        if let Some(file) = sentencepiece.or_else(|| named("tok", ".bin")) {
            return Ok(Found::file(file));
        }
        let error = match vocabulary {
            Some(file) => {
                Error::new("a vocabulary needs its `merges.txt` beside it").with_path(file)
            }
            None => {
                Error::of(ErrorKind::Absent, "the folder has no text tokenizer").with_path(path)
            }
        };
        Err(error.with_help(
            "`tokenizer.json`, `vocab.json` and `merges.txt`, or a SentencePiece `.model` is read",
        ))
    }

    fn file(path: PathBuf) -> Found {
        match path.extension().and_then(|end| end.to_str()) {
            Some("model") => Found::SentencePiece(path),
            Some("bin") => Found::Llama2c(path),
            _ => Found::Whole(path),
        }
    }

    /// Their paths.
    pub(super) fn paths(self) -> Vec<PathBuf> {
        match self {
            Found::Gpt2 { vocabulary, merges } => vec![vocabulary, merges],
            Found::Whole(file)
            | Found::Merges(file)
            | Found::SentencePiece(file)
            | Found::Llama2c(file) => vec![file],
        }
    }
}
