//! WebDataset shards: tar files in which the members of a record share their name up to the last dot, where
//! what follows it is an ending that is known.

use std::io::BufReader;
use std::path::Path;

use indexmap::IndexMap;

use super::content::open_regular;
use crate::{Error, Result};

/// First byte and number of bytes of a member.
pub(super) type Range = (u64, u64);

/// A record of a shard: where its picture, caption and JSON lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// The name that its members share.
    pub(super) key: String,
    /// Name and place of the picture.
    pub(super) picture: Option<(String, Range)>,
    /// The caption, as text.
    pub(super) caption: Option<Range>,
    /// The record as JSON.
    pub(super) json: Option<Range>,
}

/// The largest caption or JSON that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// What a member of a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Picture,
    Caption,
    Json,
}

/// The endings of members that are read.
const ENDINGS: [(&str, Part); 6] = [
    ("png", Part::Picture),
    ("jpg", Part::Picture),
    ("jpeg", Part::Picture),
    ("txt", Part::Caption),
    ("caption", Part::Caption),
    ("json", Part::Json),
];

/// What a shard holds.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Its records, in their order.
    pub(super) records: Vec<Member>,
    /// Members that are of no record.
    pub(super) left_out: u64,
    /// The name of the first of them.
    pub(super) first_left_out: String,
}

impl Shard {
    fn leave_out(&mut self, name: &str) {
        if self.left_out == 0 {
            name.clone_into(&mut self.first_left_out);
        }
        self.left_out += 1;
    }
}

/// The key of a member's name, folders included, and what it is; `None` for members that are not read: hidden
/// ones, and those of other endings.
fn key_of(name: &str) -> Option<(&str, Part)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    if name[base..].starts_with('.') {
        return None;
    }
    let dot = base + name[base..].rfind('.')?;
    let ending = name[dot + 1..].to_lowercase();
    let (_, part) = ENDINGS.iter().find(|(known, _)| *known == ending)?;
    Some((&name[..dot], *part))
}

/// Reads where the records of a shard lie. Members that are not read are counted, and so are further members of
/// a record (`a.mask.png` beside `a.png` and `a.txt`).
///
/// # Errors
/// When the file is no tar file or ends in a member, two members of a record are of one kind, or a record has no
/// picture or no caption.
pub(super) fn index(path: &Path) -> Result<Shard> {
    let failed = |error| Error::io("read the shard", path, error);
    let bad = |message: String| Error::new(message).with_path(path);
    let file = open_regular(path)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut shard = Shard::default();
    let mut records: IndexMap<String, Member> = IndexMap::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let range = (entry.raw_file_position(), entry.size());
        if range.0.checked_add(range.1).is_none_or(|end| end > length) {
            return Err(bad(format!("the shard ends in the middle of `{name}`")));
        }
        let member = key_of(&name).filter(|_| entry.header().entry_type().is_file());
        let Some((key, part)) = member else {
            shard.leave_out(&name);
            continue;
        };
        // Captions and JSON are read whole.
        if part != Part::Picture && range.1 > MAX_TEXT_BYTES {
            return Err(bad(format!(
                "`{name}` has {} bytes; at most {MAX_TEXT_BYTES} are read",
                range.1
            )));
        }
        let record = records.entry(key.to_owned()).or_insert_with(|| Member {
            key: key.to_owned(),
            ..Member::default()
        });
        let twice = match part {
            Part::Picture => record.picture.replace((name.clone(), range)).is_some(),
            Part::Caption => record.caption.replace(range).is_some(),
            Part::Json => record.json.replace(range).is_some(),
        };
        if twice {
            return Err(bad(format!(
                "`{name}`: its record has another of that kind"
            )));
        }
    }
    let further: Vec<String> = records
        .values()
        .filter(|record| !record.is_whole() && belongs_to_another(record, &records))
        .map(|record| record.key.clone())
        .collect();
    for key in further {
        shard.leave_out(&key);
        records.shift_remove(&key);
    }
    for record in records.values() {
        if record.picture.is_none() {
            return Err(bad(format!("the record `{}` has no picture", record.key))
                .with_help("pictures end in .png, .jpg or .jpeg"));
        }
        if record.caption.is_none() && record.json.is_none() {
            return Err(
                bad(format!("the record `{}` has no caption", record.key)).with_help(
                    "captions are members ending in .txt, or `caption` in one ending in .json",
                ),
            );
        }
    }
    shard.records = records.into_values().collect();
    Ok(shard)
}

impl Member {
    /// Whether it has what a record needs.
    fn is_whole(&self) -> bool {
        self.picture.is_some() && (self.caption.is_some() || self.json.is_some())
    }
}

/// Whether a record is whose name goes on, after a dot, into this one's.
fn belongs_to_another(record: &Member, records: &IndexMap<String, Member>) -> bool {
    let key = &record.key;
    let base = key.rfind('/').map_or(0, |slash| slash + 1);
    let mut dots = key[base..].match_indices('.').map(|(dot, _)| base + dot);
    dots.any(|dot| records.get(&key[..dot]).is_some_and(Member::is_whole))
}
