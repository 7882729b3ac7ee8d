//! Commands that messages name do what is said of them: for the file that was given, with its flags.

use std::fs;

use super::*;

/// The command between the first backticks that begin with `jamc`.
fn command(told: &str) -> &str {
    let mut parts = told.split('`').filter(|part| part.starts_with("jamc "));
    parts.next().unwrap_or_else(|| panic!("{told}"))
}

/// The command that a damaged result's message names has the file and the flags of the one that found it.
#[test]
fn the_named_command_repeats_the_flags() {
    let home = Home::new();
    fs::rename(home.at("t.jam"), home.at("tt.prog")).unwrap();
    let flags = [
        "--out",
        "else where",
        "--set",
        "tune.steps=4",
        "--seed",
        "5",
        "--device",
        "cpu",
        "--dtype",
        "bf16",
        "--max-memory",
        "512MiB",
        "--allow-nonfinite",
    ];
    home.well(&[&["run", "tt.prog"][..], &flags].concat());
    flip(&home.at("else where/training/tune/last/model.safetensors"));
    let output = home.jamc(&[&["run", "tt.prog"][..], &flags].concat());
    let report = told(&output);
    let named = "jamc train tt.prog tune --restart --set tune.steps=4 --seed 5 --out 'else where' \
                 --device cpu --dtype bf16 --max-memory 512MiB --allow-nonfinite";
    assert_eq!(command(&report), named, "{report}");
}

/// A model that is asked before it is made, and one that the program no longer makes so.
#[test]
fn what_makes_the_model_of_an_answer_is_named_whole() {
    let home = Home::new();
    let ask = |more: &[&str]| {
        let ask = ["generate", "t.jam", "--model", "tune", "--prompt", "the"];
        let flags = [
            "--set",
            "tune.steps=4",
            "--out",
            "elsewhere",
            "--device",
            "cpu",
        ];
        home.jamc(&[&ask[..], &flags, more].concat())
    };
    let output = ask(&["--dtype", "bf16"]);
    let report = told(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let named = "jamc run t.jam --set tune.steps=4 --out elsewhere --device cpu";
    assert_eq!(command(&report), named, "{report}");
    home.well(&named.split(' ').skip(1).collect::<Vec<_>>());
    // How an answer is computed changes nothing of how the model was made.
    let output = ask(&["--dtype", "bf16"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        !told(&output).contains("program changed"),
        "{}",
        told(&output)
    );
    // What has changed is told machines too.
    home.program(&PROGRAM.replace("lr: 1e-2", "lr: 2e-2"));
    let output = ask(&["--json"]);
    let report = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let note: serde_json::Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    assert_eq!(note["severity"], "note");
    let message = note["message"].as_str().unwrap();
    assert!(message.contains("`optimizer.lr` was 0.01"), "{message}");
    assert!(message.contains(named), "{message}");
    // A folder has one model and no others to choose from.
    let folder = "elsewhere/training/tune/last";
    let output = home.jamc(&["generate", folder, "--prompt", "the", "--model", "tune"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}
