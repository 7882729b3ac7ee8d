//! Settings that others imply, and those that they rule out.

use std::fmt;

use crate::{SettingValue, Settings, Signature};

/// A given setting that another given setting rules out.
#[derive(Clone, Debug, PartialEq)]
pub struct Contradiction {
    /// The setting that decides.
    pub by: String,
    /// Its value.
    pub value: SettingValue,
    /// The setting that does not fit it.
    pub setting: String,
    /// The value given.
    pub given: SettingValue,
    /// The value that fits.
    pub wanted: SettingValue,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contradiction {
            by,
            value,
            setting,
            given,
            wanted,
        } = self;
        write!(
            f,
            "`{by}: {value}` means `{setting}: {wanted}`, and `{setting}: {given}` is given"
        )
    }
}

impl Signature {
    /// The value of every setting where the program is silent, but for those that it must give.
    pub fn defaults(&self) -> Settings {
        crate::setting::defaults(&self.settings)
    }

    /// All settings of a use, of which a program gives some: what these imply and, for the rest, defaults are filled
    /// in. Given values are of their kinds.
    ///
    /// # Errors
    /// Every given setting that another one rules out.
    pub fn complete(&self, given: &Settings) -> Result<Settings, Vec<Contradiction>> {
        let mut settings = self.defaults();
        let mut contradictions = Vec::new();
        for signature in &self.settings {
            let Some(value) = given.get(&signature.name) else {
                continue;
            };
            let implied = signature.implies.iter().filter(|(of, _)| of == value);
            for (name, wanted) in implied.flat_map(|(_, others)| others) {
                match given.get(name) {
                    Some(other) if other != wanted => contradictions.push(Contradiction {
                        by: signature.name.clone(),
                        value: value.clone(),
                        setting: name.clone(),
                        given: other.clone(),
                        wanted: wanted.clone(),
                    }),
                    _ => {
                        settings.insert(name.clone(), wanted.clone());
                    }
                }
            }
        }
        for (name, value) in given {
            settings.insert(name.clone(), value.clone());
        }
        let place = |name: &String| self.settings.iter().position(|of| of.name == *name);
        settings.sort_by(|first, _, second, _| place(first).cmp(&place(second)));
        match contradictions.is_empty() {
            true => Ok(settings),
            false => Err(contradictions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SettingSignature;

    fn setting(name: &str, words: &[&str]) -> SettingSignature {
        SettingSignature::word(name, words, "")
    }

    fn given(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter();
        pairs
            .map(|(name, word)| ((*name).to_owned(), SettingValue::Word((*word).to_owned())))
            .collect()
    }

    #[test]
    fn what_a_value_implies_stands_before_defaults_and_against_other_values() {
        let start = setting("start", &["paper", "parents"]);
        let parents = SettingValue::Word("parents".to_owned());
        let signature = Signature::new("s", "").with([
            setting("head", &["joint", "rows"]),
            setting("at", &["first", "last"]),
            start.implying(parents, given(&[("head", "rows")])),
        ]);
        let complete = |pairs: &[(&str, &str)]| signature.complete(&given(pairs));
        let all = |head, at, start| Ok(given(&[("head", head), ("at", at), ("start", start)]));
        assert_eq!(complete(&[]), all("joint", "first", "paper"));
        assert_eq!(
            complete(&[("start", "parents"), ("at", "last")]),
            all("rows", "last", "parents")
        );
        let consistent = complete(&[("head", "rows"), ("start", "parents")]);
        assert_eq!(consistent, all("rows", "first", "parents"));
        assert_eq!(
            complete(&[("head", "rows")]),
            all("rows", "first", "paper"),
            "nothing is implied backwards"
        );
        let found = complete(&[("start", "parents"), ("head", "joint")]).unwrap_err();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "`start: parents` means `head: rows`, and `head: joint` is given"
        );
    }
}
