//! Sampling and the optimizer against numbers that PyTorch and transformers computed
//! (`tests/golden`, or the folder that `$JAM_GOLDEN` names).

use burn::tensor::{Device, Tensor, TensorData};
use jam_backends::kernels::cross_entropy::{Head, HeadLayout, linear_cross_entropy};
use jam_backends::kernels::embedding::{Ids, embedding};
use jam_backends::kernels::linear::linear;
use jam_backends::kernels::norm::{Norm, norm};
use jam_backends::kernels::optimizer::{AdamW, Slot, adamw_step, clip_factor, global_norm};
use jam_backends::kernels::sampling::{
    guide, keep_min_p, keep_top_k, keep_top_p, penalise_repetition, temper,
};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(folder: &str) -> PathBuf {
    let root = std::env::var_os("JAM_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"),
        PathBuf::from,
    );
    root.join(folder)
}

/// Changes logits, given the ids so far.
type Filter = Box<dyn Fn(&mut [f32], &[usize])>;

struct File(Vec<u8>);

impl File {
    fn read(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        Self(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn all(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).expect("a safetensors file")
    }

    /// Rows of an `f32` matrix.
    fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let all = self.all();
        let view = all.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let width = view.shape().last().copied().unwrap_or(1);
        let values = self.floats(name);
        values.chunks(width).map(<[f32]>::to_vec).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let all = self.all();
        let view = all.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let bytes = view.data().chunks_exact(4);
        bytes
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let all = self.all();
        let view = all.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), Dtype::I64, "{name}");
        let bytes = view.data().chunks_exact(8);
        bytes
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
            .collect()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        let all = self.all();
        all.tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .shape()
            .to_vec()
    }
}

fn case(folder: &Path) -> Value {
    let path = folder.join("case.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("case.json is JSON")
}

fn assert_row(name: &str, got: &[f32], want: &[f32]) {
    for (id, (g, w)) in got.iter().zip(want).enumerate() {
        let same = if w.is_finite() {
            (g - w).abs() <= 1e-5
        } else {
            g == w
        };
        assert!(same, "{name}, id {id}: {g}, expected {w}");
    }
}

/// How many ids are kept, and their share of the probability of `scores`.
fn kept(scores: &[f32], row: &[f32]) -> (usize, f64) {
    let weight = |x: f32| f64::from(x).exp();
    let total: f64 = scores.iter().map(|&x| weight(x)).sum();
    let of = scores.iter().zip(row).filter(|(_, x)| x.is_finite());
    let (count, mass) = of.fold((0, 0.0), |(n, m), (&s, _)| (n + 1, m + weight(s)));
    (count, mass / total)
}

#[test]
fn filters_are_those_of_transformers() {
    let folder = golden("decode/processors");
    let (inputs, expected) = (
        File::read(&folder, "inputs.safetensors"),
        File::read(&folder, "expected.safetensors"),
    );
    let width = inputs.shape("history")[1];
    let history: Vec<usize> = inputs
        .integers("history")
        .iter()
        .map(|&id| id as usize)
        .collect();
    let mut compared = 0;
    for name in expected.all().names() {
        let Some((processor, input)) = name.split_once('|') else {
            panic!("{name}: no bar in the name");
        };
        if let Some(strength) = processor.strip_prefix("cfg_") {
            if input == "raw" {
                let strength: f64 = strength.parse().expect("a number");
                let (cond, uncond) = (inputs.rows("cond"), inputs.rows("uncond"));
                for ((mut with, without), want) in
                    cond.into_iter().zip(uncond).zip(expected.rows(name))
                {
                    guide(&mut with, &without, strength);
                    assert_row(name, &with, &want);
                }
                compared += 1;
            }
            continue;
        }
        let number = |prefix: &str| -> Option<f64> { processor.strip_prefix(prefix)?.parse().ok() };
        let apply: Filter = if let Some(t) = number("temperature_") {
            Box::new(move |x, _| temper(x, t))
        } else if let Some(k) = number("top_k_") {
            Box::new(move |x, _| keep_top_k(x, k as usize))
        } else if let Some(p) = number("top_p_") {
            Box::new(move |x, _| keep_top_p(x, p))
        } else if let Some(p) = number("min_p_") {
            Box::new(move |x, _| keep_min_p(x, p))
        } else if let Some(p) = number("repetition_penalty_") {
            Box::new(move |x, history| penalise_repetition(x, history, p))
        } else if processor == "pipeline_rep1.1_T0.9_k20_p0.9" {
            Box::new(|x, history| {
                penalise_repetition(x, history, 1.1);
                temper(x, 0.9);
                keep_top_k(x, 20);
                keep_top_p(x, 0.9);
            })
        } else {
            continue;
        };
        let ties = input == "ties" || input == "flat";
        let by_probability = processor.starts_with("top_p") || processor.starts_with("pipeline");
        let rows = inputs.rows(input).into_iter().zip(expected.rows(name));
        for (i, (scores, want)) in rows.enumerate() {
            let mut got = scores.clone();
            apply(&mut got, &history[i * width..][..width]);
            if ties && by_probability {
                let (got, want) = (kept(&scores, &got), kept(&scores, &want));
                assert_eq!(got.0, want.0, "{name}: ids kept");
                assert!((got.1 - want.1).abs() < 1e-5, "{name}: probability kept");
            } else {
                assert_row(name, &got, &want);
            }
        }
        compared += 1;
    }
    assert!(compared >= 70, "only {compared} processors were compared");
}

/// Weights of the golden network, in the order of the slots.
const NAMES: [&str; 6] = [
    "emb.weight",
    "fc1.weight",
    "fc1.bias",
    "ln.weight",
    "ln.bias",
    "fc2.weight",
];

#[test]
fn training_follows_torch() {
    for name in [
        "adamw_cosine_clip",
        "adamw_linear_clip",
        "adamw_poly_noclip",
    ] {
        follow(name, &golden(&format!("optim/{name}")));
    }
}

fn follow(name: &str, folder: &Path) {
    let case = case(folder);
    let (inputs, expected) = (
        File::read(folder, "inputs.safetensors"),
        File::read(folder, "expected.safetensors"),
    );
    let device = Device::flex();
    let number = |key: &str| case[key].as_f64();
    let rule = AdamW {
        beta1: case["betas"][0].as_f64().expect("beta"),
        beta2: case["betas"][1].as_f64().expect("beta"),
        eps: number("eps").expect("eps"),
    };
    let decay = number("weight_decay").expect("decay");
    let factor = number("loss_factor").expect("factor");
    let flat = |values: Vec<f32>| {
        let len = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [len]), &device)
    };
    let mut slots: Vec<Slot> = NAMES
        .iter()
        .map(|name| {
            let param = flat(inputs.floats(&format!("init.{name}")));
            Slot::new(param.clone(), param, decay)
        })
        .collect();
    let shapes: Vec<Vec<usize>> = NAMES
        .iter()
        .map(|name| inputs.shape(&format!("init.{name}")))
        .collect();
    let steps = number("steps").expect("steps") as usize;
    for step in 0..steps {
        let leaves: Vec<Tensor<1>> = slots
            .iter()
            .map(|s| s.param.clone().autodiff().require_grad())
            .collect();
        let matrix = |i: usize| leaves[i].clone().reshape([shapes[i][0], shapes[i][1]]);
        let ids = |name: &str| {
            let name = format!("{name}.{step}");
            let shape = inputs.shape(&name);
            let ids = inputs.integers(&name).into_iter().map(|id| id as u32);
            assert_eq!(shape.len(), 2);
            Ids::new(ids.collect(), shape[0], &device.clone().autodiff())
        };
        let x = embedding(matrix(0), &ids("x"));
        let x = linear(x, matrix(1).transpose(), Some(leaves[2].clone())).tanh();
        let gain = (Some(leaves[3].clone()), Some(leaves[4].clone()));
        let x = norm(x, gain.0, gain.1, Norm::Layer, &[], 1e-5);
        let [batch, time, width] = x.dims();
        let rows = batch * time;
        let head = Head {
            weight: matrix(5),
            layout: HeadLayout::Table,
            bias: None,
            mask: None,
        };
        let once = Tensor::ones([rows], &x.device());
        let targets = ids("y").tensor().clone().reshape([rows]);
        let loss = linear_cross_entropy(x.reshape([rows, width]), head, targets, once).sum
            * (factor / rows as f64);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let want = case["loss"][step].as_f64().expect("loss");
        assert!(
            (value - want).abs() < 2e-5,
            "{name}, step {step}: loss {value}, expected {want}"
        );
        let grads = loss.backward();
        for (slot, leaf) in slots.iter_mut().zip(&leaves) {
            slot.grad = leaf.grad(&grads).expect("every weight has a gradient");
        }
        drop((leaves, grads));
        let all: Vec<_> = slots.iter().map(|s| s.grad.clone()).collect();
        let mut scale = 1.0;
        if let Some(largest) = number("clip_norm") {
            let norm = global_norm(&all);
            let want = case["grad_norm_before_clip"][step].as_f64().expect("norm");
            assert!(
                (norm / want - 1.0).abs() < 1e-5,
                "{name}, step {step}: norm {norm}"
            );
            scale = clip_factor(norm, largest);
        }
        drop(all);
        let lr = case["lr"][step].as_f64().expect("rate");
        slots = adamw_step(slots, &rule, step as u64 + 1, lr, scale);
        for (slot, weight) in slots.iter().zip(NAMES) {
            let key = format!("step{}.{weight}", step + 1);
            if expected.all().tensor(&key).is_ok() {
                compare(name, &key, &slot.param, &expected);
            }
        }
    }
    for (slot, weight) in slots.iter().zip(NAMES) {
        compare(name, &format!("exp_avg.{weight}"), &slot.first, &expected);
        compare(
            name,
            &format!("exp_avg_sq.{weight}"),
            &slot.second,
            &expected,
        );
    }
}

fn compare(case: &str, name: &str, got: &Tensor<1>, expected: &File) {
    let want = expected.floats(name);
    for (i, (got, want)) in got.clone().into_data().iter::<f32>().zip(want).enumerate() {
        assert!(
            (got - want).abs() < 2e-6,
            "{case}, {name}[{i}]: {got}, expected {want}"
        );
    }
}
