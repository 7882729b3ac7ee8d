//! Weights that are measured as one: parts of tensors that their files store whole.
//!
//! GPT-2 has queries, keys and values side by side in one tensor. Here they are three weights, and a merge
//! gives each a plan of its own; but an angle, a threshold or a sum is one of the stored tensor, as it is for
//! tools that know no parts. So the weights of a model whose plans are alike but for the parts that they load
//! are one group, and what one of them measures it measures over all, part after part.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;
use jam_ir::plan_shape::{ShapedPlan, plan_shape};
use jam_ir::{Model, Plan};

use super::{Measures, PlanSources, weight_shapes};
use crate::Result;

/// A weight of a group.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: String,
    pub(super) plan: &'a Plan,
    pub(super) shape: Vec<u64>,
    /// What is measured in its plan, by place, with the shape there.
    measured: BTreeMap<String, (&'a Plan, Vec<u64>)>,
}

impl<'a> Member<'a> {
    /// The plan at a place where something is measured, and its shape.
    pub(super) fn at(&self, place: &str) -> Option<(&'a Plan, &[u64])> {
        let (plan, shape) = self.measured.get(place)?;
        Some((plan, shape))
    }
}

/// Several weights that are measured as one, in the order in which they are stored.
#[derive(Debug)]
pub struct Group<'a> {
    pub(super) members: Vec<Member<'a>>,
}

impl Group<'_> {
    /// Whether a weight is in it.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// Entries of all its weights.
    pub(super) fn entries(&self) -> u64 {
        let entries = |member: &Member<'_>| {
            let sizes = member.shape.iter();
            sizes.fold(1u64, |product, size| product.saturating_mul(*size))
        };
        let all = self.members.iter().map(entries);
        all.fold(0, u64::saturating_add)
    }
}

/// The parts that members of a group have of their tensors, and the group.
type Alike<'a> = (Vec<Vec<u64>>, Group<'a>);

/// The groups of a model whose plans load from `sources`. Weights of which nothing is measured, and those that
/// are stored as tensors of their own, are in none. Where one parent stores parts and another (a model folder
/// of JAM, which has every weight for itself) does not, the parts are measured as one.
///
/// # Errors
/// When a weight has an axis without a size, or a source is missing.
pub fn groups<'a>(model: &'a Model, sources: &dyn PlanSources) -> Result<Vec<Group<'a>>> {
    // By plan, with the tensors in place of their parts: each group, and the parts of its members.
    let mut found: IndexMap<String, Vec<Alike<'a>>> = IndexMap::new();
    for (name, shape) in weight_shapes(model)? {
        let Some(plan) = model.weights.get(&name).map(|weight| &weight.plan) else {
            continue;
        };
        if !Measures::are_needed(plan) {
            continue;
        }
        let Some((key, parts)) = stored_parts(plan, sources)? else {
            continue;
        };
        let lookup = |source: &str, name: &str| sources.source(source).ok()?.shape(name);
        let Ok(shaped) = plan_shape(plan, &shape, &lookup) else {
            continue; // Whoever carries the plan out says what is wrong with it.
        };
        let mut measured = BTreeMap::new();
        if !note_measured(&shaped, &mut String::new(), &mut measured) {
            continue;
        }
        let member = Member {
            name,
            plan,
            shape,
            measured,
        };
        let alike = found.entry(key).or_default();
        // A part that is loaded twice belongs to another copy of the tensor.
        match alike.iter_mut().find(|(taken, _)| !taken.contains(&parts)) {
            Some((taken, group)) => {
                let at = taken.partition_point(|other| *other < parts);
                taken.insert(at, parts);
                group.members.insert(at, member);
            }
            None => {
                let members = vec![member];
                alike.push((vec![parts], Group { members }));
            }
        }
    }
    let all = found.into_values().flatten().map(|(_, group)| group);
    Ok(all.filter(|group| group.members.len() > 1).collect())
}

/// The plan as text, with stored tensors in place of their parts, and where each part begins in its tensor;
/// `None` for a plan that loads no parts.
fn stored_parts(plan: &Plan, sources: &dyn PlanSources) -> Result<Option<(String, Vec<u64>)>> {
    let mut whole = plan.clone();
    let (mut parts, mut failure) = (Vec::new(), None);
    whole.for_each_mut(&mut |part| {
        if let Plan::Load { source, name } = part {
            let stored = sources.source(source).map(|source| source.part(name));
            match stored {
                Ok(Some(stored)) => {
                    parts.push(stored.first);
                    *name = stored.tensor;
                }
                Ok(None) => name.clear(),
                Err(error) => failure = Some(error),
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let mut key = String::new();
    let _ = write!(key, "{whole:?}");
    Ok((!parts.is_empty()).then_some((key, parts)))
}

/// Notes every plan in which something is measured by its place; false where the shape of one is not known.
fn note_measured<'a>(
    shaped: &ShapedPlan<'a>,
    place: &mut String,
    measured: &mut BTreeMap<String, (&'a Plan, Vec<u64>)>,
) -> bool {
    if Measures::is_needed(shaped.plan) {
        let Some(shape) = shaped.known() else {
            return false;
        };
        measured.insert(place.clone(), (shaped.plan, shape));
    }
    let length = place.len();
    for (index, part) in shaped.parts.iter().enumerate() {
        let _ = write!(place, "/{index}");
        let known = note_measured(part, place, measured);
        place.truncate(length);
        if !known {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoints::WeightSource;
    use crate::checkpoints::decoder::decoder_only;
    use crate::checkpoints::import::{ImportedConfig, open_weights};
    use crate::plans::PlanRows;

    /// GPT-2 as transformers wrote it, and the same with other numbers in memory.
    struct Turned(Box<dyn WeightSource>);

    impl WeightSource for Turned {
        fn names(&self) -> Vec<String> {
            self.0.names()
        }

        fn shape(&self, name: &str) -> Option<Vec<u64>> {
            self.0.shape(name)
        }

        fn rows(&self, name: &str, rows: std::ops::Range<u64>) -> Result<Vec<f32>> {
            let scale = if name.ends_with("attn.q") { -2.0 } else { 0.5 };
            let numbers = self.0.rows(name, rows)?.into_iter();
            // By its own size, so that rows are the same however they are asked for.
            Ok(numbers.map(|x| scale * x + 0.1 * (x * x)).collect())
        }
    }

    /// Every number of a weight, computed in its group.
    fn computed(
        model: &Model,
        name: &str,
        sources: &IndexMap<String, Box<dyn WeightSource>>,
    ) -> Vec<f32> {
        let all = groups(model, sources).unwrap();
        let shape = weight_shapes(model).unwrap();
        let (_, shape) = shape.into_iter().find(|(other, _)| other == name).unwrap();
        let group = all.iter().find(|group| group.has(name));
        let plan = &model.weights[name].plan;
        let rows = PlanRows::new(plan, name, &shape, 7, sources).in_group(group);
        let whole = rows.all().unwrap();
        let mut by_one = Vec::new();
        for row in 0..shape[0] {
            by_one.extend(rows.rows(row..row + 1).unwrap());
        }
        assert_eq!(whole, by_one);
        whole
    }

    /// Queries, keys and values of one tensor have one angle, and the largest entries of all three stay: by plain
    /// arithmetic on the three together.
    #[test]
    fn parts_of_a_tensor_are_measured_as_the_tensor() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/parents/gpt2_tiny");
        let config = ImportedConfig::read(&folder).unwrap();
        let mut model = decoder_only(&config.decoder);
        let open = || open_weights(&folder).unwrap();
        let sources: IndexMap<String, Box<dyn WeightSource>> = IndexMap::from([
            ("a".to_owned(), open()),
            (
                "b".to_owned(),
                Box::new(Turned(open())) as Box<dyn WeightSource>,
            ),
        ]);
        let parts = ["q", "k", "v"].map(|part| format!("layers.0.attn.{part}"));
        let numbers = |source: &str| -> Vec<f32> {
            let read = |name: &String| {
                let rows = sources[source].shape(name).unwrap()[0];
                sources[source].rows(name, 0..rows).unwrap()
            };
            parts.iter().flat_map(read).collect()
        };
        let (a, b) = (numbers("a"), numbers("b"));
        let product = |x: &[f32], y: &[f32]| -> f64 {
            let pairs = x.iter().zip(y);
            pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let angle = (product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).acos();
        let [from, to] = [0.7, 0.3].map(|t| ((t * angle).sin() / angle.sin()) as f32);
        let arc: Vec<f32> = a.iter().zip(&b).map(|(a, b)| from * a + to * b).collect();
        let mut sizes: Vec<f32> = a.iter().map(|x| x.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let least = sizes[sizes.len() - sizes.len() / 5];
        let kept: Vec<f32> = (a.iter())
            .map(|x| if x.abs() >= least { *x } else { 0.0 })
            .collect();

        type Case<'c> = (&'c dyn Fn(&str) -> Plan, &'c [f32]);
        let plans: [Case<'_>; 2] = [
            (
                &|name| Plan::Slerp {
                    t: 0.3,
                    straight: 0.9995,
                    from: Box::new(Plan::load("a", name)),
                    to: Box::new(Plan::load("b", name)),
                },
                &arc,
            ),
            (
                &|name| Plan::Trim {
                    density: 0.2,
                    rescale: false,
                    of: Box::new(Plan::load("a", name)),
                },
                &kept,
            ),
        ];
        for (plan, expected) in plans {
            for (name, weight) in &mut model.weights {
                weight.plan = plan(name);
            }
            let found = groups(&model, &sources).unwrap();
            // Matrices and biases of every layer, and nothing else.
            assert_eq!(found.len() as u64, 2 * config.decoder.layers);
            assert!(found.iter().all(|group| group.members.len() == 3));
            let found: Vec<f32> = parts
                .iter()
                .flat_map(|name| computed(&model, name, &sources))
                .collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
            // What is stored for itself is measured for itself.
            let own = Plan::load("a", "layers.0.mlp.up");
            assert!(stored_parts(&own, &sources).unwrap().is_none());
        }
    }
}
