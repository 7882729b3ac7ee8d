//! `jamc`, the command line of JAM: parses flags, calls the rooms, prints, exits.
//!
//! Exit codes: 0 done, 1 the program or its input is wrong, 2 usage, 130 interrupted. With `--json`
//! a result is one JSON value on standard output, and every report and the failure that ends a
//! command is an object on a line of standard error, which holds nothing else.

mod cli;
mod commands;
mod console;
mod failure;
mod headers;
mod model_source;
mod passes;
mod program;
mod vocabulary;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, View};
use console::{Console, Volume};
use failure::{Failure, tell};

fn main() -> ExitCode {
    jam_backends::kernels::memory::keep_freed_memory();
    let Cli { command, common } = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and the version are no failures.
        Err(error) if asks_for_json() && error.use_stderr() => {
            let message = error.to_string();
            let message = message.trim_end().trim_start_matches("error: ");
            let failure = Failure::usage(message);
            tell(&failure, true);
            return ExitCode::from(failure.code());
        }
        Err(error) => error.exit(),
    };
    let volume = match (common.quiet || common.json, common.verbose) {
        (true, _) => Volume::Quiet,
        (false, 0) => Volume::Normal,
        (false, _) => Volume::Verbose,
    };
    let console = Console::new(volume);
    let result = match command {
        Command::Check { file } => commands::check::run(&file, &common, &console),
        Command::Fmt { files, check } => commands::fmt::run(&files, check, &common, &console),
        Command::Inspect {
            file,
            name,
            view,
            svg,
            rows,
            passes,
        } => {
            let view = if svg { View::Svg } else { view };
            commands::inspect::run(
                &file,
                name.as_deref(),
                (view, rows),
                &passes,
                &common,
                &console,
            )
        }
        Command::Build {
            file,
            names,
            dry_run,
            passes,
        } => commands::build::run(&file, &names, dry_run, &passes, &common, &console),
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
        Command::Run { file, restart } => commands::run::run(&file, &restart, &common, &console),
        Command::Results { place, remove } => {
            commands::results::run(&place, &remove, &common, &console)
        }
        Command::Forward {
            model,
            tokens,
            output,
        } => commands::forward::run(&model, &tokens, &output, &common, &console),
        Command::Import {
            checkpoint,
            output,
            name,
        } => commands::import::run(&checkpoint, &output, name.as_deref(), &common, &console),
        Command::Export {
            model,
            output,
            shard_size,
        } => commands::export::run(&model, &output, shard_size, common.numbers(), &console),
        Command::Doctor => commands::doctor::run(&common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, common.json);
            ExitCode::from(failure.code())
        }
    }
}

/// Whether `--json` is on a command line that cannot be read otherwise.
fn asks_for_json() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.any(|argument| argument == "--json")
}
