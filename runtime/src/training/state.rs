//! The state of a run: enough to go on to the same bits.

use std::path::Path;

use jam_backends::{Executable, Kept, Optimizer};
use serde::{Deserialize, Serialize};

use crate::results::Slots;
use crate::{Error, Result};
use jam_weights::checkpoints::{
    CheckpointReader, CheckpointWriter, Dtype, TensorSpec, WriteOptions, write_file,
};

/// Name of the file beside weights and moments.
const FILE: &str = "state.json";

/// Place of a run; weights and moments lie beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunState {
    /// Key of what may not change while the run goes on.
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
    /// The latest whole state of a run, its weights and moments loaded; else a run at its beginning. `note` tells of
    /// damage.
    ///
    /// # Errors
    /// When no state is whole, one belongs to another run, or one cannot be read.
    pub(super) fn open(
        slots: &Slots,
        key: &str,
        executable: &mut Executable,
        optimizer: &mut Optimizer,
        note: &dyn Fn(&str),
    ) -> Result<RunState> {
        let mut read = |folder: &Path| read(folder, key, executable, optimizer);
        let found = slots.latest(&mut read, note)?;
        Ok(found.unwrap_or_else(|| RunState {
            key: key.to_owned(),
            ..RunState::default()
        }))
    }

    /// Writes the state beside those before it; `record` is that of the result.
    ///
    /// # Errors
    /// When a file cannot be written; the states before are then still there.
    pub(super) fn save(
        &self,
        slots: &Slots,
        record: &[u8],
        executable: &Executable,
        optimizer: &Optimizer,
    ) -> Result<()> {
        slots.write(self.step, record, &mut |folder| {
            self.fill(folder, executable, optimizer)
        })
    }

    fn fill(&self, folder: &Path, executable: &Executable, optimizer: &Optimizer) -> Result<()> {
        let mut specs = Vec::new();
        for parameter in executable.parameters() {
            let shape: Vec<u64> = parameter.shape().iter().map(|size| *size as u64).collect();
            for kind in [&"weight"].into_iter().chain(optimizer.keeps()) {
                specs.push(TensorSpec::new(
                    format!("{kind}/{}", parameter.name()),
                    Dtype::F32,
                    shape.clone(),
                ));
            }
        }
        let mut writer = CheckpointWriter::create(folder, specs, WriteOptions::default())?;
        for name in names(executable) {
            let weight = executable.read(&name)?;
            // Of a weight that no loss has reached yet nothing is kept.
            let zeros = || vec![vec![0.0; weight.len()]; optimizer.keeps().len()];
            let kept = optimizer.kept(executable, &name)?;
            let kept = kept.unwrap_or_else(zeros);
            writer.append_f32(&format!("weight/{name}"), &weight)?;
            for (kind, values) in optimizer.keeps().iter().zip(kept) {
                writer.append_f32(&format!("{kind}/{name}"), &values)?;
            }
        }
        writer.finish()?;
        let state = RunState {
            updates: optimizer.steps(),
            ..self.clone()
        };
        let text = serde_json::to_string_pretty(&state)
            .map_err(|error| Error::new(format!("the state cannot be written: {error}")))?;
        write_file(&folder.join(FILE), text.as_bytes())
    }
}

/// Reads a state that was found whole.
fn read(
    folder: &Path,
    key: &str,
    executable: &mut Executable,
    optimizer: &mut Optimizer,
) -> Result<RunState> {
    let file = folder.join(FILE);
    let text = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
    let state: RunState = serde_json::from_slice(&text).map_err(|error| {
        Error::damaged(format!("is not the state of a run: {error}")).with_path(&file)
    })?;
    if state.key != key {
        return Err(Error::new("this is the state of another run").with_path(&file));
    }
    let reader = CheckpointReader::open(folder)?;
    for name in names(executable) {
        executable.write(&name, reader.read_f32(&format!("weight/{name}"))?)?;
        let kept = optimizer.keeps().iter();
        let kept = kept.map(|kind| reader.read_f32(&format!("{kind}/{name}")));
        let kept = kept.collect::<Result<Kept>>()?;
        optimizer.set_kept(executable, &name, kept)?;
    }
    optimizer.set_steps(state.updates);
    Ok(state)
}

fn names(executable: &Executable) -> Vec<String> {
    executable
        .parameters()
        .iter()
        .map(|parameter| parameter.name().to_owned())
        .collect()
}
