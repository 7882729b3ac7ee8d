//! What goes to the terminal: progress on standard error, results on standard output.

use std::io::{ErrorKind as IoKind, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jam_ir::diagnostic::{Diagnostic, Severity};
use jam_ir::span::SourceMap;
use jam_ir::{Error, ErrorKind};
use jam_weights::progress::{Bar, Progress, Stop};
use serde::Serialize;

use crate::cli::{Color, Talk};
use crate::failure::Failure;

/// The terminal.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    /// Whether progress and lines of text are told beside errors and results.
    talks: bool,
    /// Whether more is asked for, in whichever form.
    verbose: bool,
    json: bool,
    color: Color,
    bars: MultiProgress,
}

impl Console {
    pub(crate) fn new(talk: Talk) -> Console {
        Console {
            talks: !talk.quiet && !talk.json,
            verbose: talk.verbose > 0,
            json: talk.json,
            color: talk.color,
            bars: MultiProgress::new(),
        }
    }

    /// Whether more is asked for: notes on a program, also as JSON.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether reports on standard error have colours.
    pub(crate) fn colours(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
            }
        }
    }

    /// A note about what is given, which has no place in a program.
    pub(crate) fn remark(&self, message: &str) {
        self.placeless(Severity::Note, message);
    }

    /// A warning about what is given, which has no place in a program.
    pub(crate) fn warn(&self, message: &str) {
        self.placeless(Severity::Warning, message);
    }

    fn placeless(&self, severity: Severity, message: &str) {
        if !self.json {
            self.show(&format!("{}: {message}", severity.word()));
            return;
        }
        let report = Diagnostic::placeless(severity, message);
        let report = jam_dsl::report::json(&report, &SourceMap::new());
        // What is made of texts and numbers alone has a form as JSON.
        self.line(&serde_json::to_string(&report).unwrap_or_default());
    }

    /// A line that is only of interest when something is wrong.
    pub(crate) fn detail(&self, line: &str) {
        if self.talks && self.verbose {
            self.line(line);
        }
    }

    /// A line of normal interest.
    pub(crate) fn show(&self, line: &str) {
        if self.talks {
            self.line(line);
        }
    }

    /// A line that was asked for by a flag of its own, or says why a command fails.
    pub(crate) fn told(&self, line: &str) {
        self.line(line);
    }

    fn line(&self, line: &str) {
        // Without bars on the screen this is a plain line; a failing terminal is no reason to stop.
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

/// A result on standard output. A closed pipe (`jamc inspect … | head`) ends the process quietly: nobody reads on.
///
/// # Errors
/// When it cannot be written otherwise: a full disk is no place for a result.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == IoKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::Input(Error::of(ErrorKind::Io, message)))
        }
    }
}

/// A result as JSON on standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(result);
    let json = json.map_err(|error| Failure::new(format!("no JSON of the result: {error}")))?;
    print(&format!("{json}\n"))
}

impl Progress for Console {
    fn begin(&self, label: &str, total: u64) -> Box<dyn Bar> {
        if !self.talks {
            return Box::new(jam_weights::progress::Silent);
        }
        if !std::io::stderr().is_terminal() {
            return Box::new(Lines::new(label, total));
        }
        let template = "{prefix:24} {bar:28} {percent:>3}%  {msg}  {eta_precise}";
        let bar = self.bars.add(ProgressBar::new(total.max(1)));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(label.to_owned());
        Box::new(Drawn(bar))
    }

    fn note(&self, line: &str) {
        self.show(line);
    }
}

/// A bar on a terminal.
struct Drawn(ProgressBar);

impl Bar for Drawn {
    fn at(&mut self, done: u64, message: &str) {
        self.0.set_position(done);
        self.0.set_message(message.to_owned());
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Progress where nobody watches: a line now and then.
struct Lines {
    label: String,
    total: u64,
    next: Instant,
}

/// Time between lines in a log.
const PAUSE: Duration = Duration::from_secs(10);

impl Lines {
    fn new(label: &str, total: u64) -> Lines {
        Lines {
            label: label.to_owned(),
            total,
            next: Instant::now() + PAUSE,
        }
    }
}

impl Bar for Lines {
    fn at(&mut self, done: u64, message: &str) {
        if Instant::now() >= self.next {
            let Lines { label, total, .. } = self;
            let percent = 100 * done / (*total).max(1);
            let _ = writeln!(std::io::stderr(), "{label}: {percent}% {message}");
            self.next = Instant::now() + PAUSE;
        }
    }
}

/// Asks for a stop at the first interrupt; the second ends the process at once.
pub(crate) fn stop_on_interrupt(console: &Console) -> Stop {
    let stop = Stop::default();
    let (asked, console) = (stop.clone(), console.clone());
    let set = ctrlc::set_handler(move || {
        if asked.asked() {
            std::process::exit(130);
        }
        asked.ask();
        console.note("stopping at the next sound point; once more to stop at once");
    });
    if set.is_err() {
        // Without a handler an interrupt ends the process, which every step survives.
    }
    stop
}
