//! The training of an image tokenizer.
//!
//! A step takes a batch of pictures, moves the network against the gradient of
//! `mse(decoded, picture) + beta * mse(latent, code)`, and moves the codes towards the latents that
//! chose them. The gradient passes the choice of a code unchanged (straight through). In the first
//! twentieth of the steps the network learns without codes; then they are spread over what latents
//! there are. In the last fifth no code is moved any more, so that their meaning settles.
//!
//! Everything random is drawn from generators that stand on the seed and the step alone, and pictures
//! are asked for by step: what a step does depends on nothing but the weights before it. A run that
//! was stopped therefore goes on to the same bits.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor};
use jam_weights::random::Random;

use super::codebook::{Codebook, nearest};
use super::measure::decibels;
use super::optimizer::Adam;
use super::{VqTokenizer, files, host, network, patches};
use crate::results::Slots;
use crate::{Error, ErrorKind, Result};
use jam_data::images::Picture;
use jam_data::tokens::image::VqSettings;

/// Where training gets its pictures.
pub trait PictureSource {
    /// The `count` pictures of a step, squares of [`VqSettings::picture`] pixels. The same step must
    /// always give the same pictures: a run that resumes asks again.
    ///
    /// # Errors
    /// When pictures cannot be had; training ends with the error.
    fn batch(&mut self, step: usize, count: usize) -> Result<Vec<Picture>>;
}

impl<F: FnMut(usize, usize) -> Result<Vec<Picture>>> PictureSource for F {
    fn batch(&mut self, step: usize, count: usize) -> Result<Vec<Picture>> {
        self(step, count)
    }
}

/// Pictures in memory, in a new order every time they have all been seen.
#[derive(Debug, Clone)]
pub struct PictureSet {
    pictures: Vec<Picture>,
    seed: u64,
    /// The round that `order` belongs to.
    round: Option<u64>,
    order: Vec<usize>,
}

impl PictureSet {
    /// A source of these pictures; `seed` sets their order.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(pictures: Vec<Picture>, seed: u64) -> Result<Self> {
        if pictures.is_empty() {
            return Err(Error::new(
                "an image tokenizer needs pictures to learn from",
            ));
        }
        Ok(Self {
            order: (0..pictures.len()).collect(),
            pictures,
            seed,
            round: None,
        })
    }
}

impl PictureSource for PictureSet {
    fn batch(&mut self, step: usize, count: usize) -> Result<Vec<Picture>> {
        let pictures = self.pictures.len() as u64;
        let first = step as u64 * count as u64;
        let mut batch = Vec::with_capacity(count);
        for at in first..first + count as u64 {
            let round = at / pictures;
            if self.round != Some(round) {
                let mut random = random(self.seed, round);
                self.order = (0..self.pictures.len()).collect();
                random.shuffle(&mut self.order);
                self.round = Some(round);
            }
            batch.push(self.pictures[self.order[(at % pictures) as usize]].clone());
        }
        Ok(batch)
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VqStep {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Reconstruction and commitment loss of the batch.
    pub loss: f64,
    /// Peak signal-to-noise ratio of the batch's reconstructions, in decibels.
    pub psnr: f64,
    /// Codes chosen within the last hundred steps; 0 while the network learns without codes.
    pub used_codes: usize,
}

/// Where a run keeps its last two states, to go on after an interruption.
#[derive(Clone, Copy)]
pub struct Checkpoints<'a> {
    /// The folder; made if it is not there.
    pub folder: &'a Path,
    /// Steps between checkpoints. There is one at the end, and when a run is stopped, in any case.
    pub every: usize,
    /// The record of the result, which is saved with every state.
    pub record: &'a [u8],
    /// Told where the last state is damaged, and the one before it is used.
    pub note: &'a dyn Fn(&str),
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum VqRun {
    /// All steps are done.
    Finished(Box<VqTokenizer>),
    /// It was told to stop after this many steps.
    Stopped(usize),
}

/// Everything that a step changes.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Steps done.
    pub(super) step: usize,
    /// In the order of `network::layers`.
    pub(super) weights: Vec<Tensor<2>>,
    pub(super) adam: Adam,
    /// None before codes are used.
    pub(super) codebook: Option<Codebook>,
}

/// A generator for one purpose of a run.
fn random(seed: u64, stream: u64) -> Random {
    Random::seeded(seed, stream)
}

/// The stream of the first weights; steps have the streams of their numbers.
const FIRST_WEIGHTS: u64 = u64::MAX;

/// Trains an image tokenizer.
///
/// `progress` is called after every step. When `stop` becomes true, the run writes a checkpoint, if
/// it has a place for one, and ends with [`VqRun::Stopped`]. A run whose folder holds a checkpoint
/// goes on from there and gives the same bits as one that was never stopped, on the same device.
///
/// # Errors
/// When a setting is out of its range; when pictures cannot be had or have the wrong size; when the
/// loss stops being a number; when a checkpoint cannot be written, is damaged, or is one of other
/// settings.
pub fn train(
    settings: &VqSettings,
    source: &mut dyn PictureSource,
    device: &Device,
    progress: &mut dyn FnMut(VqStep),
    stop: &AtomicBool,
    checkpoints: Option<Checkpoints<'_>>,
) -> Result<VqRun> {
    settings.check()?;
    let resumed = match checkpoints {
        Some(it) => {
            let mut read = |folder: &Path| files::read_state(settings, folder, device);
            Slots::of(it.folder).latest(&mut read, it.note)?
        }
        None => None,
    };
    let mut state = resumed.unwrap_or_else(|| {
        let weights = network::fresh(settings, &mut random(settings.seed, FIRST_WEIGHTS), device);
        State {
            step: 0,
            adam: Adam::new(&weights),
            weights,
            codebook: None,
        }
    });
    let save = |state: &State| match checkpoints {
        Some(it) => {
            let mut fill = |folder: &Path| files::write_state(settings, state, folder);
            Slots::of(it.folder).write(state.step as u64, it.record, &mut fill)
        }
        None => Ok(()),
    };
    let mut saved = state.step;
    while state.step < settings.steps {
        if stop.load(Ordering::Relaxed) {
            if saved != state.step {
                save(&state)?;
            }
            return Ok(VqRun::Stopped(state.step));
        }
        progress(step(settings, source, device, &mut state)?);
        let due = checkpoints.is_some_and(|it| state.step.is_multiple_of(it.every.max(1)));
        if due || state.step == settings.steps {
            save(&state)?;
            saved = state.step;
        }
    }
    let codebook = state
        .codebook
        .ok_or_else(|| Error::new("the run ended before it had codes"))?;
    Ok(VqRun::Finished(Box::new(VqTokenizer {
        settings: settings.clone(),
        weights: state.weights,
        codes: codebook.tensor(device),
        device: device.clone(),
    })))
}

/// One batch as the rows of the first layer. `[pictures * patches, patch_values]`
fn rows(
    settings: &VqSettings,
    source: &mut dyn PictureSource,
    step: usize,
    device: &Device,
) -> Result<Tensor<2>> {
    let pictures = source.batch(step, settings.batch)?;
    if pictures.len() != settings.batch {
        return Err(Error::new(format!(
            "step {step} of the image tokenizer got {} pictures and not {}",
            pictures.len(),
            settings.batch
        )));
    }
    let rows = patches::to_patches(settings, &pictures)?;
    let shape = [pictures.len() * settings.patches(), settings.patch_values()];
    Ok(network::matrix(rows, shape, device))
}

/// Does the next step.
fn step(
    settings: &VqSettings,
    source: &mut dyn PictureSource,
    device: &Device,
    state: &mut State,
) -> Result<VqStep> {
    let number = state.step;
    let mut random = random(settings.seed, number as u64);
    if state.codebook.is_none() && number >= settings.steps / 20 {
        // Enough latents to spread the codes over, from this step's pictures and the next ones'.
        let wanted = settings.codes.saturating_mul(16);
        let batches = wanted.div_ceil(settings.batch * settings.cells()).min(64);
        let mut latents = Vec::new();
        for next in number..number + batches {
            let rows = rows(settings, source, next % settings.steps, device)?;
            latents.append(&mut host(network::encode(settings, &state.weights, rows)?)?);
        }
        state.codebook = Some(Codebook::spread(settings, &latents, &mut random)?);
    }

    let pictures = rows(settings, source, number, device)?;
    let weights: Vec<_> = state
        .weights
        .iter()
        .map(|weight| weight.clone().autodiff().require_grad())
        .collect();
    let latents = network::encode(settings, &weights, pictures.clone())?;
    let mut used_codes = 0;
    let mut loss = None;
    let decoded = match &mut state.codebook {
        None => latents,
        Some(codebook) => {
            let plain = latents.clone().without_autodiff();
            let codes = codebook.tensor(device); // [codes, latent]
            let chosen = nearest(plain.clone(), codes)?; // [pictures * cells]
            let met = matrix_of(codebook, &chosen, device);
            let commitment = (latents.clone() - met.clone()).square().mean();
            loss = Some(commitment.mul_scalar(settings.beta));
            let values = host(plain.clone())?;
            codebook.update(settings.decay, &values, &chosen);
            if settings.restart_after > 0 && number < settings.steps - settings.steps / 5 {
                codebook.restart(settings, &values, &chosen, &mut random);
            }
            used_codes = codebook.used();
            // Forward the code, backward the latent.
            latents + (met - plain)
        }
    };
    let error = (network::decode(settings, &weights, decoded)? - pictures)
        .square()
        .mean();
    let mse = number_of(error.clone())?;
    let loss = match loss {
        Some(commitment) => error + commitment,
        None => error,
    };
    let value = number_of(loss.clone())?;
    if !value.is_finite() {
        return Err(Error::of(
            ErrorKind::NotFinite,
            format!("the loss of the image tokenizer is not a number at step {number}"),
        )
        .with_help("a lower `rate` may help"));
    }
    let mut gradients = loss.backward();
    let gradients = weights
        .iter()
        .map(|weight| weight.grad_remove(&mut gradients))
        .collect();
    state.adam.step(
        settings.rate_at(number),
        number,
        &mut state.weights,
        gradients,
    );
    state.step += 1;
    Ok(VqStep {
        step: state.step,
        steps: settings.steps,
        loss: value,
        psnr: decibels(mse, 2.0),
        used_codes,
    })
}

/// The codes that were chosen, one a row. `[chosen, latent]`
fn matrix_of(codebook: &Codebook, chosen: &[u32], device: &Device) -> Tensor<2> {
    let latent = codebook.latent;
    let mut values = Vec::with_capacity(chosen.len() * latent);
    for code in chosen {
        values.extend_from_slice(&codebook.codes[*code as usize * latent..][..latent]);
    }
    network::matrix(values, [chosen.len(), latent], device)
}

fn number_of(scalar: Tensor<1>) -> Result<f64> {
    scalar
        .without_autodiff()
        .try_into_scalar::<f32>()
        .map(f64::from)
        .map_err(|error| {
            Error::of(
                ErrorKind::Device,
                format!("cannot read a loss from the device: {error:?}"),
            )
        })
}
