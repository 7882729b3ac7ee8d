//! What the ending of a file's name says of its records, and which readers take it.

use std::path::Path;

use super::format::{Format, Layout};
use super::formats::FORMATS;
use super::packing::{ending, packing};

/// Endings and their layouts; all other endings are running text, but for [`UNREAD`].
const LAYOUTS: [(&str, Layout); 6] = [
    ("jsonl", Layout::Lines),
    ("ndjson", Layout::Lines),
    ("json", Layout::Values),
    ("csv", Layout::Rows(b',')),
    ("tsv", Layout::Rows(b'\t')),
    ("tar", Layout::Shard),
];

/// What holds records in a way that is not read, and what to do about it.
const UNREAD: [(&[&str], &str); 4] = [
    (
        &["parquet", "arrow", "feather", "orc"],
        "write it as JSON lines first, in Python: \
         `pandas.read_parquet(\"a.parquet\").to_json(\"a.jsonl\", orient=\"records\", lines=True)`",
    ),
    (
        &["zip", "7z", "rar", "bz2", "xz", "lz4", "tgz", "txz"],
        "unpack it first",
    ),
    (&["xls", "xlsx", "ods"], "save it as .csv first"),
    (
        &["pdf", "doc", "docx", "odt", "epub", "rtf"],
        "write it as UTF-8 text first",
    ),
];

/// The layout of a file for a format of data.
///
/// # Errors
/// A sentence that says what to do instead.
pub(super) fn layout(format: &dyn Format, path: &Path) -> Result<Layout, String> {
    let packed = packing(path).is_some();
    // What is packed is named before: `a.jsonl.gz`.
    let name = match packed {
        true => path.with_extension(""),
        false => path.to_owned(),
    };
    let ending = ending(&name).unwrap_or_default();
    let unread = UNREAD
        .iter()
        .find(|(endings, _)| endings.contains(&ending.as_str()));
    if let Some((_, help)) = unread {
        return Err((*help).to_owned());
    }
    let layout = of_ending(&ending);
    if packed && layout == Layout::Shard {
        return Err("unpack it first: pictures of a shard are read from where they lie".to_owned());
    }
    if format.takes(layout) {
        return Ok(layout);
    }
    let others = FORMATS.iter().filter(|other| other.takes(layout));
    let others = others.map(|other| format!("`{}`", other.signature().signature.word));
    let others: Vec<String> = others.collect();
    Err(format!(
        "{}; {} reads this file",
        format.reads(),
        others.join(" or ")
    ))
}

fn of_ending(ending: &str) -> Layout {
    let found = LAYOUTS.iter().find(|(known, _)| *known == ending);
    found.map_or(Layout::Text, |(_, layout)| *layout)
}

/// Whether a file is a list of records that may name pictures in files of their own.
pub fn is_list(path: &Path) -> bool {
    let name = match packing(path) {
        Some(_) => path.with_extension(""),
        None => path.to_owned(),
    };
    let layout = of_ending(&ending(&name).unwrap_or_default());
    matches!(layout, Layout::Lines | Layout::Values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_say_how_records_lie_and_who_reads_them() {
        let of = |word: &str, name: &str| {
            let format = FORMATS
                .iter()
                .find(|format| format.signature().signature.word == word);
            layout(*format.unwrap(), Path::new(name))
        };
        assert_eq!(of("text", "a/b.TXT"), Ok(Layout::Text));
        assert_eq!(of("text", "wiki.valid.tokens"), Ok(Layout::Text));
        assert_eq!(of("text", "README"), Ok(Layout::Text));
        assert_eq!(of("text", "a.json"), Ok(Layout::Values));
        assert_eq!(of("text", "a.jsonl.gz"), Ok(Layout::Lines));
        assert_eq!(of("text", "a.txt.zst"), Ok(Layout::Text));
        assert_eq!(of("instruct", "a.tsv"), Ok(Layout::Rows(b'\t')));
        assert_eq!(of("image_text", "a.tar"), Ok(Layout::Shard));
        for (kind, name, told) in [
            ("text", "a.tar", "`image_text` reads this file"),
            ("text", "a.parquet", "read_parquet"),
            ("text", "a.parquet.zst", "read_parquet"),
            ("text", "a.zip", "unpack it first"),
            ("text", "a.pdf", "UTF-8 text"),
            (
                "interleaved",
                "a.csv",
                "`text` or `instruct` reads this file",
            ),
            ("image_text", "a.tar.gz", "unpack it first"),
            ("image_text", "a.txt", "`text` reads this file"),
        ] {
            let help = of(kind, name).unwrap_err();
            assert!(help.contains(told), "{name}: {help}");
        }
        assert!(is_list(Path::new("a.jsonl.gz")) && !is_list(Path::new("a.tar")));
    }
}
