//! The image tokenizer: pictures to codes of a learned codebook, and codes to pictures.
