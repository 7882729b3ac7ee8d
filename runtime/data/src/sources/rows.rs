//! Tables of text (CSV, TSV): a record a row, under the names of the first row.

use std::io::Read;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use serde_json::Value;

use super::content::BYTE_ORDER_MARK;
use crate::{Error, Result};

/// Where the rows of a table lie.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The names of the columns.
    pub(super) names: Vec<String>,
    /// First byte and number of bytes of every row after it.
    pub(super) rows: Vec<(u64, u64)>,
}

/// Finds the rows of a table.
///
/// # Errors
/// When the file cannot be read, is not UTF-8, or a row has other fields than the first.
pub(super) fn index(reader: impl Read, delimiter: u8, path: &Path) -> Result<Table> {
    let wrong = |error: csv::Error| match error.position() {
        // Records count from the names, which are number 0.
        Some(place) => Error::new(format!("record {}: {error}", place.record())).with_path(path),
        None => Error::new(format!("not a table: {error}")).with_path(path),
    };
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(reader);
    let mark = |name: &str| {
        let bytes = name.as_bytes().strip_prefix(BYTE_ORDER_MARK);
        bytes.map_or_else(
            || name.to_owned(),
            |bytes| String::from_utf8_lossy(bytes).into_owned(),
        )
    };
    let names: Vec<String> = reader.headers().map_err(wrong)?.iter().map(mark).collect();
    let mut table = Table {
        names,
        rows: Vec::new(),
    };
    let mut row = StringRecord::new();
    loop {
        let start = reader.position().clone();
        if !reader.read_record(&mut row).map_err(wrong)? {
            return Ok(table);
        }
        let bytes = reader.position().byte() - start.byte();
        table.rows.push((start.byte(), bytes));
    }
}

/// The row in these bytes as a JSON object of strings.
pub(super) fn record(
    bytes: &[u8],
    delimiter: u8,
    names: &[String],
) -> std::result::Result<Value, String> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .from_reader(bytes);
    let row = reader.records().next().ok_or("there is no row")?;
    let row = row.map_err(|error| format!("not a row: {error}"))?;
    let fields = names.iter().zip(&row);
    Ok(Value::Object(
        fields
            .map(|(name, field)| (name.clone(), Value::String(field.to_owned())))
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_whatever_their_fields_hold() {
        let text = "\u{feff}id,text\r\n1,plain\r\n\r\n2,\"a \"\"b\"\",\nnext line\"\n3,\u{e9}";
        let table = index(text.as_bytes(), b',', Path::new("a.csv")).unwrap();
        assert_eq!(table.names, ["id", "text"]);
        let read = |(start, bytes): &(u64, u64)| {
            let bytes = &text.as_bytes()[*start as usize..(start + bytes) as usize];
            record(bytes, b',', &table.names).unwrap()["text"].clone()
        };
        let texts: Vec<Value> = table.rows.iter().map(read).collect();
        assert_eq!(texts, ["plain", "a \"b\",\nnext line", "\u{e9}"]);
        let uneven = index("a,b\n1,2\n3\n".as_bytes(), b',', Path::new("a.csv")).unwrap_err();
        assert!(uneven.message.starts_with("record 2: "), "{uneven}");
    }
}
