//! Fusions with `start: parents`, carried out: at step 0 the logits of text rows are the first
//! parent's and those of image rows the second's, and every new weight has had a gradient by the
//! second step.

use std::collections::BTreeMap;
use std::ops::Range;

use indexmap::IndexMap;
use jam_backends::{AdamW, Device, ExecOptions, Executable, NextTokens, Optimizer, Tokens};
use jam_fusion_passes::{Parent, fuse};
use jam_ir::{
    Activation, Diagnostic, Model, Plan, RotaryLayout, SettingValue, Settings, TokenKind,
    TokenLayout,
};
use jam_weights::checkpoints::WeightSource;
use jam_weights::checkpoints::decoder::{
    DecoderConfig, NormConfig, NormKind, NormPlace, PositionConfig, QkNorm, decoder_only,
};
use jam_weights::plans::PlanRows;

/// How far a logit may lie from its parent's.
const TOLERANCE: f32 = 1e-5;
/// The ids of image tokens.
const IMAGES: Range<usize> = 18..28;
const VOCAB: usize = 32;

/// Four marks, fourteen text tokens, ten image tokens, two reserved ones, and two marks.
fn tokens() -> TokenLayout {
    use TokenKind::{Image, Mark, Reserved, Text};
    let kinds = [(Mark, 4), (Text, 14), (Image, 10), (Reserved, 2), (Mark, 2)];
    let mut layout = TokenLayout::empty("");
    kinds
        .into_iter()
        .for_each(|(kind, len)| layout.add(kind, len));
    assert_eq!(layout.size, VOCAB as u64);
    layout
}

/// Three sequences: of text, of both, and of images with padding before it.
const LENGTH: usize = 9;
#[rustfmt::skip]
const SEQUENCES: [u32; 3 * LENGTH] = [
    2,  5,  9, 17,  4, 11, 30,  7,  2,
    0, 13,  6, 31, 18, 27, 22, 20, 31,
    1,  1, 31, 25, 19, 23, 26, 21, 24,
];
fn mask() -> Vec<bool> {
    SEQUENCES.iter().map(|&id| id != 1).collect()
}

/// Pre-norm without biases or weights of norms, learned positions: the paper's parents.
fn cm3leon(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    DecoderConfig::cm3leon(tokens(), 12, width, layers, heads, 3 * width)
}

/// Biases everywhere, and norms with weights.
fn opt(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    DecoderConfig::opt(tokens(), 12, width, layers, heads, 3 * width)
}

/// Rotary positions, gated, untied, `kv` key/value heads.
fn llama(width: u64, layers: u64, heads: u64, kv: u64) -> DecoderConfig {
    let mut config = DecoderConfig::llama(tokens(), 20, width, layers, heads, 2 * width);
    config.kv_heads = kv;
    config.positions = PositionConfig::Rotary {
        base: 100.0,
        layout: RotaryLayout::Halves,
        scaling: jam_ir::RotaryScaling::None,
    };
    config
}

/// Norms after each sum, and a token table of another width than the states.
fn post_norm(width: u64, layers: u64, heads: u64) -> DecoderConfig {
    let mut config = opt(width, layers, heads);
    config.norm_place = NormPlace::After;
    config.embed_width = Some(6);
    config.activation = Activation::Gelu;
    config
}

/// A LLaMA with norms of queries and keys, of every head or of all heads alike.
fn qk_normed(width: u64, heads: u64, per_head: bool) -> DecoderConfig {
    let mut config = llama(width, 2, heads, heads);
    let norm = NormConfig {
        kind: NormKind::Layer,
        affine: true,
        bias: true,
        eps: 1e-5,
    };
    config.qk_norm = Some(QkNorm { norm, per_head });
    config
}

/// A model whose parts end in a norm (Chameleon's `swin_norm`): `x + norm(part(x))`.
fn norms_at_ends(config: &DecoderConfig, affine: bool) -> Model {
    let mut model = decoder_only(config);
    let block = &mut model.blocks["decoder"];
    let mut body = Vec::new();
    for mut statement in std::mem::take(&mut block.body) {
        if let jam_ir::Op::Add { a, b } = statement.op {
            let ty = block.value_of(statement.result).ty.clone();
            let name = format!("end{}", body.len());
            let width = ty.axes[2..].to_vec();
            let weight = jam_ir::WeightType {
                dtype: ty.dtype,
                input: Vec::new(),
                output: width,
            };
            let gain = affine.then(|| block.param(format!("{name}.gain"), weight, Plan::Ones));
            let norm = jam_ir::Norm {
                eps: 1e-5,
                parts: Vec::new(),
            };
            let op = jam_ir::Op::RmsNorm { x: b, gain, norm };
            let ended = block.push(name, ty, op);
            body.extend(block.body.pop());
            statement.op = jam_ir::Op::Add { a, b: ended };
        }
        body.push(statement);
    }
    block.body = body;
    let uses = model.weight_uses().into_iter();
    let weights = uses.map(|(name, param)| {
        let plan = param.init.clone();
        (name, jam_ir::Weight { plan, span: None })
    });
    model.weights = weights.collect();
    jam_ir::verify(&model).unwrap();
    model
}

/// Numbers around 0, or around 1 for gains, the same for one name.
fn drawn(name: &str, shape: &[u64]) -> Vec<f32> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.499_999
    };
    let (base, spread) = match name {
        _ if name.ends_with("gain") => (1.0, 0.4),
        _ if name.contains("bias") => (0.0, 0.3),
        _ if name.contains("table") => (0.0, 1.0),
        _ => (0.0, 3.0 / (shape[0] as f32).sqrt()),
    };
    let elements: u64 = shape.iter().product();
    (0..elements).map(|_| base + spread * uniform()).collect()
}

/// Weights in memory.
struct Held(BTreeMap<String, (Vec<u64>, Vec<f32>)>);

impl WeightSource for Held {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.get(name).map(|(shape, _)| shape.clone())
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> jam_ir::Result<Vec<f32>> {
        let (shape, values) = &self.0[name];
        let stride = shape[1..].iter().product::<u64>() as usize;
        Ok(values[rows.start as usize * stride..rows.end as usize * stride].to_vec())
    }
}

type Values = IndexMap<String, Vec<f32>>;

/// Two parents with weights. Rows of tokens that a parent never saw are far from all others.
struct Family {
    models: [Model; 2],
    values: [Values; 2],
    sources: IndexMap<String, Box<dyn WeightSource>>,
}

const NAMES: [&str; 2] = ["llm", "img"];

impl Family {
    fn new(first: Model, second: Model) -> Family {
        let models = [first, second];
        let mut sources: IndexMap<String, Box<dyn WeightSource>> = IndexMap::new();
        let values = [0, 1].map(|index| {
            let model: &Model = &models[index];
            let mut held = BTreeMap::new();
            for (name, param) in model.weight_uses() {
                let shape = model.weight_shape(&param.ty).unwrap();
                let mut values = drawn(&format!("{}.{name}", NAMES[index]), &shape);
                if name == "embed.table" {
                    let stride = shape[1] as usize;
                    for (id, row) in values.chunks_mut(stride).enumerate() {
                        if IMAGES.contains(&id) == (index == 0) {
                            row.iter_mut().for_each(|x| *x *= 20.0);
                        }
                    }
                }
                held.insert(name, (shape, values));
            }
            let values = held.iter().map(|(name, (_, v))| (name.clone(), v.clone()));
            let values = values.collect();
            sources.insert(NAMES[index].to_owned(), Box::new(Held(held)));
            values
        });
        Family {
            models,
            values,
            sources,
        }
    }

    fn of(first: &DecoderConfig, second: &DecoderConfig) -> Family {
        Family::new(decoder_only(first), decoder_only(second))
    }

    fn fuse(
        &self,
        strategy: &str,
        given: &[(&str, SettingValue)],
    ) -> Result<Model, Vec<Diagnostic>> {
        let parents = [0, 1].map(|index| Parent {
            model: &self.models[index],
            source: NAMES[index].to_owned(),
            span: None,
        });
        let start = ("start", SettingValue::Word("parents".to_owned()));
        let given = given.iter().cloned().chain([start]);
        let settings: Settings = given
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        fuse(strategy, "fused", &parents, &settings).map(|fused| fused.model)
    }

    /// The numbers that the plans of a fused model give.
    fn planned(&self, model: &Model) -> Values {
        let uses = model.weight_uses().into_iter();
        uses.map(|(name, param)| {
            let shape = model.weight_shape(&param.ty).unwrap();
            let plan = &model.weights[&name].plan;
            let rows = PlanRows::new(plan, &name, &shape, 7, &self.sources);
            let values = rows.all().unwrap();
            (name, values)
        })
        .collect()
    }
}

fn executable(model: &Model, values: &Values) -> Executable {
    let mut weights = |name: &str, _: &[usize]| Ok(values[name].clone());
    let options = ExecOptions::default();
    Executable::new(model, &mut weights, &Device::flex(), options).unwrap()
}

/// Largest distance of logits `[tokens, vocab]` from the parents' by rows, padding apart.
fn distance(found: &[f32], parents: &[Vec<f32>; 2], real: &[bool]) -> f32 {
    assert_eq!(found.len(), parents[0].len());
    assert_eq!(found.len(), parents[1].len());
    let mut largest = 0.0f32;
    let logits = found.iter().enumerate();
    for (i, logit) in logits.filter(|(i, _)| real[i / VOCAB]) {
        let parent = &parents[usize::from(IMAGES.contains(&(i % VOCAB)))];
        let distance = (logit - parent[i]).abs();
        largest = largest.max(if distance.is_nan() {
            f32::INFINITY
        } else {
            distance
        });
    }
    largest
}

/// The logits of whole sequences, and those of decoding step by step, are the parents' by rows.
fn begins_as_its_parents(what: &str, family: &Family, fused: &Executable) {
    let real = mask();
    let rows = SEQUENCES.len() / LENGTH;
    let parents = [0, 1].map(|index| {
        let parent = executable(&family.models[index], &family.values[index]);
        parent
            .forward(Tokens::masked(&SEQUENCES, rows, &real))
            .unwrap()
    });
    let other = distance(
        &parents[0],
        &[parents[1].clone(), parents[0].clone()],
        &real,
    );
    assert!(other > 0.1, "{what}: the parents are too much alike");

    let logits = fused.forward(Tokens::masked(&SEQUENCES, rows, &real));
    let off = distance(&logits.unwrap(), &parents, &real);
    assert!(off <= TOLERANCE, "{what}: off by {off}");

    // The first tokens at once, the others one by one.
    let columns = |range: Range<usize>| -> (Vec<u32>, Vec<bool>) {
        let places = (0..rows).flat_map(|row| range.clone().map(move |t| row * LENGTH + t));
        places.map(|place| (SEQUENCES[place], real[place])).unzip()
    };
    let mut decoder = fused.decoder(rows, LENGTH).unwrap();
    let (ids, seen) = columns(0..4);
    let mut logits = decoder.prefill(Tokens::masked(&ids, rows, &seen)).unwrap();
    for last in 3..LENGTH {
        let at_last = [0, 1].map(|index| -> Vec<f32> {
            let row = |row: usize| &parents[index][(row * LENGTH + last) * VOCAB..][..VOCAB];
            (0..rows).flat_map(|r| row(r).to_vec()).collect()
        });
        let off = distance(&logits, &at_last, &vec![true; rows]);
        assert!(off <= TOLERANCE, "{what}: off by {off} at token {last}");
        if last + 1 < LENGTH {
            let (ids, active) = columns(last + 1..last + 2);
            logits = decoder.step_some(&ids, &active).unwrap();
        }
    }
}

/// Every entry of a new weight has a gradient at the first step or, after one step of AdamW, at the
/// second. `exempt` are the weights that can have none.
fn new_weights_learn(
    what: &str,
    model: &Model,
    planned: &Values,
    mut fused: Executable,
    exempt: impl Fn(&str) -> bool,
) {
    let real = mask();
    let tokens = Tokens::masked(&SEQUENCES, SEQUENCES.len() / LENGTH, &real);
    let next = NextTokens::of(tokens);
    let rule = AdamW {
        lr: 1e-3,
        betas: (0.9, 0.95),
        eps: 1e-8,
        decay: 0.1,
        no_decay: Vec::new(),
        clip: 1.0,
    };
    let mut optimizer = Optimizer::new(&fused, &rule.called()).unwrap();
    // Which entries are new: all of a fresh weight, and the zeros of a grid.
    let mut silent: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (name, weight) in &model.weights {
        let grid = matches!(weight.plan, Plan::Grid { .. });
        let entries = planned[name].iter().enumerate();
        let new = entries.filter(|(_, x)| weight.plan.is_fresh() || grid && **x == 0.0);
        let new: Vec<usize> = new.map(|(i, _)| i).collect();
        if !new.is_empty() && !exempt(name) {
            silent.insert(name.clone(), new);
        }
    }
    assert!(silent.len() > 3, "{what}: {silent:?}");
    let all: BTreeMap<String, usize> = silent
        .iter()
        .map(|(name, new)| (name.clone(), new.len()))
        .collect();
    let mut losses = Vec::new();
    for _ in 0..2 {
        let step = fused
            .train_step(&[(tokens, next.targets())], false)
            .unwrap();
        losses.push(step.loss.mean);
        for (name, entries) in &mut silent {
            let gradient = step.gradients.read(&fused, name).unwrap();
            let gradient = gradient.unwrap_or_else(|| vec![0.0; planned[name].len()]);
            assert!(gradient.iter().all(|x| x.is_finite()), "{what}: {name}");
            entries.retain(|i| gradient[*i] == 0.0);
        }
        optimizer.step(&mut fused, step.gradients, rule.lr).unwrap();
    }
    assert!(losses[1] < losses[0], "{what}: {losses:?}");
    for (name, entries) in silent {
        // Hidden features whose ReLU is off for all of these tokens have none.
        let most = match name.contains("mlp.") {
            true => all[&name] / 2,
            false => 0,
        };
        assert!(
            entries.len() <= most,
            "{what}: {} of {} entries of `{name}` have had no gradient",
            entries.len(),
            all[&name]
        );
    }
}

fn check(
    what: &str,
    family: &Family,
    strategy: &str,
    given: &[(&str, SettingValue)],
    exempt: impl Fn(&str) -> bool,
) {
    let model = family
        .fuse(strategy, given)
        .unwrap_or_else(|errors| panic!("{what}: {errors:#?}"));
    let planned = family.planned(&model);
    let fused = executable(&model, &planned);
    begins_as_its_parents(what, family, &fused);
    new_weights_learn(what, &model, &planned, fused, exempt);
}

/// A bias of keys adds one number to all scores of a query, which the softmax takes out again;
/// only rotary positions make it matter.
fn key_bias(name: &str) -> bool {
    name.ends_with("attn.k_bias") || name.ends_with("attn.k_norm.bias")
}

#[test]
fn cross_begins_as_its_parents_and_all_of_it_learns() {
    let couples = [
        (
            "the paper's",
            Family::of(&cm3leon(16, 4, 2), &cm3leon(16, 4, 2)),
        ),
        ("OPT", Family::of(&opt(16, 2, 2), &opt(16, 2, 2))),
        (
            "LLaMA",
            Family::of(&llama(16, 2, 4, 2), &llama(16, 2, 4, 2)),
        ),
        (
            "of other widths, depths and heads",
            Family::of(&cm3leon(16, 2, 2), &cm3leon(24, 5, 3)),
        ),
        (
            "learned and rotary",
            Family::of(&opt(16, 2, 2), &llama(24, 3, 6, 2)),
        ),
        (
            "rotary and learned",
            Family::of(&llama(24, 4, 4, 1), &cm3leon(16, 2, 4)),
        ),
        (
            "norms after",
            Family::of(&post_norm(16, 2, 2), &opt(24, 4, 4)),
        ),
        (
            "norms of keys",
            Family::of(&qk_normed(16, 2, false), &qk_normed(16, 4, true)),
        ),
        (
            "norms at ends",
            Family::new(
                norms_at_ends(&llama(16, 2, 2, 2), true),
                norms_at_ends(&cm3leon(16, 3, 2), false),
            ),
        ),
    ];
    for (what, family) in &couples {
        for every in [1, 2] {
            for kv_norm in [false, true] {
                let given = [
                    ("every", SettingValue::Count(every)),
                    ("kv_norm", SettingValue::Flag(kv_norm)),
                ];
                let what = format!("{what}, every {every}, kv_norm {kv_norm}");
                check(&what, family, "cross", &given, key_bias);
            }
        }
    }
}

#[test]
fn width_begins_as_its_parents_and_all_of_it_learns() {
    let mut wide = llama(24, 2, 6, 3);
    wide.head_dim = 4;
    wide.hidden = 20;
    wide.context = 12;
    let mut narrow = llama(16, 2, 4, 2);
    narrow.head_dim = 4;
    let mut normed = [qk_normed(16, 2, true), qk_normed(24, 3, true)];
    normed.iter_mut().for_each(|config| config.head_dim = 8);
    let couples = [
        (
            "the paper's",
            Family::of(&cm3leon(16, 2, 2), &cm3leon(16, 2, 2)),
        ),
        ("OPT", Family::of(&opt(16, 2, 2), &opt(16, 2, 2))),
        (
            "of other widths and heads",
            Family::of(&opt(16, 2, 2), &opt(24, 2, 3)),
        ),
        (
            "LLaMA",
            Family::of(&llama(16, 2, 4, 2), &llama(16, 2, 4, 2)),
        ),
        ("of other key/value heads", Family::of(&wide, &narrow)),
        (
            "norms after",
            Family::of(&post_norm(16, 2, 2), &post_norm(24, 2, 3)),
        ),
        ("norms of keys", Family::of(&normed[0], &normed[1])),
    ];
    for (what, family) in &couples {
        check(what, family, "width", &[], |_| false);
    }
}

#[test]
fn parents_that_width_cannot_keep_are_errors() {
    let mut deeper = cm3leon(16, 3, 2);
    deeper.context = 12;
    let mut larger_heads = cm3leon(16, 2, 2);
    larger_heads.head_dim = 4;
    let refused = [
        (cm3leon(16, 2, 2), deeper, "the number of layers"),
        (cm3leon(16, 2, 2), larger_heads, "the size of a head"),
        (cm3leon(16, 2, 2), opt(16, 2, 2), "the gain of a layer norm"),
        (cm3leon(16, 2, 2), llama(16, 2, 2, 2), "a step of the model"),
        (llama(16, 2, 4, 2), llama(16, 2, 4, 4), "key/value heads"),
        (
            qk_normed(16, 2, false),
            qk_normed(16, 2, false),
            "keeps both",
        ),
    ];
    for (first, second, words) in refused {
        let errors = Family::of(&first, &second).fuse("width", &[]).unwrap_err();
        let found = errors.iter().any(|error| error.message.contains(words));
        assert!(found, "{words}: {errors:#?}");
        let both = |error: &Diagnostic| NAMES.iter().all(|name| error.message.contains(name));
        assert!(errors.iter().all(both), "{errors:#?}");
    }
}
