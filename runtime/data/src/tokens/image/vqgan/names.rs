//! Name tables: how other software calls the settings and the weights of a VQGAN. One file of data for each, in
//! `namings/`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::settings::VqganSettings;
use crate::{Error, Result};

/// A setting of [`VqganSettings`], or one that must have a certain value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    jam: String,
    /// The path in the configuration, its parts divided by points.
    file: String,
    /// Its value where the configuration is silent, as JSON; empty where it must speak.
    #[serde(default)]
    default: String,
}

/// A setting with one value that is built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixed {
    file: String,
    /// As JSON.
    value: String,
}

/// The names of one software.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Naming {
    /// Its own name.
    pub naming: String,
    /// Where the settings may stand in the configuration.
    roots: Vec<String>,
    /// The field that tells the software's configuration from others.
    found_by: String,
    fields: Vec<Field>,
    fixed: Vec<Fixed>,
    scale: f64,
    /// What may stand before the names of weights.
    pub prefixes: Vec<String>,
    modules: Vec<(String, String)>,
    words: Vec<(String, String)>,
    /// Beginnings of names that carry nothing.
    ignored: Vec<String>,
}

/// The tables, as data.
const TABLES: [&str; 2] = [
    include_str!("namings/taming.ron"),
    include_str!("namings/transformers.ron"),
];

/// A field by its path; none where it is absent or null.
fn field<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    let parts = path.split('.').filter(|part| !part.is_empty());
    let found = parts
        .into_iter()
        .try_fold(json, |json, part| json.get(part));
    found.filter(|value| !value.is_null())
}

impl Naming {
    /// Every table.
    fn all() -> Result<Vec<Naming>> {
        let read = |text: &&str| {
            ron::from_str(text)
                .map_err(|error| Error::new(format!("a table of names is wrong: {error}")))
        };
        TABLES.iter().map(read).collect()
    }

    /// The table of the software that wrote a configuration, and what it says, checked; none where it describes
    /// no image tokenizer.
    ///
    /// # Errors
    /// When a setting is missing, of another kind, out of its range, or not built.
    pub fn of(configuration: &Value) -> Result<Option<(Naming, VqganSettings)>> {
        for naming in Self::all()? {
            let mut roots = naming
                .roots
                .iter()
                .filter_map(|root| field(configuration, root));
            if let Some(root) = roots.find(|root| field(root, &naming.found_by).is_some()) {
                let settings = naming.settings(root)?;
                return Ok(Some((naming, settings)));
            }
        }
        Ok(None)
    }

    /// What a configuration that one of the tables fits has, for people.
    pub fn known() -> Result<String> {
        let told = |naming: &Naming| {
            let root = naming.roots.first().filter(|root| !root.is_empty());
            let root = root.map_or(String::new(), |root| format!("{root}."));
            format!("{} (`{root}{}`)", naming.naming, naming.found_by)
        };
        Ok(Self::all()?
            .iter()
            .map(told)
            .collect::<Vec<_>>()
            .join(" and "))
    }

    fn settings(&self, root: &Value) -> Result<VqganSettings> {
        let wrong = |text: &String, error: serde_json::Error| {
            Error::new(format!("a table of names is wrong: {text}: {error}"))
        };
        for fixed in &self.fixed {
            let value: Value =
                serde_json::from_str(&fixed.value).map_err(|error| wrong(&fixed.value, error))?;
            if let Some(found) = field(root, &fixed.file).filter(|found| **found != value) {
                return Err(Error::new(format!(
                    "`{}` of the image tokenizer is {found}; only {value} is built",
                    fixed.file
                )));
            }
        }
        let mut settings = Map::new();
        for row in &self.fields {
            let value = match field(root, &row.file) {
                Some(value) => value.clone(),
                None if row.default.is_empty() => {
                    let message = format!("the image tokenizer has no `{}`", row.file);
                    return Err(Error::new(message));
                }
                None => serde_json::from_str(&row.default)
                    .map_err(|error| wrong(&row.default, error))?,
            };
            // One at a time, so that an error says which.
            let counts = value
                .as_array()
                .map_or(value.is_u64(), |all| all.iter().all(Value::is_u64));
            if !counts {
                let message = format!("`{}` of the image tokenizer is {value}", row.file);
                return Err(Error::new(message).with_help("sizes are whole numbers"));
            }
            settings.insert(row.jam.clone(), value);
        }
        settings.insert("scale".to_owned(), Value::from(self.scale));
        let settings: VqganSettings = serde_json::from_value(Value::Object(settings))
            .map_err(|error| Error::new(format!("the image tokenizer's settings: {error}")))?;
        settings.check()?;
        Ok(settings)
    }

    /// The name of a weight in files of this software, without what stands before it; none where it has no
    /// such weight.
    pub fn file_name(&self, name: &str) -> Option<String> {
        self.modules.iter().find_map(|(jam, file)| {
            let mut rest = name.split('.');
            let mut numbers = Vec::new();
            for part in jam.split('.') {
                match (part, rest.next()?) {
                    ("{}", number) => numbers.push(number),
                    (part, found) if part == found => {}
                    _ => return None,
                }
            }
            let mut numbers = numbers.into_iter();
            let mut parts: Vec<&str> = Vec::new();
            for part in file.split('.') {
                parts.push(if part == "{}" { numbers.next()? } else { part });
            }
            parts.extend(rest.map(|word| {
                let other = self.words.iter().find(|(jam, _)| jam == word);
                other.map_or(word, |(_, file)| file)
            }));
            Some(parts.join("."))
        })
    }

    /// Whether a name, without what stands before all, carries nothing.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|start| name.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::layers;
    use super::*;

    /// Chameleon's, which its folder need not tell.
    fn chameleon() -> (Naming, VqganSettings) {
        Naming::of(&json!({"vq_config": {"base_channels": 128, "attn_resolutions": null}}))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn names_are_those_of_the_software() {
        let (naming, _) = chameleon();
        for (jam, file) in [
            ("encoder.first.weight", "encoder.conv_in.weight"),
            (
                "encoder.levels.3.blocks.1.norm2.gain",
                "encoder.down.3.block.1.norm2.weight",
            ),
            (
                "encoder.levels.2.blocks.0.shortcut.bias",
                "encoder.down.2.block.0.nin_shortcut.bias",
            ),
            (
                "encoder.middle.attention.query.weight",
                "encoder.mid.attn_1.q.weight",
            ),
            ("encoder.latent.weight", "quant_conv.weight"),
            ("codebook", "quantize.embedding.weight"),
        ] {
            assert_eq!(naming.file_name(jam).as_deref(), Some(file));
        }
        assert_eq!(naming.file_name("decoder.first.weight"), None);
    }

    #[test]
    fn every_weight_has_a_name_and_no_two_the_same() {
        let taming = json!({
            "ddconfig": {"resolution": 64, "ch": 64, "ch_mult": [1, 2, 2], "num_res_blocks": 2,
                         "attn_resolutions": [16, 32], "z_channels": 8, "in_channels": 3},
            "n_embed": 16, "embed_dim": 4
        });
        let (naming, settings) = Naming::of(&taming).unwrap().unwrap();
        let (encoder, decoder) = (layers::encoder(&settings), layers::decoder(&settings));
        let mut weights = layers::weights(&encoder);
        weights.extend(layers::weights(&decoder));
        let names: std::collections::BTreeSet<String> = weights
            .iter()
            .map(|weight| naming.file_name(&weight.name).unwrap())
            .collect();
        assert_eq!(names.len(), weights.len());
        let (naming, settings) = chameleon();
        let weights = layers::weights(&layers::encoder(&settings));
        assert!(
            weights
                .iter()
                .all(|weight| naming.file_name(&weight.name).is_some())
        );
    }

    #[test]
    fn configurations_are_checked() {
        let with = |field: &str, value: Value| {
            let mut settings = json!({"base_channels": 32});
            settings[field] = value;
            Naming::of(&json!({"vq_config": settings}))
        };
        for (field, value, word) in [
            ("base_channels", json!(0), "`width`"),
            ("base_channels", json!(48), "32 groups"),
            ("base_channels", json!("wide"), "wide"),
            ("channel_multiplier", json!([1, -2]), "channel_multiplier"),
            ("channel_multiplier", json!(3), "settings"),
            ("double_latent", json!(true), "double_latent"),
            ("attn_type", json!("linear"), "attn_type"),
            ("resolution", json!(1u64 << 60), "`picture`"),
        ] {
            let error = with(field, value).map(|_| ()).unwrap_err();
            assert!(error.message.contains(word), "{field}: {}", error.message);
        }
        assert!(Naming::of(&json!({"hidden_size": 3})).unwrap().is_none());
        assert!(Naming::known().unwrap().contains("vq_config.base_channels"));
    }
}
