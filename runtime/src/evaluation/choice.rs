//! Multiple choice by log-likelihood, as lm-evaluation-harness scores it.
//!
//! Every option is a context and a continuation; its score is the sum of the log-probabilities of
//! the continuation's tokens. `acc` takes the best sum, `acc_norm` the best sum divided by the
//! number of characters of the continuation. Where options are contexts and the continuation is
//! shared (Winograd, Winogrande), this is partial scoring.
//!
//! The rules are the harness's (version 0.4.9): blanks at the end of a context belong to the continuation;
//! both are encoded together, and the boundary falls where the context's own tokens end; nothing stands
//! before a context, unless [`ChoiceRules::begin`] asks for it; an empty context is `<bos>`, or `<eos>` where
//! the vocabulary has none; what is too long loses tokens from its left.

use jam_backends::{Executable, Targets, Tokens};
use jam_ir::{Called, ErrorKind, Holds, SettingSignature, Signature};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measure::{Cell, Measure, Subject, finite, found, kept, percent};
use crate::{Error, Result};
use jam_data::sources::{ChoiceItem, ChoiceOption};
use jam_data::tokens::Codec;

/// The measure.
#[derive(Debug)]
pub(super) struct Choice;

/// What it finds.
#[derive(Serialize, Deserialize)]
struct Found {
    /// The data.
    data: String,
    /// Items answered right.
    score: ChoiceScore,
}

impl Measure for Choice {
    fn signature(&self) -> Signature {
        let data = "multiple choice; each data set is a column";
        let limit = "questions asked at most; 0 for all";
        Signature::new(
            "choice",
            "share of questions whose right option is the likeliest, by the sum of its \
             log-likelihoods (`acc`) and by that per character (`acc_norm`)",
        )
        .of_each(SettingSignature::data("data", Holds::Choices, false, data))
        .with([
            SettingSignature::count("limit", (0, u64::MAX), 0, limit),
            SettingSignature::flag(
                "begin",
                false,
                "whether the mark that begins documents stands before every context; the harness has none",
            ),
        ])
    }

    fn measure(&self, called: &Called, subject: &Subject<'_>) -> Result<Value> {
        let data = called.split("data")?;
        let items = subject.inputs.choices(data, called.count("limit")?)?;
        let rules = ChoiceRules {
            context: subject.context as usize,
            begin: called.flag("begin")?,
        };
        kept(&Found {
            data: data.to_string(),
            score: score_choices(subject.executable, subject.codec, &items, rules)?,
        })
    }

    fn cells(&self, kept: &Value) -> Result<Vec<Cell>> {
        let Found { data, score } = found(kept)?;
        Ok(vec![Cell {
            head: format!("{data} right"),
            text: percent(finite("share", &data, score.accuracy())?),
        }])
    }

    fn notes(&self, kept: &Value, model: &str) -> Result<Vec<String>> {
        let Found { data, score } = found(kept)?;
        let told = format!(
            "{} of {} questions of {data} do not fit the context of {model}: what they begin with is not read.",
            score.cut, score.items
        );
        Ok((score.cut > 0).then_some(told).into_iter().collect())
    }
}

/// How many items were answered right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScore {
    /// Items.
    pub items: u64,
    /// Right by the sum of log-probabilities.
    pub right: u64,
    /// Right by the sum per character.
    pub right_by_length: u64,
    /// Items of which an option was too long, so that the beginning of its context was not read.
    #[serde(default)]
    pub cut: u64,
}

/// How options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceRules {
    /// Most tokens that the model reads at once.
    pub context: usize,
    /// Put the id that begins documents before every context.
    pub begin: bool,
}

impl ChoiceScore {
    /// Share answered right (`acc`).
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.items as f64
    }
}

/// Rows that are run at once.
const ROWS: usize = 64;

/// Scores items.
///
/// # Errors
/// When the vocabulary has no text, an item has no options or a wrong gold, a continuation alone does not fit
/// the context, ids do not fit the model, or a log-likelihood is not a number.
pub fn score_choices(
    model: &Executable,
    codec: &Codec,
    items: &[ChoiceItem],
    rules: ChoiceRules,
) -> Result<ChoiceScore> {
    let mut rows = Vec::new();
    let mut score = ChoiceScore::default();
    for item in items {
        let wrong = |what: String| Error::new(format!("question `{}`: {what}", item.id));
        if item.gold >= item.options.len() {
            return Err(wrong(format!("there is no option {}", item.gold)));
        }
        let first = rows.len();
        for (number, option) in item.options.iter().enumerate() {
            let ids = option_ids(codec, option, rules)?;
            let scored = ids.scored.len();
            if scored == 0 {
                let what = format!("option {} adds no token to its context", number + 1);
                return Err(wrong(what));
            }
            if scored > rules.context {
                return Err(wrong(format!(
                    "the {scored} tokens of option {} do not fit the model's context of {}",
                    number + 1,
                    rules.context
                )));
            }
            rows.push(ids);
        }
        score.cut += u64::from(rows[first..].iter().any(|ids| ids.surplus(rules) > 0));
    }
    let sums = log_likelihoods(model, &rows, rules)?;
    let mut first = 0;
    for item in items {
        let sums = &sums[first..first + item.options.len()];
        first += item.options.len();
        if let Some(number) = sums.iter().position(|sum| !sum.is_finite()) {
            let message = format!(
                "question `{}`: the log-likelihood of option {} is {}",
                item.id,
                number + 1,
                sums[number]
            );
            return Err(Error::of(ErrorKind::NotFinite, message).with_help(super::DIVERGED));
        }
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

/// Token ids of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionIds {
    /// What is read, at least one token.
    pub given: Vec<u32>,
    /// What is scored.
    pub scored: Vec<u32>,
}

impl OptionIds {
    /// Tokens that do not fit the context; the last one is predicted and not read.
    fn surplus(&self, rules: ChoiceRules) -> usize {
        let whole = self.given.len() + self.scored.len();
        whole.saturating_sub(rules.context.saturating_add(1))
    }
}

/// The ids of an option by the rules at the head of this file.
///
/// # Errors
/// When the vocabulary has no text.
pub fn option_ids(codec: &Codec, option: &ChoiceOption, rules: ChoiceRules) -> Result<OptionIds> {
    let context = option.context.trim_end();
    let whole = codec.text_ids(&format!("{}{}", option.context, option.continuation))?;
    let own = match context {
        "" => Vec::new(),
        context => codec.text_ids(context)?,
    };
    let scored = whole.get(own.len()..).unwrap_or_default().to_vec();
    let before = match (rules.begin, own.is_empty()) {
        (true, _) => Some(codec.begin()),
        (false, true) => {
            let bos = codec.layout().marks.get("bos").map(|id| *id as u32);
            Some(bos.unwrap_or(codec.eos()))
        }
        (false, false) => None,
    };
    Ok(OptionIds {
        given: before.into_iter().chain(own).collect(),
        scored,
    })
}

/// Sum of the log-probabilities of what is scored, for every option.
///
/// # Errors
/// When ids do not fit the model, or the device fails.
pub fn log_likelihoods(
    model: &Executable,
    options: &[OptionIds],
    rules: ChoiceRules,
) -> Result<Vec<f64>> {
    // Neighbours in length need little padding.
    let mut order: Vec<usize> = (0..options.len()).collect();
    order.sort_by_key(|index| options[*index].given.len() + options[*index].scored.len());
    let mut sums = vec![0.0; options.len()];
    for chunk in order.chunks(ROWS) {
        let batch: Vec<&OptionIds> = chunk.iter().map(|index| &options[*index]).collect();
        for (index, sum) in chunk.iter().zip(batch_sums(model, &batch, rules)?) {
            sums[*index] = sum;
        }
    }
    Ok(sums)
}

fn batch_sums(model: &Executable, rows: &[&OptionIds], rules: ChoiceRules) -> Result<Vec<f64>> {
    let rows: Vec<(Vec<u32>, usize)> = rows
        .iter()
        .map(|row| {
            let whole = row.given.iter().chain(&row.scored).copied();
            let ids: Vec<u32> = whole.skip(row.surplus(rules)).collect();
            let scored = row.scored.len().min(ids.len().saturating_sub(1));
            (ids, scored)
        })
        .collect();
    let count = |ids: &[u32]| ids.len().saturating_sub(1);
    let longest = rows.iter().map(|(ids, _)| count(ids)).max().unwrap_or(0);
    if longest == 0 {
        return Ok(vec![0.0; rows.len()]);
    }
    let mut tokens = vec![0; rows.len() * longest];
    let mut targets = tokens.clone();
    let mut weights = vec![0.0; tokens.len()];
    for (index, (ids, scored)) in rows.iter().enumerate() {
        let count = count(ids);
        let place = index * longest..index * longest + count;
        tokens[place.clone()].copy_from_slice(&ids[..count]);
        targets[place.clone()].copy_from_slice(&ids[1..]);
        weights[place][count - scored..].fill(1.0);
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
