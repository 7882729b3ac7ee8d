//! Passes: one model to an equivalent one, with the same logits bit for bit.
//!
//! A pass is one function in one file and one line of [`PASSES`], which is also the order in which
//! they run. Its file opens with a model before and after, which is its test. The verifier runs
//! after every pass. Passes change graphs, never plans: a weight keeps its name and its plan, or
//! goes with the last statement that asked for it.

use std::fmt;
use std::time::{Duration, Instant};

use jam_ir::Model;
use jam_ir::verify::{Problem, verify};

pub(crate) mod dead_code;
pub(crate) mod fold_identities;
mod share_blocks;
mod share_values;

pub(crate) use share_blocks::without_places;

/// One rewriting of a model.
pub struct Pass {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Rewrites a verified model; says whether anything changed.
    run: fn(&mut Model) -> bool,
    /// Its file, whose head is its example.
    #[cfg(test)]
    file: &'static str,
}

impl Pass {
    /// Rewrites a verified model; says whether anything changed.
    pub fn run(&self, model: &mut Model) -> bool {
        (self.run)(model)
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

macro_rules! pass {
    ($name:ident, $help:literal) => {
        Pass {
            name: stringify!($name),
            help: $help,
            run: $name::run,
            #[cfg(test)]
            file: include_str!(concat!("passes/", stringify!($name), ".rs")),
        }
    };
}

/// Every pass, in the order in which they run.
pub static PASSES: [Pass; 4] = [
    pass!(fold_identities, "leaves out operations that change nothing"),
    pass!(share_values, "computes once what a block computes twice"),
    pass!(share_blocks, "makes blocks that differ in name alone one"),
    pass!(dead_code, "leaves out what does not reach the logits"),
];

/// What a pass did.
#[derive(Debug)]
pub struct PassReport<'m> {
    /// The pass.
    pub pass: &'static Pass,
    /// The model before it.
    pub before: &'m Model,
    /// The model after it.
    pub after: &'m Model,
    /// Whether it changed anything.
    pub changed: bool,
    /// How long it took, without the verifier.
    pub time: Duration,
}

/// Why the passes stopped.
#[derive(Debug)]
pub enum PassError {
    /// There is no pass of this name to stop after.
    Unknown(String),
    /// The model was not sound to begin with.
    Unsound(Vec<Problem>),
    /// A pass broke the model.
    Broken {
        /// Name of the pass.
        pass: &'static str,
        /// What the verifier found.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, problems: &[Problem]| {
            problems
                .iter()
                .try_for_each(|problem| write!(f, "\n  {problem}"))
        };
        match self {
            PassError::Unknown(name) => {
                let names: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
                write!(
                    f,
                    "there is no pass `{name}`; the passes are {}",
                    names.join(", ")
                )
            }
            PassError::Unsound(problems) => {
                write!(f, "the model is not sound:")?;
                list(f, problems)
            }
            PassError::Broken { pass, problems } => {
                write!(f, "pass `{pass}` broke the model, a fault of the compiler:")?;
                list(f, problems)
            }
        }
    }
}

impl std::error::Error for PassError {}

/// Runs every pass, or all up to `stop_after`, and tells `watch` of each.
///
/// # Errors
/// A name that is no pass, a model that does not verify before or after a pass.
pub fn run_passes(
    model: &mut Model,
    stop_after: Option<&str>,
    watch: &mut dyn FnMut(&PassReport<'_>),
) -> Result<(), PassError> {
    let last = match stop_after {
        None => PASSES.len(),
        Some(name) => match PASSES.iter().position(|pass| pass.name == name) {
            Some(place) => place + 1,
            None => return Err(PassError::Unknown(name.to_owned())),
        },
    };
    verify(model).map_err(PassError::Unsound)?;
    for pass in &PASSES[..last] {
        let before = model.clone();
        let start = Instant::now();
        pass.run(model);
        let time = start.elapsed();
        verify(model).map_err(|problems| PassError::Broken {
            pass: pass.name,
            problems,
        })?;
        watch(&PassReport {
            pass,
            before: &before,
            after: model,
            // What a pass says of itself is tested, and not relied on.
            changed: before != *model,
            time,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::text::{parse, print};

    /// Texts of the fenced blocks at the head of a file.
    fn examples(file: &str) -> Vec<String> {
        let head = file.lines().map_while(|line| line.strip_prefix("//!"));
        let mut found: Vec<String> = Vec::new();
        let mut inside = false;
        for line in head.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
            match line.starts_with("```") {
                true => {
                    inside = !inside;
                    if inside {
                        found.push(String::new());
                    }
                }
                false if inside => {
                    if let Some(text) = found.last_mut() {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
                false => {}
            }
        }
        found
    }

    #[test]
    fn the_example_at_the_head_of_every_pass_holds() {
        for pass in &PASSES {
            let examples = examples(pass.file);
            let [before, after] = examples.as_slice() else {
                panic!("{} opens with a model before and one after", pass.name);
            };
            let model = |text: &str| {
                let model = parse(text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", pass.name));
                verify(&model).unwrap_or_else(|e| panic!("{}: {e:#?}", pass.name));
                model
            };
            let (mut found, expected) = (model(before), model(after));
            assert!(
                pass.run(&mut found),
                "{} says that it changed the model",
                pass.name
            );
            assert_eq!(print(&found), print(&expected), "{}", pass.name);
            assert_eq!(found, expected, "{}", pass.name);
            assert!(
                !pass.run(&mut found),
                "{} has nothing left to do",
                pass.name
            );
            assert_eq!(found, expected, "{}", pass.name);
        }
    }

    #[test]
    fn passes_run_in_order_and_stop_where_they_are_told() {
        let text = examples(PASSES[0].file).remove(0);
        let mut names = Vec::new();
        let mut model = parse(&text).unwrap();
        let mut watch = |report: &PassReport<'_>| {
            assert_eq!(report.changed, report.pass.run(&mut report.before.clone()));
            names.push(report.pass.name);
        };
        run_passes(&mut model, Some("share_blocks"), &mut watch).unwrap();
        assert_eq!(names, ["fold_identities", "share_values", "share_blocks"]);
        let error = run_passes(&mut model, Some("share"), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("share_values"));
        model.weights.clear();
        let error = run_passes(&mut model, None, &mut |_| {}).unwrap_err();
        assert!(matches!(error, PassError::Unsound(_)));
    }
}
