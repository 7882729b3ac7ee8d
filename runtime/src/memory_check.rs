//! Whether a model has room in the memory of this machine, asked before any is taken.

use jam_backends::Device;
use jam_ir::Model;

use crate::{Error, ErrorKind, Result};

/// Bytes of main memory; `None` where the system does not tell.
fn main_memory() -> Option<u64> {
    read(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemTotal` of Linux's list.
fn read(list: &str) -> Option<u64> {
    let line = list.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: u64 = line?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Whether `copies` of a model's weights in f32 can be in memory at once, where that is the memory
/// of the processor. What lies on another device is that device's matter.
///
/// # Errors
/// When this machine has less memory than they take. Other memory is not counted: a model that
/// just fits may still be too large.
pub(crate) fn check_room(model: &Model, copies: u64, device: &Device) -> Result<()> {
    match main_memory() {
        Some(there) if *device == Device::flex() => check(model, copies, there),
        _ => Ok(()),
    }
}

fn check(model: &Model, copies: u64, there: u64) -> Result<()> {
    let mut numbers: u64 = 0;
    for (name, param) in model.weight_uses() {
        let shape = model.weight_shape(&param.ty);
        let shape = shape.ok_or_else(|| Error::new(format!("the weight `{name}` has no size")))?;
        numbers = numbers.saturating_add(shape.into_iter().fold(1, u64::saturating_mul));
    }
    let bytes = numbers.saturating_mul(4).saturating_mul(copies);
    if bytes <= there {
        return Ok(());
    }
    let what = match copies {
        1 => "weights",
        _ => "weights, their gradients and the optimizer's moments",
    };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Err(Error::of(ErrorKind::Memory, format!(
        "`{}` does not fit into memory: its {what} take {:.1} GiB, and this machine has {:.1} GiB",
        model.name,
        gib(bytes),
        gib(there)
    ))
    .with_help("make it smaller, or take a larger machine"))
}

#[cfg(test)]
mod tests {
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    use super::*;

    #[test]
    fn memory_is_read_from_the_systems_list() {
        let list = "MemFree: 3 kB\nMemTotal:       16384 kB\nSwapTotal: 1 kB\n";
        assert_eq!(read(list), Some(16 << 20));
        for damaged in ["", "MemTotal: many kB", "MemTotal: 4 MB"] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused() {
        let config = DecoderConfig::llama(TokenLayout::bare(1000), 16, 64, 1, 2, 64);
        let model = decoder_only(&config);
        check(&model, 4, 1 << 30).unwrap();
        let error = check(&model, 4, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("moments take 0.0 GiB"), "{error}");
        assert!(
            check(&model, 1, 100)
                .unwrap_err()
                .to_string()
                .contains("its weights take")
        );
    }
}
