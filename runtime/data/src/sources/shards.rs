//! WebDataset shards: tar files in which the members of a record share their name up to the first dot.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use indexmap::IndexMap;

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

/// Reads where the records of a shard lie; members of other kinds are passed over.
///
/// # Errors
/// When the file is no tar file or ends in a member, two members of a record are of one kind, or a record has no
/// picture or no caption.
pub(super) fn index(path: &Path) -> Result<Vec<Member>> {
    let failed = |error| Error::io("read the shard", path, error);
    let bad = |message: String| Error::new(message).with_path(path);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut records: IndexMap<String, Member> = IndexMap::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let range = (entry.raw_file_position(), entry.size());
        if range.0.checked_add(range.1).is_none_or(|end| end > length) {
            return Err(bad(format!("the shard ends in the middle of `{name}`")));
        }
        // The key is the name, folders included, up to the first dot after the last slash.
        let base = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = name[base..].find('.').map(|dot| base + dot) else {
            continue;
        };
        let (key, ending) = (&name[..dot], name[dot + 1..].to_lowercase());
        if key.len() == base {
            continue;
        }
        let record = || Member {
            key: key.to_owned(),
            ..Member::default()
        };
        let twice = match ending.as_str() {
            "png" | "jpg" | "jpeg" => {
                let record = records.entry(key.to_owned()).or_insert_with(record);
                record.picture.replace((name.clone(), range)).is_some()
            }
            "txt" | "caption" => {
                let record = records.entry(key.to_owned()).or_insert_with(record);
                record.caption.replace(range).is_some()
            }
            "json" => {
                let record = records.entry(key.to_owned()).or_insert_with(record);
                record.json.replace(range).is_some()
            }
            _ => continue,
        };
        if twice {
            return Err(bad(format!(
                "`{name}`: its record has another of that kind"
            )));
        }
        if ending.len() != 3 || matches!(ending.as_str(), "txt") {
            // Captions and JSON are read whole.
            if range.1 > MAX_TEXT_BYTES {
                return Err(bad(format!(
                    "`{name}` has {} bytes; at most {MAX_TEXT_BYTES} are read",
                    range.1
                )));
            }
        }
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
    Ok(records.into_values().collect())
}
