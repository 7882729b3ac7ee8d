//! `jamc`, the command line of JAM: parses flags, calls the rooms, prints, exits.
//!
//! Exit codes: 0 done, 1 the program or its input is wrong, 2 usage, 130 interrupted. With `--json`
//! a result is one JSON value on standard output, and every report and the failure that ends a
//! command is an object on a line of standard error, which holds nothing else.

mod cli;
mod commands;
mod console;
mod drawings;
mod failure;
mod foresight;
mod headers;
mod model_source;
mod output;
mod passes;
mod program;
mod version;
mod vocabulary;
mod words;

use std::io::ErrorKind as IoKind;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use jam_ir::{Error, ErrorKind};

use cli::Common;
use commands::Cli;
use console::Console;
use failure::{Failure, tell};

fn main() -> ExitCode {
    jam_backends::kernels::memory::keep_freed_memory();
    let Cli { command, talk } = match parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let console = Console::new(talk);
    match commands::run(command, Common::new(talk), &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, talk.json);
            ExitCode::from(failure.code())
        }
    }
}

/// Reads the command line; what is said of it has colours where `--color` wants them.
fn parse() -> Result<Cli, clap::Error> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut after = arguments
        .iter()
        .skip_while(|argument| *argument != "--color");
    let joined = arguments
        .iter()
        .find_map(|argument| argument.to_str()?.strip_prefix("--color="));
    let asked = joined.or_else(|| after.nth(1)?.to_str());
    let color = match asked {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    };
    let mut command = Cli::command().color(color);
    let found = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&found)
}

/// Tells why a command line is none, or prints the help or the version that it asks for.
fn refused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let message = error.to_string();
        let message = message.trim_end().trim_start_matches("error: ");
        let failure = Failure::usage(message);
        tell(&failure, true);
        return ExitCode::from(failure.code());
    }
    match error.print() {
        Err(io) if !error.use_stderr() && io.kind() != IoKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {io}");
            let failure = Failure::Input(Error::of(ErrorKind::Io, message));
            tell(&failure, json);
            ExitCode::from(failure.code())
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}
