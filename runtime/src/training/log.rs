//! `log.jsonl`: a line a step, from which curves are drawn.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens learned from so far, padding left out.
    pub tokens: u64,
    /// Mean loss of the step, in nats a token.
    pub loss: f64,
    /// L2 norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Tokens a second since the last line.
    pub tokens_per_second: f64,
    /// Mean loss on each validation set, where the step ended with a validation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<(String, f64)>,
}

/// A log open for appending.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log and drops every line after step `step`: those steps are done again.
    pub(super) fn resume(path: &Path, step: u64) -> Result<Log> {
        let kept: Vec<_> = read_log(path)?
            .into_iter()
            .filter(|line| line.step <= step)
            .collect();
        let mut text = String::new();
        for line in &kept {
            text.push_str(&encode(line)?);
        }
        jam_weights::checkpoints::write_file(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|error| Error::io("open", path, error))?;
        Ok(Log {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &LogLine) -> Result<()> {
        let written = self.file.write_all(encode(line)?.as_bytes());
        written.map_err(|error| Error::io("write", &self.path, error))
    }
}

fn encode(line: &LogLine) -> Result<String> {
    let text = serde_json::to_string(line)
        .map_err(|error| Error::new(format!("a line of the log cannot be written: {error}")))?;
    Ok(text + "\n")
}

/// The lines of a log; none where there is no file. A last line that was cut off is left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let mut lines = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| Error::io("read", path, error))?;
        lines.extend(serde_json::from_str::<LogLine>(&line).ok());
    }
    Ok(lines)
}
