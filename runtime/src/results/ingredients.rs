//! What a result is made from, by name, and the key that follows.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most ingredients that a report of a change names.
const TOLD: usize = 4;

/// What a result is made from: settings of its recipe by their path (`optimizer.lr`), files by name
/// (`file data/a.jsonl`) with the hash of their contents, results before it (`step fuse both`) with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ingredients(IndexMap<String, String>);

impl Ingredients {
    /// Adds an ingredient; one that is there already stays where it is.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Adds a file with the hash of its contents, and what it is a file of: the same file may be several's, and be read
    /// twice by one.
    pub(crate) fn add_file(&mut self, file: &str, owner: &str, hash: String) {
        let mut name = format!("file {file} #{owner}");
        while self.0.contains_key(&name) {
            name.push('+');
        }
        self.0.insert(name, hash);
    }

    /// Name and value of every ingredient.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The key of what is made from them: BLAKE3, 32 hexadecimal digits.
    pub fn key(&self) -> String {
        self.key_of(&|_| true)
    }

    /// The key of those ingredients whose names pass.
    pub fn key_of(&self, passes: &dyn Fn(&str) -> bool) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            // With its length, so that no two lists run together.
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for (name, value) in self.iter().filter(|(name, _)| passes(name)) {
            text(name);
            text(value);
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// What has changed since these were `before`, in words; `place` tells where the program says a setting.
    pub fn changes(
        &self,
        before: &Ingredients,
        place: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<String> {
        // What was made or lies elsewhere has no line.
        let written = |name: &str| !name.starts_with("step ") && !name.contains("file ");
        let place = |name: &str| place(name).filter(|_| written(name));
        let at = |name: &str| place(name).map_or_else(String::new, |place| format!(" ({place})"));
        let mut told = Vec::new();
        for (name, value) in self.iter() {
            match before.0.get(name) {
                Some(old) if old == value => {}
                Some(old) => told.push(changed(name, old, value) + &at(name)),
                None => told.push(format!("{} is new{}", named(name), at(name))),
            }
        }
        for (name, _) in before.iter() {
            if !self.0.contains_key(name) {
                told.push(format!("{} is gone", named(name)));
            }
        }
        told
    }

    /// [`Ingredients::changes`] as one sentence without an end.
    pub fn told_changes(
        &self,
        before: &Ingredients,
        place: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let mut all: Vec<String> = Vec::new();
        // A file that several read is told once.
        for change in self.changes(before, place) {
            if !all.contains(&change) {
                all.push(change);
            }
        }
        let more = all.len().saturating_sub(TOLD);
        all.truncate(TOLD);
        if more > 0 {
            all.push(format!("{more} more"));
        }
        all.join("; ")
    }
}

/// An ingredient as a person would call it.
fn named(name: &str) -> String {
    // Whose a file is tells its key apart, and is of no interest here.
    let name = match name.starts_with("file ") {
        true => name.split(" #").next().unwrap_or(name),
        false => name,
    };
    match name.split_once(' ') {
        Some(("file", path)) => format!("the file {path}"),
        Some(("step", step)) => format!("`{step}`"),
        Some(("graph", model)) => format!("the graph of `{model}`"),
        _ => format!("`{name}`"),
    }
}

fn changed(name: &str, old: &str, new: &str) -> String {
    /// Longest value that is shown.
    const SHOWN: usize = 120;
    match name.split_once(' ') {
        Some(("file", _)) => format!("{} has changed", named(name)),
        Some(("step", _)) => format!("{} is another", named(name)),
        Some(("graph", _)) => format!("{} has changed", named(name)),
        _ if old.len() > SHOWN || new.len() > SHOWN => format!("{} has changed", named(name)),
        _ => format!("{} was {old} and is {new}", named(name)),
    }
}

/// A value as lines: the path of every number, word and list in it. Places in a program are left out.
pub fn lines(prefix: &str, value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(prefix, value, &mut found);
    found
}

fn walk(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    if let Some((word, settings)) = value.as_object().and_then(called) {
        found.push((path.to_owned(), word.to_owned()));
        for (name, value) in settings {
            found.push((format!("{path}.{name}"), setting(value)));
        }
        return;
    }
    match value {
        Value::Object(fields) if reference(fields).is_none() => {
            for (name, value) in fields {
                if name == "span" || name.ends_with("_spans") {
                    continue;
                }
                let path = match path.is_empty() {
                    true => name.clone(),
                    false => format!("{path}.{name}"),
                };
                walk(&path, value, found);
            }
        }
        value => found.push((path.to_owned(), leaf(value))),
    }
}

type Fields = serde_json::Map<String, Value>;

/// The word of a call, and its settings.
fn called(fields: &Fields) -> Option<(&str, &Fields)> {
    let word = fields.get("name")?.as_str()?;
    let settings = fields.get("settings")?.as_object()?;
    (fields.len() == 2).then_some((word, settings))
}

/// The value of a setting as a program writes it, without what its kind is called in the IR.
fn setting(value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.len() == 1 => fields.values().map(setting).collect(),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(setting).collect();
            format!("[{}]", all.join(", "))
        }
        value => leaf(value),
    }
}

/// A call as a program writes it.
fn call((word, settings): (&str, &Fields)) -> String {
    let settings = settings.iter();
    let settings: Vec<String> = settings
        .map(|(name, value)| format!("{name}: {}", setting(value)))
        .collect();
    format!("{word}({})", settings.join(", "))
}

/// A reference to data or a model, as a program writes it.
fn reference(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let name = text("name").filter(|_| fields.len() == 2)?;
    match (text("split"), text("checkpoint")) {
        (Some(split), _) => Some(format!("{name}.{split}")),
        (_, Some("Last")) => Some(name.to_owned()),
        (_, Some("Best")) => Some(format!("{name}.best")),
        _ => None,
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(leaf).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Object(fields) if called(fields).is_some() => {
            called(fields).map(call).unwrap_or_default()
        }
        Value::Object(fields) => reference(fields).unwrap_or_else(|| {
            let all = fields
                .iter()
                .filter(|(name, _)| *name != "span" && !name.ends_with("_spans"));
            let all: Vec<String> = all
                .map(|(name, value)| format!("{name}: {}", leaf(value)))
                .collect();
            format!("{{{}}}", all.join(", "))
        }),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(all: &[(&str, &str)]) -> Ingredients {
        let mut ingredients = Ingredients::default();
        all.iter()
            .for_each(|(name, value)| ingredients.add(*name, *value));
        ingredients
    }

    #[test]
    fn a_recipe_is_told_by_paths_without_places() {
        let recipe = json!({
            "optimizer": {"name": "adamw", "settings": {
                "lr": {"Number": 0.001},
                "betas": {"List": [{"Number": 0.9}, {"Number": 0.95}]},
            }},
            "measures": [{"name": "drawn", "settings": {
                "data": {"Data": {"name": "pairs", "split": "val"}},
                "decode": {"Decode": "answer"},
            }}],
            "model": {"name": "tune", "checkpoint": "Best"},
            "data": [[0.5, {"name": "pairs", "split": "train"}]],
            "span": {"file": 0, "start": 3, "end": 9},
            "batch": {"Rows": 4}, "parent_spans": [null],
        });
        let found = lines("", &recipe);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let mut expected = vec![
            ("optimizer", "adamw"),
            ("optimizer.lr", "0.001"),
            ("optimizer.betas", "[0.9, 0.95]"),
            ("measures", "[drawn(data: pairs.val, decode: answer)]"),
            ("model", "tune.best"),
            ("data", "[[0.5, pairs.train]]"),
            ("batch.Rows", "4"),
        ];
        expected.sort_unstable();
        let mut found = found;
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_key_is_of_names_and_values_and_of_nothing_else() {
        let one = of(&[("steps", "6"), ("file a", "77")]);
        assert_eq!(one.key(), of(&[("steps", "6"), ("file a", "77")]).key());
        for other in [
            of(&[("steps", "8"), ("file a", "77")]),
            of(&[("step", "s6"), ("file a", "77")]),
            of(&[("steps", "6")]),
        ] {
            assert_ne!(one.key(), other.key());
        }
        let base = |it: &Ingredients| it.key_of(&|name| name != "steps");
        assert_eq!(base(&one), base(&of(&[("steps", "8"), ("file a", "77")])));
    }

    #[test]
    fn changes_are_told_in_words() {
        let before = of(&[
            ("lr", "0.1"),
            ("file a.txt", "1"),
            ("step fuse x", "k"),
            ("old", "1"),
        ]);
        let now = of(&[
            ("lr", "0.2"),
            ("file a.txt", "2"),
            ("step fuse x", "l"),
            ("new", "1"),
        ]);
        let place = |name: &str| (name == "lr").then(|| "a.jam:4".to_owned());
        assert_eq!(
            now.changes(&before, &place),
            [
                "`lr` was 0.1 and is 0.2 (a.jam:4)",
                "the file a.txt has changed",
                "`fuse x` is another",
                "`new` is new",
                "`old` is gone",
            ]
        );
        assert!(now.told_changes(&before, &place).ends_with("; 1 more"));
        assert!(before.changes(&before, &place).is_empty());
    }
}
