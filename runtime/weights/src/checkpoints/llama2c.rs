//! Checkpoints of `llama2.c`: sizes as seven numbers, then every weight as f32, in a fixed order.
//!
//! Version 0 has no name: dim, hidden dim, layers, heads, key/value heads, vocabulary (negative where
//! the head has a table of its own), longest sequence, each an i32; after the last norm lie two tables of
//! angles that nothing reads any more. Version 1 begins with `ak42`, the version, the same numbers and a
//! flag for a shared head, padded to 256 bytes; norms come first, and there are no angles. Version 2 is
//! quantised, and refused. (`export.py` of the llama2.c repository is the reference.) Tensors get the names of
//! the original checkpoints they were exported from.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use indexmap::IndexMap;

use super::Dtype;
use super::header::{Header, HeaderEntry};
use crate::{Error, Result};

/// What versions from 1 on begin with.
const MAGIC: [u8; 4] = *b"24ka";
/// Bytes before the weights, from version 1 on.
const LONG_HEADER: u64 = 256;
/// The most layers that are believed.
const MAX_LAYERS: u64 = 4096;

/// The sizes that a checkpoint begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes {
    version: u32,
    dim: u64,
    hidden: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    vocab: u64,
    context: u64,
    shared: bool,
}

/// The bytes that tell what a file is: enough of its start for [`Sizes::of`].
pub(super) fn start_of(file: &mut File, path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::with_capacity(64);
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.by_ref().take(64).read_to_end(&mut start))
        .map_err(|error| Error::io("read", path, error))?;
    Ok(start)
}

impl Sizes {
    /// The sizes of a file of `length` bytes that begins with `start`; `None` where it is no such
    /// checkpoint: of version 0, where the file is not exactly as long as its sizes ask for.
    ///
    /// # Errors
    /// When it says that it is one, and is of another version, or of another length than its sizes ask for.
    pub(super) fn of(start: &[u8], length: u64, path: &Path) -> Result<Option<Sizes>> {
        let word = |index: usize| -> Option<i32> {
            let bytes = start.get(index * 4..index * 4 + 4)?;
            Some(i32::from_le_bytes(bytes.try_into().ok()?))
        };
        let size = |index: usize| {
            let size = word(index)?;
            (1..=1 << 28).contains(&size).then_some(size as u64)
        };
        let sizes = |first: usize, version: u32| {
            let vocab = word(first + 5)?;
            let sizes = Sizes {
                version,
                dim: size(first)?,
                hidden: size(first + 1)?,
                layers: size(first + 2)?,
                heads: size(first + 3)?,
                kv_heads: size(first + 4)?,
                vocab: u64::from(vocab.unsigned_abs()),
                context: size(first + 6)?,
                shared: vocab > 0,
            };
            let sound = sizes.vocab > 0
                && sizes.layers <= MAX_LAYERS
                && sizes.dim.is_multiple_of(sizes.heads)
                && sizes.heads.is_multiple_of(sizes.kv_heads);
            sound.then_some(sizes)
        };
        if !start.starts_with(&MAGIC) {
            let sizes = sizes(0, 0);
            return Ok(sizes.filter(|sizes| sizes.end() == Some(length)));
        }
        let bad = |message: String| Error::new(message).with_path(path);
        match word(1) {
            Some(1) => {}
            Some(2) => {
                return Err(bad("the llama2.c checkpoint is quantised".to_owned())
                    .with_help("export it with `--version 0` or `--version 1`"));
            }
            _ => {
                return Err(bad(
                    "the llama2.c checkpoint is of no known version".to_owned()
                ));
            }
        }
        let mut sizes =
            sizes(2, 1).ok_or_else(|| bad("the llama2.c checkpoint has no sizes".to_owned()))?;
        sizes.shared = start.get(36).is_some_and(|flag| *flag != 0);
        if sizes.end() != Some(length) {
            let message = format!(
                "the llama2.c checkpoint has {length} bytes, and its sizes ask for another number"
            );
            return Err(bad(message));
        }
        Ok(Some(sizes))
    }

    /// The sizes as the fields of a configuration.
    pub(super) fn configuration(&self) -> String {
        let fields = serde_json::json!({
            "dim": self.dim,
            "hidden_dim": self.hidden,
            "n_layers": self.layers,
            "n_heads": self.heads,
            "n_kv_heads": self.kv_heads,
            "vocab_size": self.vocab,
            "max_seq_len": self.context,
        });
        fields.to_string()
    }

    /// Where every tensor lies.
    pub(super) fn header(&self) -> Header {
        let mut tensors = IndexMap::new();
        self.walk(|name, shape, range| {
            let entry = HeaderEntry {
                dtype: Dtype::F32,
                shape,
                range,
            };
            tensors.insert(name, entry);
        });
        Header {
            tensors,
            metadata: IndexMap::new(),
        }
    }

    /// The length of the file.
    fn end(&self) -> Option<u64> {
        // Sizes of at most 2^28 and 4096 layers: a sum of products of three stays below 2^70, so it is
        // counted in 128 bits first.
        let (dim, hidden) = (u128::from(self.dim), u128::from(self.hidden));
        let kv = dim / u128::from(self.heads) * u128::from(self.kv_heads);
        let layer = 2 * dim + 2 * dim * dim + 2 * dim * kv + 3 * dim * hidden;
        let tables = u128::from(self.vocab) * dim * if self.shared { 1 } else { 2 };
        let angles = match self.version {
            0 => u128::from(self.context) * (dim / u128::from(self.heads) / 2 * 2),
            _ => 0,
        };
        let start = if self.version == 0 {
            28
        } else {
            u128::from(LONG_HEADER)
        };
        let floats = u128::from(self.layers) * layer + dim + tables + angles;
        u64::try_from(start + 4 * floats).ok()
    }

    /// Every tensor in the order of the file; the sizes fit the file.
    fn walk(&self, mut visit: impl FnMut(String, Vec<u64>, std::ops::Range<u64>)) {
        let (dim, hidden) = (self.dim, self.hidden);
        let kv = dim / self.heads * self.kv_heads;
        let mut at = if self.version == 0 { 28 } else { LONG_HEADER };
        let mut put = |name: String, shape: &[u64]| {
            let bytes = 4 * shape.iter().product::<u64>();
            visit(name, shape.to_vec(), at..at + bytes);
            at += bytes;
        };
        let layers = |put: &mut dyn FnMut(String, &[u64]), part: &str, shape: &[u64]| {
            for layer in 0..self.layers {
                put(format!("layers.{layer}.{part}.weight"), shape);
            }
        };
        let tokens = |put: &mut dyn FnMut(String, &[u64])| {
            put("tok_embeddings.weight".to_owned(), &[self.vocab, dim]);
        };
        let attention = |put: &mut dyn FnMut(String, &[u64])| {
            layers(put, "attention.wq", &[dim, dim]);
            layers(put, "attention.wk", &[kv, dim]);
            layers(put, "attention.wv", &[kv, dim]);
            layers(put, "attention.wo", &[dim, dim]);
        };
        let feed_forward = |put: &mut dyn FnMut(String, &[u64])| {
            layers(put, "feed_forward.w1", &[hidden, dim]);
            layers(put, "feed_forward.w2", &[dim, hidden]);
            layers(put, "feed_forward.w3", &[hidden, dim]);
        };
        if self.version == 0 {
            tokens(&mut put);
            layers(&mut put, "attention_norm", &[dim]);
            attention(&mut put);
            layers(&mut put, "ffn_norm", &[dim]);
            feed_forward(&mut put);
            put("norm.weight".to_owned(), &[dim]);
            let half = dim / self.heads / 2;
            put("rope.freqs_cos".to_owned(), &[self.context, half]);
            put("rope.freqs_sin".to_owned(), &[self.context, half]);
        } else {
            layers(&mut put, "attention_norm", &[dim]);
            layers(&mut put, "ffn_norm", &[dim]);
            put("norm.weight".to_owned(), &[dim]);
            tokens(&mut put);
            attention(&mut put);
            feed_forward(&mut put);
        }
        if !self.shared {
            put("output.weight".to_owned(), &[self.vocab, dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(version: u32, shared: bool) -> Sizes {
        Sizes {
            version,
            dim: 8,
            hidden: 12,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            vocab: 11,
            context: 5,
            shared,
        }
    }

    /// The start of a file of these sizes.
    fn start(of: &Sizes) -> Vec<u8> {
        let vocab = of.vocab as i32;
        let signed = if of.shared || of.version > 0 {
            vocab
        } else {
            -vocab
        };
        let mut words = vec![8, 12, 2, 4, 2, signed, 5];
        if of.version > 0 {
            words.splice(0..0, [i32::from_le_bytes(MAGIC), of.version as i32]);
            words.push(i32::from(of.shared));
        }
        words
            .iter()
            .flat_map(|word: &i32| word.to_le_bytes())
            .collect()
    }

    #[test]
    fn tensors_lie_side_by_side_to_the_end_of_the_file() {
        for (version, shared) in [(0, true), (0, false), (1, true), (1, false)] {
            let sizes = sizes(version, shared);
            let header = sizes.header();
            let mut at = if version == 0 { 28 } else { LONG_HEADER };
            for entry in header.tensors.values() {
                assert_eq!(entry.range.start, at);
                at = entry.range.end;
            }
            assert_eq!(sizes.end(), Some(at));
            assert_eq!(header.tensors.contains_key("output.weight"), !shared);
            let path = Path::new("model.bin");
            assert_eq!(
                Sizes::of(&start(&sizes), at, path).unwrap(),
                Some(sizes.clone())
            );
            let longer = Sizes::of(&start(&sizes), at + 4, path);
            match version {
                0 => assert_eq!(longer.unwrap(), None),
                _ => assert!(longer.unwrap_err().message.contains("another number")),
            }
        }
    }

    #[test]
    fn what_is_no_checkpoint_is_told() {
        let path = Path::new("model.bin");
        assert_eq!(Sizes::of(b"", 0, path).unwrap(), None);
        assert_eq!(Sizes::of(&[0xff; 64], 64, path).unwrap(), None);
        let mut quantised = start(&sizes(1, true));
        quantised[4] = 2;
        let error = Sizes::of(&quantised, 1000, path).unwrap_err();
        assert!(error.message.contains("quantised"));
        quantised[4] = 9;
        assert!(Sizes::of(&quantised, 1000, path).is_err());
    }
}
