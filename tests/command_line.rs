//! The command line keeps its word: flags reach what they name, outputs replace nothing unasked, machines read JSON.

#[path = "command_line/telling.rs"]
mod telling;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn jamc_in(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
        .current_dir(folder)
        .args(arguments)
        .output();
    output.expect("jamc starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command prints that must succeed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = jamc_in(folder, arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The result of a command as JSON; standard error holds nothing but objects.
fn result(folder: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let output = jamc_in(folder, &arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    for line in said.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
        assert!(object["severity"].is_string(), "{line}");
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}"))
}

/// The object that tells why a command fails: its code, and the whole.
fn failure(folder: &Path, arguments: &[&str], exit: i32) -> (String, Value) {
    let arguments = [arguments, &["--json"]].concat();
    let output = jamc_in(folder, &arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let last = said
        .lines()
        .last()
        .unwrap_or_else(|| panic!("{arguments:?}"));
    let object: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{said}"));
    (
        object["code"].as_str().unwrap_or_default().to_owned(),
        object,
    )
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A configuration of a small LLaMA.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
    "intermediate_size": 12, "vocab_size": 32, "max_position_embeddings": 16, "tie_word_embeddings": false}"#;

/// A folder with a small checkpoint `llama` and the program `llama.jam` of it.
fn with_checkpoint() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    done(folder.path(), &["synth", "config.json", "-o", "llama"]);
    done(folder.path(), &["import", "llama", "-o", "llama.jam"]);
    folder
}

/// A file of tokens for `forward`.
fn write_tokens(file: &Path) {
    let ids: Vec<u8> = [5i64, 9, 31, 6]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![1, 4], &ids);
    let bytes = safetensors::serialize([("input_ids", view.unwrap())], None).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn a_command_shows_and_takes_its_own_flags_and_no_others() {
    let own = [
        (
            "check",
            &["--set", "--out"][..],
            &["--device", "--dtype", "--max-memory"][..],
        ),
        (
            "fmt",
            &["--check"],
            &["--set", "--seed", "--out", "--device"],
        ),
        (
            "run",
            &[
                "--set",
                "--seed",
                "--out",
                "--device",
                "--dtype",
                "--max-memory",
            ],
            &["--force"],
        ),
        ("export", &["--force"], &["--set", "--seed", "--device"]),
        ("import", &["--force"], &["--set", "--device"]),
        (
            "forward",
            &["--device", "--dtype", "--force"],
            &["--set", "--out "],
        ),
        (
            "doctor",
            &["--json", "--color"],
            &["--set", "--device", "--out"],
        ),
    ];
    for (command, shown, hidden) in own {
        let help = done(root(), &[command, "--help"]);
        for flag in shown {
            assert!(help.contains(flag), "{command}: no {flag} in {help}");
        }
        for flag in hidden {
            assert!(!help.contains(flag), "{command}: {flag} in {help}");
        }
    }
    for arguments in [
        &["fmt", "x.jam", "--set", "a=1"][..],
        &["doctor", "--set", "a=1"],
        &["export", "x", "-o", "y", "--set", "a=1"],
        &["check", "x.jam", "--device", "cpu"],
    ] {
        let output = jamc_in(root(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// A folder has one model and no settings: what is set reaches nothing there.
#[test]
fn a_value_for_a_model_folder_is_refused() {
    let folder = with_checkpoint();
    for arguments in [
        &["inspect", "llama", "--set", "width=16"][..],
        &["results", "llama", "--seed", "3"],
        &["results", "llama", "--out", "elsewhere"],
        &["generate", "llama", "--prompt", "a", "--set", "width=16"],
        &["generate", "llama", "--prompt", "a", "--out", "elsewhere"],
    ] {
        let output = jamc_in(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("is about a program"), "{said}");
    }
}

/// Where results go: words that change what is made have a folder of their own, and nothing else has.
#[test]
fn a_value_for_one_page_stays_in_the_folder_of_results() {
    let folder = tempfile::tempdir().unwrap();
    let program = "setting size = one_of(small, large)\nsetting tone = one_of(calm, wild)\n\
                   setting warm = 1\n\
                   let width = choose(size, small: 8, large: 16)\n\
                   let heat  = choose(tone, calm: 0.5, wild: 2)\n\
                   model a {\n    tokens = 20\n    context = 16\n    width = width\n    \
                   logits = unembed(embed(tokens))\n}\n\
                   model b = a {}\nfuse ab = uniform(a, b)\n\
                   decode d { text = sample(temperature: warm * heat) }\n";
    fs::write(folder.path().join("p.jam"), program).unwrap();
    for (set, expected) in [
        (&[][..], "runs/p/models/ab"),
        (&["--set", "size=large"], "runs/p-large/models/ab"),
        (&["--set", "size=small"], "runs/p/models/ab"),
        (&["--set", "tone=wild"], "runs/p/models/ab"),
        (&["--set", "warm=2"], "runs/p/models/ab"),
        (&["--set", "d.seed=3"], "runs/p/models/ab"),
        (&["--set", "a.width=16"], "runs/p/models/ab"),
        (
            &["--set", "size=small", "--set", "size=large"],
            "runs/p-large/models/ab",
        ),
        (&["--set", "size=large", "--out", "here"], "here/models/ab"),
    ] {
        let arguments = [&["build", "p.jam", "--dry-run"], set].concat();
        let told = result(folder.path(), &arguments);
        assert_eq!(told["models"][0]["folder"], expected, "{set:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_program_behind_a_link_is_laid_out_where_it_is_and_keeps_its_mode() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("real")).unwrap();
    fs::write(place("real/a.jam"), "setting   a=1\n").unwrap();
    fs::set_permissions(place("real/a.jam"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real/a.jam", place("link.jam")).unwrap();
    symlink("link.jam", place("again.jam")).unwrap();
    done(folder.path(), &["fmt", "again.jam"]);
    assert!(place("again.jam").is_symlink() && place("link.jam").is_symlink());
    assert_eq!(
        fs::read_to_string(place("real/a.jam")).unwrap(),
        "setting a = 1\n"
    );
    let mode = fs::metadata(place("real/a.jam"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(place("real")).unwrap().count(),
        1,
        "nothing is left behind"
    );
}

#[test]
fn nothing_that_exists_is_replaced_without_force() {
    let folder = with_checkpoint();
    let here = folder.path();
    write_tokens(&here.join("tokens.safetensors"));
    fs::create_dir(here.join("foreign")).unwrap();
    fs::write(here.join("foreign/letter.txt"), "kept").unwrap();
    let forward = [
        "forward",
        "llama",
        "--tokens",
        "tokens.safetensors",
        "--device",
        "cpu",
        "-o",
    ];
    let commands = [
        vec!["synth", "config.json", "-o"],
        vec!["import", "llama", "-o"],
        vec!["export", "llama", "-o"],
        forward.to_vec(),
    ];
    for (number, command) in commands.iter().enumerate() {
        let out = format!("out-{number}");
        let once = [&command[..], &[&out]].concat();
        done(here, &once);
        let (code, told) = failure(here, &once, 1);
        assert_eq!(code, "exists", "{once:?}: {told}");
        assert!(told["help"].as_str().unwrap().contains("--force"), "{told}");
        done(here, &[&once[..], &["--force"]].concat());
        // What another made is never replaced.
        let foreign = [&command[..], &["foreign", "--force"]].concat();
        let (code, told) = failure(here, &foreign, 1);
        assert_eq!(code, "exists", "{foreign:?}: {told}");
        assert_eq!(
            fs::read_to_string(here.join("foreign/letter.txt")).unwrap(),
            "kept"
        );
    }
    // A page is refused before a model is opened.
    fs::create_dir(here.join("page")).unwrap();
    fs::write(here.join("page/.answer"), "").unwrap();
    let generate = ["generate", "llama", "--prompt", "a", "-o", "page"];
    assert_eq!(failure(here, &generate, 1).0, "exists");
    let foreign = [
        "generate", "llama", "--prompt", "a", "-o", "foreign", "--force",
    ];
    assert_eq!(failure(here, &foreign, 1).0, "exists");
    // A link that leads nowhere yet is something, too.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere.jam", here.join("link.jam")).unwrap();
        assert_eq!(
            failure(here, &["import", "llama", "-o", "link.jam"], 1).0,
            "exists"
        );
    }
}

/// A folder is known for a command's own by its mark, and not by what might as well be another's.
#[test]
fn only_marked_folders_are_replaced_and_results_never() {
    let folder = with_checkpoint();
    let here = folder.path();
    let place = |name: &str| here.join(name);
    fs::create_dir(place("real")).unwrap();
    for name in ["config.json", "model.ron", "source.jam", "precious.txt"] {
        fs::write(place("real").join(name), CONFIG).unwrap();
    }
    let mut program = fs::read_to_string(place("llama.jam")).unwrap();
    program += "\nmodel second = llama {}\nfuse both = linear(llama, second)\n";
    fs::write(place("llama.jam"), program).unwrap();
    done(here, &["build", "llama.jam", "--device", "cpu"]);
    let result = "runs/llama/models/both";
    // A mark makes no other of a result.
    for mark in [".synth", ".export", ".answer"] {
        fs::write(place(result).join(mark), "").unwrap();
    }
    done(here, &["export", "llama", "-o", "earlier"]);
    fs::remove_file(place("earlier/.export")).unwrap();
    let before = contents(here);
    for command in [
        &["synth", "config.json"][..],
        &["export", "llama"],
        &["generate", "llama", "--prompt", "a"],
    ] {
        for (target, said) in [
            ("real", "not marked"),
            ("earlier", "not marked"),
            ("llama/..", "read from"),
            (result, "a result of a program"),
        ] {
            let output = jamc_in(here, &[command, &["-o", target, "--force"]].concat());
            assert!(!output.status.success(), "{command:?} {target}");
            let told = stderr(&output);
            assert!(told.contains(said), "{command:?} {target}: {told}");
        }
    }
    assert!(contents(here) == before);
    // What else was made in a folder of the command's own is not lost with it.
    done(here, &["export", "llama", "-o", "own"]);
    done(here, &["export", "llama", "-o", "own", "--force"]);
    done(here, &["export", "llama", "-o", "own/deep/other"]);
    let output = jamc_in(here, &["export", "llama", "-o", "own", "--force"]);
    assert!(
        stderr(&output).contains("own/deep/other"),
        "{}",
        stderr(&output)
    );
    assert!(place("own/deep/other/config.json").is_file());
}

#[test]
fn outputs_are_never_what_is_read() {
    let folder = with_checkpoint();
    let here = folder.path();
    write_tokens(&here.join("tokens.safetensors"));
    let before = contents(&here.join("llama"));
    let mut links = vec!["llama", "llama/../llama"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("llama", here.join("link")).unwrap();
        links.push("link");
    }
    for model in links {
        let inside = format!("{model}/inside");
        let weights = format!("{model}/model.safetensors");
        for arguments in [
            &["export", "llama", "-o", model, "--force"][..],
            &["export", "llama", "-o", &inside, "--force"],
            &["export", "llama", "-o", ".", "--force"],
            &["import", "llama", "-o", &weights, "--force"],
            &["generate", "llama", "--prompt", "a", "-o", &inside],
            &[
                "forward",
                "llama",
                "--tokens",
                "tokens.safetensors",
                "-o",
                &weights,
                "--force",
            ],
            &[
                "forward",
                "llama",
                "--tokens",
                "tokens.safetensors",
                "-o",
                &inside,
            ],
            &[
                "forward",
                "llama",
                "--tokens",
                "tokens.safetensors",
                "-o",
                "tokens.safetensors",
                "--force",
            ],
        ] {
            let (code, told) = failure(here, arguments, 2);
            assert_eq!(code, "usage");
            let message = told["message"].as_str().unwrap();
            assert!(message.contains("is read from"), "{arguments:?}: {told}");
        }
    }
    assert!(contents(&here.join("llama")) == before);
    // A program may lie beside the weights that it names.
    done(here, &["import", "llama", "-o", "llama/model.jam"]);
}

/// A fusion whose folder is that of a parent, wherever links lead, is a mistake of the program.
#[test]
fn a_fusion_is_never_written_over_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("config.json"), CONFIG).unwrap();
    fs::create_dir_all(here.join("runs/p/models")).unwrap();
    done(here, &["synth", "config.json", "-o", "runs/p/models/fused"]);
    done(
        here,
        &[
            "import",
            "runs/p/models/fused",
            "-o",
            "p.jam",
            "--name",
            "a",
        ],
    );
    let mut paths = vec!["runs/p/models/fused"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("runs/p", here.join("elsewhere")).unwrap();
        paths.push("elsewhere/models/fused");
    }
    let before = contents(&here.join("runs"));
    let parent = fs::read_to_string(here.join("p.jam")).unwrap();
    let inside = "runs/p/models/fused";
    for path in paths {
        let program = parent.replace("\"runs/p/models/fused\"", &format!("\"{path}\""));
        assert!(program.contains(path), "{program}");
        let program = program + "\nmodel b = a {}\nfuse fused = linear(a, b)\n";
        fs::write(here.join("p.jam"), program).unwrap();
        for command in [
            &["check", "p.jam"][..],
            &["build", "p.jam"],
            &["build", "p.jam", "--dry-run"],
            // In a folder of weights, and not over it.
            &["build", "p.jam", "--out", inside],
        ] {
            let output = jamc_in(here, command);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            assert!(said.contains("error[overwrites]"), "{said}");
            assert!(said.contains("p.jam:"), "it points at the program: {said}");
        }
        assert!(contents(&here.join("runs")) == before, "{path}");
    }
    // Elsewhere it is built.
    let program = parent + "\nmodel b = a {}\nfuse fused = linear(a, b)\n";
    fs::write(here.join("p.jam"), program).unwrap();
    done(
        here,
        &["build", "p.jam", "--out", "other", "--device", "cpu"],
    );
    assert!(contents(&here.join("runs")) == before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let drawing = "examples/drawing/drawing.jam";
    for arguments in [
        &["doctor", "--json"][..],
        &["doctor"],
        &["inspect", drawing, "reader"],
        &["inspect", drawing, "reader", "--view", "ir"],
        &["check", drawing, "--json"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["--version"],
        &["fmt", "-"],
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_jamc"))
            .current_dir(root())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        {
            use std::io::Write;
            let mut input = process.stdin.take().unwrap();
            // A command that reads no input may have ended.
            let _ = input.write_all(b"setting a = 1\n");
        }
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(
            said.contains("cannot write to standard output"),
            "{arguments:?}: {said}"
        );
    }
}
