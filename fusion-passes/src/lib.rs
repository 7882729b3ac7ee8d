//! Fusion strategies (several models to one) and passes (one model to one).
