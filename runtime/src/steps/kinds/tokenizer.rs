//! `tokenizer NAME`: a text or image tokenizer that the program trains.

use jam_data::tokens::image::VqSettings;
use jam_data::tokens::text::TextTokenizer;
use jam_ir::recipe::{TokenizerRecipe, VqRecipe};
use jam_weights::progress::Ended;

use super::{Kind, Task};
use crate::Result;
use crate::folders::TEXT_TOKENIZER;
use crate::image_tokenizers::{self, PictureSet, VqRun};
use crate::results::{Record, Slots};
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};

/// The kind.
pub(super) struct Tokenizer;

/// Steps between saved states of an image tokenizer.
const SAVE_EVERY: usize = 500;

impl Kind for Tokenizer {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let recipe = work.tokenizer(name)?;
        inputs.recipe("", recipe, &[])?;
        let data = match recipe {
            TokenizerRecipe::Bpe { train, .. } => train,
            TokenizerRecipe::Vq(vq) => &vq.train,
        };
        data.iter().try_for_each(|data| inputs.data(data))
    }

    fn is_learned(&self, work: &Workload, name: &str) -> bool {
        matches!(work.tokenizer(name), Ok(TokenizerRecipe::Vq(_)))
    }

    fn other_record(&self, folder: &std::path::Path) -> Result<Option<Record>> {
        let bytes = Slots::of(&folder.join("state")).record()?;
        Ok(bytes.and_then(|bytes| Record::parse(&bytes).ok()))
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        match runner.work.tokenizer(task.name)? {
            TokenizerRecipe::Bpe { train, size } => {
                let mut texts = Vec::new();
                for data in train {
                    texts.extend(runner.texts(data)?);
                }
                let tokenizer = TextTokenizer::train(texts.into_iter(), *size)?;
                task.write(&runner.hashes, &mut |folder| {
                    tokenizer.save(&folder.join(TEXT_TOKENIZER))
                })?;
                Ok(Ended::Complete)
            }
            TokenizerRecipe::Vq(recipe) => train_vq(runner, task, recipe),
        }
    }
}

fn train_vq(runner: &Runner<'_>, task: &Task<'_>, recipe: &VqRecipe) -> Result<Ended> {
    let mut pictures = Vec::new();
    for data in &recipe.train {
        pictures.extend(runner.pictures(data, recipe.picture as usize, 0)?);
    }
    let settings = VqSettings {
        picture: recipe.picture as usize,
        grid: recipe.grid as usize,
        codes: recipe.codes as usize,
        width: recipe.width as usize,
        latent: recipe.latent as usize,
        depth: recipe.depth as usize,
        kernel: recipe.kernel as usize,
        steps: recipe.steps as usize,
        batch: recipe.batch as usize,
        rate: recipe.lr,
        seed: recipe.seed,
        ..VqSettings::default()
    };
    let mut source = PictureSet::new(pictures, recipe.seed)?;
    task.begin()?;
    let mut bar = runner.progress.begin(task.name, recipe.steps);
    let mut progress = |step: image_tokenizers::VqStep| {
        let message = format!("{:.1} dB, {} codes", step.psnr, step.used_codes);
        bar.at(step.step as u64, &message);
    };
    let state = task.folder.join("state");
    let record = task.record.bytes()?;
    let note = |text: &str| runner.progress.note(text);
    let checkpoints = image_tokenizers::Checkpoints {
        folder: &state,
        every: SAVE_EVERY,
        record: &record,
        note: &note,
    };
    let run = image_tokenizers::train(
        &settings,
        &mut source,
        &runner.device,
        &mut progress,
        runner.stop.flag(),
        Some(checkpoints),
    )?;
    let VqRun::Finished(tokenizer) = run else {
        return Ok(Ended::Stopped);
    };
    tokenizer.save(&task.folder)?;
    task.end(&runner.hashes)?;
    Slots::of(&state).remove()?;
    Ok(Ended::Complete)
}
