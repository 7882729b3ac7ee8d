//! Documents as token ids, all in memory, and their file.

use std::path::Path;

use crate::{Error, Result};

/// Documents of one split of a data set as token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedSet {
    ids: Vec<u32>,
    /// End of every document in `ids`.
    ends: Vec<u64>,
    /// Tokens of every document that are a question and only read.
    prompts: Vec<u32>,
}

/// First bytes of a file of encoded documents; the number counts its versions.
const MAGIC: &[u8; 8] = b"JAMTOK01";

impl EncodedSet {
    /// Adds a document of which the first `prompt` tokens are a question.
    pub fn push(&mut self, ids: &[u32], prompt: usize) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len() as u64);
        self.prompts.push(prompt.min(ids.len()) as u32);
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without documents.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The ids of a document.
    ///
    /// # Panics
    /// When there is no such document; so for [`EncodedSet::prompt`].
    pub fn document(&self, index: usize) -> &[u32] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.ids[start..self.ends[index] as usize]
    }

    /// Tokens at the beginning of a document that are a question.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn prompt(&self, index: usize) -> usize {
        self.prompts[index] as usize
    }

    /// Writes all documents to a file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.ends.len() as u64).to_le_bytes());
        bytes.extend((self.ids.len() as u64).to_le_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(&self.ends));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.prompts));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.ids));
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        jam_weights::checkpoints::write_file(path, &bytes)
    }

    /// Reads a file that [`EncodedSet::save`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, is cut off or damaged.
    pub fn load(path: &Path) -> Result<EncodedSet> {
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let damaged = || Error::damaged("is not a whole file of encoded documents").with_path(path);
        let body = bytes.len().checked_sub(32).ok_or_else(damaged)?;
        let (body, sum) = bytes.split_at(body);
        if blake3::hash(body).as_bytes() != sum || body.len() < 24 || &body[..8] != MAGIC {
            return Err(damaged());
        }
        let number = |at: usize| {
            body[at..at + 8]
                .try_into()
                .map(u64::from_le_bytes)
                .unwrap_or(0) as usize
        };
        let (documents, tokens) = (number(8), number(16));
        let size = documents
            .checked_mul(12)
            .zip(tokens.checked_mul(4))
            .map(|(a, b)| a + b);
        if size != Some(body.len() - 24) {
            return Err(damaged());
        }
        let (ends, rest) = body[24..].split_at(documents * 8);
        let (prompts, ids) = rest.split_at(documents * 4);
        let set = EncodedSet {
            ids: bytemuck::pod_collect_to_vec(ids),
            ends: bytemuck::pod_collect_to_vec(ends),
            prompts: bytemuck::pod_collect_to_vec(prompts),
        };
        let ordered = set.ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ordered || set.ends.last().copied().unwrap_or(0) != set.ids.len() as u64 {
            return Err(damaged());
        }
        Ok(set)
    }
}
