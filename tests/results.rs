//! What becomes of results: nothing made is removed because something changed, and nothing damaged is taken for absent.

#[path = "results/listed.rs"]
mod listed;
#[path = "results/named.rs"]
mod named;
#[path = "results/underway.rs"]
mod underway;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program of a moment: a tokenizer, a model, a training, a fusion and a report.
const PROGRAM: &str = r#"seed 3
data words = text("words.jsonl", held_out: 0%)
data other = text("other.jsonl", held_out: 0%)
tokenizer pieces = bpe(train: words, size: 270)
tokens mixed {
    text  = pieces
    marks = [bos, pad, eos, unk]
}
model small {
    tokens  = mixed
    context = 32
    width   = 8
    x       = embed(tokens)
    repeat 2 { x = x + attention(layer_norm(x), heads: 2, rotary: yes) }
    logits  = unembed(layer_norm(x), tied: yes)
}
model second = small {}
train tune {
    model          = small
    data           = words
    validate       = words
    validate_every = 100
    optimizer      = adamw(lr: 1e-2)
    schedule       = constant(warmup: 0)
    batch          = rows(2)
    form           = rows
    steps          = 6
    save_every     = 2
}
fuse both = uniform(tune, second, share: 0.5)
eval table {
    models  = [tune, both]
    measure = perplexity(words)
}
"#;

/// A folder with the program and its data.
struct Home {
    place: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        let place = tempfile::tempdir().unwrap();
        let home = Home { place };
        home.program(PROGRAM);
        let line = |n: usize| format!("{{\"text\": \"the {} cat sat on mat {n}\"}}\n", n % 3);
        fs::write(home.at("words.jsonl"), (0..6).map(line).collect::<String>()).unwrap();
        fs::write(home.at("other.jsonl"), (6..9).map(line).collect::<String>()).unwrap();
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.at("runs/t").join(name)
    }

    fn program(&self, text: &str) {
        fs::write(self.place.path().join("t.jam"), text).unwrap();
    }

    fn jamc(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
        let command = command.args(arguments).current_dir(self.place.path());
        command.output().expect("jamc starts")
    }

    /// What a command tells that must end well.
    fn well(&self, arguments: &[&str]) -> String {
        let output = self.jamc(arguments);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        told
    }

    fn run(&self) -> String {
        self.well(&["run", "t.jam", "--device", "cpu"])
    }

    /// The folders of a kind, in order.
    fn folders(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.out(kind)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{}{out}", String::from_utf8_lossy(&output.stderr))
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

const WEIGHTS: &str = "training/tune/last/model.safetensors";

#[test]
fn a_changed_value_keeps_the_old_result_and_is_named_with_its_line() {
    for (old, new, said) in [
        (
            "lr: 1e-2",
            "lr: 2e-2",
            "`optimizer.lr` was 0.01 and is 0.02 (t.jam:23)",
        ),
        (
            "steps          = 6",
            "steps          = 8",
            "`steps` was 6 and is 8 (t.jam:27)",
        ),
        (
            "validate_every = 100",
            "validate_every = 2",
            "`validate_every` was 100 and is 2 (t.jam:22)",
        ),
        ("rows(2)", "rows(3)", "`batch"),
    ] {
        let home = Home::new();
        home.run();
        let before = fs::read(home.out(WEIGHTS)).unwrap();
        home.program(&PROGRAM.replace(old, new));
        let told = home.run();
        assert!(told.contains(said), "{told}");
        let kept: Vec<String> = home.folders("training");
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(told.contains(&format!("training/{}", kept[1])), "{told}");
        let old = home.out("training").join(&kept[1]);
        assert_eq!(
            fs::read(old.join("last/model.safetensors")).unwrap(),
            before
        );
        // When the program asks for it again, it is there.
        home.program(PROGRAM);
        let told = home.run();
        assert!(told.contains("found again"), "{told}");
        assert_eq!(fs::read(home.out(WEIGHTS)).unwrap(), before);
        assert_eq!(told.matches("done before").count(), 4, "{told}");
    }
}

#[test]
fn contents_count_and_no_stamps_or_spellings() {
    let home = Home::new();
    home.run();
    let words = home.at("words.jsonl");
    let bytes = fs::read(&words).unwrap();
    let all_done = |told: &str| assert_eq!(told.matches("done before").count(), 4, "{told}");
    // Touched, written again, laid out otherwise, named otherwise.
    fs::write(&words, &bytes).unwrap();
    fs::write(home.at("t.jam"), format!("// a comment\n{PROGRAM}")).unwrap();
    all_done(&home.run());
    let absolute = home.at("t.jam").display().to_string();
    let name = home
        .place
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    for spelled in ["./t.jam", &absolute, &format!("../{name}/t.jam")] {
        all_done(&home.well(&["run", spelled, "--device", "cpu"]));
    }
    // A line more is another content.
    let mut more = bytes.clone();
    more.extend(b"{\"text\": \"one more\"}\n");
    fs::write(&words, more).unwrap();
    let told = home.run();
    assert!(told.contains("the file words.jsonl has changed"), "{told}");
    assert_eq!(home.folders("training").len(), 2);
    // Data that nothing uses are of no matter.
    fs::write(&words, &bytes).unwrap();
    home.run();
    fs::write(home.at("other.jsonl"), "{\"text\": \"else\"}\n").unwrap();
    all_done(&home.run());
}

/// A training that is stopped by a signal after its first saved step; gives its exit code.
#[cfg(unix)]
fn stopped(home: &Home, signal: &str, program: &str) -> Option<i32> {
    use std::time::Duration;
    home.program(program);
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
    let command = command
        .args(["train", "t.jam", "tune", "--device", "cpu"])
        .current_dir(home.place.path());
    let state = home.out("training/tune/state");
    let saved = || {
        let states = fs::read_dir(&state).into_iter().flatten();
        let names = states.filter_map(|state| state.ok()?.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).max()
    };
    let before = saved();
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    while saved() == before && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let process = child.id().to_string();
    Command::new("kill")
        .args([signal, &process])
        .status()
        .unwrap();
    child.wait().unwrap().code()
}

#[test]
#[cfg(unix)]
fn every_signal_saves_the_state_and_what_may_change_goes_on() {
    let long = PROGRAM.replace("steps          = 6", "steps          = 4000");
    for signal in ["-INT", "-TERM", "-HUP"] {
        let home = Home::new();
        assert_eq!(stopped(&home, signal, &long), Some(130), "{signal}");
        let listed = home.well(&["results", "t.jam"]);
        assert!(listed.contains("paused at step"), "{signal}: {listed}");
        let state = home.out("training/tune/state");
        let latest = fs::read_dir(state)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let latest = latest.max().unwrap().into_string().unwrap();
        let step: u64 = latest.parse().unwrap();
        // More steps, another measure: the same run goes on.
        let end = step + 3;
        home.program(
            &PROGRAM
                .replace("steps          = 6", &format!("steps          = {end}"))
                .replace("validate_every = 100", "validate_every = 2"),
        );
        let told = home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
        assert!(
            told.contains(&format!("goes on from step {step}")),
            "{signal}: {told}"
        );
        assert!(told.contains("`steps` was 4000 and is"), "{told}");
        assert_eq!(home.folders("training"), ["tune"]);
        assert!(!home.out("training/tune/state").exists());
    }
}

#[test]
#[cfg(unix)]
fn what_may_not_change_begins_beside_a_paused_run_which_stays() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 4000");
    stopped(&home, "-TERM", &long);
    home.program(&PROGRAM.replace("lr: 1e-2", "lr: 3e-2"));
    let told = home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    assert!(
        told.contains("`optimizer.lr` was 0.01 and is 0.03"),
        "{told}"
    );
    let listed = home.well(&["results", "t.jam"]);
    assert!(listed.contains("paused at step"), "{listed}");
    home.program(PROGRAM);
    let told = home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    assert!(told.contains("found again"), "{told}");
}

/// A run that is past the new end is not cut short: it stays paused, whole.
#[test]
#[cfg(unix)]
fn a_run_past_the_new_end_stays_as_it_is() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 4000");
    stopped(&home, "-TERM", &long);
    home.program(&PROGRAM.replace("steps          = 6", "steps          = 1"));
    home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    let listed = home.well(&["results", "t.jam"]);
    assert!(listed.contains("paused at step"), "{listed}");
    assert_eq!(home.folders("training").len(), 2);
}

#[test]
#[cfg(unix)]
fn what_began_anew_goes_on_though_the_one_before_it_is_finished() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 400");
    home.program(&long);
    home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
    let command = command
        .args(["train", "t.jam", "tune", "--restart", "--device", "cpu"])
        .current_dir(home.place.path());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let state = home.out("training/tune/state");
    while !state.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let process = child.id().to_string();
    Command::new("kill")
        .args(["-TERM", &process])
        .status()
        .unwrap();
    child.wait().unwrap();
    let told = home.well(&["train", "t.jam", "tune", "--device", "cpu"]);
    assert!(told.contains("goes on from step"), "{told}");
    assert_eq!(home.folders("training").len(), 2);
}

/// The same file may be of several data sets, and a data set may read another file that others read too.
#[test]
fn a_file_counts_for_whom_it_is_read() {
    let home = Home::new();
    let measured = PROGRAM
        .replace(
            "perplexity(words)",
            "[perplexity(words), perplexity(other)]",
        )
        .replace("[tune, both]", "tune");
    home.program(&measured);
    home.run();
    let before = fs::read(home.out("reports/table/report.json")).unwrap();
    let swapped = measured.replace(
        "data other = text(\"other.jsonl\"",
        "data other = text(\"words.jsonl\"",
    );
    home.program(&swapped);
    let told = home.run();
    assert_eq!(told.matches("done before").count(), 3, "{told}");
    assert_ne!(
        fs::read(home.out("reports/table/report.json")).unwrap(),
        before
    );
}

/// A tokenizer of others counts by its contents, whatever its file is called.
#[test]
fn a_replaced_tokenizer_of_any_name_is_noticed() {
    let home = Home::new();
    home.run();
    fs::create_dir(home.at("pieces")).unwrap();
    let made = fs::read_to_string(home.out("tokenizers/pieces/tokenizer.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&made).unwrap();
    let merges = other["model"]["merges"].as_array_mut().unwrap();
    assert!(merges.pop().is_some());
    let program = PROGRAM
        .replace("tokenizer pieces = bpe(train: words, size: 270)\n", "")
        .replace("text  = pieces", "text  = bpe(\"pieces\", size: 270)");
    home.program(&program);
    let name = home.at("pieces/my-tokenizer.json");
    let mut reports = Vec::new();
    for tokenizer in [made, other.to_string()] {
        fs::write(&name, tokenizer).unwrap();
        let told = home.run();
        assert!(!told.contains("done before"), "{told}");
        reports.push(fs::read(home.out("reports/table/report.json")).unwrap());
    }
    assert_ne!(reports[0], reports[1], "the old token ids are read no more");
}

#[test]
fn folders_that_are_not_ours_are_refused_and_stay() {
    for folder in [
        "training/tune",
        "models/both",
        "tokenizers/pieces",
        "reports/table",
    ] {
        let home = Home::new();
        fs::create_dir_all(home.out(folder)).unwrap();
        fs::write(home.out(folder).join("notes.txt"), "mine").unwrap();
        let output = home.jamc(&["run", "t.jam", "--device", "cpu", "--json"]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{folder}: {told}");
        assert!(told.contains("\"code\":\"exists\""), "{folder}: {told}");
        let notes = home.out(folder).join("notes.txt");
        assert_eq!(fs::read_to_string(notes).unwrap(), "mine");
        // Nor is it removed by name.
        let output = home.jamc(&["results", "t.jam", "--remove", folder]);
        assert_eq!(output.status.code(), Some(1));
        assert!(home.out(folder).join("notes.txt").exists());
    }
}

/// What comes to stand in the place of a model while it is built is not written over.
#[test]
fn what_came_while_a_model_was_built_stays() {
    let home = Home::new();
    // Tens of MB: it takes long enough to come between.
    home.program(
        "model a {\n    tokens = 40000\n    context = 16\n    width = 512\n    \
         logits = unembed(embed(tokens))\n}\nmodel b = a {}\nfuse both = uniform(a, b)\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamc"));
    let command = command
        .args(["build", "t.jam", "--device", "cpu", "--json"])
        .current_dir(home.place.path())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = || fs::read_dir(home.out("models")).is_ok_and(|mut files| files.next().is_some());
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let place = home.out("models/both");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("mine.txt"), "mine").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("\"exists\""), "{}", told(&output));
    assert_eq!(fs::read_to_string(place.join("mine.txt")).unwrap(), "mine");
    assert_eq!(home.folders("models"), ["both"]);
}

#[test]
fn every_damaged_file_of_a_result_is_found_and_its_command_makes_it_anew() {
    let home = Home::new();
    home.run();
    let right = fs::read(home.out(WEIGHTS)).unwrap();
    for file in [
        "training/tune/result.json",
        "training/tune/log.jsonl",
        "training/tune/checksums.json",
        "training/tune/last/model.safetensors",
        "training/tune/last/model.ron",
        "training/tune/best/tokenizer.json",
        "training/tune/last/checksums.json",
    ] {
        for damage in ["flipped", "deleted"] {
            let path = home.out(file);
            match damage {
                "flipped" => flip(&path),
                _ => fs::remove_file(&path).unwrap(),
            }
            let output = home.jamc(&["run", "t.jam", "--device", "cpu"]);
            let report = told(&output);
            if file.ends_with("result.json") && damage == "deleted" {
                // Nothing says that it is ours.
                assert!(report.contains("no step of a program made"), "{report}");
                fs::remove_dir_all(home.out("training/tune")).unwrap();
                home.run();
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{damage} {file}: {report}");
            assert!(report.contains("is damaged"), "{damage} {file}: {report}");
            assert!(home.out("training/tune").exists(), "nothing is removed");
            let command = report.split('`').find(|text| text.starts_with("jamc "));
            let arguments: Vec<&str> = command.unwrap().split(' ').skip(1).collect();
            home.well(&arguments);
            home.run();
            assert_eq!(
                fs::read(home.out(WEIGHTS)).unwrap(),
                right,
                "{damage} {file}"
            );
        }
    }
    // What takes no learning is made again at once, and what was damaged is kept.
    for file in [
        "tokenizers/pieces/tokenizer.json",
        "models/both/model.safetensors",
        "reports/table/report.json",
        "reports/table/checksums.json",
    ] {
        let bytes = fs::read(home.out(file)).unwrap();
        flip(&home.out(file));
        let told = home.run();
        assert!(told.contains("made again, since"), "{file}: {told}");
        assert!(
            told.contains("the damaged one is kept in"),
            "{file}: {told}"
        );
        if !file.ends_with("checksums.json") {
            assert_eq!(fs::read(home.out(file)).unwrap(), bytes, "{file}");
        }
    }
}

/// What kind of failure it is reaches programs, however deep it was found.
#[test]
fn damage_found_while_a_model_is_loaded_is_told_as_damage() {
    let home = Home::new();
    home.run();
    flip(&home.out("training/tune/last/model.safetensors"));
    let flags = ["--model", "tune", "--prompt", "the", "--device", "cpu"];
    let output = home.jamc(&[&["generate", "t.jam", "--json"], &flags[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    let told: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["code"], "damaged", "{told}");
    let path = told["path"].as_str().unwrap();
    assert!(path.ends_with("tune/last/model.safetensors"), "{told}");
}

#[test]
fn unreadable_is_not_absent() {
    let home = Home::new();
    home.run();
    let right = fs::read(home.out(WEIGHTS)).unwrap();
    // A record that cannot be read, as with too many open files or a failing disk.
    let record = home.out("training/tune/result.json");
    let bytes = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let output = home.jamc(&["run", "t.jam", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("result.json: cannot read"),
        "{}",
        told(&output)
    );
    fs::remove_dir(&record).unwrap();
    fs::write(&record, bytes).unwrap();
    assert_eq!(home.run().matches("done before").count(), 4);
    assert_eq!(fs::read(home.out(WEIGHTS)).unwrap(), right);
}

#[test]
#[cfg(unix)]
fn a_damaged_record_of_a_paused_run_is_restored_from_its_state() {
    let home = Home::new();
    let long = PROGRAM.replace("steps          = 6", "steps          = 4000");
    stopped(&home, "-TERM", &long);
    let record = home.out("training/tune/result.json");
    let bytes = fs::read(&record).unwrap();
    for bit in (0..bytes.len() * 8).step_by(bytes.len() * 8 / 20) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&record, damaged).unwrap();
        // Nothing is removed: the run is still there, and it goes on.
        let listed = home.well(&["results", "t.jam"]);
        assert!(listed.contains("training/tune "), "{listed}");
        assert_eq!(stopped(&home, "-TERM", &long), Some(130));
        assert_eq!(home.folders("training"), ["tune"], "bit {bit}");
    }
}

#[test]
fn restart_keeps_the_old_run_and_remove_takes_only_what_it_names() {
    let home = Home::new();
    home.run();
    home.well(&["train", "t.jam", "tune", "--restart"]);
    let kept = home.folders("training");
    assert_eq!(kept.len(), 2, "{kept:?}");
    home.well(&["run", "t.jam", "--restart", "both", "--device", "cpu"]);
    assert_eq!(home.folders("models").len(), 2);
    let id = format!("training/{}", kept[1]);
    // All that are named, or none.
    let output = home.jamc(&[
        "results",
        "t.jam",
        "--remove",
        &id,
        "--remove",
        "training/none",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(home.folders("training"), kept);
    let told = home.well(&["results", "t.jam", "--remove", &id]);
    assert!(told.contains("removed"), "{told}");
    assert_eq!(home.folders("training"), ["tune"]);
    assert_eq!(home.folders("models").len(), 2);
    for wrong in [
        "../t.jam",
        "training/none",
        "training",
        "words.jsonl",
        "cache/hashes.json",
    ] {
        let output = home.jamc(&["results", "t.jam", "--remove", wrong]);
        assert_eq!(output.status.code(), Some(1), "{wrong}");
    }
    assert_eq!(home.run().matches("done before").count(), 4);
    // The folder alone, without the program.
    let listed = home.well(&["results", "runs/t", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["results"].as_array().unwrap().len(), 5);
}
