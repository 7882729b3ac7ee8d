//! How commands tell: JSON, codes of failures, colours, versions, manuals; and what is told once.

use std::fs;

use super::{done, failure, jamc_in, result, root, stderr, with_checkpoint, write_tokens};

#[test]
fn json_is_json_in_every_command() {
    let folder = with_checkpoint();
    let here = folder.path();
    write_tokens(&here.join("tokens.safetensors"));
    fs::write(here.join("wild.jam"), "setting   a=1\n").unwrap();
    let told = result(here, &["fmt", "wild.jam", "llama.jam"]);
    assert_eq!(told["files"][0]["changed"], true);
    assert_eq!(told["files"][1]["changed"], false);
    let told = result(here, &["import", "llama", "-o", "new.jam"]);
    assert_eq!(
        (&told["program"], &told["model"]),
        (&"new.jam".into(), &"new".into())
    );
    let told = result(here, &["export", "llama", "-o", "out"]);
    assert_eq!(
        (&told["folder"], &told["model_type"]),
        (&"out".into(), &"llama".into())
    );
    let forward = [
        "forward",
        "llama",
        "--tokens",
        "tokens.safetensors",
        "-o",
        "l.safetensors",
    ];
    let told = result(here, &[&forward[..], &["--device", "cpu"]].concat());
    assert_eq!(told["shape"], serde_json::json!([1, 4, 32]));
    let told = result(here, &["synth", "config.json", "-o", "more"]);
    assert_eq!(told["folder"], "more");
    let told = result(here, &["completions", "zsh"]);
    assert!(told["script"].as_str().unwrap().contains("jamc"));
    let told = result(here, &["man", "build"]);
    assert_eq!(told["name"], "jamc-build");
    let told = result(here, &["doctor"]);
    assert!(told["features"].as_array().unwrap().contains(&"cpu".into()));
}

#[test]
fn the_code_of_a_failure_tells_its_kind() {
    let folder = with_checkpoint();
    let here = folder.path();
    let drawing = root()
        .join("examples/drawing/drawing.jam")
        .display()
        .to_string();
    for (arguments, exit, code) in [
        (&["check", "absent.jam"][..], 1, "absent"),
        (&["export", "absent", "-o", "x"], 1, "absent"),
        (&["train", &drawing, "nobody"], 1, "input"),
        (&["import", "llama", "-o", "llama.jam"], 1, "exists"),
        (&["check"], 2, "usage"),
    ] {
        assert_eq!(failure(here, arguments, exit).0, code, "{arguments:?}");
    }
    // A file that was cut off is damaged.
    let weights = here.join("llama/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 8]).unwrap();
    assert_eq!(
        failure(here, &["export", "llama", "-o", "x"], 1).0,
        "damaged"
    );
}

#[test]
fn many_files_and_folders_are_checked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let place = |name: &str| here.join(name);
    for inner in ["deep/er", ".hidden", "built", "empty"] {
        fs::create_dir_all(place(inner)).unwrap();
    }
    let part = "let width = 8\n";
    // What is used is a part of a program, and none by itself.
    fs::write(place("deep/part.jam"), "let twice = 2 * width\n").unwrap();
    fs::write(
        place("deep/er/whole.jam"),
        "use \"../part.jam\"\nlet width = 8\n",
    )
    .unwrap();
    fs::write(place("deep/other.jam"), part).unwrap();
    for skipped in [".hidden/a.jam", "built/source.jam"] {
        fs::write(place(skipped), "wrong\n").unwrap();
    }
    fs::write(place("built/model.ron"), "").unwrap();
    fs::write(place("deep/other.jam"), part).unwrap();
    fs::write(
        place("deep/er/whole.jam"),
        "let width = 8\nuse \"../part.jam\"\n",
    )
    .unwrap();
    let told = result(here, &["check", ".", "deep/other.jam"]);
    let files: Vec<&str> = told["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["./deep/er/whole.jam", "./deep/other.jam"]);

    fs::write(place("deep/wrong.jam"), "modle a {}\n").unwrap();
    let output = jamc_in(here, &["check", "deep", "absent.jam", "deep/other.jam"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in [
        "deep/er/whole.jam: no mistakes",
        "wrong.jam:1",
        "cannot read absent.jam",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Files that only use one another are programs too, each reported once.
    fs::create_dir(place("round")).unwrap();
    for (file, used) in [("a", "b"), ("b", "c"), ("c", "b"), ("own", "own")] {
        let text = format!("use \"{used}.jam\"\nlet {file} = 1\n");
        fs::write(place("round").join(format!("{file}.jam")), text).unwrap();
    }
    let checked = || {
        let round = jamc_in(here, &["check", "round"]);
        assert_eq!(round.status.code(), Some(1));
        let said = stderr(&round);
        ["a", "b", "c", "own"].map(|file| said.contains(&format!("--> round/{file}.jam")))
    };
    assert_eq!(checked(), [false, false, true, true]);
    fs::remove_file(place("round/a.jam")).unwrap();
    assert_eq!(
        checked(),
        [false, false, true, true],
        "b is checked, and c uses it"
    );
    let (code, _) = failure(here, &["check", "round/own.jam"], 1);
    let (in_folder, _) = failure(here, &["check", "round"], 1);
    assert_eq!(in_folder, code);
    let empty = jamc_in(here, &["check", "empty"]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(
        stderr(&empty).contains("without programs"),
        "{}",
        stderr(&empty)
    );
    #[cfg(unix)]
    {
        let device = jamc_in(here, &["check", "/dev/zero"]);
        assert_eq!(device.status.code(), Some(1));
        assert!(stderr(&device).contains("it is no file"));
    }
}

#[test]
fn the_version_tells_what_was_built() {
    let told = done(root(), &["--version"]);
    assert!(
        told.starts_with(&format!("jamc {} (", env!("CARGO_PKG_VERSION"))),
        "{told}"
    );
    assert!(told.contains("cpu"), "{told}");
    if let Some(commit) = result(root(), &["doctor"])["commit"].as_str() {
        assert_eq!(commit.len(), 12);
        assert!(told.contains(commit), "{told}");
    }
}

#[test]
fn colours_are_where_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrong.jam"), "modle a {}\n").unwrap();
    for (color, expected) in [("always", true), ("never", false), ("auto", false)] {
        for arguments in [
            &["check", "wrong.jam", "--color", color][..],
            &["nothing", "--color", color],
        ] {
            let said = stderr(&jamc_in(folder.path(), arguments));
            assert_eq!(said.contains('\u{1b}'), expected, "{arguments:?}: {said}");
        }
    }
    let refused = jamc_in(folder.path(), &["check", "wrong.jam", "--color", "red"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let page = done(root(), &["man"]);
    let script = done(root(), &["completions", "bash"]);
    for command in [
        "check", "fmt", "inspect", "build", "train", "generate", "eval", "run", "export",
    ] {
        assert!(
            page.contains(&format!("jamc\\-{command}(1)")),
            "{command}: {page}"
        );
        assert!(script.contains(command), "{command}");
    }
    assert!(done(root(), &["man", "fmt"]).contains("\\-\\-check"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(
            done(root(), &["completions", shell]).contains("max-memory"),
            "{shell}"
        );
    }
    assert_eq!(jamc_in(root(), &["man", "nothing"]).status.code(), Some(2));
}

/// A note on a program is told when it is checked, and not by every command that reads it.
#[test]
fn notes_are_told_once_for_a_program() {
    let folder = root().join("tests/cases/commands");
    let said = |arguments: &[&str]| stderr(&jamc_in(&folder, arguments));
    assert!(said(&["check", "precisions.jam"]).contains("note: "));
    for arguments in [
        &["inspect", "precisions.jam"][..],
        &["build", "precisions.jam", "nobody"],
    ] {
        assert!(!said(arguments).contains("note: "), "{arguments:?}");
    }
    assert!(said(&["inspect", "precisions.jam", "-v"]).contains("note: "));
    for command in [
        &["inspect", "precisions.jam"][..],
        &["build", "precisions.jam", "nobody"],
    ] {
        let asked = [command, &["-v", "--json"]].concat();
        let lines = said(&asked);
        assert!(
            lines.contains("\"severity\":\"note\""),
            "{asked:?}: {lines}"
        );
        for line in lines.lines() {
            assert!(
                serde_json::from_str::<serde_json::Value>(line).is_ok(),
                "{line}"
            );
        }
    }
}

/// A failure is told however quiet a command is.
#[test]
fn a_layout_that_is_wrong_is_told_quietly_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("l.jam"), "setting   a=1\n").unwrap();
    let output = jamc_in(folder.path(), &["fmt", "--check", "-q", "l.jam"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "l.jam is not in its layout\n");
}
