//! The commands: what each is called and takes, and its file, which carries it out.

mod build;
mod check;
mod completions;
mod doctor;
mod eval;
mod export;
mod fmt;
mod forward;
mod generate;
mod help;
mod import;
mod inspect;
mod man;
mod results;
mod run;
mod steps;
mod synth;
mod train;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use steps::{carry_out, known};

use crate::cli::{
    Common, ComputeArgs, ForceArgs, GenerateArgs, MemoryArgs, OutArgs, PassArgs, ProgramArgs, Talk,
    View, WeightArgs, WorkArgs, bytes,
};
use crate::console::Console;
use crate::failure::Failure;
use crate::version::version;

/// The compiler for fused models: joins two pretrained transformers into one that reads and draws.
#[derive(Debug, Parser)]
#[command(
    name = "jamc",
    version = version(),
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) talk: Talk,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find every mistake of a program: parse, resolve, verify, compare with checkpoint headers
    Check {
        /// Programs, and folders: every `.jam` file below, but for those that another of them uses
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        program: ProgramArgs,
        #[command(flatten)]
        out: OutArgs,
    },
    /// Give programs their one layout
    Fmt {
        /// The programs; `-` is standard input, laid out on standard output
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write nothing; fail when a file is not in its layout
        #[arg(long)]
        check: bool,
    },
    /// Count parameters, memory and work of every model, or show one
    Inspect {
        /// A program or a model folder
        file: PathBuf,
        /// One model
        name: Option<String>,
        /// What to show
        #[arg(long, value_enum, default_value_t = View::Counts)]
        view: View,
        /// The graph as a drawing: short for --view svg
        #[arg(long, conflicts_with = "view")]
        svg: bool,
        /// Show where every row of the token tables comes from, instead
        #[arg(long, conflicts_with_all = ["view", "svg"])]
        rows: bool,
        #[command(flatten)]
        passes: PassArgs,
        #[command(flatten)]
        program: ProgramArgs,
    },
    /// Compute fused models and write their folders
    Build {
        /// The program
        file: PathBuf,
        /// Only these fusions (and what they need)
        names: Vec<String>,
        /// Write nothing; tell what would be read and written, the memory and the time it would take
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        passes: PassArgs,
        #[command(flatten)]
        work: WorkArgs,
    },
    /// Write a checkpoint of random numbers, in the layout of other tools, for trials at full size
    Synth {
        /// A Hugging Face `config.json`, or a folder that has one
        config: PathBuf,
        /// The folder to write
        #[arg(short, long)]
        output: PathBuf,
        /// Most bytes of one file
        #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "5GB")]
        shards: u64,
        /// Seed of its numbers
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        memory: MemoryArgs,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Carry out a training run (and what it needs); goes on where it stopped
    Train {
        /// The program
        file: PathBuf,
        /// The training
        recipe: String,
        /// Begin anew, whatever is there; what was made before is kept beside the new result
        #[arg(long)]
        restart: bool,
        #[command(flatten)]
        work: WorkArgs,
    },
    /// Write an illustrated answer to a prompt
    Generate(GenerateArgs),
    /// Make a report (and what it needs): a table, and JSON
    Eval {
        /// The program
        file: PathBuf,
        /// The report
        report: String,
        #[command(flatten)]
        work: WorkArgs,
    },
    /// Do everything that a program asks for, in order, passing over what is done
    Run {
        /// The program
        file: PathBuf,
        /// Begin this step anew, whatever is there; what it had made is kept beside the new result
        #[arg(long, value_name = "NAME")]
        restart: Vec<String>,
        #[command(flatten)]
        work: WorkArgs,
    },
    /// List what programs have made: name, state, date, size, and whether the program still asks for it
    Results {
        /// A program, or a folder of results
        place: PathBuf,
        /// Take this result away, as the list names it, and nothing else
        #[arg(long, value_name = "RESULT")]
        remove: Vec<String>,
        #[command(flatten)]
        program: ProgramArgs,
        #[command(flatten)]
        out: OutArgs,
    },
    /// Logits of a model on given tokens
    Forward {
        /// A model folder, or a Hugging Face folder of a known architecture
        model: PathBuf,
        /// safetensors with `input_ids` [batch, time] and, where there is padding, `attention_mask`
        #[arg(long)]
        tokens: PathBuf,
        /// safetensors with `logits` [batch, time, vocabulary] f32
        #[arg(short, long)]
        output: PathBuf,
        #[command(flatten)]
        compute: ComputeArgs,
        #[command(flatten)]
        weights: WeightArgs,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Write the model of a checkpoint as a program that one can read and edit
    Import {
        /// A Hugging Face folder of a known architecture, or a checkpoint of llama2.c
        checkpoint: PathBuf,
        /// The program
        #[arg(short, long)]
        output: PathBuf,
        /// Name of the model in it [default: that of the program]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Write a model as a Hugging Face folder, or as a JAM folder where no architecture fits
    Export {
        /// A model folder, or a checkpoint that `import` reads
        model: PathBuf,
        /// The folder to write
        #[arg(short, long)]
        output: PathBuf,
        /// Most bytes of weights in one file: 5GB, 500MB, 2GiB
        #[arg(long, default_value = "5GB", value_parser = bytes, value_name = "SIZE")]
        shard_size: u64,
        #[command(flatten)]
        weights: WeightArgs,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Tell what this machine offers and what the program was built with
    Doctor,
    /// Tell all of a word of the language (a measure, a strategy, an optimizer, …) or of a command
    Help {
        /// The word [default: which words there are]
        word: Option<String>,
    },
    /// Print what makes a shell complete the commands and flags of `jamc`
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page of `jamc`, or of one of its commands
    Man {
        /// The command
        command: Option<String>,
    },
}

/// Carries a command out; `-v` tells at its end what no kernel served.
pub(crate) fn run(command: Command, common: Common, console: &Console) -> Result<(), Failure> {
    let result = call(command, common, console);
    for fallback in jam_backends::kernels::served::fallbacks() {
        console.detail(&fallback.to_string());
    }
    result
}

/// Calls the command with the flags that it takes.
fn call(command: Command, common: Common, console: &Console) -> Result<(), Failure> {
    match command {
        Command::Check {
            files,
            program,
            out,
        } => check::run(&files, &common.program(&program).out(&out), console),
        Command::Fmt { files, check } => fmt::run(&files, check, &common, console),
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
            build::run(&file, &names, dry_run, &passes, &common, console)
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
            synth::run(&config, &output, shards, force, &common, console)
        }
        Command::Train {
            file,
            recipe,
            restart,
            work,
        } => train::run(&file, &recipe, restart, &common.work(&work), console),
        Command::Generate(args) => {
            let common = common.program(&args.program).out(&args.out);
            let common = common.compute(args.compute).weights(args.weights);
            generate::run(&args, &common, console)
        }
        Command::Eval { file, report, work } => {
            eval::run(&file, &report, &common.work(&work), console)
        }
        Command::Run {
            file,
            restart,
            work,
        } => run::run(&file, &restart, &common.work(&work), console),
        Command::Results {
            place,
            remove,
            program,
            out,
        } => {
            let common = common.program(&program).out(&out);
            results::run(&place, &remove, &common, console)
        }
        Command::Forward {
            model,
            tokens,
            output,
            compute,
            weights,
            force,
        } => {
            let common = common.compute(compute).weights(weights);
            forward::run(&model, &tokens, &output, force, &common, console)
        }
        Command::Import {
            checkpoint,
            output,
            name,
            force,
        } => {
            let name = name.as_deref();
            import::run(&checkpoint, &output, name, force, &common, console)
        }
        Command::Export {
            model,
            output,
            shard_size,
            weights,
            force,
        } => {
            let common = common.weights(weights);
            export::run(&model, &output, shard_size, force, &common, console)
        }
        Command::Doctor => doctor::run(&common),
        Command::Help { word } => help::run(Cli::command(), word.as_deref(), &common),
        Command::Completions { shell } => completions::run(Cli::command(), shell, &common),
        Command::Man { command } => man::run(Cli::command(), command.as_deref(), &common),
    }
}
