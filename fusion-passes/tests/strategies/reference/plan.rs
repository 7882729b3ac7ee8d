//! Plans, executed.

use std::collections::BTreeMap;

use jam_ir::Model;
use jam_ir::Plan;
use jam_ir::plan_shape::{ShapedPlan, plan_shape};

use super::{Tensor, Weights, mix};

/// Every weight of a fused model from its parents' weights, by source.
pub(crate) fn weights(model: &Model, sources: &BTreeMap<String, Weights>) -> Weights {
    let uses = model.weight_uses();
    let weights = uses.into_iter().map(|(name, param)| {
        let shape = model.weight_shape(&param.ty).unwrap();
        let plan = &model.weights[&name].plan;
        (name.clone(), execute(plan, &shape, sources, &name))
    });
    weights.collect()
}

/// One plan.
pub(crate) fn execute(
    plan: &Plan,
    shape: &[u64],
    sources: &BTreeMap<String, Weights>,
    name: &str,
) -> Tensor {
    let lookup = |source: &str, name: &str| {
        let tensor = sources.get(source)?.get(name)?;
        Some(tensor.shape.iter().map(|size| *size as u64).collect())
    };
    let shaped = plan_shape(plan, shape, &lookup).unwrap_or_else(|e| panic!("{name}: {e}"));
    compute(&shaped, sources, name)
}

fn compute(shaped: &ShapedPlan<'_>, sources: &BTreeMap<String, Weights>, name: &str) -> Tensor {
    let shape: Vec<usize> = shaped
        .known()
        .unwrap_or_else(|| panic!("{name}: the shape of {:?} is not known", shaped.plan))
        .iter()
        .map(|size| *size as usize)
        .collect();
    let parts: Vec<Tensor> = shaped
        .parts
        .iter()
        .map(|part| compute(part, sources, name))
        .collect();
    match shaped.plan {
        Plan::Load { source, name } => sources[source][name].clone(),
        Plan::Sum(terms) => {
            let mut sum = Tensor::filled(&shape, 0.0);
            for ((by, _), part) in terms.iter().zip(&parts) {
                sum = sum.zip(part, |a, b| a + by * b);
            }
            sum
        }
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let columns = rows[0].len();
            let rows = parts.chunks(columns).map(|row| concat(row, *column_axis));
            concat(&rows.collect::<Vec<_>>(), *row_axis)
        }
        Plan::Concat { axis, .. } => concat(&parts, *axis),
        Plan::Slice {
            axis, start, len, ..
        } => slice(&parts[0], *axis, *start as usize, *len as usize),
        Plan::Take { axis, runs, .. } => {
            let run =
                |(start, len): &(u64, u64)| slice(&parts[0], *axis, *start as usize, *len as usize);
            concat(&runs.iter().map(run).collect::<Vec<_>>(), *axis)
        }
        Plan::Rows { runs, .. } => {
            let mut start = 0;
            let mut pieces = Vec::new();
            for (len, source) in runs {
                pieces.push(slice(&parts[*source], 0, start, *len as usize));
                start += *len as usize;
            }
            concat(&pieces, 0)
        }
        Plan::Permute { order, .. } => permute(&parts[0], order),
        Plan::Scale { by, .. } => parts[0].map(|x| by * x),
        Plan::Cast { .. } => parts[0].clone(),
        Plan::Zeros => Tensor::filled(&shape, 0.0),
        Plan::Ones => Tensor::filled(&shape, 1.0),
        Plan::Identity => {
            let mut tensor = Tensor::filled(&shape, 0.0);
            (0..shape[0]).for_each(|i| tensor.data[i * shape[0] + i] = 1.0);
            tensor
        }
        Plan::Slerp { t, straight, .. } => slerp(*t, *straight, &parts[0], &parts[1]),
        Plan::Stock { .. } => stock(&parts[0], &parts[1..]),
        Plan::Trim {
            density, rescale, ..
        } => {
            let mask = largest(*density, &parts[0]);
            keep(*rescale, &mask, &parts[0])
        }
        Plan::Keep { rescale, .. } => keep(*rescale, &parts[0], &parts[1]),
        Plan::Elect { mean, terms } => {
            let weights: Vec<f64> = terms.iter().map(|(weight, _)| *weight).collect();
            elect(*mean, &weights, &parts)
        }
        Plan::Bernoulli { p } => {
            let mut state = name
                .bytes()
                .fold(11, |hash, byte| mix(hash ^ u64::from(byte)));
            let mut tensor = Tensor::filled(&shape, 0.0);
            for x in &mut tensor.data {
                state = mix(state);
                *x = f64::from(u8::from(((state >> 11) as f64 / (1u64 << 53) as f64) < *p));
            }
            tensor
        }
        Plan::Normal { sd } | Plan::TruncatedNormal { sd, .. } => {
            let mut state = name
                .bytes()
                .fold(7, |hash, byte| mix(hash ^ u64::from(byte)));
            let mut tensor = Tensor::filled(&shape, 0.0);
            for x in &mut tensor.data {
                state = mix(state);
                *x = ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 12f64.sqrt() * sd;
            }
            tensor
        }
    }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.zip(b, |a, b| a * b).data.iter().sum()
}

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let lengths = dot(a, a).sqrt() * dot(b, b).sqrt();
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}

/// sin((1 − t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b.
fn slerp(t: f64, straight: f64, a: &Tensor, b: &Tensor) -> Tensor {
    let cosine = cosine(a, b);
    let angle = cosine.clamp(-1.0, 1.0).acos();
    let (from, to) = if cosine.abs() > straight || angle.sin() < 1e-8 {
        (1.0 - t, t)
    } else {
        let sine = angle.sin();
        (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine)
    };
    a.zip(b, |a, b| from * a + to * b)
}

/// t · mean + (1 − t) · base, t = N cos θ / (1 + (N − 1) cos θ).
fn stock(base: &Tensor, of: &[Tensor]) -> Tensor {
    let differences: Vec<Tensor> = of.iter().map(|of| of.zip(base, |a, b| a - b)).collect();
    let mut cosines = Vec::new();
    for (i, a) in differences.iter().enumerate() {
        cosines.extend(differences[i + 1..].iter().map(|b| cosine(a, b)));
    }
    let cosine = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let count = of.len() as f64;
    let t = count * cosine / (1.0 + (count - 1.0) * cosine);
    let sum = Tensor::filled(&base.shape, 0.0);
    let sum = of.iter().fold(sum, |sum, of| sum.zip(of, |a, b| a + b));
    sum.zip(base, |sum, base| t * sum / count + (1.0 - t) * base)
}

/// Ones where a tensor is largest.
fn largest(density: f64, tensor: &Tensor) -> Tensor {
    let mut order: Vec<usize> = (0..tensor.data.len()).collect();
    order.sort_by(|a, b| tensor.data[*b].abs().total_cmp(&tensor.data[*a].abs()));
    let mut mask = Tensor::filled(&tensor.shape, 0.0);
    for place in &order[..(density * order.len() as f64) as usize] {
        mask.data[*place] = 1.0;
    }
    mask
}

fn keep(rescale: bool, mask: &Tensor, of: &Tensor) -> Tensor {
    let kept = of.zip(mask, |x, mask| x * mask);
    let sum = |tensor: &Tensor| tensor.data.iter().map(|x| x.abs()).sum::<f64>();
    match rescale && sum(&kept) > 0.0 {
        true => kept.map(|x| x * (sum(of) / sum(&kept))),
        false => kept,
    }
}

fn elect(mean: bool, weights: &[f64], terms: &[Tensor]) -> Tensor {
    let mut elected = Tensor::filled(&terms[0].shape, 0.0);
    for (place, x) in elected.data.iter_mut().enumerate() {
        let weighted = weights
            .iter()
            .zip(terms)
            .map(|(w, term)| (w, w * term.data[place]));
        let weighted: Vec<(&f64, f64)> = weighted.collect();
        let plus = weighted.iter().map(|(_, x)| x).sum::<f64>() >= 0.0;
        let agrees = |x: f64| if plus { x > 0.0 } else { x < 0.0 };
        let agreeing = weighted.iter().filter(|(_, x)| agrees(*x));
        let (weight, sum) = agreeing.fold((0.0, 0.0), |all, (w, x)| (all.0 + *w, all.1 + x));
        *x = if mean && weight != 0.0 {
            sum / weight
        } else {
            sum
        };
    }
    elected
}

pub(crate) fn concat(parts: &[Tensor], axis: usize) -> Tensor {
    let mut shape = parts[0].shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let mut data = Vec::new();
    for i in 0..outer {
        for part in parts {
            let run = part.tail(axis);
            data.extend_from_slice(&part.data[i * run..(i + 1) * run]);
        }
    }
    Tensor::new(&shape, data)
}

pub(crate) fn slice(tensor: &Tensor, axis: usize, start: usize, len: usize) -> Tensor {
    let mut shape = tensor.shape.clone();
    shape[axis] = len;
    let outer: usize = shape[..axis].iter().product();
    let (run, inner) = (tensor.tail(axis), tensor.tail(axis + 1));
    let mut data = Vec::new();
    for i in 0..outer {
        let from = i * run + start * inner;
        data.extend_from_slice(&tensor.data[from..from + len * inner]);
    }
    Tensor::new(&shape, data)
}

pub(crate) fn permute(tensor: &Tensor, order: &[usize]) -> Tensor {
    let shape: Vec<usize> = order.iter().map(|axis| tensor.shape[*axis]).collect();
    let mut data = Vec::with_capacity(tensor.data.len());
    for flat in 0..tensor.data.len() {
        let mut rest = flat;
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        let mut from = vec![0; shape.len()];
        order
            .iter()
            .zip(&index)
            .for_each(|(axis, i)| from[*axis] = *i);
        let place = from
            .iter()
            .zip(&tensor.shape)
            .fold(0, |place, (i, size)| place * size + i);
        data.push(tensor.data[place]);
    }
    Tensor::new(&shape, data)
}
