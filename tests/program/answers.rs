//! What the command line answers: exit codes, flags, mistakes, layouts, objects for machines.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{jamc, stderr, stdout};

#[test]
fn exit_codes_tell_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.jam");
    fs::write(&wrong, "model a {\n    tokens = 96\n    contxt = 12\n    width = 8\n    logits = unembed(embed(tokens))\n}\n").unwrap();
    let output = jamc(&["check", &wrong.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        report.contains("contxt") && report.contains("context"),
        "{report}"
    );
    assert_eq!(jamc(&["check"]).status.code(), Some(2));
    assert_eq!(jamc(&["check", "absent.jam"]).status.code(), Some(1));
    let unbuilt = jamc(&["build", "examples/paper/tables.jam"]);
    assert_eq!(
        unbuilt.status.code(),
        Some(1),
        "weights that are absent cannot be built from"
    );
}

/// Flags that mean nothing are refused by every command, and no input is written over.
#[test]
fn flags_and_outputs_are_checked_before_the_work() {
    let drawing = "examples/drawing/drawing.jam";
    for (flags, words) in [
        (["--device", "gpu"], "there is no device `gpu`"),
        (["--max-memory", "1"], "a unit is missing: 1GiB"),
        (["--max-memory", "0MB"], "that is nothing"),
        (["--max-memory", "1XB"], "`XB` is no unit of bytes"),
    ] {
        let refused = jamc(&[&["run", drawing][..], &flags].concat());
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder
        .path()
        .join("tokens.safetensors")
        .display()
        .to_string();
    fs::write(&tokens, "kept").unwrap();
    let refused = jamc(&["forward", "absent", "--tokens", &tokens, "-o", &tokens]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is read from"));
    assert_eq!(fs::read_to_string(&tokens).unwrap(), "kept");
}

#[test]
fn standard_input_is_laid_out_on_standard_output() {
    let laid_out = |text: &str, arguments: &[&str]| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_jamc"))
            .args([&["fmt", "-"], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        process.wait_with_output().unwrap()
    };
    let text = "setting   data=\"data\"\n";
    let once = stdout(&laid_out(text, &[]));
    assert_eq!(once, "setting data = \"data\"\n");
    assert_eq!(laid_out(text, &["--check"]).status.code(), Some(1));
    assert_eq!(laid_out(&once, &["--check"]).status.code(), Some(0));
    let wrong = laid_out("setting data = (", &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stdout.is_empty());
    assert!(
        stderr(&wrong).contains("standard input:1"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn absent_data_is_noted_by_check_and_refused_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("absent.jam");
    fs::create_dir(folder.path().join("texts")).unwrap();
    fs::write(folder.path().join("texts/here.txt"), "one two three\n").unwrap();
    let program = r#"
data here  = text("texts/here.txt")
data books = text("books/*.txt")
tokenizer first  = bpe(train: here, size: 300)
tokenizer second = bpe(train: books, size: 300)
"#;
    fs::write(&file, program).unwrap();
    let (file, out) = (file.display().to_string(), folder.path().join("out"));
    let checked = jamc(&["check", &file]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert!(stderr(&checked).contains("data `books`, train: no file matches"));
    let run = jamc(&["run", &file, "--out", &out.display().to_string()]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("data `books`, train: no file matches"));
    assert!(!out.join("tokenizers").exists(), "nothing was begun");
}

#[test]
fn a_mistake_is_told_once_and_not_by_what_depends_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.jam");
    let program = r#"
data pairs = image_text("pictures/*.tar")
tokenizer words    = bpe(train: pairs, size: 1000)
tokenizer pictures = vq(train: pairs, steps: 10, lr: 3e-3)
tokens mixed {
    text  = words
    image = pictures
    marks = [bos, pad, eos, unk, break]
}
model a {
    tokens  = mixed
    context = 16
    width   = 8
    x       = embed(tokens)
    repeat 2 { x = x + attention(layer_norm(x), heads: 2) }
    logits  = unembed(x)
}
model b = a {}
fuse both = cross(a, b, start: parents)
train tuned {
    model     = both
    data      = pairs
    optimizer = adamw(lr: 1e-3)
    batch     = rows(2)
    steps     = 3
}
fuse again = cross(tuned, b)
"#;
    for (right, slip, told) in [
        ("lr: 3e-3", "rate: 3e-3", "`vq` has no `rate`"),
        ("steps     = 3", "stebs     = 3", "`stebs`"),
    ] {
        fs::write(&wrong, program.replace(right, slip)).unwrap();
        let output = jamc(&["check", &wrong.display().to_string()]);
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(report.contains(told), "{report}");
        assert!(!report.contains("fuse"), "{report}");
    }
}

#[test]
fn examples_are_in_their_layout() {
    let programs = [
        "drawing/drawing.jam",
        "emoji/emoji.jam",
        "paper/parents.jam",
        "paper/tables.jam",
    ];
    for program in programs {
        let path = format!("examples/{program}");
        assert_eq!(
            jamc(&["fmt", "--check", &path]).status.code(),
            Some(0),
            "{path}: jamc fmt {path}"
        );
    }
}

/// Every line of standard error, which must be an object each.
fn objects(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let object = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} in {text}"));
    text.lines().map(object).collect()
}

#[test]
fn machines_read_objects_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let wrong = folder.path().join("wrong.jam").display().to_string();
    let program = "model a {\n    tokens = 96\n    contxt = 12\n    width = 8\n    \
                   logits = unembed(embed(tokens))\n}\n";
    fs::write(&wrong, program).unwrap();
    let drawing = "examples/drawing/drawing.jam";
    let paper = "examples/paper/tables.jam";
    let cases: [(&[&str], i32, &str); 9] = [
        (&["check", "absent.jam"], 1, "absent"),
        (&["check"], 2, "usage"),
        (&["inspect", drawing, "nobody"], 1, "input"),
        (&["inspect", drawing, "--stop-after", "nothing"], 2, "usage"),
        (&["build", paper, "jam_width", "--out", &out], 1, "absent"),
        (&["train", drawing, "nobody"], 1, "input"),
        (&["eval", drawing, "nobody"], 1, "input"),
        (
            &["generate", drawing, "nobody", "--prompt", "a"],
            1,
            "input",
        ),
        (
            &["run", drawing, "--device", "nothing", "--out", &out],
            2,
            "usage",
        ),
    ];
    for (arguments, exit, code) in cases {
        let output = jamc(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let objects = objects(&output);
        let last = objects.last().unwrap_or_else(|| panic!("{arguments:?}"));
        assert_eq!(last["severity"], "error", "{arguments:?}");
        assert_eq!(last["code"], code, "{arguments:?}");
        assert!(!last["message"].as_str().unwrap().is_empty());
    }
    let output = jamc(&["check", &wrong, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let reports = objects(&output);
    let line = |report: &serde_json::Value| report["places"][0]["line"] == 3;
    assert!(reports.iter().any(line), "{reports:?}");

    for (arguments, key) in [
        (&["check", paper] as &[&str], "fusions"),
        (&["doctor"], "auto"),
        (&["inspect", paper, "llm", "--view", "dot"], "models"),
    ] {
        let output = jamc(&[arguments, &["--json"]].concat());
        objects(&output);
        let result: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(!result[key].is_null(), "{result}");
    }
}

#[test]
fn passes_are_told_and_keep_the_logits() {
    let drawing = "examples/drawing/drawing.jam";
    let inspect = |flags: &[&str]| {
        let begin = ["inspect", drawing, "jam_cross", "--set", "size=smoke"];
        let output = jamc(&[&begin, flags].concat());
        (stdout(&output), stderr(&output))
    };
    let (_, told) = inspect(&["--timing", "--verify-equivalence"]);
    let passes = [
        "fold_identities",
        "share_values",
        "share_blocks",
        "dead_code",
    ];
    for pass in passes {
        assert!(told.contains(&format!("// jam_cross: {pass}")), "{told}");
    }
    let (_, printed) = inspect(&["--print-ir-after", "all", "--stop-after", "share_values"]);
    assert_eq!(
        printed.matches("// jam_cross after ").count(),
        2,
        "{printed}"
    );
    assert_eq!(
        printed.matches("\nmodel jam_cross ").count(),
        2,
        "{printed}"
    );

    // What a person writes may be more than is needed.
    let folder = tempfile::tempdir().unwrap();
    let idle = folder.path().join("idle.jam").display().to_string();
    let program = "model idle {\n    tokens = 12\n    context = 8\n    width = 8\n    \
                   x = embed(tokens)\n    unused = relu(x)\n    \
                   y = attention(rms_norm(1 * x), heads: 2, mask: causal)\n    \
                   logits = unembed(x + y)\n}\n";
    fs::write(&idle, program).unwrap();
    let told = stderr(&jamc(&["inspect", &idle, "--verify-equivalence"]));
    assert!(told.contains(" keeps 192 logits"), "{told}");

    // What is told of passes does not mix with what is printed.
    let (drawn, _) = inspect(&["--svg", "--timing"]);
    assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
    assert_eq!(
        drawn.matches("<g id=").count(),
        drawn.matches("</g>").count()
    );
    let several = jamc(&["inspect", drawing, "--svg"]);
    assert_eq!(several.status.code(), Some(2), "a drawing is of one model");
}
