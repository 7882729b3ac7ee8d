//! `log.jsonl`: a line a step, from which curves are drawn.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens learned from so far, padding left out.
    pub tokens: u64,
    /// Mean loss of the step, in nats a token; `None` where its batch had nothing to learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// L2 norm of all gradients before clipping; `None` where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
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
    /// Opens the log and drops every line after step `step`: those steps are done again. Lines that are damaged are told
    /// by `note` and left out; the file as it was is kept beside it.
    pub(super) fn resume(path: &Path, step: u64, note: &dyn Fn(&str)) -> Result<Log> {
        let found = read(path)?;
        if found.damaged > 0 {
            let kept = free_beside(path)?;
            std::fs::copy(path, &kept).map_err(|error| Error::io("copy", path, error))?;
            note(&format!(
                "{}: {} lines are damaged and left out; the file as it was is {}",
                path.display(),
                found.damaged,
                kept.display()
            ));
        }
        let mut text = String::new();
        for line in found.lines.iter().filter(|line| line.step <= step) {
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

/// The first name `log.damaged-N.jsonl` that is free.
fn free_beside(path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let kept = path.with_extension(format!("damaged-{number}.jsonl"));
        if !crate::results::stands(&kept)? {
            return Ok(kept);
        }
        number += 1;
    }
}

/// What stands before the checksum that ends a line, and behind it.
const CHECK: (&str, &str) = (",\"check\":\"", "\"}");

/// The checksum of a line without it: eight digits of its BLAKE3.
fn checksum(line: &str) -> String {
    blake3::hash(line.as_bytes()).to_hex()[..8].to_owned()
}

fn encode(line: &LogLine) -> Result<String> {
    let text = serde_json::to_string(line)
        .map_err(|error| Error::new(format!("a line of the log cannot be written: {error}")))?;
    let check = checksum(&text);
    let open = text.strip_suffix('}').unwrap_or(&text);
    Ok(format!("{open}{}{check}{}\n", CHECK.0, CHECK.1))
}

/// A line as it was written; none where it is damaged. Earlier versions wrote no checksums.
fn decode(text: &str) -> Option<LogLine> {
    let Some((open, check)) = text.rsplit_once(CHECK.0) else {
        return serde_json::from_str(text).ok();
    };
    let bare = format!("{open}}}");
    (check.strip_suffix(CHECK.1)? == checksum(&bare)).then(|| serde_json::from_str(&bare).ok())?
}

/// The lines of a log.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<LogLine>,
    /// Lines that are not as they were written, a last one that was cut off left out.
    damaged: usize,
}

/// Reads a log; a last line that was cut off is what a killed process leaves, and no damage.
fn read(path: &Path) -> Result<Lines> {
    let Some(bytes) = crate::results::read_optional(path)? else {
        return Ok(Lines::default());
    };
    let mut found = Lines::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.strip_suffix(b"\n");
        let text = std::str::from_utf8(whole.unwrap_or(line)).ok();
        match text.and_then(decode) {
            Some(line) => found.lines.push(line),
            None if whole.is_none() => {}
            None => found.damaged += 1,
        }
    }
    Ok(found)
}

/// The lines of a log; none where there is no file. Lines that are damaged or cut off are left out.
///
/// # Errors
/// When the file cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    Ok(read(path)?.lines)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn line(step: u64) -> LogLine {
        LogLine {
            step,
            tokens: 8 * step,
            loss: Some(2.5),
            grad_norm: Some(1.0),
            lr: 0.001,
            tokens_per_second: 100.0,
            validation: vec![("val".to_owned(), 3.0)],
        }
    }

    #[test]
    fn damaged_lines_are_told_and_kept_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let told = RefCell::new(Vec::new());
        let note = |text: &str| told.borrow_mut().push(text.to_owned());
        let mut log = Log::resume(&path, 0, &note).unwrap();
        (1..=4).for_each(|step| log.add(&line(step)).unwrap());
        // Killed in the middle of a line.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"step\":5,\"tok")).unwrap();
        drop(Log::resume(&path, 3, &note).unwrap());
        assert!(told.borrow().is_empty());
        let steps = |path: &Path| -> Vec<u64> {
            let lines = read_log(path).unwrap();
            lines.iter().map(|line| line.step).collect()
        };
        assert_eq!(steps(&path), [1, 2, 3]);
        // A digit of a number is still a number.
        let text = std::fs::read_to_string(&path).unwrap();
        let damaged = text.replacen("2.5", "2.4", 1);
        std::fs::write(&path, &damaged).unwrap();
        drop(Log::resume(&path, 3, &note).unwrap());
        assert_eq!(steps(&path), [2, 3]);
        assert!(told.borrow()[0].contains("1 lines are damaged"), "{told:?}");
        let kept = folder.path().join("log.damaged-1.jsonl");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), damaged);
    }

    #[test]
    fn every_flipped_bit_of_a_line_is_found() {
        let text = encode(&line(7)).unwrap();
        let text = text.trim_end().as_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = std::str::from_utf8(&damaged).ok().and_then(decode);
            assert_eq!(read, None, "bit {bit}");
        }
    }
}
