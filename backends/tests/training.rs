//! Losses, gradients and AdamW steps against those of torch, and recomputation against the tape.

mod support;
#[path = "support/towers.rs"]
mod towers;

use jam_backends::{
    AdamW, ExecOptions, Executable, Gradients, NextTokens, Optimizer, Precision, Targets, Tokens,
};
use jam_ir::{TokenLayout, recipe};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use support::{Golden, PARENTS, distance, fresh, some_ids, transpose};
use towers::{FORBIDDEN, TowerHead, VOCAB, towers};

/// The plain batch of a golden parent: ids and number of rows.
fn plain(golden: &Golden) -> (Vec<u32>, usize) {
    let ids = golden.inputs.ids("plain.input_ids");
    (ids, golden.inputs.shape("plain.input_ids")[0])
}

/// A gradient or parameter in the layout of the foreign checkpoint.
fn foreign_layout(
    golden: &Golden,
    executable: &Executable,
    name: &str,
    values: Vec<f32>,
) -> Vec<f32> {
    let (_, transposed) = golden.foreign(name);
    let parameter = executable.parameters().iter().find(|p| p.name() == name);
    let shape = parameter.expect("a parameter").shape();
    if !transposed {
        return values;
    }
    // [in.. -> out..]: the output side is what the foreign matrix has as rows.
    let columns = values.len() / golden.weights.shape(&golden.foreign(name).0)[1];
    assert_eq!(shape.iter().product::<usize>(), values.len());
    transpose(&values, values.len() / columns, columns)
}

/// Names by which tensors of `prefix` are known here and there.
fn known(golden: &Golden, executable: &Executable, prefix: &str) -> Vec<(String, String)> {
    let there = golden.expected.names(prefix);
    let pairs = executable.parameters().iter().filter_map(|parameter| {
        let (foreign, _) = golden.foreign(parameter.name());
        there
            .contains(&foreign)
            .then(|| (parameter.name().to_owned(), foreign))
    });
    let pairs: Vec<_> = pairs.collect();
    assert_eq!(
        pairs.len(),
        there.len(),
        "every expected tensor has a parameter"
    );
    pairs
}

/// Gradients within a thousandth of the expected ones, or within 1e-5.
fn check_gradients(golden: &Golden, executable: &Executable, gradients: &Gradients, how: &str) {
    for (name, foreign) in known(golden, executable, "plain.grad.") {
        let found = gradients
            .read(executable, &name)
            .expect("readable")
            .expect("a gradient");
        let found = foreign_layout(golden, executable, &name, found);
        let expected = golden.expected.floats(&format!("plain.grad.{foreign}"));
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            let off = (a - b).abs();
            assert!(
                off <= 1e-5 || off <= 1e-3 * b.abs(),
                "{how} {name}[{i}]: {a} for {b}"
            );
        }
    }
}

#[test]
fn losses_of_golden_parents() {
    for parent in PARENTS {
        let golden = Golden::open(parent);
        let executable = golden.executable();
        for set in ["plain", "rightpad"] {
            let ids = golden.inputs.ids(&format!("{set}.input_ids"));
            let rows = golden.inputs.shape(&format!("{set}.input_ids"))[0];
            let labels = golden.inputs.raw(&format!("{set}.labels"));
            let mask: Vec<bool> = labels.iter().map(|&label| label >= 0.0).collect();
            let tokens = Tokens::masked(&ids, rows, &mask);
            let next = NextTokens::of(tokens);
            let loss = executable.loss(tokens, next.targets()).expect("a loss");
            let expected = golden.expected.raw(&format!("{set}.loss"))[0];
            let off = (loss.mean - expected).abs();
            assert!(off < 1e-5, "{parent} {set}: {} for {expected}", loss.mean);

            let each = executable
                .token_losses(tokens, next.targets())
                .expect("losses");
            let sum: f64 = each.iter().map(|&x| f64::from(x)).sum();
            assert!((sum / loss.weight - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn gradients_of_golden_parents() {
    for parent in PARENTS {
        let golden = Golden::open(parent);
        let executable = golden.executable();
        let (ids, rows) = plain(&golden);
        let tokens = Tokens::new(&ids, rows);
        let next = NextTokens::of(tokens);
        for recompute in [false, true] {
            let step = executable.train_step(&[(tokens, next.targets())], recompute);
            let step = step.expect("a step");
            let how = format!("{parent} recompute {recompute}");
            check_gradients(&golden, &executable, &step.gradients, &how);
            let expected = golden.expected.raw("plain.loss")[0];
            assert!((step.loss.mean - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn gradients_of_micro_batches_are_those_of_the_batch() {
    let golden = Golden::open("opt_tiny");
    let executable = golden.executable();
    let (ids, rows) = plain(&golden);
    let length = ids.len() / rows;
    let halves: Vec<&[u32]> = ids.chunks(length).collect();
    let nexts: Vec<NextTokens> = halves
        .iter()
        .map(|h| NextTokens::of(Tokens::new(h, 1)))
        .collect();
    let batches: Vec<(Tokens<'_>, Targets<'_>)> = halves
        .iter()
        .zip(&nexts)
        .map(|(half, next)| (Tokens::new(half, 1), next.targets()))
        .collect();
    let step = executable.train_step(&batches, false).expect("a step");
    check_gradients(&golden, &executable, &step.gradients, "micro-batches");
}

#[test]
fn three_adamw_steps_of_golden_parents() {
    for parent in PARENTS {
        let golden = Golden::open(parent);
        let mut executable = golden.executable();
        let (ids, rows) = plain(&golden);
        let tokens = Tokens::new(&ids, rows);
        let next = NextTokens::of(tokens);
        let mut optimizer = Optimizer::new(&executable, &adamw().called()).expect("an optimizer");
        let losses = golden.expected.raw("plain.adamw.losses");
        for &expected in losses {
            let step = executable
                .train_step(&[(tokens, next.targets())], false)
                .expect("a step");
            let off = (step.loss.mean - expected).abs();
            assert!(off < 1e-4, "{parent}: {} for {expected}", step.loss.mean);
            optimizer
                .step(&mut executable, step.gradients, 1e-3)
                .expect("a step");
        }
        for (name, foreign) in known(&golden, &executable, "plain.adamw.param.") {
            let found = executable.read(&name).expect("a parameter");
            let found = foreign_layout(&golden, &executable, &name, found);
            let expected = golden
                .expected
                .floats(&format!("plain.adamw.param.{foreign}"));
            let off = distance(&found, &expected, |_| true);
            assert!(off < 2e-4, "{parent} {name}: differs by {off}");
        }
        let logits = executable.forward(tokens).expect("logits");
        let off = distance(
            &logits,
            &golden.expected.floats("plain.adamw.logits_after"),
            |_| true,
        );
        assert!(off < 2e-3, "{parent}: logits after differ by {off}");
    }
}

fn adamw() -> AdamW {
    AdamW {
        lr: 1e-3,
        betas: (0.9, 0.95),
        eps: 1e-8,
        decay: 0.1,
        no_decay: Vec::new(),
        clip: 0.0,
    }
}

/// Kinds that are left out keep the bits of a step without decay, and all others those of a step with it.
#[test]
fn decay_leaves_out_what_it_is_told_to() {
    use recipe::WeightKind::{Biases, Embeddings, Norms};
    let golden = Golden::open("opt_tiny");
    let (ids, rows) = plain(&golden);
    let tokens = Tokens::new(&ids, rows);
    let next = NextTokens::of(tokens);
    let stepped = |decay: f64, no_decay: &[recipe::WeightKind]| {
        let mut executable = golden.executable();
        let rule = AdamW {
            decay,
            no_decay: no_decay.to_vec(),
            ..adamw()
        };
        let mut optimizer = Optimizer::new(&executable, &rule.called()).expect("an optimizer");
        let step = executable.train_step(&[(tokens, next.targets())], false);
        let gradients = step.expect("a step").gradients;
        optimizer
            .step(&mut executable, gradients, 1e-2)
            .expect("a step");
        executable
    };
    // As OPT names them: attention and the MLP have biases, norms gains and biases.
    let kind = |name: &str| match name {
        _ if name.contains("norm") => Some(Norms),
        _ if name.ends_with("bias") => Some(Biases),
        _ if name.ends_with("table") => Some(Embeddings),
        _ => None,
    };
    let (plain, decayed) = (stepped(0.0, &[]), stepped(0.5, &[]));
    let all = [Norms, Biases, Embeddings];
    for spared in [&all[..1], &all[1..2], &all[2..], &all[..2], &all] {
        let found = stepped(0.5, spared);
        let mut counts = [0, 0];
        for parameter in found.parameters() {
            let name = parameter.name();
            let (plain, decayed) = (plain.read(name), decayed.read(name));
            let (plain, decayed) = (plain.expect("values"), decayed.expect("values"));
            assert!(plain != decayed, "{name} does not decay");
            let left_out = kind(name).is_some_and(|kind| spared.contains(&kind));
            counts[usize::from(left_out)] += 1;
            let expected = if left_out { plain } else { decayed };
            let values = parameter.read().expect("values");
            assert!(values == expected, "{name}, left out: {spared:?}");
        }
        assert!(
            counts.iter().all(|count| *count > 0),
            "{spared:?}: {counts:?}"
        );
    }
}

/// Parameters and moments after some steps, as bits.
fn bits_after(steps: usize, resume_at: Option<usize>) -> Vec<u32> {
    let golden = Golden::open("opt_cm3leon");
    let mut executable = golden.executable();
    let (ids, rows) = plain(&golden);
    let tokens = Tokens::new(&ids, rows);
    let next = NextTokens::of(tokens);
    let mut recipe = adamw();
    recipe.clip = 0.5;
    let mut optimizer = Optimizer::new(&executable, &recipe.called()).expect("an optimizer");
    for at in 0..steps {
        if resume_at == Some(at) {
            let mut fresh = golden.executable();
            let mut restored = Optimizer::new(&fresh, &recipe.called()).expect("an optimizer");
            restored.set_steps(optimizer.steps());
            let names: Vec<String> = executable
                .parameters()
                .iter()
                .map(|p| p.name().to_owned())
                .collect();
            for name in names {
                fresh
                    .write(&name, executable.read(&name).expect("values"))
                    .expect("fits");
                let moments = optimizer.kept(&executable, &name).expect("readable");
                let moments = moments.expect("moments");
                restored.set_kept(&fresh, &name, moments).expect("fits");
            }
            (executable, optimizer) = (fresh, restored);
        }
        let step = executable
            .train_step(&[(tokens, next.targets())], false)
            .expect("a step");
        let norm = optimizer
            .step(&mut executable, step.gradients, 1e-3)
            .expect("a step");
        assert!(norm > 0.5, "clipping is at work");
    }
    let values = executable
        .parameters()
        .iter()
        .flat_map(|p| p.read().expect("values"));
    values.map(f32::to_bits).collect()
}

#[test]
fn training_gives_the_same_bits_twice_and_after_a_restart() {
    let once = bits_after(4, None);
    assert!(once == bits_after(4, None), "two runs differ");
    assert!(
        once == bits_after(4, Some(2)),
        "a restart changes the result"
    );
}

/// Sizes at which products and reductions are shared among threads.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let config = DecoderConfig::llama(TokenLayout::bare(700), 96, 96, 2, 4, 256);
    let model = decoder_only(&config);
    let bits = |threads: usize| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let mut executable = fresh(&model, ExecOptions::default());
            let ids = some_ids(8 * 80, 700, 9);
            let tokens = Tokens::new(&ids, 8);
            let next = NextTokens::of(tokens);
            let mut optimizer =
                Optimizer::new(&executable, &adamw().called()).expect("an optimizer");
            for recompute in [false, true] {
                let step = executable.train_step(&[(tokens, next.targets())], recompute);
                let gradients = step.expect("a step").gradients;
                optimizer
                    .step(&mut executable, gradients, 1e-3)
                    .expect("a step");
            }
            let values = executable
                .parameters()
                .iter()
                .flat_map(|p| p.read().expect("values"));
            values.map(f32::to_bits).collect()
        })
    };
    let one = bits(1);
    assert!(one == bits(2), "two threads differ from one");
    assert!(one == bits(5), "five threads differ from one");
}

#[test]
fn bf16_products_come_close() {
    let golden = Golden::open("opt_tiny");
    let (ids, rows) = plain(&golden);
    let tokens = Tokens::new(&ids, rows);
    let next = NextTokens::of(tokens);
    let half = ExecOptions {
        precision: Precision::Bf16,
    };
    let executable = golden.executable_with(half);
    let step = executable
        .train_step(&[(tokens, next.targets())], false)
        .expect("a step");
    let expected = golden.expected.raw("plain.loss")[0];
    let off = (step.loss.mean - expected).abs();
    assert!(off < 0.05, "{} for {expected}", step.loss.mean);
    assert!(off > 1e-6, "products were not rounded");
}

#[test]
fn batches_that_do_not_fit_are_errors() {
    let executable = Golden::open("opt_tiny").executable();
    let tokens = Tokens::new(&[1, 2, 3], 1);
    let told = |ids: &[u32], weights: &[f32]| {
        let targets = Targets { ids, weights };
        match executable.train_step(&[(tokens, targets)], false) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        }
    };
    assert!(told(&[2, 3], &[1.0, 1.0]).contains("2 targets"));
    assert!(told(&[2, 3, 0], &[0.0; 3]).contains("no token"));
    assert!(told(&[2, 512, 0], &[1.0; 3]).contains("512"));
    assert!(told(&[2, 3, 0], &[1.0, f32::NAN, 0.0]).contains("not a number"));
}

/// Heads that are cut off, joined or left whole give the loss that the logits give, and
/// recomputation the gradients of the tape.
#[test]
fn towers_train_alike_on_one_tape_and_on_many() {
    for head in [TowerHead::Joint, TowerHead::ChosenRows, TowerHead::Odd] {
        let executable = fresh(&towers(head), ExecOptions::default());
        let (rows, length, vocab) = (2, 11, VOCAB as usize);
        let ids = some_ids(rows * length, 50, 1);
        let mask: Vec<bool> = (0..ids.len()).map(|i| i >= 3).collect();
        let tokens = Tokens::masked(&ids, rows, &mask);
        let next = NextTokens::of(tokens);

        let logits = executable.forward(tokens).expect("logits");
        let mut expected = 0.0;
        for (i, row) in logits.chunks(vocab).enumerate() {
            if head != TowerHead::Odd {
                let forbidden = &row[FORBIDDEN.0 as usize..FORBIDDEN.1 as usize];
                assert!(forbidden.iter().all(|&logit| logit == f32::MIN));
            }
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
            let logit = row[next.ids[i] as usize];
            expected += f64::from(next.weights[i]) * (sum.ln() - f64::from(logit - top));
        }
        let batch = [(tokens, next.targets())];
        let plain = executable.train_step(&batch, false).expect("a step");
        let expected = expected / plain.loss.weight;
        let off = (plain.loss.mean - expected).abs();
        assert!(off < 1e-5, "{head:?}: {} for {expected}", plain.loss.mean);

        let again = executable.train_step(&batch, true).expect("a step");
        assert!((plain.loss.mean - again.loss.mean).abs() < 1e-5);
        for parameter in executable.parameters() {
            let name = parameter.name();
            let read = |gradients: &Gradients| {
                gradients
                    .read(&executable, name)
                    .expect("readable")
                    .expect("a gradient")
            };
            let (a, b) = (read(&plain.gradients), read(&again.gradients));
            let size = a.iter().fold(0.0f32, |size, x| size.max(x.abs()));
            assert!(size > 0.0, "{head:?} {name} has a gradient of zeros");
            let off = distance(&a, &b, |_| true);
            assert!(
                off <= 1e-6 + 1e-5 * size,
                "{head:?} {name}: {off} of {size}"
            );
        }
    }
}
