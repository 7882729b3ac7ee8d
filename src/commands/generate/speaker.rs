//! What answers: a model of a folder, of a checkpoint of others, or of a program.

use std::path::{Path, PathBuf};

use jam_backends::Device;
use jam_data::tokens::Codec;
use jam_ir::{ImageTokens, Model, TextTokens};
use jam_runtime::folders::ModelFolder;
use jam_runtime::steps::Workload;
use jam_runtime::vocabulary::{codec_of_folder, open_codec};
use jam_weights::checkpoints::import::open_weights_of;
use jam_weights::checkpoints::{Numbers, WeightSource};

use crate::commands::known;
use crate::console::Console;
use crate::failure::Failure;
use crate::model_source;

/// A model that answers.
pub(super) struct Speaker {
    pub(super) model: Model,
    pub(super) weights: Box<dyn WeightSource>,
    pub(super) codec: Codec,
    /// Where its weights lie.
    pub(super) path: PathBuf,
}

impl Speaker {
    /// A model folder, or a checkpoint that `jamc import` takes.
    pub(super) fn of_folder(
        path: &Path,
        device: &Device,
        numbers: Numbers,
        console: &Console,
    ) -> Result<Speaker, Failure> {
        let path = path.to_owned();
        if let Some(ModelFolder { model, weights, .. }) = model_source::own(&path)? {
            return Ok(Speaker {
                codec: codec_of_folder(&model, &path, device)?,
                model,
                weights: numbers.of(Box::new(weights)),
                path,
            });
        }
        let (_, model) = model_source::with_vocabulary(&path, console)?;
        let text = match &model.tokens.text {
            TextTokens::Files(path) => Some(Path::new(path)),
            _ => None,
        };
        let image = match &model.tokens.image {
            ImageTokens::Files(path) => Some(Path::new(path)),
            _ => None,
        };
        Ok(Speaker {
            codec: open_codec(model.tokens.clone(), text, image, device)?,
            weights: model_source::weights_of(&model, &path, numbers, console)?,
            model,
            path,
        })
    }

    /// A model that a program reads, and does not make.
    pub(super) fn of_weights(
        work: &Workload,
        name: &str,
        path: &str,
        device: &Device,
        numbers: Numbers,
    ) -> Result<Speaker, Failure> {
        let model = Model::clone(known(&work.models, "model", name)?);
        let path = work.path(path);
        let text = work.text_tokenizer(&model.tokens.text);
        let image = work.image_tokenizer(&model.tokens.image);
        let codec = open_codec(
            model.tokens.clone(),
            text.as_deref(),
            image.as_deref(),
            device,
        )?;
        Ok(Speaker {
            weights: open_weights_of(&path, numbers)?,
            codec,
            model,
            path,
        })
    }
}
