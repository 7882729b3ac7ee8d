//! Checkpoints of random numbers in the layout of other tools: as large as a real one, made in the
//! time it takes to write it.
//!
//! Every number of a matrix is one of 65,536 draws of N(0, 0.02²), chosen by a stream of random bits
//! that belongs to its tensor and its block; gains are near 1, biases near 0. The same seed gives
//! the same bytes for every number of threads.

use std::ops::Range;
use std::path::Path;

use indexmap::{IndexMap, IndexSet};

use super::import::ImportedConfig;
use super::names::{NameTable, Sizes, file_weights};
use super::{CheckpointWriter, Dtype, TensorSpec, WriteOptions};
use crate::ordered::{Ordered, Room};
use crate::plans::Limits;
use crate::progress::{Progress, Stop};
use crate::random::Random;
use crate::{Error, ErrorKind, Result, memory};

/// Standard deviation of the numbers: that of most models before they are trained.
const DEVIATION: f32 = 0.02;
/// Numbers of a block.
const BLOCK: u64 = 4 << 20;
/// The most numbers that are written: more than any disk has.
const MAX_NUMBERS: u64 = 1 << 45;

/// Refuses sizes that nobody can write, before anything is made of them.
///
/// # Errors
/// When there are too many numbers in all. Too many layers are refused where the configuration is read.
pub fn check(config: &ImportedConfig) -> Result<()> {
    let sizes = config.sizes();
    let table = NameTable::of(&config.model_type)?;
    let one = Sizes {
        layers: sizes.layers.min(1),
        ..sizes
    };
    let mut numbers = 0u128;
    for weight in file_weights(&table, &one, "")?.into_values() {
        let sides = weight.shape.iter();
        numbers += sides.fold(1u128, |n, side| n.saturating_mul(u128::from(*side)));
    }
    // Some of them are not in every layer: the bound is a coarse one.
    if numbers.saturating_mul(u128::from(sizes.layers.max(1))) > u128::from(MAX_NUMBERS) * 2 {
        let message = format!("a model of more than {MAX_NUMBERS} numbers is not written");
        return Err(Error::new(message).with_help("change the sizes in the configuration"));
    }
    Ok(())
}

/// The tensors of a checkpoint with this configuration, by the names of their architecture; of
/// weights that an architecture may have, those whose JAM names are in `weights`.
///
/// # Errors
/// When the architecture has no table of names, or a size overflows.
pub fn tensors(config: &ImportedConfig, weights: &IndexSet<String>) -> Result<Vec<TensorSpec>> {
    let table = NameTable::of(&config.model_type)?;
    let dtype = match config.decoder.dtype {
        jam_ir::DType::F16 => Dtype::F16,
        jam_ir::DType::BF16 => Dtype::BF16,
        jam_ir::DType::F32 | jam_ir::DType::U32 => Dtype::F32,
    };
    let mut tensors = IndexMap::new();
    for (name, weight) in file_weights(&table, &config.sizes(), table.usual_prefix())? {
        // Weights that lie side by side in one tensor give it once.
        if weights.contains(&name) {
            let shape = weight.file_shape();
            tensors.insert(
                weight.file_name.clone(),
                TensorSpec::new(weight.file_name, dtype, shape),
            );
        }
    }
    Ok(tensors.into_values().collect())
}

/// A block of one tensor.
struct Block {
    tensor: usize,
    elements: Range<u64>,
}

/// Writes these tensors with random numbers into `folder`. False, and no checkpoint is there, when
/// `stop` was asked.
///
/// # Errors
/// When the memory is not enough, or a file cannot be written.
pub fn write(
    folder: &Path,
    tensors: Vec<TensorSpec>,
    options: WriteOptions,
    seed: u64,
    limits: Limits,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<bool> {
    let mut blocks = Vec::new();
    for (tensor, spec) in tensors.iter().enumerate() {
        let total: u64 = spec.shape.iter().product();
        let starts = (0..total).step_by(BLOCK as usize);
        blocks.extend(starts.map(|start| Block {
            tensor,
            elements: start..total.min(start + BLOCK),
        }));
    }
    let size = |block: &Block| block.elements.end - block.elements.start;
    let cost = |block: &Block| size(block) * tensors[block.tensor].dtype.size();
    let longest = blocks.iter().map(cost).max().unwrap_or(0);
    let held = memory::held();
    let bytes = memory::left(limits.memory, held).filter(|bytes| *bytes >= longest);
    let bytes = bytes.ok_or_else(|| {
        let least = memory::for_work(longest, held).div_ceil(1 << 20);
        Error::of(ErrorKind::Memory, "the memory is not enough")
            .with_help(format!("{least} MiB would do"))
    })?;
    let room = Room {
        threads: limits.threads,
        bytes: bytes.min(16 * longest),
    };
    let draws = Draws::new(seed);
    let ordered = Ordered {
        cost: &cost,
        announce: &|_| {},
        work: &|block: &Block| {
            let spec = &tensors[block.tensor];
            draws.block(seed, spec, block.elements.clone())
        },
    };
    let mut writer = CheckpointWriter::create(folder, tensors.clone(), options)?;
    let mut bar = progress.begin("numbers", blocks.iter().map(size).sum());
    let mut done = 0;
    let ended = ordered.run(&blocks, room, |block, bytes: Vec<u8>| {
        if stop.asked() {
            return Ok(false);
        }
        let name = &tensors[block.tensor].name;
        writer.append_bytes(name, &bytes)?;
        done += size(block);
        bar.at(done, name);
        Ok(true)
    })?;
    if ended {
        writer.finish()?;
    }
    Ok(ended)
}

/// Draws to choose from.
struct Draws(Vec<f32>);

impl Draws {
    fn new(seed: u64) -> Draws {
        Draws(crate::plans::normal_draws(seed, 1 << 16, DEVIATION.into()))
    }

    /// Some numbers of a tensor as they are stored.
    fn block(&self, seed: u64, spec: &TensorSpec, elements: Range<u64>) -> Result<Vec<u8>> {
        let wrong = || Error::new(format!("`{}` is not of floats", spec.name));
        // One line of a table for each pattern of 16 bits; a gain is near 1.
        let gain = spec.shape.len() < 2 && !spec.name.ends_with("bias");
        let shift = if gain { 1.0 } else { 0.0 };
        let table: Vec<f32> = self.0.iter().map(|draw| draw + shift).collect();
        let table = spec.dtype.from_f32(&table).ok_or_else(wrong)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(spec.name.as_bytes());
        let stream = elements.start / BLOCK;
        let mut random = Random::keyed(*hasher.finalize().as_bytes(), stream);
        let count = (elements.end - elements.start) as usize;
        let size = spec.dtype.size() as usize;
        let mut bytes = Vec::with_capacity(count * size);
        let mut bits = vec![0u8; 64 << 10];
        while bytes.len() < count * size {
            random.fill(&mut bits);
            let left = count - bytes.len() / size;
            let (choices, _) = bits.as_chunks::<2>();
            let choices = &choices[..left.min(choices.len())];
            match size {
                2 => choose::<2>(&table, choices, &mut bytes),
                4 => choose::<4>(&table, choices, &mut bytes),
                _ => return Err(wrong()),
            }
        }
        Ok(bytes)
    }
}

/// Adds an entry of `table` for each choice.
fn choose<const N: usize>(table: &[u8], choices: &[[u8; 2]], bytes: &mut Vec<u8>) {
    let (entries, _) = table.as_chunks::<N>();
    for choice in choices {
        bytes.extend_from_slice(&entries[usize::from(u16::from_le_bytes(*choice))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::CheckpointReader;
    use crate::progress::Silent;

    #[test]
    fn sizes_that_nobody_can_write_are_refused() {
        let json = serde_json::json!({"model_type": "llama", "hidden_size": 8,
            "num_attention_heads": 2, "num_hidden_layers": 64, "intermediate_size": 8,
            "vocab_size": 9, "max_position_embeddings": 4});
        let sound = ImportedConfig::from_json(&json.to_string()).unwrap();
        check(&sound).unwrap();
        let (mut deep, mut wide) = (sound.clone(), sound);
        deep.decoder.layers = 1 << 40;
        (wide.decoder.width, wide.decoder.hidden) = (1 << 30, 1 << 30);
        for config in [deep, wide] {
            let error = check(&config).unwrap_err();
            assert!(error.message.contains("numbers"), "{error}");
        }
    }

    fn made(seed: u64, threads: usize) -> (tempfile::TempDir, CheckpointReader) {
        let folder = tempfile::tempdir().unwrap();
        let tensors = vec![
            TensorSpec::new("model.a.weight", Dtype::BF16, [3000, 2000]),
            TensorSpec::new("model.b.weight", Dtype::BF16, [100, 100]),
            TensorSpec::new("model.norm.weight", Dtype::BF16, [64]),
            TensorSpec::new("model.q.bias", Dtype::F32, [64]),
        ];
        let limits = Limits {
            threads,
            ..Limits::default()
        };
        let options = WriteOptions {
            shard_bytes: 1 << 20,
            checksums: false,
            ..WriteOptions::default()
        };
        let stop = Stop::default();
        assert!(
            write(
                folder.path(),
                tensors,
                options,
                seed,
                limits,
                &Silent,
                &stop
            )
            .unwrap()
        );
        let reader = CheckpointReader::open(folder.path()).unwrap();
        (folder, reader)
    }

    #[test]
    fn numbers_have_their_moments_and_depend_on_the_seed_alone() {
        let (first, reader) = made(1, 1);
        let (again, other) = (made(1, 3), made(2, 2));
        assert!(
            !first
                .path()
                .join(crate::checkpoints::CHECKSUMS_FILE)
                .exists()
        );
        for name in reader.tensors().keys() {
            let numbers = reader.read_f32(name).unwrap();
            assert_eq!(numbers, again.1.read_f32(name).unwrap());
            assert_ne!(numbers, other.1.read_f32(name).unwrap());
        }
        let numbers = reader.read_f32("model.a.weight").unwrap();
        let count = numbers.len() as f64;
        let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let square = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / count;
        assert!(
            mean.abs() < 1e-3 && (square.sqrt() - 0.02).abs() < 1e-3,
            "{mean} {square}"
        );
        let half = numbers.len() / 2;
        assert_ne!(numbers[..half], numbers[half..]);
        let gains = reader.read_f32("model.norm.weight").unwrap();
        assert!(gains.iter().all(|x| (x - 1.0).abs() < 0.2));
    }
}
