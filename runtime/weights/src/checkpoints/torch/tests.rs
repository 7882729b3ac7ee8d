//! Files of torch: what its own writer makes is read, and what is hostile is refused, for a reason.

use std::fs;
use std::path::PathBuf;

use super::super::{CheckpointReader, Dtype};
use super::pickle;

/// A zip of stored files, as torch writes it; `change` may damage its records.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Zip {
    fn add(&mut self, name: &str, data: &[u8]) {
        let at = self.bytes.len();
        self.entry(name, at, 0, data.len() as u32, data.len() as u32);
        let mut local = vec![0; 30];
        local[..4].copy_from_slice(b"PK\x03\x04");
        local[26..28].copy_from_slice(&(name.len() as u16).to_le_bytes());
        self.bytes.extend(local);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(data);
    }

    fn entry(&mut self, name: &str, at: usize, method: u16, stored: u32, size: u32) {
        let mut entry = vec![0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[10..12].copy_from_slice(&method.to_le_bytes());
        entry[20..24].copy_from_slice(&stored.to_le_bytes());
        entry[24..28].copy_from_slice(&size.to_le_bytes());
        entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
        entry[42..46].copy_from_slice(&(at as u32).to_le_bytes());
        self.directory.extend(entry);
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let start = self.bytes.len() as u32;
        let mut end = vec![0; 22];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[10..12].copy_from_slice(&self.count.to_le_bytes());
        end[12..16].copy_from_slice(&(self.directory.len() as u32).to_le_bytes());
        end[16..20].copy_from_slice(&start.to_le_bytes());
        self.bytes.extend(self.directory);
        self.bytes.extend(end);
        self.bytes
    }
}

/// Instructions of a pickle.
#[derive(Default)]
struct Program(Vec<u8>);

impl Program {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    fn int(self, number: i32) -> Self {
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    fn ints(self, numbers: &[i32]) -> Self {
        let with = |program: Self, n: &i32| program.int(*n);
        numbers.iter().fold(self.raw(b"("), with).raw(b"t")
    }

    /// A tensor of a storage.
    fn tensor(
        self,
        kind: &str,
        storage: &str,
        elements: i32,
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> Self {
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage")
            .raw(format!("ctorch\n{kind}\n").as_bytes())
            .text(storage)
            .text("cpu")
            .int(elements)
            .raw(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }
}

/// A dictionary of one tensor `w` [2, 3].
fn plain() -> Program {
    let start = Program::default().raw(b"\x80\x02}(").text("w");
    start
        .tensor("FloatStorage", "0", 6, 0, &[2, 3], &[3, 1])
        .raw(b"u.")
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let mut zip = Zip::default();
    zip.add("a/data.pkl", pickle);
    zip.add("a/byteorder", b"little");
    zip.add("a/data/0", &data);
    zip.finish()
}

fn open(bytes: &[u8]) -> crate::Result<(tempfile::TempDir, CheckpointReader)> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    let reader = CheckpointReader::open(folder.path())?;
    Ok((folder, reader))
}

fn refused(bytes: &[u8], reason: &str) {
    let error = open(bytes).map(|_| ()).unwrap_err();
    assert!(error.message.contains(reason), "{reason}: {error}");
}

#[test]
fn a_tensor_is_a_range_of_its_storage() {
    let (_folder, reader) = open(&archive(&plain().0)).unwrap();
    let info = reader.tensor("w").unwrap();
    assert_eq!((info.dtype, &info.shape[..]), (Dtype::F32, &[2, 3][..]));
    assert_eq!(
        reader.read_f32("w").unwrap(),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    );
    let parts = Program::default()
        .raw(b"\x80\x02ccollections\nOrderedDict\n)R(")
        .text("b")
        .tensor("FloatStorage", "0", 6, 4, &[2], &[1])
        .text("a")
        .tensor("FloatStorage", "0", 6, 1, &[1, 3], &[99, 1])
        .raw(b"u}")
        .text("_metadata")
        .raw(b"}sb.");
    let (_folder, reader) = open(&archive(&parts.0)).unwrap();
    let names: Vec<&String> = reader.tensors().keys().collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(reader.read_f32("a").unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(reader.read_f32("b").unwrap(), [4.0, 5.0]);
}

#[test]
fn what_would_be_executed_is_refused() {
    for (program, reason) in [
        (
            &b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..],
            "`os.system`",
        ),
        (b"\x80\x02cbuiltins\neval\n.", "`builtins.eval`"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "`os.system`"),
        (b"\x80\x02ctorch\nload\n.", "`torch.load`"),
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor\n.",
            "`torch._utils._rebuild_tensor`",
        ),
        (b"(ios\nsystem\n.", "instruction 0x69"),
        (b"\x80\x02}\x81.", "instruction 0x81"),
        (
            b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
            "other arguments",
        ),
        (b"\x80\x02N.", "no dictionary"),
        (b"\x80\x02}(K\x01Nu.", "no name"),
        (b"\x80\x02}X\x01\x00\x00\x00wNs.", "`w`, which is no tensor"),
        (b"\x80\x02K\x01Q.", "no storage"),
        (b"\x80\x02h\x07.", "never memorized"),
        (b"\x80\x02}(", "cut"),
        (b"", "cut"),
        (b"X\xff\xff\xff\xff", "cut"),
        (b"\x80\x02K\x01R.", "cut"),
    ] {
        refused(&archive(program), reason);
    }
}

#[test]
fn small_programs_do_not_grow() {
    // A tuple of two of the last one, again and again: shared, and counted.
    let doubling = Program::default()
        .raw(b"\x80\x02)")
        .raw(&b"q\x00h\x00\x86".repeat(400_000));
    assert!(pickle::tensors(&doubling.0).unwrap_err().contains("values"));
    let marks = vec![b'('; 1_000_000];
    assert!(pickle::tensors(&marks).unwrap_err().contains("values"));
    let deep = [&b")"[..], &b"\x85".repeat(250_000)].concat();
    assert!(pickle::tensors(&deep).is_err());
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let with = |kind: &str, elements, offset, shape: &[i32], strides: &[i32]| {
        let start = Program::default().raw(b"\x80\x02}(").text("w");
        let program = start.tensor(kind, "0", elements, offset, shape, strides);
        archive(&program.raw(b"u.").0)
    };
    refused(
        &with("FloatStorage", 6, 1, &[2, 3], &[3, 1]),
        "needs 24 bytes from 4 on",
    );
    refused(
        &with("FloatStorage", 7, 0, &[2], &[1]),
        "of a storage that has 24",
    );
    refused(
        &with("DoubleStorage", 6, 0, &[2], &[1]),
        "of a storage that has 24",
    );
    refused(
        &with("FloatStorage", 6, 0, &[3, 2], &[1, 3]),
        "strides [1, 3]",
    );
    refused(
        &with("FloatStorage", 6, 0, &[3, 2], &[0, 0]),
        "strides [0, 0]",
    );
    refused(&with("FloatStorage", 6, -1, &[2], &[1]), "no numbers");
    refused(&with("FloatStorage", 6, 0, &[-2], &[1]), "no numbers");
    let huge = [i32::MAX, i32::MAX, i32::MAX];
    refused(&with("FloatStorage", 6, 0, &huge, &[1, 1, 1]), "64 bits");
    refused(
        &with("QInt8Storage", 6, 0, &[2], &[1]),
        "`torch.QInt8Storage`",
    );
    let start = Program::default().raw(b"\x80\x02}(").text("w");
    let away = start
        .tensor("FloatStorage", "../../x", 6, 0, &[2], &[1])
        .raw(b"u.");
    refused(&archive(&away.0), "which is not there");
    let twice = Program::default()
        .raw(b"\x80\x02}(")
        .text("w")
        .tensor("FloatStorage", "0", 6, 0, &[2], &[1])
        .text("w")
        .tensor("FloatStorage", "0", 6, 0, &[2], &[1])
        .raw(b"u.");
    refused(&archive(&twice.0), "`w` twice");
}

#[test]
fn archives_that_lie_are_refused() {
    let whole = archive(&plain().0);
    for cut in [4, 30, whole.len() / 2, whole.len() - 1] {
        assert!(open(&whole[..cut]).is_err(), "{cut}");
    }
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.entry("a/data/0", 0, 8, 100, 1_000_000_000);
    refused(&zip.finish(), "compressed");
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.entry("a/data/0", 0, 0, 24, 24);
    refused(&zip.finish(), "called otherwise");
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.entry("a/data.pkl", 0, 0, 4, 4);
    refused(&zip.finish(), "twice");
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.entry("a/data/0", 0, 0, 24, 25);
    refused(&zip.finish(), "two sizes");
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    let inside = zip.bytes.len();
    zip.add("a/data/0", &[0; 24]);
    // A second header inside the first file's bytes.
    zip.bytes[inside + 38..inside + 42].copy_from_slice(b"PK\x03\x04");
    zip.bytes[inside + 42..inside + 62].fill(0);
    zip.entry("", inside + 38, 0, 4, 4);
    let lies = open(&zip.finish());
    assert!(lies.is_err());
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.add("b/data.pkl", &plain().0);
    refused(&zip.finish(), "no `data.pkl`, or several");
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &plain().0);
    zip.add("a/byteorder", b"big");
    zip.add("a/data/0", &[0; 24]);
    refused(&zip.finish(), "little-endian");
    let mut many = archive(&plain().0);
    let end = many.len() - 22;
    many[end + 10..end + 12].copy_from_slice(&10_000u16.to_le_bytes());
    refused(&many, "cut short");
    many[end + 10..end + 12].copy_from_slice(&60_000u16.to_le_bytes());
    refused(&many, "claims 60000 files");
    let mut legacy = super::LEGACY.to_vec();
    legacy.extend([0; 100]);
    refused(&legacy, "before version 1.6");
    let mut long = Zip::default();
    long.add("a/data.pkl", &vec![b'N'; 8_000_001]);
    refused(&long.finish(), "more than 8000000");
}

/// Every byte of a small archive changed, one at a time: never a panic, and what opens is a tensor of the file.
#[test]
fn changed_bytes_never_panic() {
    let whole = archive(&plain().0);
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let Ok((_folder, reader)) = open(&bytes) else {
                continue;
            };
            for info in reader.tensors().values() {
                assert!(info.range.end <= bytes.len() as u64);
            }
        }
    }
}

/// The checkpoint that torch itself wrote holds the tensors of the safetensors file beside it.
#[test]
fn golden_files_hold_the_same_tensors() {
    let golden = std::env::var_os("JAM_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"),
        PathBuf::from,
    );
    let mut count = 0;
    let parents = fs::read_dir(golden.join("parents"));
    for folder in parents.into_iter().flatten() {
        let folder = folder.unwrap().path();
        let [torch, other] = ["pytorch_model.bin", "model.safetensors"].map(|n| folder.join(n));
        if !(torch.is_file() && other.is_file()) {
            continue;
        }
        let [torch, other] = [torch, other].map(|file| CheckpointReader::open(file).unwrap());
        for (name, info) in other.tensors() {
            let found = torch.tensor(name).unwrap();
            assert_eq!(
                (&found.shape, found.dtype),
                (&info.shape, info.dtype),
                "{name}"
            );
            let all = 0..info.elements();
            assert_eq!(
                torch.read_bytes(name, all.clone()).unwrap(),
                other.read_bytes(name, all).unwrap(),
                "{name}"
            );
        }
        count += 1;
    }
    if count == 0 {
        eprintln!("left out: no pytorch_model.bin in {}", golden.display());
    }
}
