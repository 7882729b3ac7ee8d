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

use cli::{Cli, Command, Common, View};
use commands::inspect;
use console::Console;
use failure::{Failure, tell};

fn main() -> ExitCode {
    jam_backends::kernels::memory::keep_freed_memory();
    let Cli { command, talk } = match parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let console = Console::new(talk);
    match carry_out(command, Common::new(talk), &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, talk.json);
            ExitCode::from(failure.code())
        }
    }
}

/// Calls the command with the flags that it takes.
fn carry_out(command: Command, common: Common, console: &Console) -> Result<(), Failure> {
    match command {
        Command::Check {
            files,
            program,
            out,
        } => commands::check::run(&files, &common.program(&program).out(&out), console),
        Command::Fmt { files, check } => commands::fmt::run(&files, check, &common, console),
        Command::Inspect {
            file,
            name,
            view,
            svg,
            rows,
            passes,
            program,
        } => {
            let shown = inspect::Shown {
                view: if svg { View::Svg } else { view },
                rows,
            };
            let common = common.program(&program);
            inspect::run(&file, name.as_deref(), shown, &passes, &common, console)
        }
        Command::Build {
            file,
            names,
            dry_run,
            passes,
            work,
        } => {
            let common = common.work(&work);
            commands::build::run(&file, &names, dry_run, &passes, &common, console)
        }
        Command::Synth {
            config,
            output,
            shards,
            seed,
            memory,
            force,
        } => {
            let mut common = common.memory(memory);
            common.seed = seed;
            commands::synth::run(&config, &output, shards, force, &common, console)
        }
        Command::Train {
            file,
            recipe,
            restart,
            work,
        } => commands::train::run(&file, &recipe, restart, &common.work(&work), console),
        Command::Generate(args) => {
            let common = common.program(&args.program).out(&args.out);
            commands::generate::run(&args, &common.compute(args.compute), console)
        }
        Command::Eval { file, report, work } => {
            commands::eval::run(&file, &report, &common.work(&work), console)
        }
        Command::Run {
            file,
            restart,
            work,
        } => commands::run::run(&file, &restart, &common.work(&work), console),
        Command::Results {
            place,
            remove,
            program,
            out,
        } => {
            let common = common.program(&program).out(&out);
            commands::results::run(&place, &remove, &common, console)
        }
        Command::Forward {
            model,
            tokens,
            output,
            compute,
            force,
        } => {
            let common = common.compute(compute);
            commands::forward::run(&model, &tokens, &output, force, &common, console)
        }
        Command::Import {
            checkpoint,
            output,
            name,
            force,
        } => {
            let name = name.as_deref();
            commands::import::run(&checkpoint, &output, name, force, &common, console)
        }
        Command::Export {
            model,
            output,
            shard_size,
            force,
            numbers,
        } => {
            let common = common.numbers_of(numbers);
            commands::export::run(&model, &output, shard_size, force, &common, console)
        }
        Command::Doctor => commands::doctor::run(&common),
        Command::Help { word } => commands::help::run(word.as_deref(), &common),
        Command::Completions { shell } => commands::completions::run(shell, &common),
        Command::Man { command } => commands::man::run(command.as_deref(), &common),
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
