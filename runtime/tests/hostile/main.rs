//! Folders that lie: every one is refused with a reason, and takes little memory for it.
//!
//! Time is not asserted (machines differ); `HOSTILE_TIMES=1` prints the slowest cases.

mod records;
mod safetensors;
mod torch;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use jam_runtime::folders::ModelFolder;
use jam_weights::checkpoints::import::{ImportedConfig, open_weights};
use jam_weights::checkpoints::{CheckpointReader, Checksums, verify_files};

/// Most bytes that refusing may take at once.
const MEMORY: usize = 64 << 20;

/// The system's allocator, counting what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a folder is opened as.
#[derive(Clone, Copy, Debug)]
enum As {
    /// A checkpoint, every tensor read.
    Checkpoint,
    /// The weights of a Hugging Face folder.
    Weights,
    /// A configuration.
    Config,
    /// A list of checksums.
    Files,
    /// A model that stands alone.
    Model,
}

impl As {
    /// The reason for a refusal; none when it was taken.
    fn refusal(self, folder: &Path) -> Option<String> {
        let result = match self {
            As::Checkpoint => CheckpointReader::open(folder).and_then(|reader| {
                let names: Vec<String> = reader.tensors().keys().cloned().collect();
                names
                    .iter()
                    .try_for_each(|name| reader.read_bytes(name, 0..1).map(drop))
            }),
            As::Weights => open_weights(folder).map(drop),
            As::Config => ImportedConfig::read(folder).map(drop),
            As::Files => verify_files(folder),
            As::Model => {
                // Without a list of checksums nothing else would be looked at.
                let mut list = Checksums::default();
                list.algorithm.push_str("blake3");
                let sealed = list.save(folder);
                sealed.and_then(|()| ModelFolder::open(folder).map(drop))
            }
        };
        result.err().map(|error| error.to_string())
    }
}

struct Case {
    name: String,
    open: As,
    make: Box<dyn Fn(&Path)>,
    /// A part of the reason.
    reason: &'static str,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        name: impl Into<String>,
        open: As,
        reason: &'static str,
        make: impl Fn(&Path) + 'static,
    ) {
        self.0.push(Case {
            name: name.into(),
            open,
            make: Box::new(make),
            reason,
        });
    }

    /// A header, with so many bytes of data after it.
    fn header(&mut self, reason: &'static str, header: impl Into<Vec<u8>>, data: u64) {
        let header: Vec<u8> = header.into();
        let shown: String = String::from_utf8_lossy(&header).chars().take(60).collect();
        self.add(
            format!("header {shown}"),
            As::Checkpoint,
            reason,
            move |folder| {
                checkpoint(folder, "model.safetensors", &header, data);
            },
        );
    }

    /// An index beside one sound shard `a.safetensors`, which holds `a` and `b`.
    fn index(&mut self, reason: &'static str, text: impl Into<Vec<u8>>) {
        let text: Vec<u8> = text.into();
        let shown: String = String::from_utf8_lossy(&text).chars().take(60).collect();
        self.add(
            format!("index {shown}"),
            As::Checkpoint,
            reason,
            move |folder| {
                checkpoint(folder, "a.safetensors", SOUND, 8);
                fs::write(folder.join("model.safetensors.index.json"), &text).unwrap();
            },
        );
    }

    /// A list of checksums beside a sound checkpoint of `a` and `b`.
    fn checksums(&mut self, open: As, reason: &'static str, text: impl Into<Vec<u8>>) {
        let text: Vec<u8> = text.into();
        let shown: String = String::from_utf8_lossy(&text).chars().take(60).collect();
        self.add(format!("checksums {shown}"), open, reason, move |folder| {
            checkpoint(folder, "model.safetensors", SOUND, 8);
            fs::write(folder.join("checksums.json"), &text).unwrap();
        });
    }

    fn config(&mut self, reason: &'static str, text: impl Into<Vec<u8>>) {
        let text: Vec<u8> = text.into();
        let shown: String = String::from_utf8_lossy(&text).chars().take(60).collect();
        self.add(
            format!("config {shown}"),
            As::Config,
            reason,
            move |folder| {
                fs::write(folder.join("config.json"), &text).unwrap();
            },
        );
    }

    fn model(&mut self, reason: &'static str, text: impl Into<Vec<u8>>) {
        let text: Vec<u8> = text.into();
        let shown: String = String::from_utf8_lossy(&text).chars().take(60).collect();
        self.add(format!("model {shown}"), As::Model, reason, move |folder| {
            checkpoint(folder, "model.safetensors", SOUND, 8);
            fs::write(folder.join("model.ron"), &text).unwrap();
        });
    }
}

/// Two tensors of one number each.
const SOUND: &[u8] = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;

/// A file with this header and so many bytes of data, most of which the disk never sees.
fn checkpoint(folder: &Path, name: &str, header: &[u8], data: u64) {
    let path = folder.join(name);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 + data).unwrap();
}

/// `count` entries, joined by commas.
fn many(count: usize, entry: impl Fn(usize) -> String) -> String {
    (0..count).map(entry).collect::<Vec<_>>().join(",")
}

#[test]
fn every_hostile_input_is_refused_with_a_reason_in_little_memory() {
    let mut cases = Cases::default();
    safetensors::headers(&mut cases);
    safetensors::indices(&mut cases);
    #[cfg(unix)]
    safetensors::links(&mut cases);
    torch::pickles(&mut cases);
    torch::archives(&mut cases);
    torch::llama2c(&mut cases);
    records::checksums(&mut cases);
    records::configurations(&mut cases);
    records::models(&mut cases);
    assert!(cases.0.len() >= 100, "{} cases", cases.0.len());
    let (mut wrong, mut slowest) = (Vec::new(), Vec::new());
    for case in &cases.0 {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        fs::create_dir(&folder).unwrap();
        (case.make)(&folder);
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let begun = Instant::now();
        let refusal = case.open.refusal(&folder);
        let took = begun.elapsed();
        let memory = MOST.load(Ordering::Relaxed).saturating_sub(before);
        match refusal {
            None => wrong.push(format!("{} is taken", case.name)),
            Some(reason) if !reason.contains(case.reason) || reason.len() > 2000 => {
                let reason: String = reason.chars().take(300).collect();
                wrong.push(format!("{}: {reason}", case.name));
            }
            Some(_) if memory > MEMORY => {
                wrong.push(format!("{} takes {memory} bytes", case.name));
            }
            Some(_) => {}
        }
        slowest.push((took, memory, &case.name));
    }
    if std::env::var_os("HOSTILE_TIMES").is_some() {
        slowest.sort_by_key(|(took, ..)| std::cmp::Reverse(*took));
        eprintln!("{} cases", cases.0.len());
        for (took, memory, name) in slowest.iter().take(8) {
            eprintln!("{took:?} {} MiB {name}", memory >> 20);
        }
        let most = slowest.iter().map(|(_, memory, _)| memory).max();
        eprintln!("most memory: {} bytes", most.unwrap());
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
