//! Vector-quantised pictures: a small network whose middle is the nearest entry of a codebook.

use jam_data::tokens::image::VqSettings;
use jam_ir::signature::{Makes, Rule, TokenizerSignature};
use jam_ir::{Called, Holds, SettingKind, SettingSignature, SettingValue, Signature};

use super::trains::{Job, Trained, Trains, train};
use crate::Result;
use crate::image_tokenizers::{self, Checkpoints, PictureSet, VqRun, VqStep};

/// The tokenizer.
#[derive(Debug)]
pub(super) struct Vq;

/// Steps between two states of a run.
const SAVE_EVERY: usize = 500;

impl Trains for Vq {
    fn signature(&self) -> TokenizerSignature {
        let count =
            |name, bounds, default: u64, help| SettingSignature::count(name, bounds, default, help);
        let steps = (1, 1_000_000_000);
        let kernel = SettingSignature::new(
            "kernel",
            SettingKind::OneOf(vec![1, 3]),
            Some(SettingValue::Count(1)),
            "side of the convolutions of residual blocks: 1 sees a cell alone, 3 its neighbours too",
        );
        let signature = Signature::new("vq", "vector-quantised pictures").with([
            train(Holds::Pictures, "pictures that it learns from"),
            count("picture", (1, 1024), 32, "side of a picture in pixels"),
            count("grid", (1, 128), 4, "side of a picture in tokens"),
            count("codes", (2, 65_536), 256, "entries of the codebook"),
            count("width", (1, 4096), 64, "channels inside"),
            count("latent", (1, 4096), 32, "numbers of a code"),
            count("depth", (0, 64), 2, "residual blocks on each side"),
            kernel,
            SettingSignature::count("steps", steps, None, "steps of training"),
            count("batch", (1, 65_536), 64, "pictures of a step"),
            SettingSignature::number("lr", (0.0, 1.0), 1e-3, "the learning rate at its peak"),
            SettingSignature::seed("of initialisation and order"),
        ]);
        let rule = Rule::PowerOfTwoTimes {
            setting: "picture".to_owned(),
            of: "grid".to_owned(),
        };
        TokenizerSignature {
            signature: signature.where_holds(rule),
            makes: Makes::Pictures {
                codes: "codes".to_owned(),
                grid: "grid".to_owned(),
            },
        }
    }

    fn keeps_states(&self) -> bool {
        true
    }

    fn train(&self, called: &Called, job: &Job<'_>) -> Result<Option<Trained>> {
        let settings = settings(called)?;
        let mut pictures = Vec::new();
        for data in called.splits("train")? {
            pictures.extend(job.inputs.pictures(data, settings.picture, 0)?);
        }
        let mut source = PictureSet::new(pictures, settings.seed)?;
        (job.begin)()?;
        let mut bar = job.progress.begin(job.name, settings.steps as u64);
        let mut progress = |step: VqStep| {
            let message = format!("{:.1} dB, {} codes", step.psnr, step.used_codes);
            bar.at(step.step as u64, &message);
        };
        let note = |text: &str| job.progress.note(text);
        let checkpoints = Checkpoints {
            folder: job.state,
            every: SAVE_EVERY,
            record: job.record,
            note: &note,
        };
        let run = image_tokenizers::train(
            &settings,
            &mut source,
            job.device,
            &mut progress,
            job.stop.flag(),
            Some(checkpoints),
        )?;
        let VqRun::Finished(tokenizer) = run else {
            return Ok(None);
        };
        Ok(Some(Box::new(move |folder| tokenizer.save(folder))))
    }
}

/// The settings of the network and its training.
fn settings(called: &Called) -> Result<VqSettings> {
    let count = |name: &str| called.count(name).map(|count| count as usize);
    Ok(VqSettings {
        picture: count("picture")?,
        grid: count("grid")?,
        codes: count("codes")?,
        width: count("width")?,
        latent: count("latent")?,
        depth: count("depth")?,
        kernel: count("kernel")?,
        steps: count("steps")?,
        batch: count("batch")?,
        rate: called.number("lr")?,
        seed: called.count("seed")?,
        ..VqSettings::default()
    })
}
