//! From "the grammar stopped here" to what a person can use: what was expected, and for the
//! habits of other languages, how it is written here.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::{FileId, Span};
use pest::error::{Error, ErrorVariant, InputLocation};

use crate::parse::Rule;

/// Explains an error in `parsed`, which begins at `offset` of `source`.
pub(crate) fn explain(
    file: FileId,
    source: &str,
    parsed: &str,
    offset: usize,
    error: &Error<Rule>,
) -> Diagnostic {
    let stop = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at.min(parsed.len()),
    };
    // The grammar stops after blanks; the place is the next thing, or the end of the last.
    let rest = &parsed[stop..];
    let skipped = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    let stop = stop + skipped;
    let rest = &parsed[stop..];
    let length = match rest.chars().next() {
        Some('\n') | None => 0,
        Some(first) if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
        Some(first) => first.len_utf8(),
    };
    let word = &rest[..length];
    let before = parsed[..stop].trim_end_matches([' ', '\t', '\r']);
    let at =
        |start: usize, end: usize| Span::new(file, (offset + start) as u32, (offset + end) as u32);
    // At the end of a line there is nothing to underline but the place after the last character.
    let place = if length == 0 {
        at(before.len(), before.len())
    } else {
        at(stop, stop + length)
    };
    let in_source = |start: usize| source.get(offset + start..).unwrap_or("");

    let expected = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
        ErrorVariant::CustomError { .. } => &[],
    };
    let wants = |rule: Rule| expected.contains(&rule);
    let wants_value = wants(Rule::expression) || wants(Rule::number) && wants(Rule::path);
    let last = before.chars().next_back();
    let open = innermost(before);

    let report = |message: &str, label: &str, help: &str| {
        let report = Diagnostic::error(place, message)
            .code("syntax")
            .label(place, label);
        if help.is_empty() {
            report
        } else {
            report.help(help)
        }
    };

    // Habits of other languages.
    let after = rest[length..].trim_start_matches([' ', '\t']);
    match word {
        "=" if matches!(open, Some('(')) => {
            let name = last_word(before);
            return report(
                "settings in round brackets are given with `:`",
                "this should be `:`",
                &format!("write `{name}: …`"),
            );
        }
        ":" if !matches!(open, Some('(' | '[')) => {
            let name = last_word(before);
            return report(
                "settings of a statement are given with `=`",
                "this should be `=`",
                &format!("write `{name} = …`"),
            );
        }
        "=" if last == Some('=') => {
            return report(
                "one `=` is enough",
                "the second `=`",
                "write `name = value`",
            );
        }
        ";" => {
            return report(
                "statements end with the line",
                "there is no `;` in this language",
                "remove it, or put `,` between two statements on one line",
            );
        }
        "#" => return report("comments begin with `//`", "not a comment", "write `// …`"),
        "/" if after.starts_with('*') || in_source(stop).starts_with("/*") => {
            return report(
                "comments begin with `//`",
                "not a comment",
                "write `// …` on each line",
            );
        }
        "*" if last == Some('/') => {
            return report(
                "comments begin with `//`",
                "not a comment",
                "write `// …` on each line",
            );
        }
        "'" | "`" | "‘" | "“" | "”" | "„" => {
            return report(
                "texts stand in double quotation marks",
                "not a quotation mark here",
                "write `\"…\"`",
            );
        }
        "^" => {
            return report(
                "`^` is no operator",
                "not known here",
                "multiply instead: `a * a`",
            );
        }
        "*" if last == Some('*') => {
            return report(
                "`**` is no operator",
                "not known here",
                "multiply instead: `a * a`",
            );
        }
        "." if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
            return report(
                "a number begins with a digit",
                "a digit is missing before it",
                &format!("write `0.{}`", digits(&rest[1..])),
            );
        }
        "%" | "k" | "Ki" | "M" | "Mi"
            if last.is_some_and(|last| last.is_ascii_digit()) && gap(before, stop) > 0 =>
        {
            let number = last_word(before);
            return report(
                "a unit stands on its number",
                "apart from its number",
                &format!("write `{number}{word}`"),
            );
        }
        "…" => {
            return report(
                "`…` is not part of the language",
                "left out here",
                "write it out",
            );
        }
        _ => {}
    }

    if word.is_empty() {
        let (message, help) = match last {
            Some('+' | '-' | '*' | '/') => (
                "the line ends after an operator",
                "a value goes on over several lines only in brackets: `( … )`",
            ),
            Some('=') => ("a value is missing", "write the value on the same line"),
            Some('(' | '[' | ',' | ':') => ("a value is missing", ""),
            _ if wants_value => ("a value is missing", ""),
            _ => (
                "the statement is not complete",
                "a statement is `name = value` or `word name { … }`",
            ),
        };
        return report(message, "expected here", help);
    }
    if word.chars().all(|character| character == ',') {
        return report(
            "a value is missing before the comma",
            "nothing stands before it",
            "",
        );
    }
    if let Some(first) = word.chars().next() {
        if first.is_alphabetic() && !first.is_ascii() {
            return report(
                "names are made of the letters a to z, digits and `_`",
                "this letter is none of them",
                "",
            );
        }
        if first.is_control() || (!first.is_ascii() && !first.is_alphabetic()) {
            let message = format!(
                "the character `{}` has no meaning here",
                first.escape_debug()
            );
            return report(&message, "not known here", "");
        }
    }
    if wants_value && !wants(Rule::operator) {
        let message = format!("a value was expected, not `{word}`");
        return report(&message, "expected a value", "");
    }
    match open {
        Some('(' | '[') => {
            let closing = if open == Some('(') { ')' } else { ']' };
            let message = format!("`,` or `{closing}` was expected, not `{word}`");
            let report = report(&message, "not part of what stands before it", "");
            if is_word(word.chars().next().unwrap_or(' ')) {
                report.help("put a comma between two values")
            } else {
                report
            }
        }
        _ if before.is_empty() => {
            let message = format!("a statement begins with a word, not with `{word}`");
            report(
                &message,
                "a word was expected",
                "a statement is `name = value` or `word name { … }`",
            )
        }
        _ if word == "=" => report("`=` has no name before it", "", "write `name = value`"),
        _ if has_value(before) => {
            let message = format!("the statement ends before `{word}`");
            let help = "each statement stands on its own line, or with `,` between them";
            report(&message, "not part of the value before it", help)
        }
        _ => {
            let message = format!("`=` or `{{` was expected, not `{word}`");
            report(
                &message,
                "not part of the statement",
                "a statement is `name = value` or `word name { … }`",
            )
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn last_word(text: &str) -> &str {
    let start = text.rfind(|character| !is_word(character)).map_or(0, |at| {
        at + text[at..].chars().next().map_or(1, char::len_utf8)
    });
    &text[start..]
}

fn digits(text: &str) -> &str {
    let end = text
        .find(|character: char| !is_word(character))
        .unwrap_or(text.len());
    &text[..end]
}

/// Blanks between the end of a text and a place.
fn gap(before: &str, place: usize) -> usize {
    place - before.len()
}

/// The innermost bracket that is open at the end of a text.
fn innermost(text: &str) -> Option<char> {
    let mut open = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    for character in text.chars() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '"' => quoted = true,
            '(' | '[' | '{' => open.push(character),
            ')' | ']' | '}' => {
                open.pop();
            }
            _ => {}
        }
    }
    open.pop()
}

/// Whether a `=` stands in the text.
fn has_value(text: &str) -> bool {
    text.contains('=')
}
