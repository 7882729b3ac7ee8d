//! `jamc synth`: checkpoints of random numbers, in Hugging Face layout, for trials at full size.

use std::path::Path;

use jam_ir::Error;
use jam_runtime::folders::put;
use jam_weights::checkpoints::import::{CONFIG_FILE, ImportedConfig};
use jam_weights::checkpoints::synthetic;
use jam_weights::checkpoints::{AtomicFolder, WriteOptions, write_file};
use serde_json::json;

use crate::cli::{Common, ForceArgs};
use crate::console::{Console, print, print_json, stop_on_interrupt};
use crate::failure::Failure;
use crate::model_source;
use crate::output::{Mark, check_folder};

pub(crate) fn run(
    config: &Path,
    output: &Path,
    shards: u64,
    force: ForceArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let file = match config.is_dir() {
        true => config.join(CONFIG_FILE),
        false => config.to_owned(),
    };
    let text = std::fs::read_to_string(&file).map_err(|error| Error::io("read", &file, error))?;
    let imported = ImportedConfig::from_json(&text).map_err(|error| error.with_path(&file))?;
    synthetic::check(&imported).map_err(|error| error.with_path(&file))?;
    let replace = check_folder(output, force, &[config], Mark::SYNTH)?;
    let model = model_source::of_config(&imported, output)?;
    let names = model.weight_uses().into_keys().collect();
    let tensors = synthetic::tensors(&imported, &names)?;
    let draft = AtomicFolder::create(output)?;
    write_file(&draft.path().join(CONFIG_FILE), text.as_bytes())?;
    Mark::SYNTH.put(draft.path())?;
    let options = WriteOptions {
        shard_bytes: shards,
        // As other tools write them.
        checksums: false,
        ..WriteOptions::default()
    };
    let (seed, limits) = (
        common.seed.unwrap_or(0),
        common.limits().unwrap_or_default(),
    );
    let stop = stop_on_interrupt(console);
    if !synthetic::write(draft.path(), tensors, options, seed, limits, console, &stop)? {
        return Err(Failure::Stopped);
    }
    put(draft, replace)?;
    let folder = output.display().to_string();
    if common.json {
        return print_json(&json!({ "folder": folder }));
    }
    print(&format!("{folder}\n"))
}
