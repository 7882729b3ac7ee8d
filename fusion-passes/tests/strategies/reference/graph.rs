//! Graphs, computed: tokens `[batch, time]` → logits `[batch, time, vocab]`.

use std::collections::BTreeMap;

use jam_ir::{Activation, Block, Mask, Model, Norm, Op, RotaryLayout, ValueId, join_path};

use super::plan::{concat, slice};
use super::{Tensor, Weights};

/// Logits of a model; no token is padding.
pub(crate) fn logits(model: &Model, weights: &Weights, tokens: &[Vec<usize>]) -> Tensor {
    let run = Run {
        model,
        weights,
        tokens,
    };
    let shape = [tokens.len(), tokens[0].len()];
    let ids = tokens.iter().flatten().map(|id| *id as f64).collect();
    run.block(&model.main, "", &[Tensor::new(&shape, ids)])
}

struct Run<'a> {
    model: &'a Model,
    weights: &'a Weights,
    tokens: &'a [Vec<usize>],
}

impl Run<'_> {
    fn block(&self, block: &Block, path: &str, args: &[Tensor]) -> Tensor {
        let mut values: BTreeMap<ValueId, Tensor> = block
            .inputs
            .iter()
            .copied()
            .zip(args.iter().cloned())
            .collect();
        for statement in &block.body {
            let value = self.op(block, path, &statement.op, &values);
            let shape: Vec<Option<u64>> = {
                let axes = block.value_of(statement.result).ty.axes.iter();
                axes.map(|axis| self.model.axis(*axis).size).collect()
            };
            for (size, axis) in value.shape.iter().zip(shape) {
                assert!(axis.is_none_or(|axis| axis as usize == *size));
            }
            values.insert(statement.result, value);
        }
        values.remove(&block.result).unwrap()
    }

    fn op(&self, block: &Block, path: &str, op: &Op, values: &BTreeMap<ValueId, Tensor>) -> Tensor {
        let weight = |id| &self.weights[&join_path(path, &block.param_of(id).name)];
        let value = |id: &ValueId| &values[id];
        match op {
            Op::Embed { tokens, table } => {
                let (ids, table) = (value(tokens), weight(*table));
                let rows = ids.data.iter().map(|id| slice(table, 0, *id as usize, 1));
                let mut out = concat(&rows.collect::<Vec<_>>(), 0);
                out.shape = vec![ids.shape[0], ids.shape[1], table.shape[1]];
                out
            }
            Op::Positions { table, offset, .. } => {
                let table = weight(*table);
                let time = self.tokens[0].len();
                let row = slice(table, 0, *offset as usize, time);
                let mut out = concat(&vec![row; self.tokens.len()], 0);
                out.shape = vec![self.tokens.len(), time, table.shape[1]];
                out
            }
            Op::Linear { x, weight: w, bias } => {
                let (x, matrix) = (value(x), weight(*w));
                let inputs = block.param_of(*w).ty.input.len();
                let out = matmul(x, matrix, inputs);
                match bias {
                    Some(bias) => over_last(&out, weight(*bias), |a, b| a + b),
                    None => out,
                }
            }
            Op::Unembed { x, table } => {
                let table = weight(*table);
                matmul(value(x), &super::plan::permute(table, &[1, 0]), 1)
            }
            Op::LayerNorm {
                x,
                gain,
                bias,
                norm,
            } => {
                let mut out = normalise(value(x), norm, true);
                if let Some(gain) = gain {
                    out = over_last(&out, weight(*gain), |a, b| a * b);
                }
                match bias {
                    Some(bias) => over_last(&out, weight(*bias), |a, b| a + b),
                    None => out,
                }
            }
            Op::RmsNorm { x, gain, norm } => {
                let out = normalise(value(x), norm, false);
                match gain {
                    Some(gain) => over_last(&out, weight(*gain), |a, b| a * b),
                    None => out,
                }
            }
            Op::Rotary {
                x,
                base,
                layout,
                scaling,
            } => rotate(value(x), *base, *layout, scaling),
            Op::Attention {
                q,
                k,
                v,
                mask,
                scale,
            } => attend(value(q), value(k), value(v), *mask, *scale),
            Op::Activation { x, kind } => value(x).map(|x| match kind {
                Activation::Relu => x.max(0.0),
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::GeluTanh | Activation::Gelu => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    0.5 * x * (1.0 + inner.tanh())
                }
                // What is compared here holds for any function of one number.
                #[allow(unreachable_patterns, reason = "a new one need not be here")]
                _ => x.tanh() * x,
            }),
            Op::Add { a, b } => value(a).zip(value(b), |a, b| a + b),
            Op::Mul { a, b } => value(a).zip(value(b), |a, b| a * b),
            Op::Scale { x, by } => value(x).map(|x| x * by),
            Op::Concat { parts, .. } => {
                let parts: Vec<Tensor> = parts.iter().map(|part| value(part).clone()).collect();
                let last = parts[0].shape.len() - 1;
                concat(&parts, last)
            }
            Op::Slice { x, start, axis } => {
                let len = self.model.axis(*axis).size.unwrap() as usize;
                let x = value(x);
                slice(x, x.shape.len() - 1, *start as usize, len)
            }
            Op::ChooseRows { a, b, second } => {
                let (a, b) = (value(a), value(b));
                let vocab = a.shape[a.shape.len() - 1];
                let inside = |row: u64| {
                    second
                        .iter()
                        .any(|(start, end)| (*start..*end).contains(&row))
                };
                let choose = |i: usize| {
                    if inside((i % vocab) as u64) {
                        b.data[i]
                    } else {
                        a.data[i]
                    }
                };
                Tensor::new(&a.shape, (0..a.data.len()).map(choose).collect())
            }
            Op::MaskRows { x, rows } => {
                let x = value(x);
                let vocab = x.shape[x.shape.len() - 1];
                let inside = |row: u64| {
                    rows.iter()
                        .any(|(start, end)| (*start..*end).contains(&row))
                };
                let masked = |i: usize| match inside((i % vocab) as u64) {
                    true => f64::from(f32::MIN),
                    false => x.data[i],
                };
                Tensor::new(&x.shape, (0..x.data.len()).map(masked).collect())
            }
            Op::Cast { x, .. } => value(x).clone(),
            Op::Call { block, args, at } => {
                let args: Vec<Tensor> = args.iter().map(|arg| value(arg).clone()).collect();
                self.block(&self.model.blocks[block], &join_path(path, at), &args)
            }
        }
    }
}

/// `[…, in…]` and `[in…, out…]` → `[…, out…]`.
fn matmul(x: &Tensor, matrix: &Tensor, inputs: usize) -> Tensor {
    let (sum, out) = (
        matrix.shape[..inputs].iter().product::<usize>(),
        matrix.tail(inputs),
    );
    let rows = x.data.len() / sum;
    let mut data = vec![0.0; rows * out];
    for i in 0..rows {
        for j in 0..sum {
            let a = x.data[i * sum + j];
            for k in 0..out {
                data[i * out + k] += a * matrix.data[j * out + k];
            }
        }
    }
    let lead = &x.shape[..x.shape.len() - inputs];
    Tensor::new(&[lead, &matrix.shape[inputs..]].concat(), data)
}

/// A weight over the last axes of a value.
fn over_last(x: &Tensor, weight: &Tensor, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let n = weight.data.len();
    let data = x
        .data
        .iter()
        .enumerate()
        .map(|(i, x)| f(*x, weight.data[i % n]));
    Tensor::new(&x.shape, data.collect())
}

fn normalise(x: &Tensor, norm: &Norm, centred: bool) -> Tensor {
    let size = x.shape[x.shape.len() - 1];
    let parts: Vec<usize> = match norm.parts.is_empty() {
        true => vec![size],
        false => norm.parts.iter().map(|part| *part as usize).collect(),
    };
    let mut data = Vec::with_capacity(x.data.len());
    for row in x.data.chunks(size) {
        let mut rest = row;
        for part in &parts {
            let (run, after) = rest.split_at(*part);
            rest = after;
            let n = run.len() as f64;
            let mean = if centred {
                run.iter().sum::<f64>() / n
            } else {
                0.0
            };
            let square = run.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            data.extend(run.iter().map(|x| (x - mean) / (square + norm.eps).sqrt()));
        }
    }
    Tensor::new(&x.shape, data)
}

fn rotate(x: &Tensor, base: f64, layout: RotaryLayout, scaling: &jam_ir::RotaryScaling) -> Tensor {
    let [batch, time, heads, key] = x.shape[..] else {
        panic!("four axes")
    };
    let half = key / 2;
    let (angles, size) = scaling.angles(key, base);
    let mut out = x.clone();
    for b in 0..batch {
        for t in 0..time {
            for h in 0..heads {
                let start = ((b * time + t) * heads + h) * key;
                for (i, angle) in angles.iter().enumerate() {
                    let angle = t as f64 * angle;
                    let (m, n) = match layout {
                        RotaryLayout::Halves => (start + i, start + i + half),
                        RotaryLayout::Pairs => (start + 2 * i, start + 2 * i + 1),
                    };
                    let (a, c) = (x.data[m], x.data[n]);
                    out.data[m] = size * (a * angle.cos() - c * angle.sin());
                    out.data[n] = size * (c * angle.cos() + a * angle.sin());
                }
            }
        }
    }
    out
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask, scale: f64) -> Tensor {
    let [batch, time, heads, key] = q.shape[..] else {
        panic!("four axes")
    };
    let group = heads / k.shape[2];
    let at = |b: usize, t: usize, h: usize, heads: usize| ((b * time + t) * heads + h) * key;
    let mut out = Tensor::filled(&q.shape, 0.0);
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..time {
                let end = if mask == Mask::Causal { t + 1 } else { time };
                let query = &q.data[at(b, t, h, heads)..][..key];
                let scores: Vec<f64> = (0..end)
                    .map(|s| {
                        let keys = &k.data[at(b, s, h / group, k.shape[2])..][..key];
                        scale * query.iter().zip(keys).map(|(a, b)| a * b).sum::<f64>()
                    })
                    .collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                for (s, score) in scores.iter().enumerate() {
                    let share = (score - most).exp() / sum;
                    let values = &v.data[at(b, s, h / group, v.shape[2])..][..key];
                    let start = at(b, t, h, heads);
                    for (i, value) in values.iter().enumerate() {
                        out.data[start + i] += share * value;
                    }
                }
            }
        }
    }
    out
}
