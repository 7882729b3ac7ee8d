//! Where the values of a JSON file lie: the elements of a list, or values one after the other.
//!
//! Only strings and brackets are looked at; what is no JSON is told when its record is read. So a file of any
//! size is indexed without holding more of it than a buffer.

use std::io::BufRead;
use std::path::Path;

use super::content::BYTE_ORDER_MARK;
use crate::{Error, Result};

/// First byte and number of bytes of every value.
///
/// # Errors
/// When the file cannot be read, or its list is not closed.
pub(super) fn ranges(mut reader: impl BufRead, path: &Path) -> Result<Vec<(u64, u64)>> {
    let mut found = Found::default();
    let mut at = 0u64;
    loop {
        let buffer = reader
            .fill_buf()
            .map_err(|error| Error::io("read", path, error))?;
        if buffer.is_empty() {
            break;
        }
        let mark = match at {
            0 if buffer.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
            _ => 0,
        };
        for (offset, byte) in buffer.iter().enumerate().skip(mark) {
            found.byte(*byte, at + offset as u64);
        }
        let count = buffer.len();
        at += count as u64;
        reader.consume(count);
    }
    found.end_value(at);
    if found.base > 0 || found.depth > 0 || found.in_string {
        return Err(Error::new("the file ends in the middle of its JSON").with_path(path));
    }
    Ok(found.ranges)
}

#[derive(Default)]
struct Found {
    ranges: Vec<(u64, u64)>,
    /// Where the value that is being read begins.
    start: Option<u64>,
    /// Open brackets, that of the list included.
    depth: u64,
    /// 1 inside of a list whose elements are the values.
    base: u64,
    in_string: bool,
    escaped: bool,
}

impl Found {
    fn byte(&mut self, byte: u8, at: u64) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.depth == self.base {
                        self.end_value(at + 1);
                    }
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'[' if self.depth == 0 && self.ranges.is_empty() && self.start.is_none() => {
                (self.depth, self.base) = (1, 1);
            }
            b']' if self.base == 1 && self.depth == 1 => {
                self.end_value(at);
                (self.depth, self.base) = (0, 0);
            }
            b'{' | b'[' => {
                self.start.get_or_insert(at);
                self.depth += 1;
            }
            b'}' | b']' => {
                self.start.get_or_insert(at);
                self.depth = self.depth.saturating_sub(1).max(self.base);
                if self.depth == self.base {
                    self.end_value(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {
                if self.depth == self.base {
                    self.end_value(at);
                }
            }
            b'"' => {
                self.start.get_or_insert(at);
                self.in_string = true;
            }
            _ => {
                self.start.get_or_insert(at);
            }
        }
    }

    fn end_value(&mut self, end: u64) {
        if let Some(start) = self.start.take() {
            self.ranges.push((start, end - start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let ranges = ranges(text.as_bytes(), Path::new("a.json")).unwrap();
        let value = |(start, bytes): (u64, u64)| {
            let range = start as usize..(start + bytes) as usize;
            text[range].to_owned()
        };
        ranges.into_iter().map(value).collect()
    }

    #[test]
    fn lists_and_rows_of_values_are_told_apart() {
        let tricky = r#"{"a": "]}\"\\", "b": [1, [2]]}"#;
        assert_eq!(
            values(&format!("[{tricky}, 3 ,\"x,y\"]")),
            [tricky, "3", "\"x,y\""]
        );
        assert_eq!(values(&format!("\u{feff} [\n{tricky}\n]\n")), [tricky]);
        assert_eq!(values(&format!("{tricky}\n{tricky}")), [tricky, tricky]);
        assert_eq!(values("{\n \"a\": 1\n}\n"), ["{\n \"a\": 1\n}"]);
        assert_eq!(values("[[1], [2]]"), ["[1]", "[2]"]);
        assert!(values("[]").is_empty() && values(" \n").is_empty());
        for cut in ["[1, 2", "{\"a\": 1", "\"x"] {
            assert!(
                ranges(cut.as_bytes(), Path::new("a.json")).is_err(),
                "{cut}"
            );
        }
    }
}
