//! Activations: element-wise functions between the matrices of a feed-forward part.
//!
//! Everything that has to do with their names is here; what they compute is in the backends' kernel.

use serde::{Deserialize, Serialize};

/// Element-wise function between the matrices of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// `max(0, x)`
    Relu,
    /// `x Φ(x)`, with the error function.
    Gelu,
    /// GELU by tanh: `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x σ(x)`, also called swish.
    Silu,
}

impl Activation {
    /// Every activation, in declaration order.
    pub const ALL: [Activation; 4] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
    ];

    /// The word of the text form and of the language, and what configurations of others call it: the first of them
    /// where one is written.
    fn names(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Activation::Relu => ("relu", &["relu"]),
            Activation::Gelu => ("gelu", &["gelu"]),
            Activation::GeluTanh => ("gelu_tanh", &["gelu_new", "gelu_pytorch_tanh"]),
            Activation::Silu => ("silu", &["silu", "swish"]),
        }
    }

    /// The word of the text form and of the language.
    pub fn word(self) -> &'static str {
        self.names().0
    }

    /// The activation that `word` names.
    pub fn from_word(word: &str) -> Option<Activation> {
        Activation::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What a configuration of others calls it (`hidden_act` of transformers).
    pub fn published(self) -> &'static str {
        self.names().1.first().copied().unwrap_or(self.word())
    }

    /// The activation that a configuration of others names.
    pub fn from_published(name: &str) -> Option<Activation> {
        let mut all = Activation::ALL.into_iter();
        all.find(|kind| kind.names().1.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back() {
        for kind in Activation::ALL {
            assert_eq!(Activation::from_word(kind.word()), Some(kind));
            assert_eq!(Activation::from_published(kind.published()), Some(kind));
        }
        assert_eq!(Activation::from_published("swish"), Some(Activation::Silu));
        assert_eq!(Activation::from_published("no such"), None);
    }
}
