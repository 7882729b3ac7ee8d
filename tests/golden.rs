//! Numbers that other software computed: every case of a folder (`tests/golden`, or `$JAM_GOLDEN`).
//!
//! A case is a folder with a `case.json`; it says what kind it is of, and there is no list of cases
//! here. A kind is a function and a line in [`KINDS`]. What ran, how far it was off, and what was left
//! out and why goes to the terminal (`cargo test --release --test golden`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[path = "golden_support/case.rs"]
mod case;
#[path = "golden_support/lm_eval.rs"]
mod lm_eval;
#[path = "golden_support/merges.rs"]
mod merges;
#[path = "golden_support/models.rs"]
mod models;
#[path = "golden_support/names.rs"]
mod names;
#[path = "golden_support/packed.rs"]
mod packed;
#[path = "golden_support/runs.rs"]
mod runs;
#[path = "golden_support/vq.rs"]
mod vq;

use case::{Case, Checked, Findings, Stop};

/// Runs a case of one kind.
type Run = fn(&Case, &mut Findings) -> Checked<()>;

/// Every kind that is known.
const KINDS: [(&str, Run); 5] = [
    ("fusion", models::fusion),
    ("lm_eval", lm_eval::lm_eval),
    ("merge", merges::merge),
    ("parent", models::parent),
    ("vq", vq::vq),
];

/// What became of a case.
enum Outcome {
    Ran(Findings),
    LeftOut(String),
}

/// Where the cases lie.
fn root() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("JAM_GOLDEN").map_or_else(own, PathBuf::from)
}

/// Every folder below `root` with a `case.json`, in the order of their names.
fn cases(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folders.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_dir()),
        );
        if folder.join("case.json").is_file() {
            found.push(folder);
        }
    }
    found.sort();
    found
}

fn run(case: &Case) -> Outcome {
    let known = KINDS.iter().find(|(kind, _)| *kind == case.kind());
    let Some((_, run)) = known else {
        return Outcome::LeftOut(format!("kind `{}` is not known", case.kind()));
    };
    let mut findings = Findings::default();
    match run(case, &mut findings) {
        Err(Stop::LeftOut(reason)) => return Outcome::LeftOut(reason),
        Err(Stop::Wrong(reason)) => findings.wrong.push(reason),
        Ok(()) => {}
    }
    Outcome::Ran(findings)
}

/// Tells it past the capture of test output.
fn tell(line: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{line}");
}

#[test]
fn every_case_of_the_folder() {
    let root = root();
    let folders = cases(&root);
    assert!(!folders.is_empty(), "no case.json below {}", root.display());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut left_out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut failed = Vec::new();
    tell(&format!("cases in {}:", root.display()));
    for folder in folders {
        let case = Case::open(&folder, &root).unwrap();
        let start = Instant::now();
        match run(&case) {
            Outcome::LeftOut(reason) => left_out.entry(reason).or_default().push(case.label),
            Outcome::Ran(findings) => {
                let seconds = start.elapsed().as_secs_f64();
                tell(&format!("  {} ({seconds:.1} s): {findings}", case.label));
                for (why, what) in &findings.passed_over {
                    tell(&format!("    not compared, {why}: {}", what.join(", ")));
                }
                for wrong in &findings.wrong {
                    tell(&format!("    WRONG {wrong}"));
                }
                *counts.entry(case.kind().to_owned()).or_default() += 1;
                if !findings.wrong.is_empty() {
                    failed.push(case.label);
                }
            }
        }
    }
    for (reason, labels) in &left_out {
        tell(&format!("  left out, {reason}: {}", labels.join(", ")));
    }
    let ran: usize = counts.values().sum();
    let counts: Vec<String> = counts
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let left_out: usize = left_out.values().map(Vec::len).sum();
    tell(&format!(
        "golden: {ran} cases ran ({}), {} of them failed, {left_out} were left out",
        counts.join(", "),
        failed.len()
    ));
    assert!(
        failed.is_empty(),
        "these cases failed: {}",
        failed.join(", ")
    );
}

/// What a file stores as one tensor is merged as one, whatever it is here: every merge of the folder whose
/// parents are LLaMA's, on tensors that are packed as GPT-2's are.
#[test]
fn what_is_stored_as_one_is_merged_as_one() {
    let root = root();
    let (mut ran, mut failed) = (Vec::new(), Vec::new());
    for folder in cases(&root) {
        let case = Case::open(&folder, &root).unwrap();
        // Layers that are stacked are merged with none; parts of a layer have settings of their own there.
        let other = ["passthrough", "slerp_gradient", "linear_gradient"];
        if case.kind() != "merge" || other.iter().any(|end| case.label.ends_with(end)) {
            continue;
        }
        let place = tempfile::tempdir().unwrap();
        let mut findings = Findings::default();
        match packed::packed(&case, place.path(), &mut findings) {
            Ok(()) if findings.is_empty() => continue, // Its layers are not LLaMA's.
            Ok(()) => {}
            Err(Stop::LeftOut(_)) => continue,
            Err(Stop::Wrong(reason)) => findings.wrong.push(reason),
        }
        tell(&format!("  {} packed: {findings}", case.label));
        for wrong in &findings.wrong {
            tell(&format!("    WRONG {wrong}"));
        }
        if !findings.wrong.is_empty() {
            failed.push(case.label.clone());
        }
        ran.push(case.label);
    }
    assert!(failed.is_empty(), "these failed: {}", failed.join(", "));
    assert!(ran.len() >= 5, "too few ran: {}", ran.join(", "));
}

/// Size of a folder's own files.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// Adds to the first number of a float tensor of a safetensors file.
fn damage(path: &Path, tensor: &str) {
    let mut file = fs::read(path).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let start = json[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let place = 8 + header + start;
    match json[tensor]["dtype"].as_str().unwrap() {
        "F32" => {
            let number = f32::from_le_bytes(file[place..place + 4].try_into().unwrap()) + 0.1;
            file[place..place + 4].copy_from_slice(&number.to_le_bytes());
        }
        "I64" => file[place] ^= 1,
        dtype => panic!("{tensor} is {dtype}"),
    }
    fs::write(path, file).unwrap();
}

/// Names of the tensors of a file.
fn tensors(path: &Path) -> Vec<String> {
    let file = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

/// Where numbers stand in a JSON value: of every list the first entry, and nothing that only names a document or
/// that no measure gives.
fn first_numbers(json: &serde_json::Value) -> Vec<String> {
    let passed_over = ["doc_id", "acc_bytes", "acc_mutual_info"];
    let mut found = Vec::new();
    let mut places = vec![(String::new(), json)];
    while let Some((pointer, value)) = places.pop() {
        match value {
            serde_json::Value::Number(_) => found.push(pointer),
            serde_json::Value::Array(values) => {
                places.extend(values.first().map(|value| (format!("{pointer}/0"), value)));
            }
            serde_json::Value::Object(fields) => {
                let read = |key: &str| !passed_over.iter().any(|name| key.starts_with(name));
                let fields = fields.iter().filter(|(key, _)| read(key));
                places.extend(fields.map(|(key, value)| (format!("{pointer}/{key}"), value)));
            }
            _ => {}
        }
    }
    found
}

/// Copies the models that a case finds beside its folder.
fn copy_models_beside(case: &Path, to: &Path) {
    for entry in fs::read_dir(case.parent().unwrap()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").is_file() || folder.join("case.json").is_file() {
            continue;
        }
        let copy = to.join(folder.file_name().unwrap());
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
}

/// One changed number in what a case expects, or in a weight that a strategy plans, makes it fail:
/// tried on the smallest case of every kind that runs, one tensor after the other.
#[test]
fn a_changed_number_is_found() {
    let root = root();
    let mut smallest: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
    for folder in cases(&root) {
        let case = Case::open(&folder, &root).unwrap();
        let size = bytes(&folder);
        let known = KINDS.iter().any(|(kind, _)| *kind == case.kind());
        let least = smallest
            .get(case.kind())
            .is_none_or(|(least, _)| size < *least);
        if known && least && matches!(run(&case), Outcome::Ran(_)) {
            smallest.insert(case.kind().to_owned(), (size, folder));
        }
    }
    for (_, folder) in smallest.values() {
        let case = Case::open(folder, &root).unwrap();
        let group = tempfile::tempdir().unwrap();
        copy_models_beside(folder, group.path());
        let copy = group.path().join("case");
        fs::create_dir(&copy).unwrap();
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
        if let Some(parents) = json["parents"].as_array_mut() {
            for parent in parents {
                let path = folder
                    .join(parent.as_str().unwrap())
                    .canonicalize()
                    .unwrap();
                *parent = serde_json::Value::from(path.to_str().unwrap());
            }
        }
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let place = copy.join(path.file_name().unwrap());
            if path.is_file() {
                fs::copy(&path, place).unwrap();
                continue;
            }
            // A folder inside, such as the model of `lm_eval`, holds files alone.
            fs::create_dir(&place).unwrap();
            for entry in fs::read_dir(&path).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, place.join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::write(copy.join("case.json"), json.to_string()).unwrap();
        let mut tried = 0;
        let expected = ["expected.safetensors", "expected_logits.safetensors"];
        for file in expected.into_iter().chain(["model.safetensors"]) {
            let path = copy.join(file);
            if !path.is_file() {
                continue;
            }
            let whole = fs::read(&path).unwrap();
            if ["parent", "vq"].contains(&case.kind()) && file == "model.safetensors" {
                continue; // Its weights are not planned; what they give is in the other file.
            }
            for tensor in tensors(&path)
                .iter()
                .filter(|name| !name.contains("hidden"))
            {
                damage(&path, tensor);
                let changed = Case::open(&copy, &root).unwrap();
                match run(&changed) {
                    Outcome::Ran(findings) if findings.wrong.is_empty() => {
                        panic!(
                            "{}: nothing notices a change of {file} {tensor}",
                            case.label
                        );
                    }
                    Outcome::Ran(_) => tried += 1,
                    Outcome::LeftOut(reason) => panic!("{}: {reason}", case.label),
                }
                fs::write(&path, &whole).unwrap();
            }
        }
        let path = copy.join("expected.json");
        if path.is_file() {
            let whole = fs::read(&path).unwrap();
            let expected: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            for pointer in first_numbers(&expected) {
                let mut changed = expected.clone();
                let number = changed.pointer_mut(&pointer).unwrap();
                *number = match number.as_u64() {
                    Some(count) => serde_json::Value::from(count + 1),
                    None => serde_json::Value::from(number.as_f64().unwrap() + 1.0),
                };
                fs::write(&path, changed.to_string()).unwrap();
                let changed = Case::open(&copy, &root).unwrap();
                match run(&changed) {
                    Outcome::Ran(findings) if findings.wrong.is_empty() => {
                        panic!("{}: nothing notices a change of {pointer}", case.label);
                    }
                    Outcome::Ran(_) => tried += 1,
                    Outcome::LeftOut(reason) => panic!("{}: {reason}", case.label),
                }
            }
            fs::write(&path, &whole).unwrap();
        }
        assert!(tried > 3, "{}: {tried} changes were tried", case.label);
    }
}
