//! The state of a run: enough to go on to the same bits.

use std::path::Path;

use jam_backends::{Executable, Moments, Optimizer};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use jam_weights::checkpoints::{
    AtomicFolder, CheckpointReader, CheckpointWriter, Dtype, TensorSpec, WriteOptions, write_file,
};

/// Place of a run; weights and moments lie beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunState {
    /// Key of the step that the run belongs to.
    key: String,
    /// Batches read.
    pub(super) step: u64,
    /// Optimizer steps done: fewer, where a batch had nothing to learn from.
    updates: u64,
    /// Tokens learned from.
    pub(super) tokens: u64,
    /// Least mean loss on the validation data so far.
    pub(super) best: Option<f64>,
}

impl RunState {
    /// Opens the state in a folder, if it belongs to this run, and loads weights and moments;
    /// else a run at its beginning.
    pub(super) fn open(
        folder: &Path,
        key: &str,
        executable: &mut Executable,
        optimizer: &mut Optimizer,
    ) -> Result<RunState> {
        let file = folder.join("state.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(RunState::fresh(key));
        };
        let state: RunState = serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("is not the state of a run: {error}")).with_path(&file)
        })?;
        if state.key != key {
            return Ok(RunState::fresh(key));
        }
        let reader = CheckpointReader::open(folder)?;
        for name in names(executable) {
            executable.write(&name, reader.read_f32(&format!("weight/{name}"))?)?;
            let first = reader.read_f32(&format!("first/{name}"))?;
            let second = reader.read_f32(&format!("second/{name}"))?;
            optimizer.set_moments(executable, &name, Moments { first, second })?;
        }
        optimizer.set_steps(state.updates);
        Ok(state)
    }

    fn fresh(key: &str) -> RunState {
        RunState {
            key: key.to_owned(),
            ..RunState::default()
        }
    }

    /// Writes the state: complete under a temporary name, then renamed.
    pub(super) fn save(
        &self,
        folder: &Path,
        key: &str,
        executable: &Executable,
        optimizer: &Optimizer,
    ) -> Result<()> {
        let draft = AtomicFolder::create(folder)?;
        let mut specs = Vec::new();
        for parameter in executable.parameters() {
            let shape: Vec<u64> = parameter.shape().iter().map(|size| *size as u64).collect();
            for kind in ["weight", "first", "second"] {
                specs.push(TensorSpec::new(
                    format!("{kind}/{}", parameter.name()),
                    Dtype::F32,
                    shape.clone(),
                ));
            }
        }
        let mut writer = CheckpointWriter::create(draft.path(), specs, WriteOptions::default())?;
        for name in names(executable) {
            let weight = executable.read(&name)?;
            // A weight that no loss has reached yet has no moments.
            let zeros = || Moments {
                first: vec![0.0; weight.len()],
                second: vec![0.0; weight.len()],
            };
            let moments = optimizer.moments(executable, &name)?;
            let Moments { first, second } = moments.unwrap_or_else(zeros);
            writer.append_f32(&format!("weight/{name}"), &weight)?;
            writer.append_f32(&format!("first/{name}"), &first)?;
            writer.append_f32(&format!("second/{name}"), &second)?;
        }
        writer.finish()?;
        let state = RunState {
            key: key.to_owned(),
            updates: optimizer.steps(),
            ..self.clone()
        };
        let text = serde_json::to_string_pretty(&state)
            .map_err(|error| Error::new(format!("the state cannot be written: {error}")))?;
        write_file(&draft.path().join("state.json"), text.as_bytes())?;
        draft.commit()
    }

    /// Removes the state of a finished run.
    pub(super) fn remove(folder: &Path) -> Result<()> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", folder, error))
            }
            _ => Ok(()),
        }
    }
}

fn names(executable: &Executable) -> Vec<String> {
    executable
        .parameters()
        .iter()
        .map(|parameter| parameter.name().to_owned())
        .collect()
}
