//! What changes while a command works.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use super::*;

/// A file that changes while a training computes: what stands on the training would be taken for made from the new one.
#[test]
fn data_that_change_while_a_training_computes_end_the_run() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 200");
    let long = long.replace("save_every     = 2", "save_every     = 40");
    home.program(&long.replace("data           = words", "data           = other"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
    let command = command.args(["run", "t.jam", "--device", "cpu"]);
    let command = command
        .current_dir(home.place.path())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let state = home.out("training/tune/state");
    while !state.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let changed =
        fs::read_to_string(home.at("other.jsonl")).unwrap() + "{\"text\": \"a new one\"}\n";
    fs::write(home.at("other.jsonl"), changed).unwrap();
    let report = told(&child.wait_with_output().unwrap());
    assert!(
        report.contains("is made from changed after it was made"),
        "{report}"
    );
    assert!(!home.out("models/both").exists(), "{report}");

    home.run();
    home.well(&["run", "t.jam", "--device", "cpu", "--out", "fresh"]);
    for name in ["training/tune/last", "models/both"] {
        let [found, right] = [home.out(name), home.at("fresh").join(name)]
            .map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
        assert!(found == right, "{name}");
    }
}

/// What a training went on through is part of what is made from it.
#[cfg(unix)]
#[test]
fn what_is_made_from_a_run_that_went_on_is_made_anew_with_it() {
    let home = Home::new();
    let steps =
        |count: &str| PROGRAM.replace("steps          = 6", &format!("steps          = {count}"));
    let linear = |count: &str| steps(count).replace("constant(warmup: 0)", "linear(warmup: 0)");
    assert_eq!(stopped(&home, "-INT", &linear("9000")), Some(130));
    home.program(&linear("60"));
    let told = home.run();
    assert!(told.contains("`steps` was 9000 and is 60"), "{told}");
    let both = || fs::read(home.out("models/both/model.safetensors")).unwrap();
    let went_on = both();
    assert!(home.run().matches("done before").count() == 4);
    let told = home.well(&["run", "t.jam", "--restart", "tune", "--device", "cpu"]);
    assert_eq!(told.matches("done before").count(), 1, "{told}");
    assert!(both() != went_on);
    home.well(&["run", "t.jam", "--device", "cpu", "--out", "fresh"]);
    let fresh = home.at("fresh/models/both/model.safetensors");
    assert!(both() == fs::read(fresh).unwrap());
}
