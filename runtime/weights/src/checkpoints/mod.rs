//! Checkpoints: tensors in files, in and out.
//!
//! [`CheckpointReader`] and [`CheckpointWriter`] know the safetensors format, single and sharded, and trust
//! nothing that a file says. The reader knows torch's format (nothing of it is executed) and that of
//! llama2.c too. [`WeightSource`] is what weight plans read: tensors by the names and in the
//! layout of a JAM model, whether they lie in a JAM folder or, through a name table, in a Hugging Face one.

pub mod atomic;
mod band;
pub mod bounded;
mod checksums;
mod configuration;
pub mod decoder;
mod direct;
mod dtype;
pub mod export;
mod finite;
mod foreign;
mod harmless;
mod header;
pub mod hugging_face;
pub mod import;
mod index;
mod llama2c;
pub mod names;
mod read_at;
mod reader;
mod recognise;
mod source;
pub mod synthetic;
mod torch;
mod turn;
mod vocabulary;
mod writer;

pub use atomic::{AtomicFolder, recover, take_away, write_file};
pub use band::Band;
pub use checksums::{
    CHECKSUMS_FILE, Checksums, file_checksum, seal_folder, sealed, verify_files, verify_sealed,
};
pub use dtype::Dtype;
pub use finite::Numbers;
pub use header::{Header, HeaderEntry, MAX_HEADER_BYTES};
pub use index::ShardIndex;
pub use read_at::ReadAt;
pub use reader::{CheckpointReader, INDEX_FILE, SINGLE_FILE, TensorInfo};
pub use source::{Stored, StoredPart, WeightSource};
pub(crate) use turn::TOGETHER as TURNING;
pub use writer::{CheckpointWriter, TensorSpec, WriteOptions};
