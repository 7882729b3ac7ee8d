//! COPA (Roemmele, Bejan and Gordon, 2011): which of two alternatives is the cause, or the effect.
//!
//! Read in three forms: the XML of its publication, SuperGLUE's JSON lines, and items that are asked already
//! (`{query, choices, gold}`). Asked as lm-evaluation-harness does: the premise without its full stop, then
//! `because` or `therefore`, then an alternative with a small first letter.

use std::path::Path;

use roxmltree::{Document, Node};

use super::formats;
use super::item::{ChoiceItem, numbered, read_bytes};
use super::winograd::{child, decoded, words};
use crate::{Error, Result};

type Made = std::result::Result<ChoiceItem, String>;

/// What is asked for, and the word that asks for it.
const ASKED: [(&str, &str); 2] = [("cause", "because"), ("effect", "therefore")];

/// Reads a file in one of the three forms.
pub(super) fn read(path: &Path) -> Result<Vec<ChoiceItem>> {
    let is_xml = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("xml"));
    if is_xml {
        return read_xml(path);
    }
    formats::items(path, |record| {
        if record.json.get("premise").is_none() {
            return formats::plain_item(path, record);
        }
        let label = record.label("label").ok_or("there is no `label`")?;
        let gold = number(&label, 0)?;
        let choices = [record.string("choice1")?, record.string("choice2")?];
        let asked = record.string("question")?;
        asked_item(
            record.id(path),
            record.string("premise")?,
            asked,
            choices,
            gold,
        )
    })
}

fn read_xml(path: &Path) -> Result<Vec<ChoiceItem>> {
    let bytes = read_bytes(path)?;
    let text = decoded(&bytes).map_err(|what| Error::new(what).with_path(path))?;
    // The publication names a DTD that is not looked at.
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        nodes_limit: 1_000_000,
        ..roxmltree::ParsingOptions::default()
    };
    let document = Document::parse_with_options(&text, options)
        .map_err(|error| Error::new(format!("not XML: {error}")).with_path(path))?;
    let mut items = Vec::new();
    let nodes = document.root_element().children();
    for node in nodes.filter(|node| node.has_tag_name("item")) {
        let item = xml_item(node, numbered(path, items.len() + 1));
        let item = item.and_then(|item| item.check().map(|()| item));
        items.push(item.map_err(|what| {
            let line = document.text_pos_at(node.range().start).row;
            Error::new(format!("line {line}: {what}")).with_path(path)
        })?);
    }
    Ok(items)
}

fn xml_item(node: Node<'_, '_>, id: String) -> Made {
    let attribute = |name: &str| {
        let found = node.attribute(name);
        found.ok_or_else(|| format!("`<item>` has no `{name}`"))
    };
    let gold = number(attribute("most-plausible-alternative")?, 1)?;
    let [premise, first, second] = ["p", "a1", "a2"].map(|name| child(node, name).map(words));
    let (first, second) = (first?, second?);
    asked_item(
        id,
        &premise?,
        attribute("asks-for")?,
        [&first, &second],
        gold,
    )
}

/// The right alternative, counted from `first` in the file and from 0 here.
fn number(label: &str, first: usize) -> std::result::Result<usize, String> {
    let found = label
        .parse()
        .ok()
        .filter(|found| (first..=first + 1).contains(found));
    let found: usize =
        found.ok_or_else(|| format!("the right one is `{label}`, not {first} or {}", first + 1))?;
    Ok(found - first)
}

fn asked_item(id: String, premise: &str, asked: &str, choices: [&str; 2], gold: usize) -> Made {
    let word = ASKED.iter().find(|(known, _)| *known == asked);
    let (_, word) =
        word.ok_or_else(|| format!("`{asked}` is asked for, not `cause` or `effect`"))?;
    let premise = premise.trim();
    let premise = premise.strip_suffix('.').unwrap_or(premise);
    let choices = choices.map(|choice| {
        let mut letters = choice.trim().chars();
        let first = letters.next().map(|first| first.to_lowercase().to_string());
        first.unwrap_or_default() + letters.as_str()
    });
    let choices = [choices[0].as_str(), choices[1].as_str()];
    Ok(ChoiceItem::completed(
        id,
        &format!("{premise} {word}"),
        &choices,
        gold,
    ))
}
