//! `tokenizer NAME`: a text or image tokenizer that the program trains.

use jam_weights::progress::Ended;

use super::{Kind, Task};
use crate::Result;
use crate::results::{Record, Slots};
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};
use crate::tokenizers::{Job, Trains, tokenizer_of};

/// The kind.
pub(super) struct Tokenizer;

impl Kind for Tokenizer {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let recipe = work.tokenizer(name)?;
        inputs.recipe("", recipe, &[])?;
        inputs.called(recipe)
    }

    fn is_learned(&self, work: &Workload, name: &str) -> bool {
        let tokenizer = work.tokenizer(name).and_then(tokenizer_of);
        tokenizer.is_ok_and(Trains::keeps_states)
    }

    fn other_record(&self, folder: &std::path::Path) -> Result<Option<Record>> {
        let bytes = Slots::of_result(folder).record()?;
        Ok(bytes.and_then(|bytes| Record::parse(&bytes).ok()))
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let recipe = runner.work.tokenizer(task.name)?;
        let tokenizer = tokenizer_of(recipe)?;
        let states = Slots::of_result(&task.folder);
        let job = Job {
            name: task.name,
            begin: &|| {
                // All of the data are read.
                (task.unchanged)()?;
                task.begin()
            },
            state: states.folder(),
            record: &task.record.bytes()?,
            inputs: runner,
            device: &runner.device,
            progress: runner.progress,
            stop: &runner.stop,
        };
        let Some(trained) = tokenizer.train(recipe, &job)? else {
            return Ok(Ended::Stopped);
        };
        if tokenizer.keeps_states() {
            trained(&task.folder)?;
            task.end(&runner.hashes)?;
            states.remove()?;
        } else {
            task.write(&runner.hashes, &mut |folder| trained(folder))?;
        }
        Ok(Ended::Complete)
    }
}
