//! Multiple choice by log-likelihood, as lm-evaluation-harness scores it.
//!
//! Every option is a context and a continuation; its score is the sum of the log-probabilities of
//! the continuation's tokens. `acc` takes the best sum, `acc_norm` the best sum divided by the
//! number of characters of the continuation. Where options are contexts and the continuation is
//! shared (Winograd, Winogrande), this is partial scoring.

use jam_backends::{Executable, Targets, Tokens};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use jam_data::sources::{ChoiceItem, ChoiceOption};
use jam_data::tokens::Codec;

/// How many items were answered right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScore {
    /// Items.
    pub items: u64,
    /// Right by the sum of log-probabilities.
    pub right: u64,
    /// Right by the sum per character.
    pub right_by_length: u64,
}

impl ChoiceScore {
    /// Share answered right (`acc`).
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.items as f64
    }

    /// Share answered right by the sum per character (`acc_norm`).
    pub fn accuracy_by_length(&self) -> f64 {
        self.right_by_length as f64 / self.items as f64
    }
}

/// Rows that are run at once.
const ROWS: usize = 64;

/// Scores items; an option longer than `context` tokens loses tokens from its left.
///
/// # Errors
/// When the vocabulary has no text, an item has no options or a wrong gold, or ids do not fit.
pub fn score_choices(
    model: &Executable,
    codec: &Codec,
    items: &[ChoiceItem],
    context: usize,
) -> Result<ChoiceScore> {
    let mut rows = Vec::new();
    for (number, item) in items.iter().enumerate() {
        if item.gold >= item.options.len() {
            return Err(Error::new(format!(
                "item {} has no option {}",
                number + 1,
                item.gold
            )));
        }
        for option in &item.options {
            rows.push((number, encode(codec, option, context)?));
        }
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|index| rows[*index].1.ids.len());
    let mut sums = vec![0.0; rows.len()];
    for chunk in order.chunks(ROWS) {
        let batch: Vec<&OptionIds> = chunk.iter().map(|index| &rows[*index].1).collect();
        for (index, sum) in chunk.iter().zip(log_likelihoods(model, &batch)?) {
            sums[*index] = sum;
        }
    }
    let mut score = ChoiceScore::default();
    let mut first = 0;
    for item in items {
        let sums = &sums[first..first + item.options.len()];
        first += item.options.len();
        let by_length: Vec<f64> = sums
            .iter()
            .zip(&item.options)
            .map(|(sum, option)| {
                sum / option.continuation.trim_start().chars().count().max(1) as f64
            })
            .collect();
        score.items += 1;
        score.right += u64::from(best(sums) == Some(item.gold));
        score.right_by_length += u64::from(best(&by_length) == Some(item.gold));
    }
    Ok(score)
}

/// Index of the greatest, the first of equals.
fn best(scores: &[f64]) -> Option<usize> {
    let mut best = None;
    for (index, score) in scores.iter().enumerate() {
        if best.is_none_or(|best: usize| *score > scores[best]) {
            best = Some(index);
        }
    }
    best
}

/// Token ids of an option, of which the last `scored` are its continuation.
struct OptionIds {
    ids: Vec<u32>,
    scored: usize,
}

/// Context and continuation are encoded together, and the context alone, so that the boundary
/// falls where the context's own tokens end.
fn encode(codec: &Codec, option: &ChoiceOption, context: usize) -> Result<OptionIds> {
    let whole = codec.text_ids(&format!("{}{}", option.context, option.continuation))?;
    let given = codec
        .text_ids(&option.context)?
        .len()
        .min(whole.len().saturating_sub(1));
    let scored = whole.len() - given;
    let mut ids = vec![codec.begin()];
    ids.extend(whole);
    if ids.len() > context + 1 {
        ids.drain(..ids.len() - context - 1);
    }
    let scored = scored.min(ids.len() - 1);
    Ok(OptionIds { ids, scored })
}

fn log_likelihoods(model: &Executable, rows: &[&OptionIds]) -> Result<Vec<f64>> {
    let longest = rows.iter().map(|row| row.ids.len() - 1).max().unwrap_or(0);
    if longest == 0 {
        return Ok(vec![0.0; rows.len()]);
    }
    let mut tokens = vec![0; rows.len() * longest];
    let mut targets = tokens.clone();
    let mut weights = vec![0.0; tokens.len()];
    for (index, row) in rows.iter().enumerate() {
        let count = row.ids.len() - 1;
        let place = index * longest..index * longest + count;
        tokens[place.clone()].copy_from_slice(&row.ids[..count]);
        targets[place.clone()].copy_from_slice(&row.ids[1..]);
        weights[place][count - row.scored..].fill(1.0);
    }
    let aims = Targets {
        ids: &targets,
        weights: &weights,
    };
    let losses = model.token_losses(Tokens::new(&tokens, rows.len()), aims)?;
    let sum = |row: &[f32]| -row.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    Ok(losses.chunks(longest).map(sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_taken() {
        assert_eq!(best(&[-3.0, -1.0, -1.0]), Some(1));
        assert_eq!(best(&[]), None);
    }
}
