//! Damage to a built folder, and builds that are killed: nothing damaged loads, nothing half looks whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jam_data::tokens::text::TextTokenizer;
use jam_ir::Error;
use jam_ir::{Model, Plan, TokenLayout};
use jam_runtime::folders::{ModelDraft, ModelFolder, Tokenizers, write_model};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use jam_weights::checkpoints::{
    CheckpointReader, CheckpointWriter, Dtype, TensorSpec, WriteOptions,
};
use jam_weights::plans::{Limits, NoSources, WeightStream};
use jam_weights::progress::{Bar, Progress, Silent, Stop};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn model(fill: Plan) -> Model {
    let config = DecoderConfig::llama(TokenLayout::bare(50), 16, 16, 2, 2, 24);
    let mut model = decoder_only(&config);
    for weight in model.weights.values_mut() {
        weight.plan = fill.clone();
    }
    model
}

/// Writes a folder with everything that one may have: shards, an index, tokenizers, a mark.
fn build(model: &Model, tokenizers: Tokenizers, target: &Path, progress: &dyn Progress) {
    let draft = ModelDraft {
        model,
        source: "// a program",
        card: "# a model\n".to_owned(),
        tokenizers,
        files: vec![("step.key".to_owned(), b"0123\n".to_vec())],
        replace: true,
    };
    let stream = WeightStream::new(model, 3, &NoSources).unwrap();
    let mut write = |writer: &mut CheckpointWriter, bar: &mut dyn Bar| {
        stream.write(writer, Limits::default(), bar, &Stop::default())
    };
    let options = WriteOptions {
        shard_bytes: 6000,
        ..WriteOptions::default()
    };
    assert!(write_model(target, &draft, options, &mut write, progress).unwrap());
}

fn tokenizers(folder: &Path) -> PathBuf {
    let text = TextTokenizer::train(
        ["a red house", "a blue house"]
            .map(str::to_owned)
            .into_iter(),
        300,
    );
    text.unwrap().save(&folder.join("tokenizer.json")).unwrap();
    let specs = vec![TensorSpec::new("codebook", Dtype::F32, [8, 4])];
    let options = WriteOptions {
        checksums: false,
        ..WriteOptions::default()
    };
    let place = folder.join("codes");
    let mut writer = CheckpointWriter::create(&place, specs, options).unwrap();
    writer.append_f32("codebook", &[0.5; 32]).unwrap();
    writer.finish().unwrap();
    fs::rename(
        place.join("model.safetensors"),
        folder.join("vq.safetensors"),
    )
    .unwrap();
    fs::write(folder.join("vq.json"), "{}\n").unwrap();
    folder.to_owned()
}

/// Opens a folder and believes nothing.
fn load(folder: &Path) -> Result<ModelFolder, Error> {
    let opened = ModelFolder::open(folder)?;
    let mut names = opened.weights.tensors().keys();
    names.try_for_each(|name| opened.weights.verify(name))?;
    Ok(opened)
}

/// The built folder, the sound one opened, and its files with their bytes.
struct Built {
    _root: tempfile::TempDir,
    folder: PathBuf,
    sound: ModelFolder,
    files: Vec<(String, Vec<u8>)>,
}

fn built() -> Built {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    let made = root.path().join("made");
    fs::create_dir(&made).unwrap();
    let tokenizers = Tokenizers::of(&tokenizers(&made));
    build(
        &model(Plan::Normal { sd: 0.1 }),
        tokenizers,
        &folder,
        &Silent,
    );
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        files.push((name, fs::read(entry.path()).unwrap()));
    }
    files.sort();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in [
        "README.md",
        "checksums.json",
        "model-00001-of-00005.safetensors",
        "model.ir",
        "model.ron",
        "model.safetensors.index.json",
        "source.jam",
        "step.key",
        "tokenizer.json",
        "vq.json",
        "vq.safetensors",
    ] {
        assert!(names.contains(&wanted), "{wanted} is not in {names:?}");
    }
    let sound = load(&folder).unwrap();
    Built {
        _root: root,
        folder,
        sound,
        files,
    }
}

impl Built {
    /// Writes damaged bytes, loads, and puts the sound ones back; what the refusal must name.
    fn refusal(&self, name: &str, bytes: &[u8], sound: &[u8]) -> Option<String> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).unwrap();
        let refusal = load(&self.folder).err().map(|error| error.to_string());
        fs::write(&path, sound).unwrap();
        refusal
    }

    /// The tensor that has a byte of a file.
    fn tensor(&self, name: &str, byte: usize) -> Option<&str> {
        let mut tensors = self.sound.weights.tensors().iter();
        let found = tensors.find(|(_, info)| {
            info.file.file_name().is_some_and(|file| file == name)
                && info.range.contains(&(byte as u64))
        });
        found.map(|(name, _)| name.as_str())
    }
}

#[test]
fn every_flipped_bit_is_found_and_its_tensor_or_file_named() {
    let built = built();
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut hit = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..1000 {
        // Half of them anywhere in the files, half anywhere in the bytes.
        let total: usize = built.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut place = random.random_range(0..total);
        let (name, sound) = if round % 2 == 0 {
            &built.files[random.random_range(0..built.files.len())]
        } else {
            let mut files = built.files.iter();
            files
                .find(|(_, bytes)| {
                    let here = place < bytes.len();
                    if !here {
                        place -= bytes.len();
                    }
                    here
                })
                .unwrap()
        };
        let (byte, bit) = (
            random.random_range(0..sound.len()),
            random.random_range(0..8),
        );
        let mut bytes = sound.clone();
        bytes[byte] ^= 1 << bit;
        let refusal = built.refusal(name, &bytes, sound);
        let refusal = refusal.unwrap_or_else(|| panic!("bit {bit} of byte {byte} of {name}"));
        let named = match built.tensor(name, byte) {
            Some(tensor) => format!("`{tensor}`"),
            None => name.clone(),
        };
        assert!(
            refusal.contains(&named),
            "{named}, bit {bit} of byte {byte}: {refusal}"
        );
        *hit.entry(name.clone()).or_default() += 1;
    }
    assert_eq!(hit.len(), built.files.len(), "every file was hit: {hit:?}");
    load(&built.folder).unwrap();
}

#[test]
fn every_truncation_is_found_and_its_file_named() {
    let built = built();
    let mut random = ChaCha8Rng::seed_from_u64(21);
    for round in 0..100 {
        let (name, sound) = &built.files[round % built.files.len()];
        let keep = random.random_range(0..sound.len());
        let refusal = built.refusal(name, &sound[..keep], sound);
        let refusal = refusal.unwrap_or_else(|| panic!("{keep} bytes of {name}"));
        assert!(
            refusal.contains(name.as_str()),
            "{keep} bytes of {name}: {refusal}"
        );
    }
    load(&built.folder).unwrap();
}

/// Ends the process at the n-th step of a build: as its progress, and as the bar of a piece of work.
struct Killing(Arc<AtomicUsize>);

impl Progress for Killing {
    fn begin(&self, _: &str, _: u64) -> Box<dyn Bar> {
        Box::new(Killing(self.0.clone()))
    }

    fn note(&self, _: &str) {}
}

impl Bar for Killing {
    fn at(&mut self, _: u64, _: &str) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}

const KILL: &str = "JAM_TEST_KILL_AT";
const PLACE: &str = "JAM_TEST_PLACE";

/// Not a test by itself: what the next one runs and kills.
#[test]
fn a_build_to_be_killed() {
    let (Ok(kill), Some(place)) = (std::env::var(KILL), std::env::var_os(PLACE)) else {
        return;
    };
    let killing = Killing(Arc::new(AtomicUsize::new(kill.parse().unwrap())));
    build(
        &model(Plan::Ones),
        Tokenizers::default(),
        &Path::new(&place).join("model"),
        &killing,
    );
}

/// The folder of an image tokenizer may be that of a whole model, with a text tokenizer of its own.
#[test]
fn a_model_has_its_own_text_tokenizer_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    let [text, pictures, target] = ["text", "pictures", "model"].map(|name| root.path().join(name));
    for folder in [&text, &pictures] {
        fs::create_dir(folder).unwrap();
        tokenizers(folder);
    }
    fs::write(pictures.join("tokenizer.json"), "another").unwrap();
    fs::write(text.join("vq.json"), "another").unwrap();
    let own = Tokenizers {
        text: Some(text.clone()),
        image: Some(pictures.clone()),
    };
    build(&model(Plan::Zeros), own, &target, &Silent);
    for (folder, name) in [(&text, "tokenizer.json"), (&pictures, "vq.json")] {
        let [wanted, found] = [folder, &target].map(|folder| fs::read(folder.join(name)).unwrap());
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn a_killed_build_leaves_nothing_that_looks_whole() {
    let this = std::env::current_exe().unwrap();
    let run = |place: &Path, kill: usize| {
        let mut command = Command::new(&this);
        command.args(["--exact", "a_build_to_be_killed"]);
        let ran = command
            .env(KILL, kill.to_string())
            .env(PLACE, place)
            .output()
            .unwrap();
        ran.status.success()
    };
    for old in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("model");
        if old {
            build(&model(Plan::Zeros), Tokenizers::default(), &target, &Silent);
        }
        let mut points = 0;
        for kill in 1.. {
            if run(root.path(), kill) {
                break;
            }
            points += 1;
            // What was there is there; what is new is not, under any name.
            for entry in fs::read_dir(root.path()).unwrap() {
                let path = entry.unwrap().path();
                if path == target {
                    let there = load(&path).unwrap();
                    assert_eq!(there.weights.read_f32("embed.table").unwrap()[0], 0.0);
                } else {
                    assert!(ModelFolder::open(&path).is_err(), "point {kill}: {path:?}");
                    assert!(
                        CheckpointReader::open(&path).is_err(),
                        "point {kill}: {path:?}"
                    );
                }
            }
            assert_eq!(target.exists(), old, "point {kill}");
        }
        // A run for each weight, the flush, the checksums, the name.
        assert!(points > 20, "{points}");
        let there = load(&target).unwrap();
        assert_eq!(there.weights.read_f32("embed.table").unwrap()[0], 1.0);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
        assert_eq!(
            left.len(),
            1,
            "the next build removes what was left: {left:?}"
        );
    }
}
