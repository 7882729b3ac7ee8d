//! Nothing that was made is lost: random histories of edits, touches, kills and damage to a folder of results.
//!
//! `JAM_HISTORIES=300 cargo test --release --test histories -- --nocapture` runs as many; a few run always.
//! `JAM_HISTORY=N` runs the one of that number.

#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Histories that run without being asked for.
const HISTORIES: u64 = 6;
/// What happens in one.
const EVENTS: usize = 9;

/// A generator of its own (splitmix64), so that a history is the same for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// What a program says and reads: everything that its results depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Variant {
    rate: usize,
    steps: usize,
    share: usize,
    lines: usize,
}

impl Variant {
    fn program(self) -> String {
        let rate = ["1e-2", "2e-2"][self.rate];
        let steps = [6, 8][self.steps];
        let share = ["0.5", "0.25"][self.share];
        format!(
            r#"seed 3
data words = text("words.jsonl", held_out: 0%)
tokenizer pieces = bpe(train: words, size: 270)
tokens mixed {{
    text  = pieces
    marks = [bos, pad, eos, unk]
}}
model small {{
    tokens  = mixed
    context = 32
    width   = 8
    x       = embed(tokens)
    repeat 2 {{ x = x + attention(layer_norm(x), heads: 2, rotary: yes) }}
    logits  = unembed(layer_norm(x), tied: yes)
}}
model other = small {{}}
train tune {{
    model      = small
    data       = words
    optimizer  = adamw(lr: {rate})
    schedule   = constant(warmup: 0)
    batch      = rows(2)
    form       = rows
    steps      = {steps}
    save_every = 2
}}
fuse both = uniform(tune, other, share: {share})
eval table {{
    models  = [tune, both]
    measure = perplexity(words)
}}
"#
        )
    }

    fn data(self) -> String {
        let line = |n: usize| format!("{{\"text\": \"the {} cat sat on mat {n}\"}}\n", n % 3);
        (0..6 + self.lines).map(line).collect()
    }

    fn write(self, folder: &Path) {
        fs::write(folder.join("t.jam"), self.program()).unwrap();
        fs::write(folder.join("words.jsonl"), self.data()).unwrap();
    }
}

/// `jamc` in a folder; `limit` bounds the size of files that it may write, in blocks of 512 bytes.
fn jamc(folder: &Path, arguments: &[&str], limit: Option<usize>) -> Child {
    let binary = env!("CARGO_BIN_EXE_jamc");
    let mut command = match limit {
        None => Command::new(binary),
        Some(blocks) => {
            let mut shell = Command::new("sh");
            // Ignored, so that writing fails as on a full disk and does not end the process.
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            shell.args(["-c", &script, binary]);
            shell
        }
    };
    let command = command
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("jamc starts")
}

/// What a command ended with, and what it told.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), told)
}

/// Every file below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// What a finished run made: by name of the file, its bytes.
type Made = BTreeMap<&'static str, Vec<u8>>;

fn made(out: &Path) -> Made {
    let names = [
        "tokenizers/pieces/tokenizer.json",
        "training/tune/last/model.safetensors",
        "training/tune/best/model.safetensors",
        "models/both/model.safetensors",
        "reports/table/report.json",
    ];
    let read = |name: &'static str| (name, fs::read(out.join(name)).unwrap_or_default());
    names.into_iter().map(read).collect()
}

/// What must never be gone.
#[derive(Default)]
struct Kept {
    /// Weights of finished models, by their bytes' hash.
    models: BTreeSet<content::Hash>,
    /// Runs that were paused: the key of what may not change, and the step they had reached.
    paused: BTreeMap<String, u64>,
}

/// Hashes that are enough to tell files apart.
mod content {
    use std::hash::{DefaultHasher, Hash as _, Hasher};

    pub(super) type Hash = (usize, u64);

    pub(super) fn hash(bytes: &[u8]) -> Hash {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        (bytes.len(), hasher.finish())
    }
}

/// Stands in a folder that is being filled.
const UNFINISHED: &str = ".unfinished";

/// Every record below a folder of results, with the folder that it is in.
fn records(out: &Path) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for kind in ["training", "models"] {
        let Ok(entries) = fs::read_dir(out.join(kind)) else {
            continue;
        };
        for entry in entries {
            let folder = entry.unwrap().path();
            // One that was killed before all of it was flushed is none yet.
            if folder.join(UNFINISHED).exists() {
                continue;
            }
            let text = fs::read(folder.join("result.json")).unwrap_or_default();
            if let Ok(record) = serde_json::from_slice(&text) {
                found.push((folder, record));
            }
        }
    }
    found
}

fn saved_step(folder: &Path) -> Option<u64> {
    let states = fs::read_dir(folder.join("state")).ok()?;
    let steps = states.filter_map(|state| state.ok()?.file_name().to_str()?.parse().ok());
    steps.max()
}

impl Kept {
    /// Adds what is there now.
    fn look(&mut self, out: &Path) {
        for (folder, record) in records(out) {
            let done = record["progress"].is_object();
            if done {
                for name in ["last/model.safetensors", "model.safetensors"] {
                    if let Ok(bytes) = fs::read(folder.join(name)) {
                        self.models.insert(content::hash(&bytes));
                    }
                }
            } else if let (Some(base), Some(step)) = (record["base"].as_str(), saved_step(&folder))
            {
                let reached = self.paused.entry(base.to_owned()).or_default();
                *reached = step.max(*reached);
            }
        }
    }

    /// Whether all of it is still there.
    fn check(&self, out: &Path, context: &str) {
        let there: BTreeSet<_> = files(out)
            .iter()
            .filter(|path| path.ends_with("model.safetensors"))
            .map(|path| content::hash(&fs::read(path).unwrap()))
            .collect();
        let gone = self.models.difference(&there).count();
        assert_eq!(gone, 0, "{context}: finished models are gone");
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        for (folder, record) in records(out) {
            let base = record["base"].as_str().unwrap_or_default().to_owned();
            let step = match record["progress"].is_object() {
                true => u64::MAX,
                false => saved_step(&folder).unwrap_or(0),
            };
            let entry = reached.entry(base).or_default();
            *entry = step.max(*entry);
        }
        for (base, step) in &self.paused {
            let now = reached.get(base).copied();
            assert!(
                now.is_some_and(|now| now >= *step),
                "{context}: the run {base} was at step {step} and is at {now:?}"
            );
        }
    }
}

/// Carries the program out until it is done, with the commands that its errors name; `limit` as for [`jamc`].
fn go_on(folder: &Path, spelled: &str, log: &mut Vec<String>) -> (Option<i32>, String) {
    let mut ended = end(jamc(folder, &["run", spelled, "--device", "cpu"], None));
    for _ in 0..8 {
        log.push(format!("run {spelled}: {:?} {}", ended.0, ended.1.trim()));
        if ended.0 == Some(0) {
            break;
        }
        // A damaged result names the command that makes it anew.
        let named = ended.1.split('`').find(|text| text.starts_with("jamc "));
        let Some(command) = named else { break };
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let (code, told) = end(jamc(folder, &arguments, None));
        log.push(format!("{command}: {code:?} {}", told.trim()));
        ended = end(jamc(folder, &["run", spelled, "--device", "cpu"], None));
    }
    ended
}

/// What every variant makes when nothing disturbs it.
struct References {
    home: tempfile::TempDir,
    known: BTreeMap<Variant, Made>,
}

impl References {
    fn of(&mut self, variant: Variant) -> &Made {
        let home = self.home.path();
        self.known.entry(variant).or_insert_with(|| {
            let folder = home.join(format!("{variant:?}").replace([' ', '{', '}', ':', ','], "_"));
            fs::create_dir(&folder).unwrap();
            variant.write(&folder);
            let (code, told) = end(jamc(&folder, &["run", "t.jam", "--device", "cpu"], None));
            assert_eq!(code, Some(0), "{told}");
            made(&folder.join("runs/t"))
        })
    }
}

fn history(number: u64, references: &mut References) {
    let mut dice = Dice(number);
    let home = tempfile::tempdir().unwrap();
    let mut folder = home.path().join("work");
    fs::create_dir(&folder).unwrap();
    let mut variant = Variant {
        rate: 0,
        steps: 0,
        share: 0,
        lines: 0,
    };
    variant.write(&folder);
    let mut kept = Kept::default();
    let mut log: Vec<String> = Vec::new();
    let mut renames = 0;
    let mut flipped = false;
    for event in 0..EVENTS {
        let out = folder.join("runs/t");
        let what = dice.roll(11);
        match what {
            0 => variant.rate = 1 - variant.rate,
            1 => variant.steps = 1 - variant.steps,
            2 => variant.share = 1 - variant.share,
            3 => variant.lines = (variant.lines + 1) % 3,
            4 => {
                // Touched, or the same bytes again.
                variant.write(&folder);
            }
            5 => {
                renames += 1;
                let other = home.path().join(format!("work-{renames}"));
                fs::rename(&folder, &other).unwrap();
                folder = other;
            }
            6 => {
                let child = jamc(&folder, &["run", "t.jam", "--device", "cpu"], None);
                std::thread::sleep(Duration::from_millis(dice.roll(400) as u64));
                let mut child = child;
                let _ = child.kill();
                log.push(format!("killed: {}", end(child).1.trim()));
            }
            7 => {
                let child = jamc(&folder, &["run", "t.jam", "--device", "cpu"], None);
                std::thread::sleep(Duration::from_millis(dice.roll(400) as u64));
                let signal = ["-TERM", "-HUP", "-INT"][dice.roll(3)];
                let process = child.id().to_string();
                let _ = Command::new("kill").args([signal, &process]).status();
                let (code, told) = end(child);
                log.push(format!("{signal}: {code:?} {}", told.trim()));
            }
            8 => {
                let all = files(&out);
                if !all.is_empty() {
                    let path = &all[dice.roll(all.len())];
                    let mut bytes = fs::read(path).unwrap();
                    if !bytes.is_empty() {
                        // What a flipped bit damaged is no longer what was kept.
                        kept.models.remove(&content::hash(&bytes));
                        let bit = dice.roll(bytes.len() * 8);
                        bytes[bit / 8] ^= 1 << (bit % 8);
                        fs::write(path, bytes).unwrap();
                        log.push(format!("flipped a bit of {}", path.display()));
                        flipped = true;
                    }
                }
            }
            9 => {
                let limit = [1, 8, 40, 200][dice.roll(4)];
                let child = jamc(&folder, &["run", "t.jam", "--device", "cpu"], Some(limit));
                let (code, told) = end(child);
                log.push(format!("files of {limit} blocks: {code:?} {}", told.trim()));
            }
            _ => {
                let absolute = folder.join("t.jam").display().to_string();
                let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                let around = format!("../{name}/t.jam");
                let spelled = ["t.jam", "./t.jam", &absolute, &around][dice.roll(4)];
                let (code, told) = go_on(&folder, spelled, &mut log);
                assert_eq!(
                    code,
                    Some(0),
                    "history {number}: {told}\n{}",
                    log.join("\n")
                );
                let out = folder.join("runs/t");
                let right = references.of(variant);
                for (name, bytes) in &made(&out) {
                    assert!(
                        *bytes == right[name],
                        "history {number}: {name} of {variant:?} is another\n{}",
                        log.join("\n")
                    );
                }
            }
        }
        if what < 4 {
            variant.write(&folder);
        }
        let out = folder.join("runs/t");
        log.push(format!("event {event}: {what}, {variant:?}"));
        let context = || format!("history {number}, event {event}\n{}", log.join("\n"));
        // A state that a flipped bit damaged is passed over for the one before it.
        if std::mem::take(&mut flipped) {
            kept.paused.clear();
        }
        kept.check(&out, &context());
        kept.look(&out);
    }
    let (code, told) = go_on(&folder, "t.jam", &mut log);
    assert_eq!(
        code,
        Some(0),
        "history {number}: {told}\n{}",
        log.join("\n")
    );
    let right = references.of(variant);
    for (name, bytes) in &made(&folder.join("runs/t")) {
        let all = log.join("\n");
        assert!(
            *bytes == right[name],
            "history {number}: {name} at the end\n{all}"
        );
    }
    // And everything is passed over from then on.
    let (code, told) = end(jamc(&folder, &["run", "t.jam", "--device", "cpu"], None));
    assert_eq!(
        (code, told.matches("done before").count()),
        (Some(0), 4),
        "{told}"
    );
}

#[test]
fn nothing_made_is_lost_in_any_history() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let mut references = References {
        home: tempfile::tempdir().unwrap(),
        known: BTreeMap::new(),
    };
    if let Some(one) = number("JAM_HISTORY") {
        return history(one, &mut references);
    }
    for one in 0..number("JAM_HISTORIES").unwrap_or(HISTORIES) {
        history(one, &mut references);
        if one % 25 == 24 {
            eprintln!("{} histories", one + 1);
        }
    }
}
