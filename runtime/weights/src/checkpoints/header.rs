//! The header of a safetensors file, read as untrusted input.
//!
//! A file is eight bytes (the header's length, little-endian), the header (JSON), and the data. What is
//! checked before anything is believed, and before memory is taken:
//!
//! 1. the header's length is at most 16 MB and at most what the file holds;
//! 2. the header is a JSON object of bounded depth and number of values, with no name twice; names are
//!    of bounded length and have no control characters;
//! 3. every format is known, a shape has at most 16 axes, and every product of sizes fits 64 bits;
//! 4. every range has as many bytes as its shape and format say;
//! 5. the ranges lie side by side from the first byte of the data to the last: no overlap, no hole,
//!    nothing outside the file.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::Dtype;
use super::bounded::{JsonLimits, check_json};
use crate::{Error, Result};

/// The longest header that is read: 16 MB, which is 60,000 matrices in one file. (The format allows
/// 100 MB; a reader that believes it can be made to take a gigabyte.)
pub const MAX_HEADER_BYTES: u64 = 16_000_000;
/// What its JSON may hold.
const LIMITS: JsonLimits = JsonLimits {
    bytes: MAX_HEADER_BYTES,
    commas: 300_000,
};
/// The longest name of a tensor, in bytes.
const MAX_NAME_BYTES: usize = 1000;
/// The most axes of a tensor.
const MAX_AXES: usize = 16;

/// One tensor as a header tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEntry {
    /// The stored format.
    pub dtype: Dtype,
    /// Sizes, the slowest axis first. Empty for a single number.
    pub shape: Vec<u64>,
    /// Bytes of the file, counted from the file's first byte.
    pub range: Range<u64>,
}

/// A header that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors, in the order of their data.
    pub tensors: IndexMap<String, HeaderEntry>,
    /// The free-form strings under `__metadata__`.
    pub metadata: IndexMap<String, String>,
}

/// A tensor as JSON has it, before any check.
#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The JSON object, in its order, with names that occur twice refused.
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: IndexMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<RawHeader, A::Error> {
                let mut tensors: IndexMap<String, RawEntry> = IndexMap::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        metadata
                            .replace(map.next_value::<Option<IndexMap<String, String>>>()?)
                            .is_some()
                    } else {
                        tensors.insert(name.clone(), map.next_value()?).is_some()
                    };
                    if twice {
                        return Err(A::Error::custom(format!("`{name}` occurs twice")));
                    }
                }
                Ok(RawHeader {
                    tensors: tensors.into_iter().collect(),
                    metadata: metadata.flatten().unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl Header {
    /// Reads and checks the header of an open file; `path` is for messages only.
    ///
    /// # Errors
    /// When the file cannot be read, or fails one of the checks that the module lists.
    pub fn read(file: &mut File, path: &Path) -> Result<Self> {
        Ok(Self::read_with_checksum(file, path)?.0)
    }

    /// The same, with the BLAKE3 checksum of the header as it is stored, its length included.
    pub(super) fn read_with_checksum(file: &mut File, path: &Path) -> Result<(Self, String)> {
        let bad = |message: String| {
            Error::damaged(message)
                .with_path(path)
                .with_help("the file is damaged, cut short, or not in the safetensors format")
        };
        let length = file
            .metadata()
            .map_err(|error| Error::io("read", path, error))?
            .len();
        if length < 8 {
            return Err(bad(format!(
                "the file has {length} bytes; a safetensors file has at least 8"
            )));
        }
        let mut word = [0; 8];
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_exact(&mut word))
            .map_err(|error| Error::io("read", path, error))?;
        let header_bytes = u64::from_le_bytes(word);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(bad(format!(
                "the header claims {header_bytes} bytes; at most {MAX_HEADER_BYTES} are read"
            )));
        }
        if header_bytes > length - 8 {
            return Err(bad(format!(
                "the header claims {header_bytes} bytes, the file has {} after its length",
                length - 8
            )));
        }
        let mut text = vec![0; header_bytes as usize];
        file.read_exact(&mut text)
            .map_err(|error| Error::io("read", path, error))?;
        let header = Self::parse(&text, length - 8 - header_bytes).map_err(|message| {
            match quantised(&text) {
                Some(error) => error.with_path(path),
                None => bad(format!("the header is wrong: {message}")),
            }
        })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&word).update(&text);
        Ok((header, hasher.finalize().to_hex().to_string()))
    }

    /// Checks header text whose data has `data_bytes` bytes.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &[u8], data_bytes: u64) -> std::result::Result<Self, String> {
        check_json(text, LIMITS)?;
        let text = str::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let raw: RawHeader = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let data_start = 8 + text.len() as u64;
        let mut entries = Vec::with_capacity(raw.tensors.len());
        for (name, entry) in raw.tensors {
            check_tensor(&name, &entry.shape)?;
            let dtype = Dtype::from_name(&entry.dtype)
                .ok_or_else(|| format!("`{name}` has the unknown format `{}`", entry.dtype))?;
            let [start, end] = entry.data_offsets;
            if start > end || end > data_bytes {
                return Err(format!(
                    "`{name}` has the bytes {start}..{end} of {data_bytes}"
                ));
            }
            let expected = byte_count(dtype, &entry.shape)
                .ok_or_else(|| format!("the size of `{name}`, {:?}, overflows", entry.shape))?;
            if expected != end - start {
                return Err(format!(
                    "`{name}` has {} bytes, its shape {:?} of {dtype} needs {expected}",
                    end - start,
                    entry.shape
                ));
            }
            let entry = HeaderEntry {
                dtype,
                shape: entry.shape,
                range: start + data_start..end + data_start,
            };
            entries.push((name, entry));
        }
        // Stable: tensors without data keep the header's order.
        entries.sort_by_key(|(_, entry)| (entry.range.start, entry.range.end));
        let mut end = data_start;
        for (name, entry) in &entries {
            if entry.range.start < end {
                return Err(format!("`{name}` overlaps the tensor before it"));
            }
            if entry.range.start > end {
                return Err(format!("there is a hole in the data before `{name}`"));
            }
            end = entry.range.end;
        }
        if end != data_start + data_bytes {
            return Err(format!(
                "{} bytes at the end belong to no tensor",
                data_start + data_bytes - end
            ));
        }
        Ok(Self {
            tensors: entries.into_iter().collect(),
            metadata: raw.metadata,
        })
    }
}

/// Why a header that is sound but for its formats is not read: its tensors are quantised.
fn quantised(text: &[u8]) -> Option<Error> {
    check_json(text, LIMITS).ok()?;
    let raw: RawHeader = serde_json::from_slice(text).ok()?;
    let (name, entry, what) = raw.tensors.iter().find_map(|(name, entry)| {
        let what = Dtype::quantised(&entry.dtype)?;
        Some((name, entry, what))
    })?;
    let known = |entry: &RawEntry| {
        Dtype::from_name(&entry.dtype).is_some() || Dtype::quantised(&entry.dtype).is_some()
    };
    if !raw.tensors.iter().all(|(_, entry)| known(entry)) {
        return None;
    }
    let message = format!(
        "`{name}` is stored as {}, {what}: the checkpoint is quantised, which is not read",
        entry.dtype
    );
    Some(Error::new(message).with_help(
        "take the checkpoint that it was made from, or have the tool that made it write bf16 or f32",
    ))
}

/// The bounds on a tensor's name and number of axes, in every format.
pub(super) fn check_tensor(name: &str, shape: &[u64]) -> std::result::Result<(), String> {
    if name.len() > MAX_NAME_BYTES {
        let start: String = name.chars().take(40).collect();
        return Err(format!("the name `{start}…` is too long"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the name {name:?} has a control character"));
    }
    match shape.len() {
        0..=MAX_AXES => Ok(()),
        axes => Err(format!(
            "`{name}` has {axes} axes; at most {MAX_AXES} are read"
        )),
    }
}

/// Number of elements of a shape; `None` when it does not fit 64 bits.
pub(super) fn element_count(shape: &[u64]) -> Option<u64> {
    // A zero anywhere makes the product zero, whatever overflows beside it.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size))
}

/// Number of bytes of a shape in a format; `None` when it does not fit 64 bits.
pub(super) fn byte_count(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    element_count(shape)?.checked_mul(dtype.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, data_bytes: u64) -> std::result::Result<Header, String> {
        Header::parse(text.as_bytes(), data_bytes)
    }

    #[test]
    fn a_good_header_is_read_in_the_order_of_its_data() {
        let text = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},
            "a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},
            "empty":{"dtype":"I64","shape":[0,7],"data_offsets":[10,10]}} "#;
        let header = parse(text, 10).unwrap();
        let names: Vec<&String> = header.tensors.keys().collect();
        assert_eq!(names, ["a", "b", "empty"]);
        let start = 8 + text.len() as u64;
        assert_eq!(header.tensors["b"].range, start + 2..start + 10);
        assert_eq!(header.metadata["format"], "pt");
    }

    #[test]
    fn formats_of_quantised_numbers_are_called_by_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for (dtype, what) in [("F8_E4M3", "floats of 8 bits"), ("F4", "floats of 4 bits")] {
            let text = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[4],"data_offsets":[0,4]}}}}"#);
            let mut file = (text.len() as u64).to_le_bytes().to_vec();
            file.extend(text.bytes().chain([0; 4]));
            std::fs::write(&path, file).unwrap();
            let error = Header::read(&mut File::open(&path).unwrap(), &path).unwrap_err();
            let told = format!("`a` is stored as {dtype}, {what}: the checkpoint is quantised");
            assert!(error.message.contains(&told), "{error}");
            assert!(!error.to_string().contains("damaged"), "{error}");
        }
    }

    #[test]
    fn every_lie_is_refused() {
        let cases = [
            (r#"[]"#, 0, "an object of tensors"),
            (
                r#"{"a":{"dtype":"F4","shape":[],"data_offsets":[0,4]}}"#,
                4,
                "unknown format",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                "needs 8",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                4,
                "4..0 of 4",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                4,
                "0..8 of 4",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                4,
                "overflows",
            ),
            (
                r#"{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#,
                0,
                "overflows",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
                4,
                "invalid value",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                    "b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}"#,
                5,
                "overlaps",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                    "b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}"#,
                8,
                "hole",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                9,
                "5 bytes at the end",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                    "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
                "occurs twice",
            ),
        ];
        for (text, data_bytes, expected) in cases {
            let message = parse(text, data_bytes).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(parse(&deep, 0).is_err());
        // Text that no field keeps is text all the same.
        let bytes =
            b"{\"a\":{\"x\":\"\xef\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}";
        assert!(Header::parse(bytes, 0).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_header_length_beyond_the_file_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lie.safetensors");
        for (length, expected) in [
            (u64::MAX, "at most 16000000"),
            (MAX_HEADER_BYTES, "the file has 2 after"),
        ] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(b"{}");
            std::fs::write(&path, &bytes).unwrap();
            let error = Header::read(&mut File::open(&path).unwrap(), &path).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
        std::fs::write(&path, b"1234").unwrap();
        let error = Header::read(&mut File::open(&path).unwrap(), &path).unwrap_err();
        assert!(error.message.contains("at least 8"), "{error}");
    }
}
