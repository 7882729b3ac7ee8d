//! The table of a checkpoint's shards, `model.safetensors.index.json`.
//!
//! What must hold of any table that is read: its files have plain names, and written out it is read as the
//! same table.

use std::path::Path;

use jam_weights::checkpoints::ShardIndex;
use serde_json::json;

use super::seeds::{contents, tidy};

/// Reads a table.
pub fn run(data: &[u8]) {
    let index = match ShardIndex::parse(data) {
        Ok(index) => index,
        Err(why) => {
            assert!(!why.is_empty());
            return;
        }
    };
    let files = index.files();
    assert!(files.is_sorted() && files.len() <= index.weight_map.len());
    let folder = Path::new("/folder");
    for file in files {
        assert_eq!(folder.join(file).parent(), Some(folder), "{file:?}");
        assert!(file != ".." && file != ".", "{file:?}");
    }
    let written = json!({ "weight_map": index.weight_map }).to_string();
    let again = ShardIndex::parse(written.as_bytes()).expect("what was written is read");
    assert_eq!(again, index, "{written}");
}

/// Tables of the golden cases, and small ones.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
        r#"{"weight_map":{}}"#,
        r#"{"weight_map":{"a":"../a","a":"b\u0000"}}"#,
        r#"{"weight_map":{"a":"/etc/passwd"},"x":[[[{}]]]}"#,
        r#"{"weight_map":{"a":"a\\b","b":"."}}"#,
    ];
    let mut seeds = contents("tests/golden", ".index.json");
    seeds.extend(texts.map(Into::into));
    tidy(seeds)
}
