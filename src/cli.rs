//! The flags that commands share, in one place with their help.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jam_backends::{Device, DeviceChoice};
use jam_ir::DType;
use jam_weights::checkpoints::Numbers;
use jam_weights::plans::Limits;

use crate::failure::Failure;

/// Where the flags that every command takes stand in its help.
const EVERYWHERE: &str = "Options of every command";

/// What is told and how: flags that every command takes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Talk {
    /// Tell more (twice: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub(crate) verbose: u8,

    /// Tell nothing but errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,

    /// Results as JSON on standard output; reports and failures as JSON, a line each, on standard error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    /// Colours in reports and help; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = EVERYWHERE)]
    pub(crate) color: Color,
}

/// When reports have colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// What a program is changed by.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProgramArgs {
    /// Value of a setting (size=smoke), or of a place in a recipe (tune.steps=100)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,

    /// Seed of everything random, in place of the program's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Where results are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutArgs {
    /// Folder of results [default: runs/PROGRAM, with words like size=smoke in its name where they change what
    /// is made]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Where and how to compute.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ComputeArgs {
    /// Where to compute: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceChoice,

    /// Precision of matrix products, in place of the recipe's
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<Dtype>,
}

/// Which weights are taken.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct WeightArgs {
    /// Go on with weights that are infinite or no number, which are refused else
    #[arg(long)]
    pub(crate) allow_nonfinite: bool,
}

/// What building may take.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MemoryArgs {
    /// Most memory that building a model may take (512MiB, 2GB), what steps before it hold left out
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,
}

/// What a command takes that carries out steps of a program.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) out: OutArgs,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
}

/// Leave to replace what an output is written over.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ForceArgs {
    /// Replace what stands there (never what is read from)
    #[arg(long)]
    pub(crate) force: bool,
}

/// The flags of a command, those that it does not take at their defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) set: Vec<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) device: DeviceChoice,
    pub(crate) dtype: Option<Dtype>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) allow_nonfinite: bool,
}

/// A number of bytes with its unit: `512MiB`, `2GB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err("a number comes first: 512MiB".to_owned());
    }
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" => {
            return Err(format!(
                "a unit is missing: {number}GiB, {number}MiB, {number}GB, …"
            ));
        }
        "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => {
            return Err(format!(
                "`{}` is no unit of bytes: B, KiB, MiB, GiB, kB, MB, GB",
                unit.trim()
            ));
        }
    };
    let bytes = number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(scale));
    let bytes = bytes.ok_or_else(|| "that is more than 64 bits count".to_owned())?;
    match bytes {
        0 => Err("that is nothing".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A number of bytes, as [`bytes`] reads it.
fn spelled(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let found = units.iter().find(|(scale, _)| bytes.is_multiple_of(*scale));
    let (scale, unit) = found.unwrap_or(&(1, "B"));
    format!("{}{unit}", bytes / scale)
}

impl Common {
    /// Those of a command that takes no others.
    pub(crate) fn new(talk: Talk) -> Common {
        Common {
            json: talk.json,
            quiet: talk.quiet,
            ..Common::default()
        }
    }

    pub(crate) fn program(self, args: &ProgramArgs) -> Common {
        Common {
            set: args.set.clone(),
            seed: args.seed,
            ..self
        }
    }

    pub(crate) fn out(self, args: &OutArgs) -> Common {
        Common {
            out: args.out.clone(),
            ..self
        }
    }

    pub(crate) fn compute(self, args: ComputeArgs) -> Common {
        Common {
            device: args.device,
            dtype: args.dtype,
            ..self
        }
    }

    pub(crate) fn memory(self, args: MemoryArgs) -> Common {
        Common {
            max_memory: args.max_memory,
            ..self
        }
    }

    pub(crate) fn weights(self, args: WeightArgs) -> Common {
        Common {
            allow_nonfinite: args.allow_nonfinite,
            ..self
        }
    }

    pub(crate) fn work(self, args: &WorkArgs) -> Common {
        self.program(&args.program)
            .out(&args.out)
            .compute(args.compute)
            .memory(args.memory)
            .weights(args.weights)
    }

    /// The flags that say how a program is read and carried out, as a command line repeats them.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
        for pair in &self.set {
            flag("--set", pair.clone());
        }
        if let Some(seed) = self.seed {
            flag("--seed", seed.to_string());
        }
        if let Some(out) = &self.out {
            flag("--out", out.display().to_string());
        }
        if self.device != DeviceChoice::default() {
            flag("--device", self.device.to_string());
        }
        if let Some(dtype) = self.dtype {
            flag("--dtype", dtype.precision().word().to_owned());
        }
        if let Some(memory) = self.max_memory {
            flag("--max-memory", spelled(memory));
        }
        if self.allow_nonfinite {
            flags.push("--allow-nonfinite".to_owned());
        }
        flags
    }

    /// Refuses what a folder, be it of a model or of results, has no use for: no program says what it is. `seed` is one
    /// that nothing would draw from.
    ///
    /// # Errors
    /// When `--set`, `--out` or such a seed is given.
    pub(crate) fn refuse_program_flags(
        &self,
        folder: &Path,
        seed: Option<u64>,
    ) -> Result<(), Failure> {
        let refused = match (self.set.first(), &self.out, seed) {
            (Some(set), _, _) => format!("`--set {set}`"),
            (None, Some(_), _) => "`--out`".to_owned(),
            (None, None, Some(seed)) => format!("`--seed {seed}`"),
            (None, None, None) => return Ok(()),
        };
        let message = format!(
            "{} is a folder, and {refused} is about a program; leave it out",
            folder.display()
        );
        Err(Failure::usage(message))
    }

    /// The device that `--device` names.
    pub(crate) fn open_device(&self) -> Result<Device, Failure> {
        Ok(self.device.open()?)
    }

    /// Which numbers weights may have.
    pub(crate) fn numbers(&self) -> Numbers {
        match self.allow_nonfinite {
            true => Numbers::Any,
            false => Numbers::Finite,
        }
    }

    /// What building a model may take; `None` where nothing was said.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.max_memory.map(|memory| Limits {
            memory,
            ..Limits::default()
        })
    }
}

/// Precision of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    #[default]
    F32,
    Bf16,
}

impl Dtype {
    /// The type as models know it.
    pub(crate) fn precision(self) -> DType {
        match self {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        }
    }
}

/// Passes over graphs: each rewrites a model into one with the same logits, bit for bit.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PassArgs {
    /// Run the passes, as each flag below does too
    #[arg(long)]
    pub(crate) passes: bool,
    /// Print the graph after this pass, or after each (`all`)
    #[arg(long, value_name = "PASS")]
    pub(crate) print_ir_after: Option<String>,
    /// Run no pass after this one
    #[arg(long, value_name = "PASS")]
    pub(crate) stop_after: Option<String>,
    /// Tell how long each pass took
    #[arg(long)]
    pub(crate) timing: bool,
    /// Compute logits with random weights before and after each pass, and compare
    #[arg(long)]
    pub(crate) verify_equivalence: bool,
}

/// What `generate` takes.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// A program, or a model folder, or a Hugging Face folder of a known architecture
    pub(crate) file: PathBuf,
    /// A `decode` of the program
    pub(crate) recipe: Option<String>,
    /// What to answer: a line of its own, which the model has learned to answer (or see `--continue`)
    #[arg(long)]
    pub(crate) prompt: String,
    /// Go on with the prompt as it stands, with no line break behind it
    #[arg(long = "continue", conflicts_with = "picture")]
    pub(crate) go_on: bool,
    /// The model that answers, in place of the recipe's
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Draw the prompt as a caption, instead of answering it
    #[arg(long)]
    pub(crate) picture: bool,
    /// Number of answers
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) count: u64,
    /// Folder of the page [default: `answer`, or `answer-2`, … where that is there]
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) out: OutArgs,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
    #[command(flatten)]
    pub(crate) force: ForceArgs,
}

/// A view of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Parameters, bytes, FLOPs
    Counts,
    /// The graph and the weight plans as text
    Ir,
    /// The graph for Graphviz
    Dot,
    /// The graph as a drawing
    Svg,
}
