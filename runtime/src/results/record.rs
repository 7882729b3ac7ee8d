//! `result.json`: what a result is, how far it is, and what it was made from.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jam_weights::checkpoints::write_file;
use serde::{Deserialize, Serialize};

use super::{Ingredients, read_optional};
use crate::{Error, ErrorKind, Result};

/// Name of the file in the folder of a result.
pub const RESULT_FILE: &str = "result.json";

/// Marks of results of earlier versions, which had no record.
const EARLIER: [&str; 2] = ["step.key", "run.key"];

/// The layout of the file; raised when it changes.
const FORMAT: u32 = 1;

/// What a result is. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Layout of this file.
    pub(crate) format: u32,
    /// Kind of its step, as the program writes it: `train`.
    pub kind: String,
    /// Name in the program.
    pub name: String,
    /// Hash of all ingredients.
    pub key: String,
    /// Hash of those ingredients that may not change while it is made.
    pub base: String,
    /// How far it is.
    pub progress: Progress,
    /// Name of the program.
    pub program: String,
    /// When it was begun.
    pub begun: u64,
    /// What it is made from.
    pub ingredients: Ingredients,
    /// Whether it was begun anew though one of the same was there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    /// Settings that changed while it was made, with what they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// BLAKE3 of this record without this line, as compact JSON.
    blake3: String,
}

/// How far a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Begun, and not finished.
    Begun,
    /// Finished at this time.
    Done(u64),
}

/// What stands in a folder where a result is looked for.
#[derive(Debug)]
pub(super) enum Found {
    /// A result with its record.
    Record(Box<Record>),
    /// A result of an earlier version.
    Earlier,
    /// A result of a later version, whose record this one cannot read.
    Later(Error),
    /// A result whose record is damaged.
    Damaged(Error),
    /// A folder or file that no step made.
    Foreign,
    /// Nothing.
    Nothing,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Record {
    /// A result that is begun.
    pub(crate) fn begin(
        kind: &str,
        name: &str,
        program: &str,
        ingredients: Ingredients,
        base: String,
    ) -> Record {
        Record {
            format: FORMAT,
            kind: kind.to_owned(),
            name: name.to_owned(),
            key: ingredients.key(),
            base,
            progress: Progress::Begun,
            program: program.to_owned(),
            begun: now(),
            ingredients,
            anew: false,
            changes: Vec::new(),
            blake3: String::new(),
        }
    }

    /// The same, finished now.
    pub(crate) fn done(&self) -> Record {
        Record {
            progress: Progress::Done(now()),
            ..self.clone()
        }
    }

    /// The same, begun anew or not.
    pub(crate) fn begun_anew(mut self, anew: bool) -> Record {
        self.anew = anew;
        self
    }

    /// The same, gone on from what was begun `before`, though settings have changed so.
    pub(crate) fn going_on(mut self, before: &Record, changes: Vec<String>) -> Record {
        self.begun = before.begun;
        self.anew = before.anew;
        self.changes.clone_from(&before.changes);
        self.changes.extend(changes);
        self
    }

    /// Whether it is finished.
    pub fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done(_))
    }

    /// The record as a file.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let sealed = Record {
            blake3: self.checksum()?,
            ..self.clone()
        };
        let mut bytes = serde_json::to_vec_pretty(&sealed).map_err(unwritable)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Writes it into a folder, atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write_file(&folder.join(RESULT_FILE), &self.bytes()?)
    }

    /// A record out of its file.
    ///
    /// # Errors
    /// When it is not one, or not as it was written: damaged. Of a later version: another kind of error.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Record> {
        /// What every version writes.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Option<Version> = serde_json::from_slice(bytes).ok();
        if let Some(Version { format }) = version.filter(|version| version.format > FORMAT) {
            return Err(Error::new(format!(
                "a later version of jamc wrote this result: format {format}, and this one reads {FORMAT}"
            )));
        }
        let record: Record = serde_json::from_slice(bytes)
            .map_err(|error| Error::damaged(format!("is not the record of a result: {error}")))?;
        if record.blake3 != record.checksum()? {
            return Err(Error::damaged("the record is not the one that was written"));
        }
        Ok(record)
    }

    fn checksum(&self) -> Result<String> {
        let bare = Record {
            blake3: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&bare).map_err(unwritable)?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    }

    /// What stands in a folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn look(folder: &Path) -> Result<Found> {
        let path = folder.join(RESULT_FILE);
        match read_optional(&path) {
            Ok(Some(bytes)) => Ok(match Record::parse(&bytes) {
                Ok(record) => Found::Record(Box::new(record)),
                Err(error) if error.kind == ErrorKind::Damaged => {
                    Found::Damaged(error.with_path(path))
                }
                Err(error) => Found::Later(error.with_path(path)),
            }),
            Ok(None) => {
                let mut earlier = false;
                for name in EARLIER {
                    earlier |= super::stands(&folder.join(name))?;
                }
                Ok(match (earlier, super::stands(folder)?) {
                    (true, _) => Found::Earlier,
                    (false, true) => Found::Foreign,
                    (false, false) => Found::Nothing,
                })
            }
            // A file stands where the folder would be.
            Err(_) if folder.is_file() => Ok(Found::Foreign),
            Err(error) => Err(error),
        }
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(format!("the record of a result cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_every_flipped_bit_is_found() {
        let mut ingredients = Ingredients::default();
        ingredients.add("optimizer.lr", "0.001");
        let record = Record::begin("train", "tune", "small", ingredients, "b".to_owned()).done();
        let bytes = record.bytes().unwrap();
        let again = Record::parse(&bytes).unwrap();
        assert_eq!(again.key, record.key);
        assert!(again.is_done());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match Record::parse(&damaged) {
                // White space may come to be other white space: then nothing is lost.
                Ok(read) => assert_eq!(read, again, "bit {bit}"),
                Err(error) => {
                    let later = error.message.contains("a later version");
                    assert!(later || error.kind == ErrorKind::Damaged, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_stands_in_a_folder_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tune");
        let look = || Record::look(&place).unwrap();
        assert!(matches!(look(), Found::Nothing));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("notes.txt"), "mine").unwrap();
        assert!(matches!(look(), Found::Foreign));
        std::fs::write(place.join("run.key"), "7").unwrap();
        assert!(matches!(look(), Found::Earlier));
        std::fs::write(place.join(RESULT_FILE), "{").unwrap();
        assert!(matches!(look(), Found::Damaged(_)));
        std::fs::write(place.join(RESULT_FILE), "{\"format\": 9}").unwrap();
        assert!(matches!(look(), Found::Later(_)));
        // Unreadable is not absent: here the file is a folder.
        std::fs::remove_file(place.join(RESULT_FILE)).unwrap();
        std::fs::create_dir(place.join(RESULT_FILE)).unwrap();
        assert!(Record::look(&place).is_err());
    }
}
