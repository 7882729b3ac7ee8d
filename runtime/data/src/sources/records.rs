//! One JSON record as a document.
//!
//! A function a kind of data; each gets the record, the folder that pictures are named from, and the id that
//! stands in where the record has none. What is wrong comes back as a sentence; the caller knows the place.

use std::path::{Component, Path};

use serde_json::Value;

use super::{Document, PictureRef, Segment};

type Made = Result<Document, String>;

/// Plain text in one field.
pub(super) fn text(json: Value, field: &str, id: String) -> Made {
    let text = string(&json, field)?.to_owned();
    Ok(document(json, id, None, vec![Segment::Text(text)]))
}

/// A caption, and a picture named by its path: `{image, caption}`.
pub(super) fn captioned(json: Value, folder: &Path, id: String) -> Made {
    let picture = picture(string(&json, "image")?, folder)?;
    let caption = caption(&json)?;
    Ok(document(
        json,
        id,
        None,
        vec![Segment::Text(caption), Segment::Picture(picture)],
    ))
}

/// An article: `{id, prompt, segments: [{text} | {image}]}`. The prompt may be missing.
pub(super) fn interleaved(json: Value, folder: &Path, id: String) -> Made {
    let parts = json.get("segments").and_then(Value::as_array);
    let parts = parts.ok_or("`segments` is not a list")?;
    let mut segments = Vec::with_capacity(parts.len());
    for part in parts {
        match (given(part, "text"), given(part, "image")) {
            (Some(_), None) => {
                let text = string(part, "text")?;
                // An empty text says as much as none.
                if !is_blank(text) {
                    segments.push(Segment::Text(text.to_owned()));
                }
            }
            (None, Some(_)) => {
                segments.push(Segment::Picture(picture(string(part, "image")?, folder)?));
            }
            _ => return Err("a segment has to have either `text` or `image`".to_owned()),
        }
    }
    let prompt = match given(&json, "prompt") {
        None => None,
        Some(_) => Some(string(&json, "prompt")?.to_owned()),
    };
    let prompt = prompt.filter(|prompt| !is_blank(prompt));
    Ok(document(json, id, prompt, segments))
}

/// A question and its answer: `{prompt, response}`.
pub(super) fn instruct(json: Value, id: String) -> Made {
    let prompt = string(&json, "prompt")?.to_owned();
    let response = string(&json, "response")?.to_owned();
    Ok(document(
        json,
        id,
        Some(prompt),
        vec![Segment::Text(response)],
    ))
}

/// The caption of a record: `caption`, or the first of `captions`, without white space at its ends and in one
/// line (published captions have both).
pub(super) fn caption(json: &Value) -> Result<String, String> {
    let first = || {
        let captions = given(json, "captions")?.as_array()?;
        captions.iter().find(|caption| !caption.is_null())
    };
    let caption = given(json, "caption").or_else(first);
    let caption = caption.ok_or("the record has no `caption`")?.as_str();
    Ok(one_line(caption.ok_or("`caption` is not a string")?))
}

/// Whether there is nothing to learn from a text. Readers have one rule for such texts: a record that has no
/// more is left out, and counted (see `split`).
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Without white space at the ends; line breaks become blanks.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

fn document(json: Value, id: String, prompt: Option<String>, segments: Vec<Segment>) -> Document {
    let own = match json.get("id") {
        Some(Value::String(own)) => Some(own.clone()),
        Some(Value::Number(own)) => Some(own.to_string()),
        _ => None,
    };
    Document {
        id: own.unwrap_or(id),
        prompt,
        segments,
        meta: json,
    }
}

/// A field that says something: `null` is as absent.
fn given<'a>(json: &'a Value, field: &str) -> Option<&'a Value> {
    json.get(field).filter(|value| !value.is_null())
}

fn string<'a>(json: &'a Value, field: &str) -> Result<&'a str, String> {
    given(json, field)
        .ok_or_else(|| format!("the record has no `{field}`"))?
        .as_str()
        .ok_or_else(|| format!("`{field}` is not a string"))
}

/// A picture below `folder`: a record cannot name a file elsewhere.
fn picture(name: &str, folder: &Path) -> Result<PictureRef, String> {
    let path = Path::new(name);
    let inside = !name.is_empty()
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!(
            "the picture `{name}` is not in the folder of its record"
        ));
    }
    Ok(PictureRef::file(folder.join(path)))
}
