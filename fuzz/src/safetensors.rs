//! The header of a safetensors file.
//!
//! What must hold of any header that is read: its tensors fill the data from the first byte to the last, and
//! the `safetensors` crate reads the same tensors.

use jam_weights::checkpoints::{Dtype, Header};
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::seeds::{contents, tidy};

/// Reads a header: the first four bytes are the number of bytes of data, the rest is the text.
pub fn run(data: &[u8]) {
    let Some((data_bytes, text)) = data.split_first_chunk() else {
        return;
    };
    let data_bytes = u64::from(u32::from_le_bytes(*data_bytes));
    let header = match Header::parse(text, data_bytes) {
        Ok(header) => header,
        Err(why) => {
            assert!(!why.is_empty());
            return;
        }
    };
    let first = 8 + text.len() as u64;
    let mut end = first;
    for (name, tensor) in &header.tensors {
        assert_eq!(tensor.range.start, end, "{name}");
        end = tensor.range.end;
    }
    assert_eq!(end, first + data_bytes);
    // Sizes beside a zero may overflow there, and do not matter here.
    if header.tensors.values().any(|t| t.shape.contains(&0)) {
        return;
    }
    let other: Metadata = match serde_json::from_slice(text) {
        Ok(other) => other,
        // What a field that neither knows holds is not looked at here, and may be no text and no number.
        Err(_) if serde_json::from_slice::<Value>(text).is_err() => return,
        Err(error) => panic!("the crate does not read it: {error}"),
    };
    let others = other.tensors();
    assert_eq!(others.len(), header.tensors.len());
    for (name, tensor) in &header.tensors {
        let theirs = others[name];
        let shape: Vec<u64> = theirs.shape.iter().map(|size| *size as u64).collect();
        assert_eq!(shape, tensor.shape, "{name}");
        let (start, end) = theirs.data_offsets;
        assert_eq!(start as u64 + first..end as u64 + first, tensor.range);
        let dtype = Dtype::from_name(&theirs.dtype.to_string());
        assert_eq!(dtype, Some(tensor.dtype), "{name}");
    }
}

/// Headers of the golden checkpoints, and small ones, behind the number of bytes of their data.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for bytes in contents("tests/golden/parents", ".safetensors") {
        let (length, rest) = bytes.split_first_chunk().expect("a length");
        let (text, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        seeds.push([&(data.len() as u32).to_le_bytes(), text].concat());
    }
    for (data_bytes, text) in [
        (0u32, r#"{}"#),
        (
            4,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        ),
        (
            10,
            r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"c":{"dtype":"I64","shape":[0,7],"data_offsets":[10,10]}}  "#,
        ),
        (
            15,
            r#"{"a":{"dtype":"U8","shape":[3,1,2],"data_offsets":[0,6]},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[6,7]},"c":{"dtype":"F64","shape":[1],"data_offsets":[7,15]}}"#,
        ),
    ] {
        seeds.push([&data_bytes.to_le_bytes(), text.as_bytes()].concat());
    }
    tidy(seeds)
}
