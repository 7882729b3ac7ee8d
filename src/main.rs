//! `jamc`, the command line of JAM: parses flags, calls the rooms, prints, exits.
//!
//! Exit codes: 0 done, 1 the program or its input is wrong, 2 usage, 130 interrupted.

mod cli;
mod commands;
mod console;
mod failure;
mod headers;
mod model_source;
mod program;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use console::{Console, Volume};

fn main() -> ExitCode {
    jam_backends::kernels::memory::keep_freed_memory();
    let Cli { command, common } = Cli::parse();
    let volume = match (common.quiet, common.verbose) {
        (true, _) => Volume::Quiet,
        (false, 0) => Volume::Normal,
        (false, _) => Volume::Verbose,
    };
    let console = Console::new(volume);
    let result = match command {
        Command::Check { file } => commands::check::run(&file, &common, &console),
        Command::Fmt { files, check } => commands::fmt::run(&files, check, &common, &console),
        Command::Inspect { file, name, view } => {
            commands::inspect::run(&file, name.as_deref(), view, &common, &console)
        }
        Command::Build { file, names } => commands::build::run(&file, &names, &common, &console),
        Command::Synth {
            config,
            output,
            shards,
        } => commands::synth::run(&config, &output, shards, &common, &console),
        Command::Train {
            file,
            recipe,
            restart,
        } => commands::train::run(&file, &recipe, restart, &common, &console),
        Command::Generate(args) => commands::generate::run(&args, &common, &console),
        Command::Eval { file, report } => commands::eval::run(&file, &report, &common, &console),
        Command::Run { file } => commands::run::run(&file, &common, &console),
        Command::Forward {
            model,
            tokens,
            output,
        } => commands::forward::run(&model, &tokens, &output, &common),
        Command::Doctor => commands::doctor::run(&common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                // A failing terminal is no reason to fail otherwise.
                let _ = writeln!(std::io::stderr(), "error: {text}");
            }
            ExitCode::from(failure.code())
        }
    }
}
