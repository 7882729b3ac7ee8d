//! Mean loss per token over documents, by kind of token.

use jam_backends::{Executable, Targets, Tokens};
use jam_ir::{Called, ErrorKind, Holds, SettingSignature, Signature, TokenKind, TokenLayout};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measure::{Cell, Measure, Subject, finite, found, kept};
use crate::{Error, Result};
use jam_data::batches::{EncodedSet, NextToken, Objective};

/// The measure.
#[derive(Debug)]
pub(super) struct Perplexity;

/// What it finds.
#[derive(Serialize, Deserialize)]
struct Found {
    /// The data.
    data: String,
    /// Sums by kind of token.
    losses: Losses,
}

/// Longest piece of a document that is read at once, in tokens.
const PIECE: u64 = 1024;

impl Measure for Perplexity {
    fn signature(&self) -> Signature {
        let data = "each data set is a column, or two";
        let limit = "documents read at most; 0 for all";
        Signature::new(
            "perplexity",
            "exp of the mean loss of a token, of text and of pictures",
        )
        .of_each(SettingSignature::data(
            "data",
            Holds::Documents,
            false,
            data,
        ))
        .with([SettingSignature::count("limit", (0, u64::MAX), 0, limit)])
    }

    fn measure(&self, called: &Called, subject: &Subject<'_>) -> Result<Value> {
        let data = called.split("data")?;
        let set = subject.inputs.encoded(data, subject.codec)?;
        let reading = Reading {
            limit: called.count("limit")? as usize,
            length: subject.context.min(PIECE) as usize,
            objective: &NextToken,
        };
        let losses = mean_loss(subject.executable, subject.codec.layout(), &set, &reading)?;
        kept(&Found {
            data: data.to_string(),
            losses,
        })
    }

    fn cells(&self, kept: &Value) -> Result<Vec<Cell>> {
        let Found { data, losses } = found(kept)?;
        finite("perplexity", &data, losses.all.perplexity())?;
        let kinds = [("text", losses.text), ("picture", losses.image)];
        let cells = kinds.into_iter().filter(|(_, losses)| losses.count > 0);
        let cells = cells.map(|(kind, losses)| {
            let shown = finite("perplexity", &data, losses.perplexity())?;
            Ok(Cell {
                head: format!("{data} {kind} PPL"),
                text: format!("{shown:.2}"),
            })
        });
        cells.collect()
    }
}

/// A sum of losses and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSum {
    /// Sum, in nats.
    pub sum: f64,
    /// Number of tokens.
    pub count: u64,
}

impl LossSum {
    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1;
    }

    /// Mean, in nats a token; not a number without tokens.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// exp of the mean; not a number without tokens.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }
}

/// Losses by kind of the token that is predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Every token that counts; the first of a document never does.
    pub all: LossSum,
    /// Text tokens.
    pub text: LossSum,
    /// Image tokens.
    pub image: LossSum,
}

/// How documents are read, and what of them counts.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Documents that are read, the first ones; 0 for all.
    pub limit: usize,
    /// Tokens of the longest piece. A document longer than `length` + 1 tokens is read in pieces of that
    /// length, one after the other, whose first token is shared and given; the last one begins as early as it
    /// may, and counts what the others have not (as lm-evaluation-harness reads).
    pub length: usize,
    /// What counts: every token, or those of answers alone, as training counts them.
    pub objective: &'static dyn Objective,
}

/// Rows that are run at once.
const ROWS: usize = 32;

/// A piece of a document, of which the first `read` predicted tokens do not count.
struct Piece<'d> {
    document: usize,
    ids: &'d [u32],
    read: usize,
}

/// Losses of documents, each token given all before it in its document.
///
/// # Errors
/// When ids do not fit the model, nothing counts, or a loss is not a number.
pub fn mean_loss(
    model: &Executable,
    layout: &TokenLayout,
    set: &EncodedSet,
    reading: &Reading,
) -> Result<Losses> {
    let mut pieces = pieces(set, reading);
    // Neighbours in length need little padding; sums do not depend on the order but by rounding.
    pieces.sort_by_key(|piece| piece.ids.len());
    let mut losses = Losses::default();
    for rows in pieces.chunks(ROWS) {
        let longest = rows.iter().map(|row| row.ids.len() - 1).max().unwrap_or(0);
        let mut tokens = vec![0; rows.len() * longest];
        let mut targets = tokens.clone();
        let mut weights = vec![0.0; tokens.len()];
        for (row, piece) in rows.iter().enumerate() {
            let count = piece.ids.len() - 1;
            let place = row * longest..row * longest + count;
            tokens[place.clone()].copy_from_slice(&piece.ids[..count]);
            targets[place.clone()].copy_from_slice(&piece.ids[1..]);
            weights[place][piece.read..].fill(1.0);
        }
        let aims = Targets {
            ids: &targets,
            weights: &weights,
        };
        let found = model.token_losses(Tokens::new(&tokens, rows.len()), aims)?;
        for (place, loss) in found.iter().enumerate() {
            if weights[place] <= 0.0 {
                continue;
            }
            let (target, loss) = (targets[place], f64::from(*loss));
            if !loss.is_finite() {
                let document = rows[place / longest].document + 1;
                let message =
                    format!("the loss of token {target} in document {document} is {loss}");
                return Err(Error::of(ErrorKind::NotFinite, message).with_help(super::DIVERGED));
            }
            losses.all.add(loss);
            match layout.kind(u64::from(target)) {
                Some(TokenKind::Text) => losses.text.add(loss),
                Some(TokenKind::Image) => losses.image.add(loss),
                _ => {}
            }
        }
    }
    if losses.all.count == 0 {
        let lacking = reading.objective.lacking();
        let message = format!("there is nothing to measure: the documents have {lacking}");
        return Err(Error::new(message));
    }
    Ok(losses)
}

/// The pieces of which a token counts.
fn pieces<'d>(set: &'d EncodedSet, reading: &Reading) -> Vec<Piece<'d>> {
    let documents = match reading.limit {
        0 => set.len(),
        limit => set.len().min(limit),
    };
    let mut pieces = Vec::new();
    for index in 0..documents {
        let document = set.document(index);
        let question = reading.objective.read(set, index);
        let mut start = 0;
        while start + 1 < document.len() {
            let end = document
                .len()
                .min(start.saturating_add(reading.length).saturating_add(1));
            let begin = match end == document.len() {
                true => start.min(end.saturating_sub(reading.length.saturating_add(1))),
                false => start,
            };
            // What stands up to `start` counted before; the first token that is predicted is after `begin`.
            let read = question.max(start + 1) - (begin + 1);
            if begin + 1 + read < end {
                pieces.push(Piece {
                    document: index,
                    ids: &document[begin..end],
                    read,
                });
            }
            start = end - 1;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use jam_data::batches::Answers;

    use super::*;

    /// What counts of a document, piece by piece: the place of its first and of its last token.
    fn counted(
        objective: &'static dyn Objective,
        length: usize,
        limit: usize,
    ) -> Vec<(usize, usize)> {
        let mut set = EncodedSet::default();
        set.push(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 5);
        set.push(&[10, 11, 12], 3);
        set.push(&[20], 0);
        let reading = Reading {
            limit,
            length,
            objective,
        };
        let span = |piece: &Piece<'_>| {
            let last = piece.ids.len() - 1;
            (piece.ids[1 + piece.read] as usize, piece.ids[last] as usize)
        };
        pieces(&set, &reading).iter().map(span).collect()
    }

    #[test]
    fn the_last_piece_reads_as_much_as_the_others() {
        let mut set = EncodedSet::default();
        set.push(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0);
        let reading = Reading {
            limit: 0,
            length: 4,
            objective: &NextToken,
        };
        let pieces = pieces(&set, &reading);
        let read: Vec<_> = pieces.iter().map(|piece| piece.ids).collect();
        assert_eq!(
            read,
            [&[0, 1, 2, 3, 4][..], &[4, 5, 6, 7, 8], &[5, 6, 7, 8, 9]]
        );
    }

    #[test]
    fn every_token_that_counts_is_in_one_piece() {
        let all = &NextToken;
        assert_eq!(counted(all, 100, 0), [(1, 9), (11, 12)]);
        assert_eq!(counted(all, 4, 0), [(1, 4), (5, 8), (9, 9), (11, 12)]);
        assert_eq!(counted(all, 100, 1), [(1, 9)]);
    }

    #[test]
    fn of_answers_no_token_of_a_question_counts() {
        let answers = &Answers;
        assert_eq!(counted(answers, 100, 0), [(5, 9)]);
        assert_eq!(counted(answers, 4, 0), [(5, 8), (9, 9)]);
        assert_eq!(counted(answers, 5, 0), [(5, 5), (6, 9)]);
        assert_eq!(counted(answers, 2, 1), [(5, 6), (7, 8), (9, 9)]);
    }
}
