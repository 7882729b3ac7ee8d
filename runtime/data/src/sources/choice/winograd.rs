//! The Winograd schema collection (Levesque et al., 2012; Davis, Morgenstern and Ortiz): XML, often ISO-8859-1.

use std::path::Path;

use roxmltree::{Document, Node};

use super::item::{ChoiceItem, numbered, read_bytes};
use crate::{Error, Result};

/// Words that are written small where an option does not begin a sentence.
const STARTS: [&str; 10] = [
    "A", "An", "The", "She", "He", "It", "They", "My", "His", "Her",
];
/// Pronouns that ask for an owner: the option gets `'s`.
const OWNERS: [&str; 5] = ["my", "his", "her", "our", "their"];

/// Reads the collection.
pub(super) fn read(path: &Path) -> Result<Vec<ChoiceItem>> {
    let bytes = read_bytes(path)?;
    let text = decoded(&bytes).map_err(|what| Error::new(what).with_path(path))?;
    let document = Document::parse(&text)
        .map_err(|error| Error::new(format!("not XML: {error}")).with_path(path))?;
    let mut items = Vec::new();
    for schema in document
        .root_element()
        .children()
        .filter(|node| node.has_tag_name("schema"))
    {
        let number = items.len() + 1;
        let item =
            item(schema, numbered(path, number)).and_then(|item| item.check().map(|()| item));
        items.push(item.map_err(|what| {
            let line = document.text_pos_at(schema.range().start).row;
            Error::new(format!("line {line}, schema {number}: {what}")).with_path(path)
        })?);
    }
    Ok(items)
}

/// Bytes as text in the encoding that the XML declaration names; UTF-8 without one.
pub(super) fn decoded(bytes: &[u8]) -> std::result::Result<String, String> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let declaration = start.trim_start_matches('\u{feff}').strip_prefix("<?xml");
    let declaration = declaration
        .and_then(|rest| rest.split_once("?>"))
        .map(|(inside, _)| inside);
    let named = declaration
        .and_then(|inside| inside.split_once("encoding"))
        .and_then(|(_, rest)| {
            let rest = rest.trim_start().strip_prefix('=')?.trim_start();
            let quote = rest
                .chars()
                .next()
                .filter(|quote| ['"', '\''].contains(quote))?;
            rest[1..].split(quote).next().map(str::to_owned)
        });
    let label = named.unwrap_or_else(|| "utf-8".to_owned());
    let encoding = encoding_rs::Encoding::for_label(label.as_bytes())
        .ok_or_else(|| format!("the encoding `{label}` is not known"))?;
    let (text, _, damaged) = encoding.decode(bytes);
    if damaged {
        return Err(format!(
            "the file is not in the encoding `{label}` that it declares"
        ));
    }
    Ok(text.into_owned())
}

fn item(schema: Node<'_, '_>, id: String) -> std::result::Result<ChoiceItem, String> {
    let text = child(schema, "text")?;
    let before = words(child(text, "txt1")?);
    let pronoun = words(child(text, "pron")?);
    let after = words(child(text, "txt2")?);
    let answers: Vec<String> = child(schema, "answers")?
        .children()
        .filter(|node| node.has_tag_name("answer"))
        .map(words)
        .collect();
    // ` A  `, `B.  ` and ten more spellings.
    let correct = words(child(schema, "correctAnswer")?);
    let gold = match correct.trim_end_matches('.').trim() {
        "A" => 0,
        "B" => 1,
        other => return Err(format!("the correct answer is `{other}`, not A or B")),
    };
    let starts_sentence = before.is_empty() || before.ends_with(['.', '!', '?', ':', '"', '“']);
    let contexts: Vec<String> = answers
        .iter()
        .map(|answer| {
            let mut option = answer.clone();
            let first = answer.split(' ').next().unwrap_or_default();
            if !starts_sentence && STARTS.contains(&first) {
                option = format!("{}{}", first.to_lowercase(), &answer[first.len()..]);
            } else if starts_sentence {
                let mut letters = answer.chars();
                let capital = letters.next().map(|c| c.to_uppercase().to_string());
                option = capital.unwrap_or_default() + letters.as_str();
            }
            if OWNERS.contains(&pronoun.to_lowercase().as_str()) {
                option.push_str("'s");
            }
            if before.is_empty() {
                option
            } else {
                format!("{before} {option}")
            }
        })
        .collect();
    Ok(ChoiceItem::partial(id, &contexts, &after, gold))
}

pub(super) fn child<'a, 'i>(
    node: Node<'a, 'i>,
    name: &str,
) -> std::result::Result<Node<'a, 'i>, String> {
    let found = node.children().find(|child| child.has_tag_name(name));
    found.ok_or_else(|| format!("`<{}>` has no `<{name}>`", node.tag_name().name()))
}

/// The text of a node with single blanks between its words.
pub(super) fn words(node: Node<'_, '_>) -> String {
    let text: String = node
        .descendants()
        .filter_map(|part| part.text().filter(|_| part.is_text()))
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
