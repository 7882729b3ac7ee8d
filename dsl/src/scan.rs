//! The first look at a text, before the grammar: its size, how deep its brackets go, whether they
//! match, where its comments and texts are.
//!
//! It protects the parser, which recurses: nothing deeper than [`MAX_DEPTH`] or longer than
//! [`MAX_BYTES`] gets past it. It also prepares the text for the grammar: same length, comments
//! blank, and blanks for the ends of lines inside of round and square brackets.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::{FileId, Span};

use crate::syntax::Comment;

/// The longest source text that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// How deep brackets may stand in one another.
pub const MAX_DEPTH: usize = 64;

/// After so many problems a text is most likely no program; further ones are not listed.
pub(crate) const MAX_PROBLEMS: usize = 50;

/// What the first look found.
pub(crate) struct Scan {
    /// The text for the grammar: as long as the source, byte for byte.
    pub(crate) prepared: String,
    /// All comments.
    pub(crate) comments: Vec<Comment>,
    /// Pairs of brackets by the place of the opening one.
    pub(crate) brackets: Vec<Bracket>,
    /// What is wrong: brackets, quotation marks. The place of each is its first label.
    pub(crate) problems: Vec<Diagnostic>,
    /// Whether the text cannot be parsed at all.
    pub(crate) hopeless: bool,
}

/// An opening bracket and where it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bracket {
    /// `(`, `[` or `{`.
    pub(crate) kind: u8,
    /// Offset of the opening bracket.
    pub(crate) open: usize,
    /// Offset of the closing bracket, or where it should have stood.
    pub(crate) close: usize,
    /// Whether the closing bracket is there.
    pub(crate) closed: bool,
}

/// The problem of a text that is too long to be a program.
pub fn too_long(file: FileId, bytes: u64) -> Diagnostic {
    Diagnostic::error(
        Span::new(file, 0, 0),
        "the file is too long to be a program",
    )
    .code("too-long")
    .note(format!(
        "it has {bytes} bytes; a program has at most {MAX_BYTES}"
    ))
    .help("split it into several files and join them with `use \"file.jam\"`")
}

/// Looks through a text.
pub(crate) fn scan(file: FileId, text: &str) -> Scan {
    if text.len() > MAX_BYTES {
        return Scan {
            prepared: String::new(),
            comments: Vec::new(),
            brackets: Vec::new(),
            problems: vec![too_long(file, text.len() as u64)],
            hopeless: true,
        };
    }
    let first = Scanner::new(file, text, false).run();
    // A brace that is never closed swallows the rest of the file. Lines that begin further left
    // than they should tell which brace it was.
    let lost_brace = first
        .brackets
        .iter()
        .any(|bracket| bracket.kind == b'{' && !bracket.closed);
    if lost_brace && !first.hopeless {
        Scanner::new(file, text, true).run()
    } else {
        first
    }
}

struct Scanner<'a> {
    file: FileId,
    text: &'a str,
    bytes: &'a [u8],
    /// Whether a line further left closes braces.
    indentation_closes: bool,
    prepared: Vec<u8>,
    comments: Vec<Comment>,
    brackets: Vec<Bracket>,
    /// Indices into `brackets` of those still open, with the column their line begins at.
    open: Vec<(usize, usize)>,
    problems: Vec<Diagnostic>,
    line_start: usize,
}

impl<'a> Scanner<'a> {
    fn new(file: FileId, text: &'a str, indentation_closes: bool) -> Self {
        Self {
            file,
            text,
            bytes: text.as_bytes(),
            indentation_closes,
            prepared: text.as_bytes().to_vec(),
            comments: Vec::new(),
            brackets: Vec::new(),
            open: Vec::new(),
            problems: Vec::new(),
            line_start: 0,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        // The text is shorter than MAX_BYTES.
        Span::new(self.file, start as u32, end as u32)
    }

    fn run(mut self) -> Scan {
        let mut at = 0;
        if self.text.starts_with('\u{feff}') {
            self.blank(0, 3);
            at = 3;
        }
        let mut hopeless = false;
        while at < self.bytes.len() {
            at = match self.bytes[at] {
                b'/' if self.bytes.get(at + 1) == Some(&b'/') => self.comment(at),
                b'"' => self.quoted(at),
                b'\n' => self.line_end(at),
                kind @ (b'(' | b'[' | b'{') => {
                    if self.open.len() == MAX_DEPTH {
                        let report = Diagnostic::error(
                            self.span(at, at + 1),
                            format!("brackets stand more than {MAX_DEPTH} deep in one another"),
                        );
                        self.report(
                            report
                                .code("too-deep")
                                .label(self.span(at, at + 1), "one too many")
                                .help("give inner parts names of their own with `let`"),
                        );
                        hopeless = true;
                        break;
                    }
                    let indent = self.indent_of_line();
                    self.open.push((self.brackets.len(), indent));
                    self.brackets.push(Bracket {
                        kind,
                        open: at,
                        close: at,
                        closed: false,
                    });
                    at + 1
                }
                kind @ (b')' | b']' | b'}') => {
                    self.close(kind, at);
                    at + 1
                }
                _ => at + 1,
            };
        }
        let end = self.bytes.len();
        while !hopeless && !self.open.is_empty() {
            self.never_closed(end, None);
        }
        // Only whole characters were blanked, with ASCII: the bytes are text still.
        let prepared = String::from_utf8(self.prepared).unwrap_or_default();
        Scan {
            prepared,
            comments: self.comments,
            brackets: self.brackets,
            problems: self.problems,
            hopeless,
        }
    }

    fn report(&mut self, problem: Diagnostic) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn blank(&mut self, start: usize, end: usize) {
        self.prepared[start..end].fill(b' ');
    }

    fn indent_of_line(&self) -> usize {
        let line = &self.bytes[self.line_start..];
        line.iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count()
    }

    fn comment(&mut self, start: usize) -> usize {
        let end = self.bytes[start..].iter().position(|byte| *byte == b'\n');
        let end = end.map_or(self.bytes.len(), |length| start + length);
        let text = self.text[start..end].trim_end();
        self.comments.push(Comment {
            span: self.span(start, start + text.len()),
            text: text.to_owned(),
            own_line: self.text[self.line_start..start].trim().is_empty(),
        });
        self.blank(start, end);
        end
    }

    fn quoted(&mut self, start: usize) -> usize {
        let mut at = start + 1;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\n' => break,
                b'\\' if self.bytes.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
                _ => at += 1,
            }
        }
        let mut end = start + self.text[start..at.min(self.bytes.len())].trim_end().len();
        // Brackets after the text most likely do not belong to it.
        let tail = &self.text[start + 1..end];
        let word = tail
            .find([',', ')', ']', '}', ' '])
            .map_or(end, |length| start + 1 + length);
        let report = Diagnostic::error(self.span(start, end), "a text is never closed");
        self.report(
            report
                .code("open-text")
                .label(self.span(start, end), "no closing `\"` on this line")
                .help("put a `\"` where the text ends; a text stands on one line"),
        );
        if word < end {
            end = word;
        }
        end
    }

    fn line_end(&mut self, at: usize) -> usize {
        self.line_start = at + 1;
        while let Some((top, indent)) = self.open.last().copied() {
            let kind = self.brackets[top].kind;
            let begins = self.statement_begins();
            if kind == b'{' {
                let left = self.indentation_closes && begins && self.indent_of_line() <= indent;
                if !left {
                    break;
                }
            } else if !begins {
                break;
            }
            let line = self.line_start + self.indent_of_line();
            let next = self.span(line, self.word_end(line));
            self.never_closed(at, Some(next));
        }
        let inner = self.open.last().map(|(top, _)| self.brackets[*top].kind);
        if matches!(inner, Some(b'(' | b'[')) {
            self.blank(at, at + 1);
        }
        at + 1
    }

    fn word_end(&self, start: usize) -> usize {
        let word = self.bytes[start..].iter();
        start
            + word
                .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
                .count()
    }

    /// Whether the line that begins now can only be a statement: two words, or a word and `=`.
    fn statement_begins(&self) -> bool {
        let start = self.line_start + self.indent_of_line();
        let first = self.bytes.get(start);
        if !first.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
            return false;
        }
        let rest = &self.bytes[self.word_end(start)..];
        let gap = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        match rest.get(gap) {
            Some(b'=') => true,
            Some(byte) => gap > 0 && (byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'"')),
            None => false,
        }
    }

    fn close(&mut self, closing: u8, at: usize) {
        let opening = match closing {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        let matching = self
            .open
            .iter()
            .rposition(|(index, _)| self.brackets[*index].kind == opening);
        // A round bracket cannot close one that stands outside of braces.
        let brace = self
            .open
            .iter()
            .rposition(|(index, _)| self.brackets[*index].kind == b'{');
        let matching = matching.filter(|depth| brace.is_none_or(|brace| *depth >= brace));
        let Some(depth) = matching else {
            let closing = char::from(closing);
            let mut report = Diagnostic::error(
                self.span(at, at + 1),
                format!("this `{closing}` closes nothing"),
            )
            .code("brackets")
            .label(
                self.span(at, at + 1),
                "nothing is open here that it could close",
            );
            if let Some((top, _)) = self.open.last() {
                let top = self.brackets[*top];
                let other = self.span(top.open, top.open + 1);
                report = report.label(other, format!("`{}` is open", char::from(top.kind)));
            }
            self.report(report.help(format!("remove the `{closing}`")));
            return;
        };
        let here = self.span(at, at + 1);
        while self.open.len() > depth + 1 {
            self.never_closed(at, Some(here));
        }
        if let Some((index, _)) = self.open.pop() {
            self.brackets[index].close = at;
            self.brackets[index].closed = true;
        }
    }

    fn never_closed(&mut self, end: usize, seen: Option<Span>) {
        let Some((index, _)) = self.open.pop() else {
            return;
        };
        self.brackets[index].close = end;
        let Bracket { kind, open, .. } = self.brackets[index];
        let closing = match kind {
            b'(' => ')',
            b'[' => ']',
            _ => '}',
        };
        let here = self.span(open, open + 1);
        let message = format!("this `{}` is never closed", char::from(kind));
        let mut report = Diagnostic::error(here, message)
            .code("brackets")
            .label(here, "opened here");
        if let Some(seen) = seen {
            report = report.label(seen, format!("`{closing}` was expected before this"));
        }
        self.report(report.help(format!("add a `{closing}`")));
    }
}
