//! Passes over the graphs that `inspect` and `build` show and make: what each did, how long it
//! took, and whether the logits stayed the same.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use jam_backends::{Device, Tokens};
use jam_fusion_passes::passes::{PASSES, PassReport, run_passes};
use jam_ir::text;
use jam_ir::{DType, Model, Plan};
use jam_runtime::checkpoints::WeightSource;
use jam_runtime::plans::{NoSources, PlanRows};
use jam_runtime::steps::{Workload, load_executable};

use crate::cli::{Common, PassArgs};
use crate::console::print;
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

    /// Runs the passes over a model, which becomes what they leave.
    pub(crate) fn run(&self, model: &mut Arc<Model>, common: &Common) -> Result<(), Failure> {
        if let Some(name) = &self.print_ir_after
            && name != "all"
            && PASSES.iter().all(|pass| pass.name != name)
        {
            let names: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
            return Err(Failure::usage(format!(
                "there is no pass `{name}`; it is `all`, or one of {}",
                names.join(", ")
            )));
        }
        if common.json && (self.timing || self.print_ir_after.is_some()) {
            let message = "`--timing` and `--print-ir-after` print text; leave `--json` out";
            return Err(Failure::usage(message));
        }
        let mut graph = Model::clone(model);
        let mut failed = None;
        let mut watch = |report: &PassReport<'_>| {
            if let Err(failure) = self.tell(report, common) {
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
    ) -> Result<(), Failure> {
        let program = &work.program;
        let parents = program.fusions.values().flat_map(|fusion| &fusion.parents);
        let parents: BTreeSet<&str> = parents
            .map(|parent| match program.trainings.get(&parent.name) {
                Some(training) => training.model.name.as_str(),
                None => parent.name.as_str(),
            })
            .collect();
        for name in program.fusions.keys() {
            let chosen = names.is_empty() || names.contains(name);
            if let (true, false, Some(model)) = (
                chosen,
                parents.contains(name.as_str()),
                work.models.get_mut(name),
            ) {
                self.run(model, common)?;
            }
        }
        Ok(())
    }

    /// Tells of one pass what the flags ask for.
    fn tell(&self, report: &PassReport<'_>, common: &Common) -> Result<(), Failure> {
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
            print(&format!(
                "// {}: {:<16} {:>9.3} ms  {what}\n",
                after.name,
                pass.name,
                1e3 * seconds
            ));
        }
        let printed = self.print_ir_after.as_deref();
        if printed.is_some_and(|name| name == "all" || name == pass.name) {
            print(&format!(
                "// {} after {}\n{}",
                after.name,
                pass.name,
                text::print(after)
            ));
        }
        if self.verify_equivalence && *changed {
            let [a, b] = [before, after].map(|model| logits(model, common.seed.unwrap_or(0)));
            let (a, b) = (a?, b?);
            let differ = a
                .iter()
                .zip(&b)
                .position(|(a, b)| a.to_bits() != b.to_bits());
            if let Some(place) = differ {
                return Err(Failure::new(format!(
                    "`{}`: pass `{}` changed logit {place}: {} became {}",
                    after.name, pass.name, a[place], b[place]
                )));
            }
        }
        Ok(())
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
    let weights = RandomWeights { model, seed };
    let executable = load_executable(model, &weights, &Device::flex(), DType::F32)?;
    Ok(executable.forward(Tokens::new(&ids, ROWS))?)
}

/// Weights drawn from N(0, 1/16), each by its name: the same in every graph that has it.
struct RandomWeights<'m> {
    model: &'m Model,
    seed: u64,
}

impl WeightSource for RandomWeights<'_> {
    fn names(&self) -> Vec<String> {
        self.model.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let uses = self.model.weight_uses();
        self.model.weight_shape(&uses.get(name)?.ty)
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> jam_runtime::Result<Vec<f32>> {
        let shape = self.shape(name).unwrap_or_default();
        let plan = Plan::Normal { sd: 0.25 };
        PlanRows::new(&plan, name, &shape, self.seed, &NoSources).rows(rows)
    }
}
