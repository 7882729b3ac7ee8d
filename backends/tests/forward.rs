//! Logits against those that transformers computed, and errors on bad input.

mod support;

use jam_backends::{ExecError, ExecOptions, Executable, Tokens};
use support::{Golden, PARENTS, distance};

#[test]
fn logits_of_golden_parents() {
    for parent in PARENTS {
        let golden = Golden::open(parent);
        let executable = golden.executable();
        for set in ["plain", "single", "rightpad", "leftpad"] {
            let ids = golden.inputs.ids(&format!("{set}.input_ids"));
            let rows = golden.inputs.shape(&format!("{set}.input_ids"))[0];
            let mask_name = format!("{set}.attention_mask");
            let mask: Option<Vec<bool>> = golden.inputs.has(&mask_name).then(|| {
                golden
                    .inputs
                    .ids(&mask_name)
                    .iter()
                    .map(|&m| m != 0)
                    .collect()
            });
            let tokens = match &mask {
                Some(mask) => Tokens::masked(&ids, rows, mask),
                None => Tokens::new(&ids, rows),
            };
            let logits = executable.forward(tokens).expect("logits");
            let expected = golden.expected.floats(&format!("{set}.logits"));
            let vocab = executable.vocabulary();
            let off = distance(&logits, &expected, |i| {
                mask.as_ref().is_none_or(|mask| mask[i / vocab])
            });
            assert!(off < 5e-5, "{parent} {set}: logits differ by {off}");
        }
    }
}

#[test]
fn bad_input_is_an_error() {
    let executable = Golden::open("opt_tiny").executable();
    let told = |tokens: Tokens<'_>| match executable.forward(tokens) {
        Err(ExecError::Input(reason)) => reason,
        other => panic!("{:?}", other.map(|logits| logits.len())),
    };
    assert!(told(Tokens::new(&[1, 2, 3], 2)).contains("2 sequences"));
    assert!(told(Tokens::new(&[], 1)).contains("0 token ids"));
    assert!(told(Tokens::new(&[1, 512], 1)).contains("512"));
    assert!(told(Tokens::new(&[1; 97], 1)).contains("96 positions"));
    assert!(told(Tokens::masked(&[1, 2], 1, &[true])).contains("mask"));
    assert!(executable.read("no.such").is_err());
}

#[test]
fn a_model_or_weights_that_do_not_fit_are_errors() {
    let golden = Golden::open("opt_tiny");
    let build = |model: &jam_ir::Model, given: usize| {
        let mut weights = |_: &str, _: &[usize]| Ok(vec![0.0; given]);
        let device = jam_backends::Device::flex();
        Executable::new(model, &mut weights, &device, ExecOptions::default()).err()
    };
    let error = build(&golden.model, 3).expect("an error").to_string();
    assert!(
        error.contains("embed.table") && error.contains("[512, 64]"),
        "{error}"
    );

    let mut broken = golden.model.clone();
    broken.main.result = jam_ir::ValueId(999);
    assert!(matches!(build(&broken, 3), Some(ExecError::Graph { .. })));

    let mut failing = |name: &str, _: &[usize]| Err(format!("no {name} here").into());
    let device = jam_backends::Device::flex();
    let made = Executable::new(&golden.model, &mut failing, &device, ExecOptions::default());
    let error = made.expect_err("no weights").to_string();
    assert!(error.contains("no embed.table here"), "{error}");
}
