//! The table that tells which file of a folder holds which tensor (`model.safetensors.index.json`), read as
//! untrusted input.
//!
//! What is checked: it is JSON of bounded depth and number of values, its `weight_map` is an object of texts
//! with no name twice, and it names a bounded number of files, each of one plain name: no path, no `..`,
//! nothing absolute.

use indexmap::IndexMap;
use serde::Deserialize;

use super::bounded::{TABLE, check_json, is_plain};
use super::checksums::once;

/// The most files that one checkpoint is spread over.
const MAX_SHARDS: usize = 2000;

/// A table of shards that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// File by tensor, in the table's order.
    pub weight_map: IndexMap<String, String>,
}

/// The parts of a table that matter.
#[derive(Deserialize)]
struct RawIndex {
    #[serde(deserialize_with = "once")]
    weight_map: IndexMap<String, String>,
}

impl ShardIndex {
    /// Checks the text of a table.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        check_json(text, TABLE)?;
        let RawIndex { weight_map } =
            serde_json::from_slice(text).map_err(|error| format!("the index is wrong: {error}"))?;
        let index = Self { weight_map };
        let files = index.files();
        if files.len() > MAX_SHARDS {
            let count = files.len();
            return Err(format!(
                "the index names {count} files; at most {MAX_SHARDS} are read"
            ));
        }
        if let Some(file) = files.iter().find(|file| !is_plain(file)) {
            let shown: String = file.chars().take(200).collect();
            return Err(format!("the index points outside its folder: `{shown}`"));
        }
        Ok(index)
    }

    /// The files that it names, each once, in the order of their names.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_one_plain_name_and_tensors_one_file() {
        let index = ShardIndex::parse(br#"{"weight_map": {"b": "y", "a": "x", "c": "y"}}"#);
        assert_eq!(index.unwrap().files(), ["x", "y"]);
        for file in ["..", ".", "", "a/b", "/a", "a/", "a\\\\b", "a\\u0000"] {
            let text = format!(r#"{{"weight_map": {{"a": "{file}"}}}}"#);
            let message = ShardIndex::parse(text.as_bytes()).unwrap_err();
            assert!(message.contains("outside"), "{file}: {message}");
        }
        let twice = br#"{"weight_map": {"a": "x", "a": "y"}}"#;
        assert!(ShardIndex::parse(twice).unwrap_err().contains("twice"));
    }
}
