//! Runs of tokens of one kind in a document.

use jam_ir::{TokenKind, TokenLayout};

/// Splits the tokens of a document into runs of text and pictures; marks are dropped, and a
/// picture that is not complete too.
pub fn runs(layout: &TokenLayout, tokens: &[u32]) -> Vec<Run> {
    let picture = layout.picture_tokens() as usize;
    let mut runs: Vec<Run> = Vec::new();
    for &token in tokens {
        let start = |kind| layout.first(kind) as u32;
        match (layout.kind(u64::from(token)), runs.last_mut()) {
            (Some(TokenKind::Text), Some(Run::Text(ids))) => {
                ids.push(token - start(TokenKind::Text))
            }
            (Some(TokenKind::Text), _) => {
                runs.push(Run::Text(vec![token - start(TokenKind::Text)]))
            }
            (Some(TokenKind::Image), Some(Run::Picture(codes))) if codes.len() < picture => {
                codes.push(token - start(TokenKind::Image));
            }
            (Some(TokenKind::Image), _) => {
                runs.push(Run::Picture(vec![token - start(TokenKind::Image)]));
            }
            _ => {}
        }
    }
    runs.retain(|run| !matches!(run, Run::Picture(codes) if codes.len() != picture));
    runs
}

/// A run of tokens of one kind, numbered as its tokenizer numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Ids of the text tokenizer.
    Text(Vec<u32>),
    /// Codes of one picture, row by row.
    Picture(Vec<u32>),
}
