//! Small parents, their weights, and fusions of them.

use std::collections::BTreeMap;

use jam_fusion_passes::{Fused, Parent, fuse};
use jam_ir::span::FileId;
use jam_ir::{
    Diagnostic, Model, RotaryLayout, SettingValue, Settings, Span, TokenKind, TokenLayout,
};
use jam_weights::checkpoints::decoder::{DecoderConfig, PositionConfig, decoder_only};

use crate::reference::{Weights, plan, random_weights};

/// Four marks, ten text tokens, six image tokens, and a mark.
pub(crate) fn tokens() -> TokenLayout {
    use TokenKind::{Image, Mark, Text};
    let mut layout = TokenLayout::empty("");
    for (kind, len) in [(Mark, 4), (Text, 10), (Image, 6), (Mark, 1)] {
        layout.add(kind, len);
    }
    layout
}

/// Two sequences of text and image tokens.
pub(crate) fn sequences() -> Vec<Vec<usize>> {
    vec![vec![0, 5, 9, 20, 14, 19, 16], vec![3, 13, 4, 18, 15, 20, 7]]
}

/// The paper's kind of parent, tiny.
pub(crate) fn cm3leon(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    DecoderConfig::cm3leon(tokens(), 12, width, layers, heads, 3 * width)
}

/// Biases, and norms with weights.
pub(crate) fn opt(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    DecoderConfig::opt(tokens(), 12, width, layers, heads, 3 * width)
}

/// Rotary positions, gated, untied, grouped key/value heads.
pub(crate) fn llama(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    let mut config = DecoderConfig::llama(tokens(), 12, width, layers, heads, 3 * width);
    config.kv_heads = heads / 2;
    config.positions = PositionConfig::Rotary {
        base: 100.0,
        layout: RotaryLayout::Halves,
        scaling: jam_ir::RotaryScaling::None,
    };
    config
}

/// Where parent 0 or 1 is named in a program.
pub(crate) fn place(index: u32) -> Span {
    Span::new(FileId(0), 1000 + 10 * index, 1005 + 10 * index)
}

/// Two parents and their weights.
pub(crate) struct Family {
    pub(crate) models: [Model; 2],
    pub(crate) sources: BTreeMap<String, Weights>,
}

impl Family {
    /// Parents `llm` and `img` with weights of their own.
    pub(crate) fn new(llm: &DecoderConfig, img: &DecoderConfig) -> Family {
        Family::of([decoder_only(llm), decoder_only(img)])
    }

    /// Two graphs as parents `llm` and `img`.
    pub(crate) fn of(models: [Model; 2]) -> Family {
        let weights = [random_weights(&models[0], 1), random_weights(&models[1], 2)];
        let names = ["llm", "img"].map(str::to_owned);
        Family {
            models,
            sources: names.into_iter().zip(weights).collect(),
        }
    }

    /// Weights of the second parent like the first's.
    pub(crate) fn twins(mut self) -> Family {
        let llm = self.sources["llm"].clone();
        self.sources.insert("img".to_owned(), llm);
        self
    }

    pub(crate) fn parents(&self) -> [Parent<'_>; 2] {
        let parent = |index: usize, source: &str| Parent {
            model: &self.models[index],
            source: source.to_owned(),
            span: Some(place(index as u32)),
        };
        [parent(0, "llm"), parent(1, "img")]
    }

    /// Fuses; a failure shows its reports.
    pub(crate) fn fuse(&self, strategy: &str, given: &[(&str, SettingValue)]) -> Fused {
        self.try_fuse(strategy, given)
            .unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    pub(crate) fn try_fuse(
        &self,
        strategy: &str,
        given: &[(&str, SettingValue)],
    ) -> Result<Fused, Vec<Diagnostic>> {
        fuse(strategy, "fused", &self.parents(), &settings(given))
    }

    /// Weights of a fused model by its plans.
    pub(crate) fn weights(&self, fused: &Fused) -> Weights {
        plan::weights(&fused.model, &self.sources)
    }

    /// Logits of a fused model on the sequences.
    pub(crate) fn logits(&self, fused: &Fused) -> crate::reference::Tensor {
        crate::reference::graph::logits(&fused.model, &self.weights(fused), &sequences())
    }

    /// Logits of a parent on the sequences.
    pub(crate) fn parent_logits(&self, index: usize) -> crate::reference::Tensor {
        let source = ["llm", "img"][index];
        crate::reference::graph::logits(&self.models[index], &self.sources[source], &sequences())
    }
}

pub(crate) fn settings(given: &[(&str, SettingValue)]) -> Settings {
    let given = given.iter();
    given
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// A bare word.
pub(crate) fn word(word: &str) -> SettingValue {
    SettingValue::Word(word.to_owned())
}
