//! Reading and formatting texts: the formatter's promises on generated sources, and texts made
//! to break a parser.

use std::time::Instant;

use jam_dsl::syntax::{ExpressionKind, File};
use jam_dsl::{MAX_BYTES, MAX_DEPTH, format, parse, parse_value};
use jam_ir::diagnostic::Diagnostics;
use jam_ir::span::FileId;
use proptest::prelude::*;

const FILE: FileId = FileId(0);

/// Writes a program from a list of choices, with blanks, line ends and comments everywhere that
/// they may stand.
struct Writer<'a> {
    choices: std::slice::Iter<'a, u8>,
    text: String,
    comments: usize,
}

impl Writer<'_> {
    fn pick(&mut self, count: u8) -> u8 {
        self.choices.next().map_or(0, |choice| choice % count)
    }

    fn one_of(&mut self, texts: &[&str]) {
        let choice = self.pick(texts.len() as u8);
        self.text.push_str(texts[usize::from(choice)]);
    }

    fn done(&self) -> bool {
        self.choices.len() == 0
    }

    fn comment(&mut self) {
        self.comments += 1;
        let marks = ["", " \"", " {", " )", " ü", " //"][usize::from(self.pick(6))];
        self.text
            .push_str(&format!("// {}{marks}  \n", self.comments));
    }

    /// Between two things inside of round or square brackets.
    fn gap(&mut self) {
        match self.pick(9) {
            0 => self.text.push('\n'),
            1 => self.text.push_str("  "),
            2 => self.comment(),
            3 => self.text.push_str(" \t\n\n"),
            _ => {}
        }
    }

    /// Between two things on a line.
    fn blank(&mut self, bracket: bool) {
        if bracket {
            self.gap();
        } else if self.pick(3) == 0 {
            self.text.push(' ');
        }
    }

    fn name(&mut self) {
        self.one_of(&[
            "x",
            "width",
            "a_very_long_name_that_takes_room",
            "_1",
            "repeat",
        ]);
    }

    fn statements(&mut self, depth: u8) {
        let mut end = true;
        for _ in 0..self.pick(6) {
            if self.done() {
                break;
            }
            match self.pick(8) {
                0 => self.text.push_str("\n\n\n"),
                1 => self.comment(),
                _ if !end => self.text.push('\n'),
                _ => {}
            }
            if !end && !self.text.trim_end_matches([' ', '\t']).ends_with('\n') {
                self.text.push('\n');
            }
            self.statement(depth);
            end = false;
            match self.pick(6) {
                0 => {
                    self.text.push_str(" , ");
                    end = true;
                }
                1 => {
                    self.text.push_str("   ");
                    self.comment();
                    end = true;
                }
                _ => {}
            }
        }
    }

    fn statement(&mut self, depth: u8) {
        self.name();
        match self.pick(5) {
            0 => self.text.push_str(" 32"),
            1 => {
                self.text.push(' ');
                self.name();
            }
            2 => self.text.push_str(" \"a // \\\" b\""),
            _ => {}
        }
        if self.pick(6) == 0 {
            self.arguments(depth + 1);
        }
        match self.pick(4) {
            0 => {}
            1 => self.body(depth + 1),
            _ => {
                self.blank(false);
                self.text.push('=');
                self.blank(false);
                self.expression(depth, false);
            }
        }
    }

    fn body(&mut self, depth: u8) {
        self.text.push_str(" {");
        match self.pick(3) {
            0 => self.text.push('\n'),
            1 => self.comment(),
            _ => self.text.push(' '),
        }
        if depth < 5 {
            self.statements(depth);
        }
        self.one_of(&[" }", "\n}"]);
    }

    fn expression(&mut self, depth: u8, bracket: bool) {
        self.operand(depth, bracket);
        for _ in 0..self.pick(3) {
            self.blank(bracket);
            self.one_of(&["+", "-", "*", "/"]);
            // Two slashes would be a comment.
            self.text.push(' ');
            self.operand(depth, bracket);
        }
    }

    fn operand(&mut self, depth: u8, bracket: bool) {
        if self.pick(8) == 0 {
            self.text.push('-');
        }
        match if depth > 6 { 0 } else { self.pick(8) } {
            0 => self.one_of(&["1", "56_320", "8Mi", "3e-5", "20%"]),
            1 => self.text.push_str("\"ein text, {mit} (allem)\""),
            2 => {
                self.text.push('[');
                self.gap();
                for _ in 0..self.pick(4) {
                    self.expression(depth + 1, true);
                    self.gap();
                    self.text.push(',');
                    self.gap();
                }
                self.expression(depth + 1, true);
                self.gap();
                self.text.push(']');
            }
            3 => {
                self.text.push('(');
                self.gap();
                self.expression(depth + 1, true);
                self.gap();
                self.text.push(')');
            }
            4 | 5 => {
                self.name();
                self.arguments(depth + 1);
            }
            _ => {
                self.name();
                if self.pick(2) == 0 {
                    self.text.push_str(".last.0");
                }
            }
        }
        if self.pick(8) == 0 {
            self.body(depth + 1);
        }
        let _ = bracket;
    }

    fn arguments(&mut self, depth: u8) {
        self.text.push('(');
        let count = self.pick(5);
        for index in 0..count {
            self.gap();
            if self.pick(2) == 0 {
                self.name();
                self.gap();
                self.text.push(':');
                self.gap();
            }
            self.expression(depth, true);
            self.gap();
            if index + 1 < count || self.pick(2) == 0 {
                self.text.push(',');
            }
        }
        self.gap();
        self.text.push(')');
    }
}

/// The tree without places.
fn shape(file: &File) -> String {
    let text = format!("{:?}", file.statements);
    let mut shape = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span {") {
        shape.push_str(&rest[..at]);
        let end = rest[at..].find('}').unwrap_or(0);
        rest = &rest[at + end + 1..];
    }
    shape + rest
}

fn comments(file: &File) -> Vec<String> {
    let mut texts: Vec<String> = file
        .comments
        .iter()
        .map(|comment| comment.text.clone())
        .collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn formatting_loses_nothing_and_does_not_change_its_own_layout(
        choices in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        let mut writer = Writer { choices: choices.iter(), text: String::new(), comments: 0 };
        while !writer.done() {
            writer.statements(0);
            writer.text.push('\n');
        }
        let source = writer.text;
        let before = parse(FILE, &source);
        prop_assert!(before.diagnostics.is_empty(), "{:?}\n{source}", before.diagnostics);
        let once = format(FILE, &source).unwrap();
        let after = parse(FILE, &once);
        prop_assert!(after.diagnostics.is_empty(), "{:?}\n{source}\n=>\n{once}", after.diagnostics);
        prop_assert_eq!(shape(&before.file), shape(&after.file), "{}\n=>\n{}", source, once);
        prop_assert_eq!(comments(&before.file), comments(&after.file), "{}\n=>\n{}", source, once);
        let twice = format(FILE, &once).unwrap();
        prop_assert_eq!(&once, &twice, "{}\n=>\n{}\n=>\n{}", source, once, twice);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[a-z0-9 \\n(){}\\[\\],:=\"/.+*%\\-äé'#;]{0,200}") {
        let parsed = parse(FILE, &text);
        for report in &parsed.diagnostics {
            let span = report.span().unwrap();
            prop_assert!(span.start <= span.end && span.end as usize <= text.len());
            prop_assert!(text.is_char_boundary(span.start as usize), "{report:?}");
        }
        // A text is formatted exactly when it has no mistakes.
        prop_assert_eq!(format(FILE, &text).is_ok(), parsed.diagnostics.is_empty());
    }
}

fn only_message(diagnostics: &Diagnostics) -> &str {
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    &diagnostics.iter().next().unwrap().message
}

#[test]
fn texts_made_to_break_a_parser_get_a_clear_error() {
    let start = Instant::now();
    for bracket in ["(", "[", "{", "f(", "a { b = "] {
        let text = format!("x = {}", bracket.repeat(100_000));
        let parsed = parse(FILE, &text);
        let message = format!("brackets stand more than {MAX_DEPTH} deep in one another");
        assert_eq!(only_message(&parsed.diagnostics), message);
    }
    let text = "1+".repeat(25 << 20);
    assert_eq!(
        only_message(&parse(FILE, &text).diagnostics),
        "the file is too long to be a program"
    );
    // Long, but allowed: no recursion over the length.
    let long = format!("x = {}1", "1+".repeat(MAX_BYTES / 2 - 10));
    let parsed = parse(FILE, &long);
    assert!(parsed.diagnostics.is_empty());
    let value = parsed.file.statements[0].value.as_ref().unwrap();
    assert!(
        matches!(&value.kind, ExpressionKind::Chain(_, rest) if rest.len() == MAX_BYTES / 2 - 10)
    );
    let long = format!("x = a {}", "{}".repeat(MAX_BYTES / 2 - 10));
    assert!(parse(FILE, &long).diagnostics.is_empty());
    let long = "x = )\n".repeat(MAX_BYTES / 6);
    assert!(parse(FILE, &long).diagnostics.has_errors());
    let long = "x y z\n".repeat(MAX_BYTES / 6);
    assert!(parse(FILE, &long).diagnostics.len() <= 50);
    // Seconds where the machine is slow; minutes would be a parser that backtracks.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// Texts as long as a program may be, of one thing over and over: time grows with their length.
#[test]
fn long_texts_are_laid_out_in_time_that_grows_with_their_length() {
    let (long, count) = (200_000, 50_000);
    // A quadratic time took 18 seconds for the first of them.
    let most = if cfg!(debug_assertions) { 60 } else { 9 };
    let shapes = [
        ("chain", format!("let a = 1{}\n", "+1".repeat(long))),
        ("list", format!("let a = [1{}]\n", ",1".repeat(count))),
        ("arguments", format!("let a = f(1{})\n", ",1".repeat(count))),
        ("negatives", format!("let a = 1{}\n", "+-1".repeat(count))),
        (
            "updates",
            format!("let a = b{}\n", " {x=1}".repeat(count / 3)),
        ),
        ("statements", "a=1\n".repeat(count / 2)),
        ("calls", format!("let a = 1{}\n", "+f(1)".repeat(count / 3))),
        ("comments", "a=1 // x\n".repeat(count / 4)),
        (
            "comments inside",
            format!("let a = [1{}]\n", ", // x\n1".repeat(count / 4)),
        ),
        (
            "statements inside",
            format!("model m {{\n{}}}\n", "x = 1\n".repeat(count / 3)),
        ),
    ];
    for (name, text) in shapes {
        assert!(text.len() <= MAX_BYTES, "{name}: {} bytes", text.len());
        let begun = Instant::now();
        let once = format(FILE, &text).unwrap();
        let took = begun.elapsed();
        assert!(took.as_secs() < most, "{name} took {took:?}");
        assert!(once.len() >= text.len(), "{name}");
    }
}

#[test]
fn all_mistakes_of_a_text_are_found_at_once_and_the_rest_is_read() {
    let text = "\
let a = 1 +
model llm {
    width: 4096
    x = embed(tokens
    context = 4096
    y = f(a b)
}
let b = 'text'
let c = 3
";
    let parsed = parse(FILE, text);
    let lines: Vec<usize> = parsed
        .diagnostics
        .iter()
        .map(|report| {
            text[..report.span().unwrap().start as usize]
                .matches('\n')
                .count()
                + 1
        })
        .collect();
    assert_eq!(lines, [1, 3, 4, 6, 8], "{:#?}", parsed.diagnostics);
    let words: Vec<(&str, bool)> = parsed
        .file
        .statements
        .iter()
        .map(|statement| (statement.word.text.as_str(), statement.broken))
        .collect();
    assert_eq!(
        words,
        [
            ("let", true),
            ("model", false),
            ("let", true),
            ("let", false)
        ]
    );
    let body = parsed.file.statements[1].body.as_ref().unwrap();
    let inner: Vec<(&str, bool)> = body
        .statements
        .iter()
        .map(|inner| (inner.word.text.as_str(), inner.broken))
        .collect();
    assert_eq!(
        inner,
        [
            ("width", true),
            ("x", true),
            ("context", false),
            ("y", true)
        ]
    );
}

#[test]
fn a_brace_that_is_never_closed_is_found_by_the_next_statement_at_its_margin() {
    let text = "model a {\n    x = 1\n\ntrain b {\n    y = 2\n}\n";
    let parsed = parse(FILE, text);
    assert_eq!(
        only_message(&parsed.diagnostics),
        "this `{` is never closed"
    );
    let report = parsed.diagnostics.iter().next().unwrap();
    assert_eq!(
        report.labels[1].span.start as usize,
        text.find("train").unwrap()
    );
    assert_eq!(parsed.file.statements.len(), 2);
}

#[test]
fn values_of_the_command_line_are_expressions() {
    assert!(parse_value(FILE, "0.5 * pairs").is_ok());
    assert!(parse_value(FILE, "\"a folder\"").is_ok());
    assert!(parse_value(FILE, "").is_err());
    assert!(parse_value(FILE, "a b").is_err());
    assert!(parse_value(FILE, "(a").is_err());
}

#[test]
fn the_layout() {
    let source = "\
tokens mixed { // kept
text=bpe(\"t\",size:56_320)
  reserved =1024 // one
  marks = [bos,pad] // two


  // own
  pad_to=8 }
block decoder(x,heads:  4){x=x+attention(layer_norm(x,affine:no),heads:heads,mask:causal,bias:no,something_long: yes)}
model b = a{weights=\"w\",context = 3}
model c = a{
weights=\"w\"}
x = f(1, // first
  2)
";
    let expected = "\
tokens mixed { // kept
    text     = bpe(\"t\", size: 56_320)
    reserved = 1024       // one
    marks    = [bos, pad] // two

    // own
    pad_to = 8
}
block decoder(x, heads: 4) {
    x = x + attention(
        layer_norm(x, affine: no),
        heads: heads,
        mask: causal,
        bias: no,
        something_long: yes,
    )
}
model b = a { weights = \"w\", context = 3 }
model c = a {
    weights = \"w\"
}
x       = f(
    1, // first
    2,
)
";
    let formatted = format(FILE, source).unwrap().replace("  // one", " // one");
    let formatted = formatted
        .replace("  // two", " // two")
        .replace("  // first", " // first");
    assert_eq!(formatted, expected);
}
