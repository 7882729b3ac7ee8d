//! What is said about a program: errors, warnings and notes with their places.
//!
//! A problem costs one line: place and message, then the words at the place, second places, and
//! the way out.
//!
//! ```
//! use jam_ir::diagnostic::Diagnostic;
//! use jam_ir::span::{FileId, Span};
//!
//! let span = Span::new(FileId(0), 4, 9);
//! let _ = Diagnostic::error(span, "`wdith` is not a setting of a model")
//!     .label(span, "not known here")
//!     .help("did you mean `width`?");
//! ```
//!
//! The message stands alone (a log may show nothing else), the detail is in labels on the source,
//! the way out is in the help. How a report looks is not decided here.

use serde::{Deserialize, Serialize};

use crate::span::Span;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Note,
    /// Probably not what was meant; the work goes on.
    Warning,
    /// The program cannot be used as it is.
    Error,
}

impl Severity {
    /// The word shown in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Words about one place of the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is said about it; empty to underline only.
    pub text: String,
    /// Whether this is the place of the problem, or one that explains it.
    pub primary: bool,
}

/// One problem, or one note.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable short name of the kind of problem, where it has one (`unknown-name`).
    pub code: Option<String>,
    /// What is wrong, in one sentence without a full stop, understandable alone.
    pub message: String,
    /// The places; the first primary one is where the problem is.
    pub labels: Vec<Label>,
    /// Further facts, one sentence each.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A report of this severity, with its place underlined.
    pub fn new(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        let mut diagnostic = Self::placeless(severity, message);
        diagnostic.labels.push(Label {
            span,
            text: String::new(),
            primary: true,
        });
        diagnostic
    }

    /// A report about no place in a source: a missing file, a setting of the command line.
    pub fn placeless(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            code: None,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message)
    }

    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message)
    }

    /// A note at a place.
    pub fn note_at(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, span, message)
    }

    /// Says something about a place: the place of the problem when it is that one (its words are
    /// set), otherwise a second place.
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        let text = text.into();
        let own = self
            .labels
            .iter_mut()
            .find(|label| label.primary && label.span == span);
        match own {
            Some(label) if label.text.is_empty() => label.text = text,
            _ => self.labels.push(Label {
                span,
                text,
                primary: false,
            }),
        }
        self
    }

    /// Adds a further fact.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to do when there is something to say.
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }

    /// Names the kind of problem.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The place of the problem, if it has one.
    pub fn span(&self) -> Option<Span> {
        let first = self.labels.first();
        self.labels
            .iter()
            .find(|label| label.primary)
            .or(first)
            .map(|label| label.span)
    }

    /// Whether it makes the program unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Most reports that a collection keeps; further ones are counted only.
pub const MAX_REPORTS: usize = 1000;

/// Everything said about a program, in the order it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Errors that were pushed, those that are repeated or not kept too.
    #[serde(skip)]
    errors_seen: usize,
    /// Errors that are not kept because there are too many.
    #[serde(skip)]
    errors_dropped: usize,
}

impl Diagnostics {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a report; one that says the same of the same place as an earlier one is not repeated,
    /// and of very many only the first [`MAX_REPORTS`] are kept.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.errors_seen += usize::from(diagnostic.is_error());
        let place = diagnostic.span();
        let repeated = self.list.iter().any(|known| {
            known.message == diagnostic.message
                && known.severity == diagnostic.severity
                && known.span() == place
        });
        if repeated {
            return;
        }
        if self.list.len() < MAX_REPORTS {
            self.list.push(diagnostic);
        } else {
            self.errors_dropped += usize::from(diagnostic.is_error());
        }
    }

    /// Errors pushed so far, repeated ones too: whether it grows tells whether a piece of work
    /// met an error.
    pub fn errors_seen(&self) -> usize {
        self.errors_seen
    }

    /// Whether any report is an error.
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// How many reports are errors, those that are not kept too.
    pub fn error_count(&self) -> usize {
        let kept = self.list.iter().filter(|diagnostic| diagnostic.is_error());
        kept.count() + self.errors_dropped
    }

    /// Puts the reports in the order of their places; those without a place come last.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| {
            let span = diagnostic.span();
            (span.is_none(), span)
        });
    }

    /// Keeps the reports for which this holds, in their order.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// The reports.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The reports from one on, to add to them what only the caller knows.
    pub fn since(&mut self, first: usize) -> std::slice::IterMut<'_, Diagnostic> {
        let first = first.min(self.list.len());
        self.list[first..].iter_mut()
    }

    /// How many reports there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        let mut diagnostics = Self::default();
        diagnostics.push(diagnostic);
        diagnostics
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, reports: I) {
        for diagnostic in reports {
            self.push(diagnostic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::FileId;

    #[test]
    fn a_label_at_the_place_of_the_problem_gives_it_words_and_others_are_second_places() {
        let here = Span::new(FileId(0), 10, 12);
        let there = Span::new(FileId(0), 2, 3);
        let report = Diagnostic::error(here, "m")
            .label(here, "this")
            .label(there, "and this");
        assert_eq!(report.labels.len(), 2);
        assert!(report.labels[0].primary && report.labels[0].text == "this");
        assert!(!report.labels[1].primary);
        assert_eq!(report.span(), Some(here));
    }

    #[test]
    fn a_collection_orders_by_place_and_says_nothing_twice() {
        let at = |start| Span::new(FileId(0), start, start + 1);
        let mut all = Diagnostics::new();
        all.push(Diagnostic::error(at(5), "b"));
        all.push(Diagnostic::placeless(Severity::Note, "c"));
        all.push(Diagnostic::warning(at(1), "a"));
        all.push(Diagnostic::error(at(5), "b"));
        all.sort();
        let messages: Vec<_> = all.iter().map(|report| report.message.as_str()).collect();
        assert_eq!(messages, ["a", "b", "c"]);
        assert_eq!(all.error_count(), 1);
        assert_eq!(all.errors_seen(), 2);
    }

    #[test]
    fn of_very_many_reports_the_first_are_kept_and_all_are_counted() {
        let mut all = Diagnostics::new();
        for start in 0..2 * MAX_REPORTS as u32 {
            all.push(Diagnostic::error(
                Span::new(FileId(0), start, start + 1),
                "a",
            ));
        }
        assert_eq!(
            (all.len(), all.error_count()),
            (MAX_REPORTS, 2 * MAX_REPORTS)
        );
    }
}
