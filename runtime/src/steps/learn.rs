//! Steps that learn: tokenizers and training runs.

use std::path::Path;

use jam_ir::recipe::{TokenizerRecipe, VqRecipe};

use super::{Runner, mark_done};
use crate::image_tokenizers::{self, PictureSet, VqRun};
use crate::memory_check::check_room;
use crate::training::Training;
use crate::{Error, Result};
use jam_data::batches::EncodedSet;
use jam_data::tokens::image::VqSettings;
use jam_data::tokens::text::TextTokenizer;
use jam_weights::checkpoints::{AtomicFolder, write_file};
use jam_weights::progress::Ended;

impl Runner<'_> {
    pub(super) fn train_tokenizer(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        match self.work.tokenizer(name)? {
            TokenizerRecipe::Bpe { train, size } => {
                let mut texts = Vec::new();
                for data in train {
                    texts.extend(self.texts(data)?);
                }
                let tokenizer = TextTokenizer::train(texts.into_iter(), *size)?;
                let draft = AtomicFolder::create(folder)?;
                tokenizer.save(&draft.path().join(crate::folders::TEXT_TOKENIZER))?;
                mark_done(draft.path(), key)?;
                draft.commit()?;
                Ok(Ended::Complete)
            }
            TokenizerRecipe::Vq(recipe) => self.train_vq(name, recipe, folder, key),
        }
    }

    fn train_vq(&self, name: &str, recipe: &VqRecipe, folder: &Path, key: &str) -> Result<Ended> {
        let mut pictures = Vec::new();
        for data in &recipe.train {
            pictures.extend(self.pictures(data, recipe.picture as usize, 0)?);
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
        let mut bar = self.progress.begin(name, recipe.steps);
        let mut progress = |step: image_tokenizers::VqStep| {
            let message = format!("{:.1} dB, {} codes", step.psnr, step.used_codes);
            bar.at(step.step as u64, &message);
        };
        // A run with other settings has another key, and so another place.
        let state = folder.with_file_name(format!(".{name}-{key}"));
        let checkpoints = image_tokenizers::Checkpoints {
            folder: &state,
            every: 500,
        };
        let flag = self.stop.flag();
        let run = image_tokenizers::train(
            &settings,
            &mut source,
            &self.device,
            &mut progress,
            flag,
            Some(checkpoints),
        )?;
        let VqRun::Finished(tokenizer) = run else {
            return Ok(Ended::Stopped);
        };
        let draft = AtomicFolder::create(folder)?;
        tokenizer.save(draft.path())?;
        mark_done(draft.path(), key)?;
        draft.commit()?;
        // What is left of the run is of no more use; if it stays, nothing is wrong.
        let _ = std::fs::remove_dir_all(&state);
        Ok(Ended::Complete)
    }

    pub(super) fn train(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        let recipe = self.work.training(name)?;
        let model = self.work.model(&recipe.model.name)?;
        // The weights, a gradient of each, and the two moments of AdamW.
        check_room(model, 4, &self.device)?;
        let codec = self.codec(model)?;
        let mut data: Vec<(f64, EncodedSet)> = Vec::new();
        for (weight, reference) in &recipe.data {
            data.push((*weight, self.encoded(reference, &codec)?));
        }
        let mut validate: Vec<(String, EncodedSet)> = Vec::new();
        for reference in &recipe.validate {
            validate.push((reference.to_string(), self.encoded(reference, &codec)?));
        }
        let training = Training {
            name,
            recipe,
            model,
            data: data.iter().map(|(weight, set)| (*weight, set)).collect(),
            validate: validate
                .iter()
                .map(|(name, set)| (name.clone(), set))
                .collect(),
            source: &self.work.source,
            made_by: format!("Training `{name}` of `{}`.", recipe.model),
            tokenizers: self.tokenizer_folders(model)?,
            key,
        };
        // A folder belongs to one run: what another recipe left there is of no use to this one.
        let owner = folder.join("run.key");
        if std::fs::read_to_string(&owner).ok().as_deref() != Some(key) {
            if folder.exists() {
                std::fs::remove_dir_all(folder)
                    .map_err(|error| Error::io("remove", folder, error))?;
            }
            write_file(&owner, key.as_bytes())?;
        }
        let mut executable = self.load(&recipe.model, recipe.precision)?;
        let ended = training.run(folder, &mut executable, self.progress, &self.stop)?;
        if ended == Ended::Complete {
            mark_done(folder, key)?;
            Training::forget_state(folder)?;
        }
        Ok(ended)
    }
}
