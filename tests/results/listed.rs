//! What `jamc results` lists is what the next command would take, and what it removes is what it says.

use std::fs;

use serde_json::Value;

use super::*;

/// The results that are listed: name, whether the program asks for it, and why not.
fn listed(home: &Home) -> Vec<(String, bool, String)> {
    let output = home.jamc(&["results", "t.jam", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = told["results"].as_array().unwrap().iter();
    results
        .map(|one| {
            (
                text(&one["id"]),
                one["wanted"].as_bool().unwrap(),
                text(&one["why"]),
            )
        })
        .collect()
}

/// Names of what the program asks for, and of what it does not, of one kind.
fn of_kind(home: &Home, kind: &str) -> (Vec<String>, Vec<String>) {
    let all = listed(home).into_iter();
    let (yes, no): (Vec<_>, Vec<_>) = all
        .filter(|(id, _, _)| id.starts_with(kind))
        .partition(|(_, wanted, _)| *wanted);
    let ids = |all: Vec<(String, bool, String)>| all.into_iter().map(|(id, _, _)| id).collect();
    (ids(yes), ids(no))
}

/// A fusion alone, which is built in a moment.
const FUSION: &str = "setting wide = 8\nmodel a {\n    tokens = 20\n    context = 16\n    width = wide\n    \
                      logits = unembed(embed(tokens))\n}\nmodel b = a {}\nfuse both = uniform(a, b)\n";

#[test]
fn what_the_next_build_would_find_again_is_wanted() {
    let home = Home::new();
    home.program(FUSION);
    let build = |set: &[&str]| {
        home.well(&[&["build", "t.jam", "--device", "cpu"][..], set].concat());
    };
    build(&[]);
    build(&["--set", "wide=16"]);
    let (yes, no) = of_kind(&home, "models");
    assert_eq!(no, ["models/both"]);
    assert!(yes.len() == 1 && yes[0].starts_with("models/both@"));
    // It tells what differs, and once the other is gone nothing is made anew.
    let all = listed(&home);
    assert!(
        all[0].2.contains("graph") && !all[0].2.contains("same"),
        "{all:?}"
    );
    home.well(&["results", "t.jam", "--remove", "models/both"]);
    let told = home.well(&["build", "t.jam", "--device", "cpu"]);
    assert!(told.contains("found again"), "{told}");
    assert_eq!(
        of_kind(&home, "models"),
        (vec!["models/both".to_owned()], vec![])
    );
    // Of two that are the same, one is taken, and the other says which.
    home.well(&["run", "t.jam", "--restart", "both", "--device", "cpu"]);
    let all = listed(&home);
    assert_eq!((all[0].1, all[1].1), (true, false), "{all:?}");
    assert!(all[1].2.contains("taken, models/both"), "{all:?}");
}

#[test]
#[cfg(unix)]
fn a_run_past_its_end_is_not_wanted_until_the_end_is_moved_back() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 4000");
    stopped(&home, "-TERM", &long);
    let short = PROGRAM.replace("steps          = 6", "steps          = 1");
    home.program(&short);
    let all = listed(&home);
    let training: Vec<_> = all.iter().filter(|one| one.0 == "training/tune").collect();
    assert!(
        !training[0].1 && training[0].2.contains("`steps`"),
        "{all:?}"
    );
    home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    let (yes, no) = of_kind(&home, "training");
    assert_eq!(yes, ["training/tune"]);
    assert_eq!(no.len(), 1);
    home.program(&long);
    assert_eq!(of_kind(&home, "training"), (no, yes));
}

#[test]
fn a_result_of_a_later_version_is_listed_and_may_be_removed() {
    let home = Home::new();
    home.program(FUSION);
    home.well(&["build", "t.jam", "--device", "cpu"]);
    let record = home.out("models/both/result.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    // A lone file of a later version stops nothing, and nothing takes it for its own.
    let said = home.well(&["results", "t.jam"]);
    assert!(said.contains("of a later version"), "{said}");
    let output = home.jamc(&["build", "t.jam", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("a later version of jamc"));
    let same = ["--remove", "models/both", "--remove", "models/both/"];
    let said = home.well(&[&["results", "t.jam"][..], &same].concat());
    assert_eq!(said.matches("removed").count(), 1, "{said}");
    assert!(!home.out("models/both").exists());
}

#[test]
fn removing_from_a_folder_that_is_not_there_makes_none() {
    let home = Home::new();
    home.program(FUSION);
    for arguments in [
        &["results", "t.jam", "--remove", "models/both"][..],
        &["results", "t.jam"],
    ] {
        let output = home.jamc(arguments);
        assert_eq!(output.status.code(), Some(1));
        let told = told(&output);
        assert!(told.contains("no folder of results yet"), "{told}");
    }
    assert!(!home.at("runs").exists());
}

/// A parent that `build` would make anew counts as not made yet, though another of its name stands in its place.
#[test]
fn a_forecast_reads_no_parent_that_is_another_result() {
    let home = Home::new();
    home.program(&format!("{FUSION}fuse more = linear(both, a)\n"));
    let build = ["build", "t.jam", "more", "--device", "cpu"];
    home.well(&[
        "build", "t.jam", "both", "--set", "wide=16", "--device", "cpu",
    ]);
    for there in [false, true] {
        let output = home.jamc(&[&build[..], &["--dry-run", "--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let reads = told["models"][0]["reads"].as_array().unwrap();
        let both = reads.iter().find(|read| read["source"] == "both").unwrap();
        assert_eq!(both["there"], there, "{told}");
        home.well(&build);
    }
}

/// A result that was begun anew has the bits of the one before it: where one is damaged the other serves.
#[test]
fn a_whole_twin_serves_in_the_place_of_a_damaged_result() {
    let home = Home::new();
    home.run();
    home.well(&["train", "t.jam", "tune", "--restart", "--device", "cpu"]);
    let weights = home.out("training/tune/last/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    flip(&weights);
    let listed = home.jamc(&["results", "t.jam"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let taken = |line: &&str| line.contains("training/tune@") && line.contains("yes");
    assert_eq!(listed.lines().filter(taken).count(), 1, "{listed}");
    let told = home.run();
    assert!(told.contains("found again as tune@"), "{told}");
    assert_eq!(fs::read(&weights).unwrap(), whole);
    let folders = home.folders("training");
    assert_eq!(folders.len(), 2, "{folders:?}");
    assert!(
        folders.iter().any(|name| name.ends_with(".damaged")),
        "{folders:?}"
    );
}

/// An answer is of the model that the program asks for, wherever its result lies.
#[test]
fn an_answer_is_of_the_result_that_the_program_asks_for() {
    let home = Home::new();
    home.run();
    home.well(&[
        "train",
        "t.jam",
        "tune",
        "--set",
        "tune.optimizer.lr=3e-1",
        "--device",
        "cpu",
    ]);
    assert_eq!(home.folders("training").len(), 2);
    let ask = |out: &str, more: &[&str]| {
        let ask = ["generate", "t.jam", "--model", "tune", "--prompt", "the"];
        let told = home.well(&[&ask[..], &["-o", out, "--device", "cpu"], more].concat());
        assert!(!told.contains("program changed"), "{told}");
        fs::read(home.at(out).join("index.md")).unwrap()
    };
    let here = ask("here", &[]);
    home.run();
    assert_eq!(ask("there", &[]), here);
    // One that was made with a precision of its own is asked for with it.
    home.well(&[
        "train", "t.jam", "tune", "--dtype", "bf16", "--device", "cpu",
    ]);
    ask("short", &["--dtype", "bf16"]);
}
