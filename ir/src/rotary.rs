//! How rotary positions are stretched beyond the context they were learned with.
//!
//! A pair of features i of a head of `key` turns by `base^(-2i/key)` per position. Models that were given a
//! longer context afterwards turn slower, each pair by a rule of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule that changes the angle per position of every pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum RotaryScaling {
    /// The angles as learned.
    #[default]
    None,
    /// Every angle divided by one factor (position interpolation, arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// LLaMA 3.1's rule: pairs that turn fewer than `low` times in the original context are divided by
    /// `factor`, those that turn more than `high` times stay, those between are blended.
    Llama3 {
        /// What slow pairs are divided by.
        factor: f64,
        /// Turns in the original context below which a pair is slow.
        low: f64,
        /// Turns in the original context above which a pair is fast.
        high: f64,
        /// Tokens of the original context.
        original: u64,
    },
    /// The angles as learned, within the context. Programs that go beyond it turn every pair slower the longer the
    /// sequence is; here no sequence is longer, so that the rule is kept for them alone.
    Dynamic {
        /// What the context is stretched by beyond itself.
        factor: f64,
    },
    /// YaRN (arXiv 2309.00071): pairs that turn fewer than `slow` times are divided by `factor`, those that
    /// turn more than `fast` times stay, with a ramp over the pairs between; queries and keys are scaled.
    Yarn {
        /// What slow pairs are divided by.
        factor: f64,
        /// Turns in the original context above which a pair stays as it is.
        fast: f64,
        /// Turns in the original context below which a pair is divided.
        slow: f64,
        /// Tokens of the original context.
        original: u64,
        /// Factor on rotated queries and on rotated keys.
        attention: f64,
        /// Whether the ends of the ramp lie on whole pairs.
        whole: bool,
    },
}

/// The words of the text form and of the language, in declaration order.
const WORDS: [&str; 5] = ["none", "linear", "llama3", "dynamic", "yarn"];

/// A number as the language writes it: without an exponent where that has few digits.
pub fn number_text(value: f64) -> String {
    match value.abs() {
        0.0 | 1e-5..1e15 => format!("{value}"),
        _ => format!("{value:e}"),
    }
}

/// The largest number of a scaling: counts up to it are exact as floats.
const MAX_COUNT: f64 = 1e15;

/// As the language writes it: `linear(factor: 3)`.
impl fmt::Display for RotaryScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = |(name, value): (&str, f64)| match name {
            "whole" if value == 0.0 => "whole: no".to_owned(),
            "whole" => "whole: yes".to_owned(),
            _ => format!("{name}: {}", number_text(value)),
        };
        let settings: Vec<String> = self.settings().into_iter().map(setting).collect();
        match settings.is_empty() {
            true => f.write_str(self.word()),
            false => write!(f, "{}({})", self.word(), settings.join(", ")),
        }
    }
}

impl RotaryScaling {
    /// The word of the text form and of the language.
    pub fn word(&self) -> &'static str {
        match self {
            RotaryScaling::None => WORDS[0],
            RotaryScaling::Linear { .. } => WORDS[1],
            RotaryScaling::Llama3 { .. } => WORDS[2],
            RotaryScaling::Dynamic { .. } => WORDS[3],
            RotaryScaling::Yarn { .. } => WORDS[4],
        }
    }

    /// What it is told, in declaration order, flags as 0 and 1.
    pub fn settings(&self) -> Vec<(&'static str, f64)> {
        match *self {
            RotaryScaling::None => Vec::new(),
            RotaryScaling::Linear { factor } | RotaryScaling::Dynamic { factor } => {
                vec![("factor", factor)]
            }
            RotaryScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => vec![
                ("factor", factor),
                ("low", low),
                ("high", high),
                ("original", original as f64),
            ],
            RotaryScaling::Yarn {
                factor,
                fast,
                slow,
                original,
                attention,
                whole,
            } => vec![
                ("factor", factor),
                ("fast", fast),
                ("slow", slow),
                ("original", original as f64),
                ("attention", attention),
                ("whole", f64::from(u8::from(whole))),
            ],
        }
    }

    /// The rule of a word, with what [`RotaryScaling::settings`] of it gives; `None` for any other word,
    /// number of settings, or number that is not whole where it must be.
    pub fn of(word: &str, settings: &[f64]) -> Option<RotaryScaling> {
        let count =
            |x: f64| (x.fract() == 0.0 && (0.0..=MAX_COUNT).contains(&x)).then_some(x as u64);
        match (word, settings) {
            ("none", []) => Some(RotaryScaling::None),
            ("linear", &[factor]) => Some(RotaryScaling::Linear { factor }),
            ("dynamic", &[factor]) => Some(RotaryScaling::Dynamic { factor }),
            ("llama3", &[factor, low, high, original]) => Some(RotaryScaling::Llama3 {
                factor,
                low,
                high,
                original: count(original)?,
            }),
            ("yarn", &[factor, fast, slow, original, attention, whole]) => {
                Some(RotaryScaling::Yarn {
                    factor,
                    fast,
                    slow,
                    original: count(original)?,
                    attention,
                    whole: count(whole)? != 0,
                })
            }
            _ => None,
        }
    }

    /// The factor on queries and keys that YaRN's authors found (their equation 22): `0.1 ln(factor) + 1`.
    pub fn yarn_attention(factor: f64) -> f64 {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * factor.ln() + 1.0
        }
    }

    /// Why it cannot be used, if so.
    pub fn fault(&self) -> Option<String> {
        if let Some((name, value)) = self
            .settings()
            .into_iter()
            .find(|(name, x)| *name != "whole" && !(x.is_finite() && *x > 0.0))
        {
            return Some(format!("`{name}` must be above 0, not {value}"));
        }
        let settings = self.settings();
        if let Some((name, value)) = settings.iter().find(|(_, x)| *x > MAX_COUNT) {
            return Some(format!(
                "`{name}` must be at most {MAX_COUNT:e}, not {value:e}"
            ));
        }
        match *self {
            RotaryScaling::Llama3 { low, high, .. } if low >= high => {
                Some(format!("`low` ({low}) must be below `high` ({high})"))
            }
            RotaryScaling::Yarn { fast, slow, .. } if slow >= fast => {
                Some(format!("`slow` ({slow}) must be below `fast` ({fast})"))
            }
            _ => None,
        }
    }

    /// The angle per position of each of the `key / 2` pairs of a head, and the factor on what is rotated.
    pub fn angles(&self, key: usize, base: f64) -> (Vec<f64>, f64) {
        let plain = (0..key / 2).map(|i| base.powf(-2.0 * i as f64 / key as f64));
        let turn = std::f64::consts::TAU;
        match *self {
            RotaryScaling::None | RotaryScaling::Dynamic { .. } => (plain.collect(), 1.0),
            RotaryScaling::Linear { factor } => (plain.map(|angle| angle / factor).collect(), 1.0),
            RotaryScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let scaled = |angle: f64| {
                    let turns = original as f64 * angle / turn;
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - share) * angle / factor + share * angle
                };
                (plain.map(scaled).collect(), 1.0)
            }
            RotaryScaling::Yarn {
                factor,
                fast,
                slow,
                original,
                attention,
                whole,
            } => {
                // The pair that turns so many times in the original context.
                let pair = |turns: f64| {
                    key as f64 * (original as f64 / (turns * turn)).ln() / (2.0 * base.ln())
                };
                let (mut first, mut last) = (pair(fast), pair(slow));
                if whole {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(key as f64 - 1.0));
                if first == last {
                    last += 0.001; // as the reference implementation does
                }
                let scaled = |(i, angle): (usize, f64)| {
                    let slow = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    slow * angle / factor + (1.0 - slow) * angle
                };
                (plain.enumerate().map(scaled).collect(), attention)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_as_the_language_writes_it() {
        let linear = RotaryScaling::Linear { factor: 1e-300 };
        assert_eq!(linear.to_string(), "linear(factor: 1e-300)");
        let yarn = RotaryScaling::Yarn {
            factor: 4.0,
            fast: 32.0,
            slow: 1.0,
            original: 64,
            attention: 1.25,
            whole: true,
        };
        let told = "yarn(factor: 4, fast: 32, slow: 1, original: 64, attention: 1.25, whole: yes)";
        assert_eq!(yarn.to_string(), told);
        assert_eq!(RotaryScaling::None.to_string(), "none");
    }

    #[test]
    fn settings_lead_back() {
        let all = [
            RotaryScaling::None,
            RotaryScaling::Linear { factor: 2.5 },
            RotaryScaling::Llama3 {
                factor: 8.0,
                low: 1.0,
                high: 4.0,
                original: 8192,
            },
            RotaryScaling::Dynamic { factor: 2.0 },
            RotaryScaling::Yarn {
                factor: 4.0,
                fast: 32.0,
                slow: 1.0,
                original: 2048,
                attention: 1.25,
                whole: true,
            },
        ];
        for (scaling, word) in all.into_iter().zip(WORDS) {
            assert_eq!(scaling.word(), word);
            let numbers: Vec<f64> = scaling.settings().into_iter().map(|(_, x)| x).collect();
            assert_eq!(RotaryScaling::of(word, &numbers), Some(scaling));
            assert_eq!(scaling.fault(), None);
        }
        assert_eq!(RotaryScaling::of("linear", &[]), None);
        assert_eq!(RotaryScaling::of("llama3", &[8.0, 1.0, 4.0, 0.5]), None);
        let wrong = RotaryScaling::Linear { factor: 0.0 };
        assert!(wrong.fault().unwrap().contains("`factor`"));
    }

    #[test]
    fn slow_pairs_are_divided_and_fast_ones_stay() {
        let (plain, _) = RotaryScaling::None.angles(64, 10_000.0);
        for scaling in [
            RotaryScaling::Llama3 {
                factor: 8.0,
                low: 1.0,
                high: 4.0,
                original: 512,
            },
            RotaryScaling::Yarn {
                factor: 8.0,
                fast: 32.0,
                slow: 1.0,
                original: 512,
                attention: RotaryScaling::yarn_attention(8.0),
                whole: true,
            },
        ] {
            let (angles, _) = scaling.angles(64, 10_000.0);
            assert_eq!(angles[0], plain[0]);
            assert!((angles[31] - plain[31] / 8.0).abs() < 1e-15);
            for (scaled, plain) in angles.iter().zip(&plain) {
                assert!(*scaled <= *plain && *scaled >= plain / 8.0 * (1.0 - 1e-12));
            }
        }
    }
}
