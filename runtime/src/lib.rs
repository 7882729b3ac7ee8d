//! Checkpoints, tokens, data, training, decoding and evaluation.
