//! A Hugging Face `config.json`, the `.jam` source that an import writes of it, and its checks.
//!
//! What must hold of any configuration that is understood: its architecture has a table of names, and the
//! source is a program without errors, with a tokenizer, with one and pictures, or without.

use jam_weights::checkpoints::import::ImportedConfig;
use jam_weights::checkpoints::names::NameTable;

use super::jam;
use super::seeds::{contents, tidy};

/// Reads a configuration; what is not UTF-8 is none.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut config = match ImportedConfig::from_json(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.message.is_empty());
            return;
        }
    };
    assert!(NameTable::of(&config.model_type).is_ok());
    let all = config.decoder.tokens.size;
    let marks = config.decoder.tokens.marks.clone();
    // One of the three ways in which an import goes on; a program takes the longest of all this.
    if !data.len().is_multiple_of(3) {
        config.set_tokenizer("t", all / 2 + 1, &marks, data.len().is_multiple_of(2));
    }
    if data.len() % 3 == 2 {
        config.set_pictures("w", 1 + all / 8, 1, all / 8);
    }
    let source = config.jam_source("m", "w");
    let program = jam::check(&source);
    let program = program.unwrap_or_else(|reports| panic!("{reports}\n{source}"));
    assert_eq!(program.models.len(), 1);
}

/// Configurations of the golden cases, and small ones of every architecture.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"model_type":"opt","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"ffn_dim":6,"max_position_embeddings":7,"num_hidden_layers":2}"#,
        r#"{"model_type":"opt","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"ffn_dim":6,"max_position_embeddings":7,"num_hidden_layers":1,"word_embed_proj_dim":4,"do_layer_norm_before":false,"enable_bias":false,"layer_norm_elementwise_affine":false,"activation_function":"gelu","torch_dtype":"float16"}"#,
        r#"{"model_type":"llama","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":7,"num_hidden_layers":1,"num_key_value_heads":1,"tie_word_embeddings":true,"rms_norm_eps":1e-6}"#,
        r#"{"model_type":"llama","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":7,"num_hidden_layers":1,"rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":4}}"#,
        r#"{"model_type":"llama","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":8,"num_hidden_layers":1,"rope_scaling":{"type":"yarn","factor":2.0,"original_max_position_embeddings":4}}"#,
        r#"{"model_type":"llama","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":8,"num_hidden_layers":1,"rope_scaling":{"type":"dynamic","factor":2.0}}"#,
        r#"{"model_type":"gpt2","vocab_size":9,"n_embd":8,"n_head":2,"n_layer":1,"n_positions":7}"#,
        r#"{"model_type":"chameleon","vocab_size":9,"hidden_size":8,"num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":7,"num_hidden_layers":1,"swin_norm":true,"vocabulary_map":{"IMGIMGA":3,"a":1}}"#,
        r#"{"dim":8,"n_layers":1,"n_heads":2,"n_kv_heads":1,"vocab_size":9,"multiple_of":4,"norm_eps":1e-5,"max_seq_len":7}"#,
    ];
    let mut seeds = contents("tests/golden", "config.json");
    seeds.extend(texts.map(Into::into));
    tidy(seeds)
}
