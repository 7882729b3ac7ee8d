//! A `pytorch_model.bin`: the directory of its zip, and the pickle inside.
//!
//! What must hold of any file that is read: every tensor has as many bytes as its shape says, and they lie in
//! the file.

use std::io::Cursor;
use std::path::Path;

use jam_weights::checkpoints::Header;

use super::seeds::tidy;

/// Numbers of the only storage of an archive around a pickle, in bytes.
const STORAGE: &[u8] = &[0; 64];

/// Reads a file. The first byte tells whether the rest is a whole archive, or the pickle of one.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 2 {
        0 => read(&archive(&[("a/data.pkl", rest), ("a/data/0", STORAGE)])),
        _ => read(rest),
    }
}

fn read(file: &[u8]) {
    let header = match Header::read_torch(&mut Cursor::new(file), Path::new("fuzz.bin")) {
        Ok(header) => header,
        Err(error) => {
            assert!(!error.message.is_empty());
            return;
        }
    };
    for (name, tensor) in &header.tensors {
        assert!(tensor.range.start <= tensor.range.end, "{name}");
        assert!(tensor.range.end <= file.len() as u64, "{name}");
        let elements: u64 = match tensor.shape.contains(&0) {
            true => 0,
            false => tensor.shape.iter().product(),
        };
        let bytes = tensor.range.end - tensor.range.start;
        assert_eq!(elements * tensor.dtype.size(), bytes, "{name}");
    }
}

/// A zip of stored files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let mut entry = [0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[20..24].copy_from_slice(&(data.len() as u32).to_le_bytes());
        entry[24..28].copy_from_slice(&(data.len() as u32).to_le_bytes());
        entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
        entry[42..46].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        directory.extend(entry);
        directory.extend(name.as_bytes());
        let mut header = [0; 30];
        header[..4].copy_from_slice(b"PK\x03\x04");
        header[26..28].copy_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend(header);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
    }
    let mut end = [0; 22];
    end[..4].copy_from_slice(b"PK\x05\x06");
    end[10..12].copy_from_slice(&(files.len() as u16).to_le_bytes());
    end[12..16].copy_from_slice(&(directory.len() as u32).to_le_bytes());
    end[16..20].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    bytes.extend(directory);
    bytes.extend(end);
    bytes
}

/// Pickles of small state dictionaries, and whole archives around them.
pub fn seeds() -> Vec<Vec<u8>> {
    let size = |number: u8| [b"K", &[number][..]].concat();
    let tuple = |sizes: &[u8]| {
        let sizes: Vec<u8> = sizes.iter().flat_map(|&n| size(n)).collect();
        [b"(", &sizes[..], b"t"].concat()
    };
    let text = |text: &str| {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    };
    let tensor = |kind: &str, elements: u8, offset: u8, shape: &[u8], strides: &[u8]| {
        [
            &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
            &text("storage"),
            format!("ctorch\n{kind}\n").as_bytes(),
            &text("0"),
            &text("cpu"),
            &size(elements),
            b"tQ",
            &size(offset),
            &tuple(shape),
            &tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    };
    let matrix = tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1]);
    let row = tensor("HalfStorage", 9, 4, &[1, 3], &[9, 1]);
    let parameter = [
        b"ctorch._utils\n_rebuild_parameter\n(",
        &row[..],
        b"\x88}tR",
    ]
    .concat();
    let w = text("w");
    let programs: Vec<Vec<u8>> = vec![
        b"\x80\x02}.".to_vec(),
        [b"\x80\x02}(", &w[..], &matrix, b"u."].concat(),
        [
            b"\x80\x02}q\x00",
            &w[..],
            b"q\x01",
            &row,
            b"r\x02\x00\x00\x00s.",
        ]
        .concat(),
        [
            b"\x80\x02ccollections\nOrderedDict\n)R(",
            &w[..],
            &parameter,
            b"u}",
            &w,
            b"}sb.",
        ]
        .concat(),
        [
            b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x01w\x94",
            &matrix[..],
            b"h\x01",
            b"\x94u.",
        ]
        .concat(),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.".to_vec(),
        b"](K\x01M\x01\x02J\x01\x02\x03\x04\x8a\x02\xff\xffG\0\0\0\0\0\0\0\0N\x88\x89e.".to_vec(),
    ];
    let mut seeds = Vec::new();
    for program in programs {
        seeds.push([b"\0", &program[..]].concat());
        let byteorder = &b"little"[..];
        let whole = archive(&[
            ("a/data.pkl", &program),
            ("a/byteorder", byteorder),
            ("a/data/0", STORAGE),
        ]);
        seeds.push([b"\x01", &whole[..]].concat());
    }
    tidy(seeds)
}
