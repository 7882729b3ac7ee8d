//! Passes over the graphs that `inspect` and `build` show and make: what each did, how long it
//! took, and whether the logits stayed the same.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_backends::{Device, Tokens};
use jam_fusion_passes::passes::{PASSES, PassReport, run_passes};
use jam_ir::text;
use jam_ir::{DType, Model, Param, Plan};
use jam_runtime::steps::{Workload, load_executable};
use jam_weights::checkpoints::WeightSource;
use jam_weights::plans::{NoSources, PlanRows};

use crate::cli::{Common, PassArgs};
use crate::console::Console;
use crate::failure::Failure;

impl PassArgs {
    /// Whether any of the flags is given.
    pub(crate) fn asked(&self) -> bool {
        let PassArgs {
            passes,
            print_ir_after,
            stop_after,
            timing,
            verify_equivalence,
        } = self;
        *passes
            || print_ir_after.is_some()
            || stop_after.is_some()
            || *timing
            || *verify_equivalence
    }

    /// Refuses names that no pass has, and text where a machine reads.
    ///
    /// # Errors
    /// When there is such a thing.
    pub(crate) fn check(&self, common: &Common) -> Result<(), Failure> {
        let printed = self.print_ir_after.as_deref().filter(|name| *name != "all");
        let named = printed.into_iter().chain(self.stop_after.as_deref());
        for name in named {
            if PASSES.iter().all(|pass| pass.name != name) {
                let names: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
                let names = names.join(", ");
                let message = format!("there is no pass `{name}`; the passes are {names}");
                return Err(Failure::usage(message));
            }
        }
        if common.json && (self.timing || self.print_ir_after.is_some()) {
            let message = "`--timing` and `--print-ir-after` print text; leave `--json` out";
            return Err(Failure::usage(message));
        }
        Ok(())
    }

    /// Runs the passes over a model, which becomes what they leave.
    pub(crate) fn run(
        &self,
        model: &mut Arc<Model>,
        common: &Common,
        console: &Console,
    ) -> Result<(), Failure> {
        let mut graph = Model::clone(model);
        let mut failed = None;
        let mut watch = |report: &PassReport<'_>| {
            if let Err(failure) = self.tell(report, common, console) {
                failed.get_or_insert(failure);
            }
        };
        run_passes(&mut graph, self.stop_after.as_deref(), &mut watch)
            .map_err(|error| Failure::new(format!("`{}`: {error}", model.name)))?;
        *model = Arc::new(graph);
        failed.map_or(Ok(()), Err)
    }

    /// Runs the passes over the fusions of these names (none for all). A fusion that others are made
    /// of stays as it is: their plans name its weights, and a pass may leave weights out.
    pub(crate) fn run_on_fusions(
        &self,
        work: &mut Workload,
        names: &[String],
        common: &Common,
        console: &Console,
    ) -> Result<(), Failure> {
        let program = &work.program;
        let parents = program.fusions.values().flat_map(|fusion| &fusion.parents);
        let parents: BTreeSet<&str> = parents
            .map(|parent| {
                let mut name = parent.name.as_str();
                while let Some(training) = program.trainings.get(name) {
                    name = training.model.name.as_str();
                }
                name
            })
            .collect();
        for name in program.fusions.keys() {
            let chosen = names.is_empty() || names.contains(name);
            if let (true, false, Some(model)) = (
                chosen,
                parents.contains(name.as_str()),
                work.models.get_mut(name),
            ) {
                self.run(model, common, console)?;
            }
        }
        Ok(())
    }

    /// Tells of one pass what the flags ask for, on standard error: results stand on the other.
    fn tell(
        &self,
        report: &PassReport<'_>,
        common: &Common,
        console: &Console,
    ) -> Result<(), Failure> {
        let PassReport {
            pass,
            before,
            after,
            changed,
            time,
        } = report;
        if self.timing {
            let what = if *changed { "changed" } else { "the same" };
            let seconds = time.as_secs_f64();
            console.told(&format!(
                "// {}: {:<16} {:>9.3} ms  {what}",
                after.name,
                pass.name,
                1e3 * seconds
            ));
        }
        let printed = self.print_ir_after.as_deref();
        if printed.is_some_and(|name| name == "all" || name == pass.name) {
            console.told(&format!(
                "// {} after {}\n{}",
                after.name,
                pass.name,
                text::print(after).trim_end()
            ));
        }
        if self.verify_equivalence {
            let what = match changed {
                true => {
                    let compared = compare(before, after, common.seed.unwrap_or(0))?;
                    format!("keeps {compared} logits")
                }
                false => "changes nothing".to_owned(),
            };
            if !common.json {
                console.told(&format!("// {}: {} {what}", after.name, pass.name));
            }
        }
        Ok(())
    }
}

/// Compares the logits of two models with the same random weights, bit for bit; gives their number.
fn compare(before: &Model, after: &Model, seed: u64) -> Result<usize, Failure> {
    let (a, b) = (logits(before, seed)?, logits(after, seed)?);
    let pairs = a.iter().zip(&b);
    let differ = pairs.clone().filter(|(a, b)| a.to_bits() != b.to_bits());
    let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    match differ.count() {
        0 if a.len() == b.len() => Ok(a.len()),
        count => Err(Failure::new(format!(
            "`{}`: a pass changed {count} of {} logits, by up to {most:e}",
            after.name,
            a.len()
        ))),
    }
}

/// Sequences that are compared, and tokens of each.
const ROWS: usize = 2;
const LENGTH: u64 = 12;

/// Logits of random tokens with random weights, on the CPU: both follow from the seed and names.
fn logits(model: &Model, seed: u64) -> Result<Vec<f32>, Failure> {
    let length = model.context.unwrap_or(LENGTH).min(LENGTH);
    let vocabulary = model.tokens.size;
    // A step that shares no factor with most sizes goes through all parts of the vocabulary.
    let ids = (0..length * ROWS as u64).map(|place| {
        let id = seed.wrapping_add(place.wrapping_mul(2_654_435_761)) % vocabulary.max(1);
        id as u32
    });
    let ids: Vec<u32> = ids.collect();
    let weights = RandomWeights {
        model,
        uses: model.weight_uses(),
        seed,
    };
    let executable = load_executable(model, &weights, &Device::flex(), DType::F32)?;
    Ok(executable.forward(Tokens::new(&ids, ROWS))?)
}

/// Weights drawn from N(0, 1/16), each by its name: the same in every graph that has it.
struct RandomWeights<'m> {
    model: &'m Model,
    uses: IndexMap<String, &'m Param>,
    seed: u64,
}

impl WeightSource for RandomWeights<'_> {
    fn names(&self) -> Vec<String> {
        self.model.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.model.weight_shape(&self.uses.get(name)?.ty)
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> jam_ir::Result<Vec<f32>> {
        let shape = self.shape(name);
        let shape =
            shape.ok_or_else(|| jam_ir::Error::new(format!("there is no weight `{name}`")))?;
        let plan = Plan::Normal { sd: 0.25 };
        PlanRows::new(&plan, name, &shape, self.seed, &NoSources).rows(rows)
    }
}

#[cfg(test)]
mod tests {
    use jam_ir::{Op, TokenLayout};
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    use super::*;

    #[test]
    fn what_changes_a_logit_is_found() {
        let config = DecoderConfig::llama(TokenLayout::bare(11), 8, 8, 1, 2, 8);
        let model = decoder_only(&config);
        assert_eq!(compare(&model, &model, 3).unwrap(), ROWS * 8 * 11);
        let mut other = model.clone();
        for block in other.blocks.values_mut().chain([&mut other.main]) {
            for statement in &mut block.body {
                if let Op::RmsNorm { norm, .. } = &mut statement.op {
                    norm.eps *= 1.5;
                }
            }
        }
        let told = compare(&model, &other, 3).unwrap_err().to_string();
        assert!(told.contains("a pass changed"), "{told}");
    }
}
