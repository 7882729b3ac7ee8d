//! Mean loss per token over documents, by kind of token.

use jam_backends::{Executable, Targets, Tokens};
use jam_ir::{TokenKind, TokenLayout};
use serde::{Deserialize, Serialize};

use crate::Result;
use jam_data::batches::EncodedSet;

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
    /// Every token but the first of each document.
    pub all: LossSum,
    /// Text tokens.
    pub text: LossSum,
    /// Image tokens.
    pub image: LossSum,
}

/// Rows that are run at once.
const ROWS: usize = 32;

/// Losses of the first `limit` documents (0 for all), each token given all before it in its
/// document. A document longer than `length` + 1 tokens is read in pieces of that length, one
/// after the other, whose first token is shared and given.
///
/// # Errors
/// When ids do not fit the model.
pub fn mean_loss(
    model: &Executable,
    layout: &TokenLayout,
    set: &EncodedSet,
    limit: usize,
    length: usize,
) -> Result<Losses> {
    let documents = if limit == 0 {
        set.len()
    } else {
        set.len().min(limit)
    };
    let mut pieces: Vec<&[u32]> = Vec::new();
    for document in (0..documents).map(|index| set.document(index)) {
        let mut start = 0;
        while start + 1 < document.len() {
            let end = document
                .len()
                .min(start.saturating_add(length).saturating_add(1));
            pieces.push(&document[start..end]);
            start = end - 1;
        }
    }
    // Neighbours in length need little padding; sums do not depend on the order but by rounding.
    pieces.sort_by_key(|piece| piece.len());
    let mut losses = Losses::default();
    for rows in pieces.chunks(ROWS) {
        let longest = rows.iter().map(|row| row.len() - 1).max().unwrap_or(0);
        let mut tokens = vec![0; rows.len() * longest];
        let mut targets = tokens.clone();
        let mut weights = vec![0.0; tokens.len()];
        for (row, piece) in rows.iter().enumerate() {
            let place = row * longest..row * longest + piece.len() - 1;
            tokens[place.clone()].copy_from_slice(&piece[..piece.len() - 1]);
            targets[place.clone()].copy_from_slice(&piece[1..]);
            weights[place].fill(1.0);
        }
        let aims = Targets {
            ids: &targets,
            weights: &weights,
        };
        let found = model.token_losses(Tokens::new(&tokens, rows.len()), aims)?;
        for ((loss, target), weight) in found.iter().zip(&targets).zip(&weights) {
            if *weight > 0.0 {
                let loss = f64::from(*loss);
                losses.all.add(loss);
                match layout.kind(u64::from(*target)) {
                    Some(TokenKind::Text) => losses.text.add(loss),
                    Some(TokenKind::Image) => losses.image.add(loss),
                    _ => {}
                }
            }
        }
    }
    Ok(losses)
}
