//! Reports about parents: they point at the place where the fusion names each parent, and at the
//! place in the parent that the report is about.

use jam_ir::diagnostic::Severity;
use jam_ir::{Diagnostic, Span};

use crate::Parent;

/// One parent's part in a report.
pub(crate) struct Place<'p> {
    /// The parent.
    pub(crate) parent: &'p Parent<'p>,
    /// Where in its definition, if it says so.
    pub(crate) inside: Option<Span>,
    /// What is there.
    pub(crate) words: String,
}

impl<'p> Place<'p> {
    /// A parent with what is there, at no place of its definition.
    pub(crate) fn new(parent: &'p Parent<'p>, words: impl Into<String>) -> Place<'p> {
        Place {
            parent,
            inside: None,
            words: words.into(),
        }
    }

    /// At a place of its definition.
    pub(crate) fn inside(mut self, span: Option<Span>) -> Place<'p> {
        self.inside = span;
        self
    }
}

/// A report of this severity about some parents; the place of the problem is the last of them.
pub(crate) fn report(
    severity: Severity,
    message: impl Into<String>,
    places: &[Place<'_>],
) -> Diagnostic {
    let primary = places.iter().rev().find_map(|place| place.parent.span);
    let mut report = match primary {
        Some(span) => Diagnostic::new(severity, span, message),
        None => Diagnostic::placeless(severity, message),
    };
    // The primary place takes its words first: two parents may be named by one span.
    for place in places.iter().rev() {
        if let Some(span) = place.parent.span {
            report = report.label(span, place.words.clone());
        }
    }
    for place in places {
        match place.inside {
            Some(span) if Some(span) != place.parent.span => {
                report = report.label(span, place.words.clone());
            }
            _ => {}
        }
    }
    report
}

/// An error about some parents.
pub(crate) fn error(message: impl Into<String>, places: &[Place<'_>]) -> Diagnostic {
    report(Severity::Error, message, places)
}

/// A warning about some parents.
pub(crate) fn warning(message: impl Into<String>, places: &[Place<'_>]) -> Diagnostic {
    report(Severity::Warning, message, places)
}

/// A note about some parents.
pub(crate) fn note(message: impl Into<String>, places: &[Place<'_>]) -> Diagnostic {
    report(Severity::Note, message, places)
}

/// The error of a head that reads image rows from the second parent where the vocabulary has none;
/// `by` is the setting that asks for it.
pub(crate) fn no_image_rows(by: &str, [first, second]: [&Parent<'_>; 2]) -> Diagnostic {
    let message = format!(
        "`{by}` reads image rows from `{}`, but the vocabulary has no image tokens",
        second.source
    );
    let places = [
        Place::new(first, "reads all rows"),
        Place::new(second, "reads none"),
    ];
    error(message, &places).help(format!(
        "give the parents a vocabulary with image tokens (`tokens` with `image`), or leave out `{by}`"
    ))
}

/// Most further differences that a report lists.
const MOST_FURTHER: usize = 8;

/// Several errors about the same parents as one: the first, with what the others say after `start` as
/// notes.
pub(crate) fn as_one(errors: Vec<Diagnostic>, start: &str) -> Option<Diagnostic> {
    let mut errors = errors.into_iter();
    let lead = errors.next()?;
    let further: Vec<String> = errors
        .map(|error| match error.message.split_once(start) {
            Some((_, what)) => format!("also, {what}"),
            None => format!("also, {}", error.message),
        })
        .collect();
    let more = further.len().saturating_sub(MOST_FURTHER);
    let lead = further
        .into_iter()
        .take(MOST_FURTHER)
        .fold(lead, Diagnostic::note);
    Some(match more {
        0 => lead,
        _ => lead.note(format!("and {more} more differences")),
    })
}

/// Errors collected, those of one message once: a width that differs is one error, not one for
/// each of a hundred tensors.
#[derive(Default)]
pub(crate) struct Errors {
    list: Vec<Diagnostic>,
}

impl Errors {
    /// Adds an error unless its message is there already.
    pub(crate) fn add(&mut self, error: Diagnostic) {
        if !self.list.iter().any(|known| known.message == error.message) {
            self.list.push(error);
        }
    }

    /// Adds the errors of a result, or gives its value.
    pub(crate) fn take<T>(&mut self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(errors) => {
                errors.into_iter().for_each(|error| self.add(error));
                None
            }
        }
    }

    /// The errors.
    pub(crate) fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }

    /// `Ok` when there are none.
    pub(crate) fn check(&mut self) -> Result<(), Vec<Diagnostic>> {
        match self.list.is_empty() {
            true => Ok(()),
            false => Err(std::mem::take(&mut self.list)),
        }
    }
}
