//! Reports as people and machines read them.
//!
//! [`render`] shows file, line and the words in question, what is wrong, second places and the way
//! out, in the manner of rustc. [`json`] gives the same as plain data.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use jam_ir::diagnostic::{Diagnostic, Diagnostics, Label, Severity};
use jam_ir::span::{FileId, SourceMap, Span};
use serde::Serialize;

/// Lines longer than this are shown around the place only.
const MAX_LINE: usize = 240;

/// A diagnostic as text of several lines, without a line end after the last. `colour` adds the
/// escape codes of terminals; whether the output is one is for the caller to know.
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(diagnostic.message.as_str());
    let title = match &diagnostic.code {
        Some(code) => title.id(code.as_str()),
        None => title,
    };
    let mut group = Group::with_title(title);

    // The file of the problem itself comes first.
    let mut files: Vec<FileId> = Vec::new();
    let ordered = diagnostic.labels.iter().filter(|label| label.primary);
    let ordered = ordered.chain(diagnostic.labels.iter().filter(|label| !label.primary));
    for label in ordered {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    let windows: Vec<Window> = files
        .iter()
        .filter_map(|file| Window::new(*file, &diagnostic.labels, sources))
        .collect();
    for window in &windows {
        let annotations = window.labels.iter().map(|(label, start, end)| {
            let kind = if label.primary {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let annotation = kind.span(*start..*end);
            if label.text.is_empty() {
                annotation
            } else {
                annotation.label(label.text.as_str())
            }
        });
        let snippet = Snippet::source(window.text.as_str())
            .line_start(window.first_line)
            .path(window.name.as_str())
            .fold(true)
            .annotations(annotations);
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
}

/// All diagnostics, with an empty line between two, and a last line that counts them.
pub fn render_all(diagnostics: &Diagnostics, sources: &SourceMap, colour: bool) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render(diagnostic, sources, colour));
        text.push_str("\n\n");
    }
    if let Some(counts) = count_line(diagnostics) {
        text.push_str(&counts);
        text.push('\n');
    }
    text
}

/// The line that ends reports: how many errors and warnings there are; `None` without any.
pub fn count_line(diagnostics: &Diagnostics) -> Option<String> {
    let all = diagnostics.iter();
    let warnings = all.filter(|one| one.severity == Severity::Warning).count();
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let counts = [
        counted(diagnostics.error_count(), "error"),
        counted(warnings, "warning"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// The lines of one file that a report shows.
struct Window<'a> {
    name: String,
    text: String,
    first_line: usize,
    /// Labels with their places in `text`.
    labels: Vec<(&'a Label, usize, usize)>,
}

impl<'a> Window<'a> {
    fn new(file: FileId, labels: &'a [Label], sources: &SourceMap) -> Option<Self> {
        let source = sources.get(file)?;
        let text = source.text.as_str();
        let own = || labels.iter().filter(|label| label.span.file == file);
        let clamp = |offset: u32| {
            let mut offset = (offset as usize).min(text.len());
            while !text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        let first = own().map(|label| clamp(label.span.start)).min()?;
        let last = own().map(|label| clamp(label.span.end)).max()?;
        let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[last..]
            .find('\n')
            .map_or(text.len(), |length| last + length);
        let (first_line, _) = sources.line_column(file, first as u32)?;

        let shown = &text[start..end];
        let longest = shown.lines().map(str::len).max().unwrap_or(0);
        if longest <= MAX_LINE {
            let labels = own().map(|label| {
                let from = clamp(label.span.start) - start;
                (label, from, (clamp(label.span.end) - start).max(from))
            });
            let labels = labels.collect();
            let name = source.name.clone();
            return Some(Self {
                name,
                text: shown.to_owned(),
                first_line,
                labels,
            });
        }
        // A very long line: what stands around the problem, without the other places.
        let label = own().find(|label| label.primary).or_else(|| own().next())?;
        let (place, place_end) = (clamp(label.span.start), clamp(label.span.end));
        let line_start = text[..place].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[place..]
            .find('\n')
            .map_or(text.len(), |length| place + length);
        let from = clamp(place.saturating_sub(MAX_LINE / 4) as u32).max(line_start);
        let to = clamp((place + MAX_LINE / 2) as u32).min(line_end);
        let (first_line, _) = sources.line_column(file, place as u32)?;
        let (before, after) = (
            if from > line_start { "… " } else { "" },
            if to < line_end { " …" } else { "" },
        );
        let shift = |offset: usize| before.len() + offset.clamp(from, to) - from;
        Some(Self {
            name: source.name.clone(),
            text: format!("{before}{}{after}", &text[from..to]),
            first_line,
            labels: vec![(label, shift(place), shift(place_end))],
        })
    }
}

/// A diagnostic as plain data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JsonDiagnostic {
    /// `error`, `warning` or `note`.
    pub severity: &'static str,
    /// Short name of the kind of problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The places; the place of the problem first.
    pub places: Vec<JsonPlace>,
    /// Further facts.
    pub notes: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A place of a diagnostic: lines and columns count from 1, columns in characters; the end is
/// the column after the last character.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JsonPlace {
    /// The file as the user named it.
    pub file: String,
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column of the end.
    pub end_column: usize,
    /// What is said about the place.
    pub text: String,
    /// Whether it is the place of the problem, or one that explains it.
    pub primary: bool,
}

/// The plain form of a diagnostic.
pub fn json(diagnostic: &Diagnostic, sources: &SourceMap) -> JsonDiagnostic {
    let place = |label: &Label| {
        let Span { file, start, end } = label.span;
        let (line, column) = sources.line_column(file, start)?;
        let (end_line, end_column) = sources.line_column(file, end)?;
        Some(JsonPlace {
            file: sources.get(file)?.name.clone(),
            line,
            column,
            end_line,
            end_column,
            text: label.text.clone(),
            primary: label.primary,
        })
    };
    let (first, second): (Vec<&Label>, Vec<&Label>) =
        diagnostic.labels.iter().partition(|label| label.primary);
    JsonDiagnostic {
        severity: diagnostic.severity.word(),
        code: diagnostic.code.clone(),
        message: diagnostic.message.clone(),
        places: first.into_iter().chain(second).filter_map(place).collect(),
        notes: diagnostic.notes.clone(),
        help: diagnostic.help.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> (SourceMap, FileId, FileId) {
        let mut sources = SourceMap::new();
        let a = sources
            .add("a.jam", "model a {\n    wdith = 4\n}\n")
            .unwrap();
        let b = sources
            .add("b.jam", format!("x = {}1\n", "1 + ".repeat(20_000)))
            .unwrap();
        (sources, a, b)
    }

    #[test]
    fn a_report_shows_place_words_second_place_and_way_out() {
        let (sources, a, _) = sources();
        let at = Span::new(a, 14, 19);
        let report = Diagnostic::error(at, "`wdith` is not known")
            .code("unknown-name")
            .label(at, "not known here")
            .label(Span::new(a, 6, 7), "in this model")
            .help("did you mean `width`?");
        let expected = "\
error[unknown-name]: `wdith` is not known
 --> a.jam:2:5
  |
1 | model a {
  |       - in this model
2 |     wdith = 4
  |     ^^^^^ not known here
  |
  = help: did you mean `width`?";
        assert_eq!(render(&report, &sources, false), expected);
        assert!(render(&report, &sources, true).contains('\u{1b}'));
        let json = json(&report, &sources);
        assert_eq!(
            (
                json.places[0].line,
                json.places[0].column,
                json.places[0].end_column
            ),
            (2, 5, 10)
        );
        assert!(json.places[0].primary && !json.places[1].primary);
    }

    #[test]
    fn a_very_long_line_is_cut() {
        let (sources, _, b) = sources();
        let at = Span::new(b, 40_000, 40_001);
        let text = render(
            &Diagnostic::error(at, "m").label(at, "here"),
            &sources,
            false,
        );
        assert!(text.len() < 2000, "{} bytes", text.len());
        assert!(text.contains("^ here"), "{text}");
    }
}
