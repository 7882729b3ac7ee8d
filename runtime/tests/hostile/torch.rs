//! Files of torch and of llama2.c that lie: pickles that would run something, archives that are bombs or point
//! elsewhere, sizes that no file has.

use std::fs;
use std::path::Path;

use super::{As, Cases};

/// A zip of stored files, as torch writes it; what its directory tells may differ from what is there.
#[derive(Clone, Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Zip {
    fn add(mut self, name: &str, data: &[u8]) -> Zip {
        let (at, size) = (self.bytes.len(), data.len() as u32);
        let mut local = vec![0; 30];
        local[..4].copy_from_slice(b"PK\x03\x04");
        local[26..28].copy_from_slice(&(name.len() as u16).to_le_bytes());
        self.bytes.extend(local);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(data);
        self.tell(name, at, 0, size, size)
    }

    /// An entry of the directory alone: header at `at`, method, bytes stored, bytes unpacked.
    fn tell(mut self, name: &str, at: usize, method: u16, stored: u32, size: u32) -> Zip {
        let mut entry = vec![0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[10..12].copy_from_slice(&method.to_le_bytes());
        entry[20..24].copy_from_slice(&stored.to_le_bytes());
        entry[24..28].copy_from_slice(&size.to_le_bytes());
        entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
        entry[42..46].copy_from_slice(&(at as u32).to_le_bytes());
        self.directory.extend(entry);
        self.directory.extend(name.as_bytes());
        self.count = self.count.wrapping_add(1);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let mut end = vec![0; 22];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[10..12].copy_from_slice(&self.count.to_le_bytes());
        end[12..16].copy_from_slice(&(self.directory.len() as u32).to_le_bytes());
        end[16..20].copy_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        self.bytes.extend(self.directory);
        self.bytes.extend(end);
        self.bytes
    }
}

/// Instructions of a pickle.
#[derive(Clone, Default)]
struct Program(Vec<u8>);

impl Program {
    fn raw(mut self, bytes: &[u8]) -> Program {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Program {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    fn int(self, number: i32) -> Program {
        self.raw(b"J").raw(&number.to_le_bytes())
    }

    fn ints(self, numbers: &[i32]) -> Program {
        let start = self.raw(b"(");
        numbers.iter().fold(start, |p, n| p.int(*n)).raw(b"t")
    }

    /// A storage of so many f32.
    fn storage(self, name: &str, elements: i32) -> Program {
        self.raw(b"(")
            .text("storage")
            .raw(b"ctorch\nFloatStorage\n")
            .text(name)
            .text("cpu")
            .int(elements)
            .raw(b"tQ")
    }

    /// A tensor of a storage: name, elements, offset, shape, strides.
    fn tensor(
        self,
        storage: &str,
        elements: i32,
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> Program {
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n(")
            .storage(storage, elements)
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }
}

/// A dictionary of one tensor.
fn dictionary(name: &str, storage: &str, elements: i32, offset: i32, shape: &[i32]) -> Vec<u8> {
    let mut strides = vec![1i32; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].wrapping_mul(shape[axis]);
    }
    let start = Program::default().raw(b"\x80\x02}(").text(name);
    start
        .tensor(storage, elements, offset, shape, &strides)
        .raw(b"u.")
        .0
}

/// The archive of this pickle, with a storage `0` of six numbers.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let zip = Zip::default().add("a/data.pkl", pickle);
    zip.add("a/data/0", &[0; 24]).finish()
}

impl Cases {
    fn torch(&mut self, name: &str, reason: &'static str, bytes: Vec<u8>) {
        self.add(
            format!("torch: {name}"),
            As::Checkpoint,
            reason,
            move |folder| {
                fs::write(folder.join("pytorch_model.bin"), &bytes).unwrap();
            },
        );
    }

    fn pickle(&mut self, name: &str, reason: &'static str, pickle: &[u8]) {
        self.torch(name, reason, archive(pickle));
    }
}

/// Pickles that call functions, that grow, and whose tensors are not where they say.
pub(super) fn pickles(cases: &mut Cases) {
    for (name, pickle) in [
        (
            "os.system",
            &b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..],
        ),
        (
            "posix.system",
            b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00lstR.",
        ),
        (
            "os.system by the stack",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        ),
        (
            "subprocess.Popen",
            b"\x80\x02csubprocess\nPopen\n(X\x02\x00\x00\x00lstR.",
        ),
        (
            "builtins.eval",
            b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        ),
        (
            "builtins.exec",
            b"\x80\x02c__builtin__\nexec\n(X\x01\x00\x00\x001tR.",
        ),
        ("builtins.getattr", b"\x80\x02cbuiltins\ngetattr\n."),
        (
            "torch.load",
            b"\x80\x02ctorch\nload\n(X\x01\x00\x00\x001tR.",
        ),
        ("torch.hub", b"\x80\x02ctorch.hub\nload\n(tR."),
        ("pickle.loads", b"\x80\x02c_pickle\nloads\n(tR."),
        (
            "numpy",
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(tR.",
        ),
        (
            "a dotted name",
            b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.",
        ),
    ] {
        cases.pickle(name, "is not executed", pickle);
    }
    for (name, pickle) in [
        ("INST", &b"(ios\nsystem\n."[..]),
        ("OBJ", b"(cos\nsystem\no."),
        ("NEWOBJ", b"\x80\x02}}\x81."),
        ("NEWOBJ_EX", b"\x80\x04}}}\x92."),
        ("EXT1", b"\x80\x02\x82\x01."),
        ("PERSID", b"Pstorage\n."),
        (
            "BYTEARRAY8",
            b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        ),
        ("NEXT_BUFFER", b"\x80\x05\x97."),
        ("LONG4", b"\x80\x02\x8b\xff\xff\xff\x7f."),
        (
            "BINUNICODE8",
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        ),
        ("UNICODE", b"V\\u0041\n."),
        ("REDUCE of a dictionary", b"\x80\x02})R."),
        ("BUILD of a tuple", b"\x80\x02)}b."),
    ] {
        // What comes before it is no name, or the instruction is none of a dictionary's.
        cases.pickle(name, "its pickle", pickle);
    }
    cases.pickle("nothing", "cut", b"");
    cases.pickle("no end", "cut", b"\x80\x02}");
    cases.pickle("a text beyond the end", "cut", b"X\xff\xff\xff\xff");
    cases.pickle("no dictionary", "no dictionary", b"\x80\x02N.");
    cases.pickle(
        "a value that is no tensor",
        "no tensor",
        b"\x80\x02}X\x01\x00\x00\x00wNs.",
    );
    cases.pickle(
        "a place never written",
        "never memorized",
        b"\x80\x02h\x07.",
    );
    // Growing.
    let doubling = [&b"\x80\x02)"[..], &b"q\x00h\x00\x86".repeat(1_500_000)].concat();
    cases.pickle("tuples of tuples", "values", &doubling);
    cases.pickle("marks", "values", &vec![b'('; 7_000_000]);
    cases.pickle("empty dictionaries", "values", &vec![b'}'; 7_000_000]);
    cases.pickle("empty tuples", "values", &vec![b')'; 7_000_000]);
    // An instruction that leaves nothing, as often as there is room for it.
    let idle = [&b"N"[..], &b"\x80\x02".repeat(3_000_000)].concat();
    cases.pickle("nothing, often", "instructions", &idle);
    let mut memo = b"\x80\x02)".to_vec();
    (0..1_500_000u32).for_each(|place| {
        memo.push(b'r');
        memo.extend(place.to_le_bytes());
    });
    cases.pickle("places for one value", "values", &memo);
    let far = b"\x80\x02)r\xff\xff\xff\xff.";
    cases.pickle("a place far off", "memorizes", far);
    let storages = Program::default().raw(b"\x80\x02(").text("storage");
    let storages = storages
        .raw(b"ctorch\nFloatStorage\n")
        .text(&"0".repeat(64));
    let storages = storages.text("cpu").int(6).raw(b"tq\x00");
    cases.pickle(
        "storages",
        "100000",
        &storages.raw(&b"h\x00Q".repeat(2_000_000)).0,
    );
    let tensors = Program::default()
        .raw(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00(")
        .storage(&"0".repeat(64), 6)
        .raw(b"K\x00))\x89)tq\x01");
    cases.pickle(
        "tensors of one storage",
        "100000",
        &tensors.clone().raw(&b"h\x00h\x01R".repeat(1_200_000)).0,
    );
    let wide = Program::default()
        .raw(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00(")
        .storage("0", 6)
        .raw(b"K\x00(")
        .raw(&b"K\x01".repeat(5000))
        .raw(b"tq\x02h\x02\x89)tq\x01");
    cases.pickle(
        "tensors of many axes",
        "values",
        &wide.raw(&b"h\x00h\x01R".repeat(1_000_000)).0,
    );
    cases.pickle(
        "a tensor of many axes",
        "axes",
        &dictionary("w", "0", 6, 0, &[1; 1000]),
    );
    cases.torch(
        "a pickle beyond its bound",
        "more than 8000000",
        archive(&vec![b'N'; 9_000_000]),
    );
    // Tensors elsewhere than in their storage.
    for (name, pickle, reason) in [
        (
            "an offset beyond the end",
            dictionary("w", "0", 6, 6, &[1]),
            "needs 4 bytes from 24 on",
        ),
        (
            "an offset before the start",
            dictionary("w", "0", 6, -1, &[1]),
            "no numbers",
        ),
        (
            "the largest offset",
            dictionary("w", "0", 6, i32::MAX, &[1]),
            "from 8589934588 on",
        ),
        (
            "a shape beyond the end",
            dictionary("w", "0", 6, 0, &[7]),
            "needs 28 bytes",
        ),
        (
            "a negative size",
            dictionary("w", "0", 6, 0, &[-6]),
            "no numbers",
        ),
        (
            "a shape that overflows",
            dictionary("w", "0", 6, 0, &[i32::MAX; 3]),
            "64 bits",
        ),
        (
            "a storage larger than its file",
            dictionary("w", "0", 7, 0, &[6]),
            "that has 24",
        ),
        (
            "a storage that is not there",
            dictionary("w", "1", 6, 0, &[6]),
            "which is not there",
        ),
        (
            "a storage above the folder",
            dictionary("w", "../../../etc/passwd", 6, 0, &[6]),
            "which is not there",
        ),
        (
            "a storage of a long name",
            dictionary("w", &"0".repeat(100_000), 6, 0, &[6]),
            "no storage",
        ),
        (
            "a name with a control character",
            dictionary("w\x1b[2J", "0", 6, 0, &[6]),
            "control",
        ),
        (
            "a long name",
            dictionary(&"w".repeat(100_000), "0", 6, 0, &[6]),
            "too long",
        ),
    ] {
        cases.pickle(name, reason, &pickle);
    }
}

/// Archives that are bombs, that share bytes, or whose names lead elsewhere.
pub(super) fn archives(cases: &mut Cases) {
    let sound = dictionary("w", "0", 6, 0, &[6]);
    let begun = || Zip::default().add("a/data.pkl", &sound);
    let whole = archive(&sound);
    for (name, at) in [
        ("the header", 4),
        ("the middle", whole.len() / 2),
        ("the end", whole.len() - 1),
    ] {
        cases.torch(&format!("cut in {name}"), "cut short", whole[..at].to_vec());
    }
    cases.torch(
        "a deflated bomb",
        "compressed",
        begun().tell("a/data/0", 0, 8, 1000, 4_000_000_000).finish(),
    );
    cases.torch(
        "a stored bomb",
        "two sizes",
        begun().tell("a/data/0", 0, 0, 24, 4_000_000_000).finish(),
    );
    cases.torch("a file beyond the end", "leaves the archive", {
        let mut zip = begun().add("a/data/0", &[0; 24]);
        let size = zip.directory.len() - 46 - "a/data/0".len();
        zip.directory[size + 20..size + 24].copy_from_slice(&1_000_000u32.to_le_bytes());
        zip.directory[size + 24..size + 28].copy_from_slice(&1_000_000u32.to_le_bytes());
        zip.finish()
    });
    // Thousands of files over the same bytes, as in the densest of bombs.
    let overlapping = (0..9000).fold(begun().add("a/data/0", &[0; 24]), |zip, _| {
        let at = sound.len() + 40;
        zip.tell("a/data/0", at, 0, 24, 24)
    });
    cases.torch(
        "one file told nine thousand times",
        "twice",
        overlapping.finish(),
    );
    let nested = {
        let mut zip = begun();
        let inner = Zip::default().add("a/data/1", &[0; 24]);
        let at = zip.bytes.len() + 30 + "a/data/0".len();
        zip = zip.add("a/data/0", &inner.bytes);
        zip.tell("a/data/1", at, 0, 24, 24).finish()
    };
    cases.torch("a file inside a file", "share bytes", nested);
    cases.torch("more files than are believed", "claims 60000 files", {
        let mut bytes = whole.clone();
        let end = bytes.len() - 22;
        bytes[end + 10..end + 12].copy_from_slice(&60_000u16.to_le_bytes());
        bytes
    });
    cases.torch("a directory beyond the end", "leaves the archive", {
        let mut bytes = whole.clone();
        let end = bytes.len() - 22;
        bytes[end + 16..end + 20].copy_from_slice(&3_000_000_000u32.to_le_bytes());
        bytes
    });
    for (shown, place, reason) in [
        ("away", u64::MAX, "cut short"),
        ("behind", 1 << 40, "cut short"),
        ("on a file", 0, "is damaged"),
    ] {
        cases.torch(&format!("a 64-bit end record {shown}"), reason, {
            let mut bytes = whole.clone();
            let end = bytes.len() - 22;
            bytes[end + 16..end + 20].fill(0xff);
            let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
            locator.extend(place.to_le_bytes());
            locator.extend([1, 0, 0, 0]);
            bytes.splice(end..end, locator);
            bytes
        });
    }
    for name in [
        "../data/0",
        "a/../../data/0",
        "/etc/passwd",
        "a/data/..",
        "..\\0",
        "a\0",
    ] {
        cases.torch(
            &format!("a file called {name:?}"),
            "leads outside",
            begun().add(name, &[0; 24]).finish(),
        );
    }
    cases.torch(
        "two pickles",
        "or several",
        begun().add("b/data.pkl", &sound).finish(),
    );
    cases.torch(
        "no pickle",
        "no `data.pkl`",
        Zip::default().add("a/data/0", &[0; 24]).finish(),
    );
    cases.torch(
        "numbers the other way about",
        "little-endian",
        begun().add("a/byteorder", b"big").finish(),
    );
    let mut legacy = vec![
        0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    legacy.extend([0; 100]);
    cases.torch("the format before 1.6", "before version 1.6", legacy);
    for bytes in [
        &b""[..],
        b"PK",
        b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00ls\x85R.",
    ] {
        cases.torch(
            &format!("{} bytes that are no archive", bytes.len()),
            "no checkpoint of a known format",
            bytes.to_vec(),
        );
    }
}

/// A llama2.c checkpoint of these numbers, of which the disk sees the beginning alone.
fn numbers(folder: &Path, words: &[i32], length: u64) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let path = folder.join("model.bin");
    fs::write(&path, bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(length).unwrap();
}

/// Checkpoints of llama2.c whose sizes no file has.
pub(super) fn llama2c(cases: &mut Cases) {
    let magic = i32::from_le_bytes(*b"24ka");
    let most = i32::MAX;
    for (name, reason, words, length) in [
        (
            "quantised",
            "quantised",
            vec![magic, 2, 8, 8, 1, 1, 1, 8, 8],
            1000u64,
        ),
        (
            "of version 9",
            "no known version",
            vec![magic, 9, 8, 8, 1, 1, 1, 8, 8],
            1000,
        ),
        (
            "of no sizes",
            "no sizes",
            vec![magic, 1, 0, 0, 0, 0, 0, 0, 0],
            1000,
        ),
        (
            "of the largest sizes",
            "no sizes",
            vec![magic, 1, most, most, most, 1, 1, most, most],
            1000,
        ),
        (
            "of large sizes",
            "another number",
            vec![magic, 1, 1 << 28, 1 << 28, 4096, 1, 1, 1 << 28, 1 << 28],
            1000,
        ),
        (
            "longer than its sizes",
            "another number",
            vec![magic, 1, 8, 8, 1, 1, 1, 8, 8],
            1 << 30,
        ),
        (
            "cut after its sizes",
            "another number",
            vec![magic, 1, 8, 8, 1, 1, 1, 8, 8],
            256,
        ),
        (
            "without its name, of another length",
            "has no model.safetensors",
            vec![8, 8, 1, 1, 1, 8, 8],
            1 << 30,
        ),
        (
            "of heads that do not divide",
            "has no model.safetensors",
            vec![8, 8, 1, 3, 1, 8, 8],
            1000,
        ),
    ] {
        cases.add(
            format!("llama2.c {name}"),
            As::Checkpoint,
            reason,
            move |folder| {
                numbers(folder, &words, length);
            },
        );
    }
}
