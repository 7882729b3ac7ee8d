//! The formats in JSON lines and CSV.

use std::path::Path;

use serde_json::Value;

use super::super::content::without_mark;
use super::item::{ChoiceItem, numbered, read_bytes};
use crate::{Error, Result};

/// A record of a file: the JSON, the number of its line from 1, and its number among the records from 0.
pub(super) struct Record {
    pub(super) json: Value,
    line: usize,
    index: usize,
}

impl Record {
    pub(super) fn string(&self, field: &str) -> std::result::Result<&str, String> {
        text_of(&self.json, field)
    }

    /// A label: a string, or a number as one; `None` where there is none, or an empty one.
    pub(super) fn label(&self, field: &str) -> Option<String> {
        let label = match self.json.get(field)? {
            Value::String(label) => label.trim().to_owned(),
            Value::Number(label) => label.to_string(),
            _ => return None,
        };
        (!label.is_empty()).then_some(label)
    }

    /// The item's own name, or its file and line.
    pub(super) fn id(&self, path: &Path) -> String {
        let own = ["id", "qID"]
            .iter()
            .find_map(|field| self.json.get(field)?.as_str());
        own.map_or_else(|| numbered(path, self.line), str::to_owned)
    }
}

fn text_of<'a>(json: &'a Value, field: &str) -> std::result::Result<&'a str, String> {
    let value = json
        .get(field)
        .ok_or_else(|| format!("there is no `{field}`"))?;
    value
        .as_str()
        .ok_or_else(|| format!("`{field}` is not a string"))
}

/// Every record of a file of JSON lines as an item; mistakes get their file and line.
pub(super) fn items(
    path: &Path,
    make: impl Fn(&Record) -> std::result::Result<ChoiceItem, String>,
) -> Result<Vec<ChoiceItem>> {
    let bytes = read_bytes(path)?;
    let mut items = Vec::new();
    for (number, line) in without_mark(&bytes, path)?
        .split(|byte| *byte == b'\n')
        .enumerate()
    {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong =
            |what: String| Error::new(format!("line {}: {what}", number + 1)).with_path(path);
        let json =
            serde_json::from_slice(line).map_err(|error| wrong(format!("not JSON: {error}")))?;
        let record = Record {
            json,
            line: number + 1,
            index: items.len(),
        };
        let item = make(&record).map_err(wrong)?;
        item.check().map_err(wrong)?;
        items.push(item);
    }
    Ok(items)
}

/// The lines of the file of labels beside a file of items (`dev.jsonl`, `dev-labels.lst`); `None` where there is
/// none.
fn labels(path: &Path) -> Result<Option<Vec<String>>> {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy())
        .unwrap_or_default();
    let beside = path.with_file_name(format!("{stem}-labels.lst"));
    if !beside.is_file() {
        return Ok(None);
    }
    let bytes = read_bytes(&beside)?;
    let text = String::from_utf8_lossy(without_mark(&bytes, &beside)?).into_owned();
    Ok(Some(
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect(),
    ))
}

/// As many labels as items: anything else means that the two files do not belong together.
fn same_number(path: &Path, items: &[ChoiceItem], labels: Option<&Vec<String>>) -> Result<()> {
    match labels {
        Some(labels) if labels.len() != items.len() => Err(Error::new(format!(
            "{} items and {} labels in the file beside it",
            items.len(),
            labels.len()
        ))
        .with_path(path)),
        _ => Ok(()),
    }
}

/// `{question, choices, gold}`; `query` is read as `question`.
pub(super) fn plain(path: &Path) -> Result<Vec<ChoiceItem>> {
    items(path, |record| plain_item(path, record))
}

pub(super) fn plain_item(path: &Path, record: &Record) -> std::result::Result<ChoiceItem, String> {
    let field = if record.json.get("question").is_some() {
        "question"
    } else {
        "query"
    };
    let question = record.string(field)?;
    let list = record.json.get("choices").and_then(Value::as_array);
    let choices = strings(list.ok_or("`choices` is not a list")?, "a choice")?;
    let gold = record.label("gold").and_then(|gold| gold.parse().ok());
    let gold = gold.ok_or("`gold` is not the number of a choice, from 0")?;
    Ok(ChoiceItem::completed(
        record.id(path),
        question,
        &choices,
        gold,
    ))
}

/// A list of strings.
fn strings<'a>(list: &'a [Value], what: &str) -> std::result::Result<Vec<&'a str>, String> {
    let strings: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    strings.ok_or_else(|| format!("{what} is not a string"))
}

/// PIQA (Bisk et al., 2020): labels 0 and 1 in a file beside, or under `label`.
pub(super) fn piqa(path: &Path) -> Result<Vec<ChoiceItem>> {
    let labels = labels(path)?;
    let items = items(path, |record| {
        let own = record.label("label");
        let beside = labels
            .as_ref()
            .and_then(|labels| labels.get(record.index).cloned());
        let label = own
            .or(beside)
            .ok_or("the item has no label: put `…-labels.lst` beside the file")?;
        let gold = match label.as_str() {
            "0" => 0,
            "1" => 1,
            other => return Err(format!("the label is `{other}`, not 0 or 1")),
        };
        let context = format!("Question: {}\nAnswer:", record.string("goal")?);
        let choices = [record.string("sol1")?, record.string("sol2")?];
        Ok(ChoiceItem::completed(
            record.id(path),
            &context,
            &choices,
            gold,
        ))
    })?;
    same_number(path, &items, labels.as_ref())?;
    Ok(items)
}

/// ARC (Clark et al., 2018): labels are A to E in most items and 1 to 5 in some, so that gold is the choice whose
/// own label is the key. As it was published the choices stand in the question, a text and a label each; on the
/// hub beside it, the texts and the labels.
pub(super) fn arc(path: &Path) -> Result<Vec<ChoiceItem>> {
    items(path, |record| {
        let question = record
            .json
            .get("question")
            .ok_or("there is no `question`")?;
        let (stem, choices, labels) = match (question.as_str(), record.json.get("choices")) {
            (Some(stem), Some(choices)) => {
                let list = |field: &str| {
                    let list = choices.get(field).and_then(Value::as_array);
                    strings(
                        list.ok_or_else(|| format!("`choices.{field}` is not a list"))?,
                        &format!("an entry of `choices.{field}`"),
                    )
                };
                (stem, list("text")?, list("label")?)
            }
            (Some(_), None) => return Err("there is no `choices`".to_owned()),
            (None, _) => {
                let list = question.get("choices").and_then(Value::as_array);
                let list = list.ok_or("`question.choices` is not a list")?;
                let field = |field: &'static str| {
                    let texts = list.iter().map(move |choice| text_of(choice, field));
                    texts.collect::<std::result::Result<Vec<_>, _>>()
                };
                (text_of(question, "stem")?, field("text")?, field("label")?)
            }
        };
        if choices.len() != labels.len() {
            return Err(format!(
                "{} choices and {} labels",
                choices.len(),
                labels.len()
            ));
        }
        let key = record.label("answerKey").ok_or("there is no `answerKey`")?;
        let mut right = labels
            .iter()
            .enumerate()
            .filter(|(_, label)| **label == key);
        let gold = right.next().map(|(index, _)| index);
        let gold = gold.ok_or_else(|| format!("no choice has the label `{key}`"))?;
        if right.next().is_some() {
            return Err(format!("two choices have the label `{key}`"));
        }
        let context = format!("Question: {stem}\nAnswer:");
        Ok(ChoiceItem::completed(
            record.id(path),
            &context,
            &choices,
            gold,
        ))
    })
}

/// WinoGrande (Sakaguchi et al., 2019): `_` in the sentence stands for one of two options.
pub(super) fn winogrande(path: &Path) -> Result<Vec<ChoiceItem>> {
    let labels = labels(path)?;
    let items = items(path, |record| {
        let own = record.label("answer");
        let beside = labels
            .as_ref()
            .and_then(|labels| labels.get(record.index).cloned());
        let answer = own.or(beside).ok_or("the item has no answer")?;
        let gold = match answer.as_str() {
            "1" => 0,
            "2" => 1,
            other => return Err(format!("the answer is `{other}`, not 1 or 2")),
        };
        let sentence = record.string("sentence")?;
        let (before, after) = sentence.split_once('_').ok_or("the sentence has no `_`")?;
        let contexts = [record.string("option1")?, record.string("option2")?]
            .map(|option| format!("{before}{}", option.trim()));
        Ok(ChoiceItem::partial(record.id(path), &contexts, after, gold))
    })?;
    same_number(path, &items, labels.as_ref())?;
    Ok(items)
}

/// StoryCloze (Mostafazadeh et al., 2016): CSV with a header; the right ending is 1 or 2.
pub(super) fn storycloze(path: &Path) -> Result<Vec<ChoiceItem>> {
    let bytes = read_bytes(path)?;
    let mut reader = csv::ReaderBuilder::new().from_reader(without_mark(&bytes, path)?);
    let wrong =
        |line: usize, what: String| Error::new(format!("line {line}: {what}")).with_path(path);
    let header = reader
        .headers()
        .map_err(|error| wrong(1, error.to_string()))?
        .clone();
    let column = |name: &str| {
        let found = header.iter().position(|found| found == name);
        found.ok_or_else(|| wrong(1, format!("there is no column `{name}`")))
    };
    let mut sentences = Vec::new();
    for number in 1..=4 {
        sentences.push(column(&format!("InputSentence{number}"))?);
    }
    let endings = [
        column("RandomFifthSentenceQuiz1")?,
        column("RandomFifthSentenceQuiz2")?,
    ];
    let right = column("AnswerRightEnding")?;
    let id = column("InputStoryid").ok();
    let mut items = Vec::new();
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(|error| wrong(index + 2, error.to_string()))?;
        let line = row
            .position()
            .map_or(index + 2, |position| position.line() as usize);
        // The reader refuses rows of another length than the header.
        let field = |at: usize| row.get(at).unwrap_or_default().trim();
        let gold = match field(right) {
            "1" => 0,
            "2" => 1,
            other => {
                return Err(wrong(
                    line,
                    format!("the right ending is `{other}`, not 1 or 2"),
                ));
            }
        };
        let context = sentences
            .iter()
            .map(|at| field(*at))
            .collect::<Vec<_>>()
            .join(" ");
        let name = id.map(field).filter(|id| !id.is_empty());
        let name = name.map_or_else(|| numbered(path, line), str::to_owned);
        let item = ChoiceItem::completed(name, &context, &endings.map(field), gold);
        item.check().map_err(|what| wrong(line, what))?;
        items.push(item);
    }
    Ok(items)
}
