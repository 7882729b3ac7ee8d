//! Decoding: documents of interleaved text and pictures, token by token, in batches.
//!
//! Text tokens follow one another until `<break>`; then comes exactly one picture's worth of image
//! tokens, drawn from image tokens alone; then `<break>` again and text, or `<eos>`. A picture is
//! begun only when all of it fits.
//!
//! Pictures are guided without a classifier: logits = without + α (with − without), where "without"
//! has read `<eos> <mask:0> <break>` in place of the document before the picture (section 2.2 of
//! the CM3leon paper, and the code of the JAM authors). Rows of a batch draw from generators of
//! their own: a document does not depend on its neighbours.

mod phase;

use jam_backends::kernels::sampling::{self, SamplingError};
use jam_backends::{Decoder, Executable, Tokens};
use jam_ir::recipe::{DecodeRecipe, Sampling};
use jam_ir::{Model, TokenLayout};

use phase::{Phase, Rules};

use crate::{Error, ErrorKind, Result};
use jam_weights::progress::Stop;
use jam_weights::random::Random;

/// A document to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens so far, at least one.
    pub prompt: Vec<u32>,
    /// The prompt ends in a `<break>` that begins a picture.
    pub picture_next: bool,
    /// Tells its draws from those of other requests.
    pub seed: u64,
}

/// When a document ends, beside its own `<eos>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens of prompt and answer together: the model's context.
    pub context: u64,
    /// Most tokens of an answer; 0 for no bound but the context.
    pub max_tokens: u64,
    /// Most pictures; 0 for no bound.
    pub max_pictures: u64,
    /// End with the last allowed picture.
    pub end_with_picture: bool,
}

/// Most tokens of a document of a model whose positions set no bound.
const UNBOUNDED: u64 = 4096;

/// Most tokens of a document: the model's context, or 4096 where it has none.
pub fn context_of(model: &Model) -> u64 {
    model.context.unwrap_or(UNBOUNDED)
}

/// Goes on with documents until each has ended. Returns the tokens after each prompt, `<eos>`
/// left out; `on_token` sees every token as it is drawn, with the index of its request.
///
/// Stops early, with what there is, when `stop` is asked.
///
/// # Errors
/// When a prompt is empty, leaves no room or has ids that the model lacks; when the vocabulary has
/// no `eos`; when the model's logits are not numbers.
pub fn generate(
    model: &Executable,
    layout: &TokenLayout,
    recipe: &DecodeRecipe,
    limits: Limits,
    requests: &[Request],
    on_token: &mut dyn FnMut(usize, u32),
    stop: &Stop,
) -> Result<Vec<Vec<u32>>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let rules = Rules::new(layout, limits)?;
    let longest = requests
        .iter()
        .map(|request| request.prompt.len())
        .max()
        .unwrap_or(0);
    if requests.iter().any(|request| request.prompt.is_empty()) {
        return Err(Error::new("a prompt has no tokens"));
    }
    if longest as u64 >= limits.context {
        let message = format!(
            "a prompt of {longest} tokens leaves no room in {}",
            limits.context
        );
        return Err(Error::new(message));
    }
    // Each document has the room that its own prompt leaves.
    let rooms: Vec<usize> = requests
        .iter()
        .map(|request| {
            let room = limits.context as usize - request.prompt.len();
            if limits.max_tokens > 0 {
                room.min(limits.max_tokens as usize)
            } else {
                room
            }
        })
        .collect();
    let room = rooms.iter().copied().max().unwrap_or(0);
    let begun = requests
        .iter()
        .zip(&rooms)
        .filter(|(request, _)| request.picture_next);
    if rules.image.is_empty() && begun.clone().next().is_some() {
        let message = format!("`{}` has no image tokens that can be drawn", layout.name);
        return Err(Error::new(message)
            .with_help("its image tokenizer is missing, or holds an encoder alone"));
    }
    if begun
        .clone()
        .any(|(_, room)| (*room as u64) < rules.picture_tokens)
    {
        let message = format!("a picture of {} tokens does not fit", rules.picture_tokens);
        return Err(Error::new(message));
    }

    let mut rows: Vec<Row> = requests
        .iter()
        .map(|r| Row::new(r, recipe.seed, &rules))
        .collect();
    let mut decoder = model.decoder(rows.len(), longest + room)?;
    let mut logits = prefill(&mut decoder, requests, longest, rules.pad)?;
    let vocabulary = model.vocabulary();
    let mut guides: Vec<Guide<'_>> = Vec::new();
    if recipe.image.guidance != 1.0 {
        let begun = (0..rows.len())
            .filter(|row| requests[*row].picture_next)
            .collect();
        guides.extend(Guide::begin(model, &rules, begun)?);
    }
    for step in 0..room {
        let mut next = vec![rules.pad; rows.len()];
        let mut begun = Vec::new();
        for (index, row) in rows.iter_mut().enumerate() {
            if row.phase == Phase::Done {
                continue;
            }
            let logits = &mut logits[index * vocabulary..][..vocabulary];
            let without = guides
                .iter()
                .find_map(|guide| guide.logits(index, vocabulary));
            let id = row.choose(
                &rules,
                recipe,
                logits,
                without,
                (rooms[index] - step) as u64,
            )?;
            next[index] = id;
            if row.advance(&rules, id) {
                begun.push(index);
            }
            if !rules.ends.contains(&id) {
                row.tokens.push(id);
                on_token(index, id);
            }
            if step + 1 >= rooms[index] {
                row.phase = Phase::Done;
            }
        }
        if stop.asked() || step + 1 == room || rows.iter().all(|row| row.phase == Phase::Done) {
            break;
        }
        let active: Vec<bool> = rows.iter().map(|row| row.phase != Phase::Done).collect();
        logits = decoder.step_some(&next, &active)?;
        guides.retain(|guide| {
            guide
                .rows
                .iter()
                .any(|row| matches!(rows[*row].phase, Phase::Picture { .. }))
        });
        guides.iter_mut().try_for_each(|guide| guide.step(&next))?;
        if recipe.image.guidance != 1.0 {
            guides.extend(Guide::begin(model, &rules, begun)?);
        }
    }
    Ok(rows.into_iter().map(|row| row.tokens).collect())
}

/// One document under way.
struct Row {
    phase: Phase,
    pictures: u64,
    tokens: Vec<u32>,
    random: Random,
}

impl Row {
    fn new(request: &Request, seed: u64, rules: &Rules) -> Row {
        let phase = if request.picture_next {
            rules.picture()
        } else {
            Phase::Text
        };
        Row {
            phase,
            pictures: 0,
            tokens: Vec::new(),
            random: Random::seeded(seed, request.seed),
        }
    }

    /// Draws the next token; `room` counts the tokens that still fit, this one included.
    fn choose(
        &mut self,
        rules: &Rules,
        recipe: &DecodeRecipe,
        logits: &mut [f32],
        without: Option<&[f32]>,
        room: u64,
    ) -> Result<u32> {
        let uniform = self.random.unit();
        let chosen = match self.phase {
            Phase::Picture { .. } => {
                let range = rules.image.clone();
                let logits = &mut logits[range.clone()];
                if let Some(without) = without {
                    sampling::guide(logits, &without[range.clone()], recipe.image.guidance);
                }
                let drawn = sampling::sample(logits, None, &draws(&recipe.image), uniform);
                drawn.map(|id| id + range.start)
            }
            Phase::Text | Phase::AfterPicture => {
                let allowed = rules.allowed(self.phase, self.pictures, room);
                sampling::sample(logits, Some(&allowed), &draws(&recipe.text), uniform)
            }
            Phase::Done => Err(SamplingError::NothingAllowed),
        };
        let id = chosen.map_err(|error| match error {
            SamplingError::NotANumber => Error::of(ErrorKind::NotFinite, error.to_string()),
            SamplingError::NothingAllowed => Error::new(error.to_string()),
        })?;
        Ok(id as u32)
    }

    /// Moves on after a token; true when it begins a picture.
    fn advance(&mut self, rules: &Rules, id: u32) -> bool {
        let before = self.phase;
        self.phase = rules.after(self.phase, id);
        if matches!(before, Phase::Picture { .. }) && self.phase == Phase::AfterPicture {
            self.pictures += 1;
            if rules.ends_with(self.pictures) {
                self.phase = Phase::Done;
            }
        }
        !matches!(before, Phase::Picture { .. }) && matches!(self.phase, Phase::Picture { .. })
    }
}

/// Pictures begun at one step, read without the documents before them.
struct Guide<'m> {
    rows: Vec<usize>,
    decoder: Decoder<'m>,
    logits: Vec<f32>,
}

impl<'m> Guide<'m> {
    /// Reads the context without a prompt for these rows; `None` where there are none.
    fn begin(model: &'m Executable, rules: &Rules, rows: Vec<usize>) -> Result<Option<Guide<'m>>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let context = rules.without.repeat(rows.len());
        let capacity = rules.without.len() + rules.picture_tokens as usize;
        let mut decoder = model.decoder(rows.len(), capacity)?;
        let logits = decoder.prefill(Tokens::new(&context, rows.len()))?;
        Ok(Some(Guide {
            rows,
            decoder,
            logits,
        }))
    }

    fn step(&mut self, next: &[u32]) -> Result<()> {
        let tokens: Vec<u32> = self.rows.iter().map(|row| next[*row]).collect();
        self.logits = self.decoder.step(&tokens)?;
        Ok(())
    }

    fn logits(&self, row: usize, vocabulary: usize) -> Option<&[f32]> {
        let place = self.rows.iter().position(|candidate| *candidate == row)?;
        self.logits
            .get(place * vocabulary..(place + 1) * vocabulary)
    }
}

/// Reads all prompts at once, padded on the left; the logits that follow each.
fn prefill(
    decoder: &mut Decoder<'_>,
    requests: &[Request],
    longest: usize,
    pad: u32,
) -> Result<Vec<f32>> {
    let mut ids = Vec::with_capacity(requests.len() * longest);
    let mut mask = Vec::with_capacity(ids.capacity());
    for Request { prompt, .. } in requests {
        let padding = longest - prompt.len();
        ids.extend(std::iter::repeat_n(pad, padding).chain(prompt.iter().copied()));
        mask.extend((0..longest).map(|column| column >= padding));
    }
    Ok(decoder.prefill(Tokens::masked(&ids, requests.len(), &mask))?)
}

/// A recipe's numbers as the sampler takes them.
fn draws(sampling: &Sampling) -> sampling::Sampling {
    sampling::Sampling {
        temperature: sampling.temperature,
        top_k: (sampling.top_k > 0).then_some(sampling.top_k as usize),
        top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
        min_p: None,
    }
}
