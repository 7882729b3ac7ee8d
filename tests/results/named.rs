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
    let mut lines = report
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let note: serde_json::Value = lines
        .find(|line: &serde_json::Value| line["severity"] == "note")
        .unwrap();
    let message = note["message"].as_str().unwrap();
    assert!(message.contains("`optimizer.lr` was 0.01"), "{message}");
    assert!(message.contains(named), "{message}");
    // A folder has one model and no others to choose from.
    let folder = "elsewhere/training/tune/last";
    let output = home.jamc(&["generate", folder, "--prompt", "the", "--model", "tune"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

/// A model folder says what it was made from: every file of its program, and what was set.
#[test]
fn a_model_has_the_text_of_every_file_of_its_program() {
    let home = Home::new();
    let part = "model a {\n    tokens = 20\n    context = 16\n    width = wide\n    \
                logits = unembed(embed(tokens))\n}\n";
    let main = "setting wide = 8\nuse \"parts/a.jam\"\nmodel b = a {}\nfuse both = uniform(a, b)\n";
    fs::create_dir(home.at("parts")).unwrap();
    fs::write(home.at("parts/a.jam"), part).unwrap();
    home.program(main);
    let file = home.at("t.jam").display().to_string();
    for program in ["t.jam", &file] {
        home.well(&[
            "build", program, "--device", "cpu", "--set", "wide=16", "--out", "o",
        ]);
        let source = fs::read_to_string(home.at("o/models/both/source.jam")).unwrap();
        let told =
            format!("{main}\n// parts/a.jam, which is used above:\n\n{part}\n// --set wide=16\n");
        assert_eq!(source, told);
        fs::remove_dir_all(home.at("o")).unwrap();
    }
}
