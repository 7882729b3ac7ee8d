//! Weights: that the graph and the weight plan agree.

use std::borrow::Cow;

use indexmap::IndexMap;

use super::problems::{Place, Problems};
use crate::plan_shape::plan_shape;
use crate::{Model, Param, Plan, Weight};

/// A weight that the graph asks for.
struct Asked<'m> {
    /// Its full name.
    name: Cow<'m, str>,
    /// What the model has under this name.
    weight: Option<&'m Weight>,
    /// The parameter that asks first.
    param: &'m Param,
}

/// Every weight against the parameter that asks for it. Calls must be known to end.
pub(super) fn check_weights(model: &Model, problems: &mut Problems) {
    let mut total: u64 = 0;
    let mut fits = true;
    let (asked, unasked) = collect(model, problems);
    for Asked {
        name,
        weight,
        param,
    } in &asked
    {
        let span = weight.and_then(|weight| weight.span).or(param.span);
        let mut report =
            |message: String| problems.add(Place::Weight(name.to_string()), span, message);
        let shape = model.weight_shape(&param.ty);
        if let Some(shape) = &shape {
            let elements = shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
            let bytes = elements.and_then(|n| n.checked_mul(param.ty.dtype.bytes()));
            match bytes {
                None => report(format!("its size {shape:?} does not fit 64 bits")),
                Some(bytes) => match total.checked_add(bytes) {
                    Some(sum) => total = sum,
                    None => fits = false,
                },
            }
        }
        match weight {
            None => report("the graph asks for it, but it has no plan".to_owned()),
            // What is loaded has the shape that is asked for, as far as the plan alone tells.
            Some(weight) if matches!(weight.plan, Plan::Load { .. }) => {}
            Some(weight) => {
                let shape = shape.unwrap_or_default();
                if !shape.is_empty()
                    && let Err(error) = plan_shape(&weight.plan, &shape, &|_, _| None)
                {
                    report(format!("its plan does not give shape {shape:?}: {error}"));
                }
            }
        }
    }
    if !fits {
        let message = "the bytes of all weights together do not fit 64 bits";
        problems.add(Place::Model, None, message);
    }
    for (name, weight) in unasked {
        let message = "it has a plan, but nothing in the graph asks for it";
        problems.add(Place::Weight(name.to_owned()), weight.span, message);
    }
}

/// Every weight that the graph asks for, in order of first use, and those that the model has
/// beyond them. Reports weights that two parameters ask for.
fn collect<'m>(
    model: &'m Model,
    problems: &mut Problems,
) -> (Vec<Asked<'m>>, Vec<(&'m str, &'m Weight)>) {
    let mut asked: Vec<Asked<'m>> = Vec::with_capacity(model.weights.len());
    // Places in `asked`: by place among the model's weights, and by name where it has none.
    let mut planned: Vec<Option<usize>> = vec![None; model.weights.len()];
    let mut missing: IndexMap<String, usize> = IndexMap::new();
    let mut clashes: IndexMap<String, &Param> = IndexMap::new();
    model.for_each_weight_use(&mut |name, param| {
        let known = model.weights.get_full(name);
        let before = match known {
            Some((index, ..)) => planned[index],
            None => missing.get(name).copied(),
        };
        match before {
            Some(place) if !std::ptr::eq(asked[place].param, param) => {
                clashes.insert(name.to_owned(), param);
            }
            Some(_) => {}
            None => {
                let place = asked.len();
                let name = match known {
                    Some((index, name, _)) => {
                        planned[index] = Some(place);
                        Cow::Borrowed(name.as_str())
                    }
                    None => {
                        missing.insert(name.to_owned(), place);
                        Cow::Owned(name.to_owned())
                    }
                };
                asked.push(Asked {
                    name,
                    weight: known.map(|(.., weight)| weight),
                    param,
                });
            }
        }
    });
    for (name, param) in clashes {
        let message = "two different parameters ask for this weight";
        problems.add(Place::Weight(name), param.span, message);
    }
    let unasked = model.weights.iter().zip(planned);
    let unasked = unasked.filter(|(_, place)| place.is_none());
    let unasked = unasked.map(|((name, weight), _)| (name.as_str(), weight));
    (asked, unasked.collect())
}
