//! Safetensors headers, indices and links that lie.

use std::fs;

use super::{As, Cases, SOUND, checkpoint, many};

fn tensor(name: &str, dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

fn one(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!("{{{}}}", tensor("a", dtype, shape, start, end))
}

fn two(first: (u64, u64), second: (u64, u64)) -> String {
    let bytes = |(start, end): (u64, u64)| format!("[{}]", end.saturating_sub(start));
    let a = tensor("a", "U8", &bytes(first), first.0, first.1);
    format!(
        "{{{a},{}}}",
        tensor("b", "U8", &bytes(second), second.0, second.1)
    )
}

/// Headers: their length, their JSON, formats, shapes, ranges, names.
pub(super) fn headers(cases: &mut Cases) {
    // The length that stands before the header.
    for (length, file, reason) in [
        (0u64, 8u64, "EOF"),
        (u64::MAX, 20, "at most"),
        (1 << 63, 20, "at most"),
        (u64::from(u32::MAX), 20, "at most"),
        (100_000_000, 100_000_008, "at most"),
        (1_000_000, 20, "the file has 12 after"),
        (13, 20, "the file has 12 after"),
    ] {
        cases.add(
            format!("length {length}"),
            As::Checkpoint,
            reason,
            move |folder| {
                let path = folder.join("model.safetensors");
                fs::write(&path, length.to_le_bytes()).unwrap();
                let file_of = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file_of.set_len(file).unwrap();
            },
        );
    }
    for bytes in [0usize, 1, 7] {
        cases.add(
            format!("{bytes} bytes"),
            As::Checkpoint,
            "at least 8",
            move |folder| {
                fs::write(folder.join("model.safetensors"), vec![0u8; bytes]).unwrap();
            },
        );
    }
    // What is no object of tensors.
    for text in [
        "[]",
        "null",
        "7",
        "\"a\"",
        "true",
        "{",
        "{]",
        "{}x",
        "{\"a\":1}",
        "{\"a\":[]}",
    ] {
        cases.header("header is wrong", text, 0);
    }
    cases.header("header is wrong", vec![0xff; 64], 0);
    cases.header("header is wrong", "{\"a\":{\"dtype\":\"F32\"}}", 0);
    cases.header("deeper", "[".repeat(1_000_000), 0);
    cases.header("deeper", "{\"a\":".repeat(100_000), 0);
    cases.header(
        "deeper",
        format!(
            "{{\"__metadata__\":{}{}}}",
            "[".repeat(5000),
            "]".repeat(5000)
        ),
        0,
    );
    cases.header("header is wrong", "{\"__metadata__\":{\"a\":1}}", 0);
    cases.header(
        "header is wrong",
        "{\"__metadata__\":{},\"__metadata__\":{}}",
        0,
    );
    // Formats and shapes.
    cases.header("quantised", one("F4", "[1]", 0, 4), 4);
    cases.header("unknown format", one("", "[1]", 0, 4), 4);
    cases.header("header is wrong", one("F32", "[-1]", 0, 4), 4);
    cases.header("header is wrong", one("F32", "[1.5]", 0, 4), 4);
    cases.header("header is wrong", one("F32", "1", 0, 4), 4);
    cases.header(
        "header is wrong",
        one("F32", "[18446744073709551616]", 0, 4),
        4,
    );
    cases.header("overflows", one("F32", "[4294967296,4294967296]", 0, 4), 4);
    cases.header("overflows", one("F64", "[2305843009213693952]", 0, 0), 0);
    cases.header("overflows", one("U8", "[18446744073709551615,2]", 0, 0), 0);
    cases.header(
        "axes",
        one("U8", &format!("[{}]", many(40, |_| "1".to_owned())), 0, 1),
        1,
    );
    cases.header(
        "axes",
        one(
            "U8",
            &format!("[{}]", many(100_000, |_| "1".to_owned())),
            0,
            1,
        ),
        1,
    );
    // Ranges.
    cases.header("needs 8", one("F32", "[2]", 0, 4), 4);
    cases.header("needs 4", one("F32", "[1]", 0, 8), 8);
    cases.header("4..0 of 4", one("F32", "[1]", 4, 0), 4);
    cases.header("0..8 of 4", one("F32", "[2]", 0, 8), 4);
    cases.header("of 4", one("U8", "[4]", u64::MAX - 4, u64::MAX), 4);
    cases.header("of 4", one("U8", "[1]", u64::MAX, 0), 4);
    cases.header("overlaps", two((0, 4), (3, 5)), 5);
    cases.header("overlaps", two((0, 4), (0, 4)), 4);
    cases.header("overlaps", two((0, 8), (2, 4)), 8);
    cases.header("hole", two((0, 4), (6, 8)), 8);
    cases.header("hole", two((4, 6), (6, 8)), 8);
    cases.header("belong to no tensor", two((0, 4), (4, 8)), 9);
    cases.header("belong to no tensor", "{}", 1 << 40);
    cases.header(
        "header is wrong",
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#,
        1,
    );
    cases.header(
        "header is wrong",
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#,
        1,
    );
    // Names.
    let twice = format!("{{{0},{0}}}", tensor("a", "U8", "[1]", 0, 1));
    cases.header("occurs twice", twice, 1);
    let escaped = format!(
        "{{{},{}}}",
        tensor("a", "U8", "[1]", 0, 1),
        tensor("\\u0061", "U8", "[1]", 0, 1)
    );
    cases.header("occurs twice", escaped, 1);
    cases.header(
        "control",
        format!("{{{}}}", tensor("a\\u001b[2J", "U8", "[1]", 0, 1)),
        1,
    );
    cases.header(
        "control",
        format!("{{{}}}", tensor("a\\u0000", "U8", "[1]", 0, 1)),
        1,
    );
    cases.header(
        "long",
        format!("{{{}}}", tensor(&"x".repeat(100_000), "U8", "[1]", 0, 1)),
        1,
    );
    // As much as a header may hold, and nothing behind it.
    let entry = |i: usize| tensor(&format!("t{i}"), "U8", "[0]", 0, 0);
    cases.header("values", format!("{{{}}}", many(200_000, entry)), 0);
    cases.header(
        "belong to no tensor",
        format!("{{{}}}", many(55_000, entry)),
        1,
    );
    cases.header("header is wrong", " ".repeat(10_000_000), 0);
    let text = format!(
        "{{\"__metadata__\":{{{}}}}}",
        many(400_000, |i| format!("\"{i}\":\"\""))
    );
    cases.header("values", text, 0);
}

/// Tables of shards.
pub(super) fn indices(cases: &mut Cases) {
    let map = |entries: &str| format!("{{\"metadata\":{{}},\"weight_map\":{{{entries}}}}}");
    for text in [
        "",
        "[]",
        "null",
        "{}",
        "{\"weight_map\":[]}",
        "{\"weight_map\":{\"a\":1}}",
        "{\"weight_map\":{\"a\":[\"b\"]}}",
    ] {
        cases.index("the index is wrong", text);
    }
    cases.index(
        "deeper",
        format!(
            "{{\"metadata\":{}{},\"weight_map\":{{}}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
    );
    cases.index(
        "values",
        map(&many(300_000, |i| format!("\"{i}\":\"a.safetensors\""))),
    );
    cases.index("at most", vec![b' '; 21_000_000]);
    for name in [
        "../a.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "sub/a.safetensors",
        "./a.safetensors",
        "a.safetensors/",
        "a.safetensors\\u0000",
        "..\\\\a.safetensors",
    ] {
        cases.index("outside its folder", map(&format!("\"a\":\"{name}\"")));
    }
    cases.index("not there", map("\"a\":\"gone.safetensors\""));
    cases.index(
        "names `c`",
        map("\"a\":\"a.safetensors\",\"b\":\"a.safetensors\",\"c\":\"a.safetensors\""),
    );
    cases.index("is not in the index", map("\"a\":\"a.safetensors\""));
    cases.index(
        "occurs twice",
        map("\"a\":\"a.safetensors\",\"b\":\"a.safetensors\",\"a\":\"a.safetensors\""),
    );
    cases.index(
        "at most",
        map(&many(3000, |i| format!("\"{i}\":\"{i}.safetensors\""))),
    );
    cases.add("a shard twice", As::Checkpoint, "is also in", |folder| {
        checkpoint(folder, "a.safetensors", SOUND, 8);
        checkpoint(folder, "b.safetensors", SOUND, 8);
        let text = r#"{"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}"#;
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
    });
    cases.add(
        "a shard that is a folder",
        As::Checkpoint,
        "regular file",
        |folder| {
            fs::create_dir(folder.join("a.safetensors")).unwrap();
            let text = r#"{"weight_map":{"a":"a.safetensors"}}"#;
            fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
        },
    );
}

/// Links out of the folder, and what is no file.
#[cfg(unix)]
pub(super) fn links(cases: &mut Cases) {
    use std::os::unix::fs::symlink;
    for (name, file, target, open) in [
        (
            "a checkpoint",
            "model.safetensors",
            "/etc/passwd",
            As::Checkpoint,
        ),
        (
            "a checkpoint outside",
            "model.safetensors",
            "../outside.safetensors",
            As::Checkpoint,
        ),
        (
            "a configuration",
            "config.json",
            "/proc/self/environ",
            As::Config,
        ),
        ("checksums", "checksums.json", "/etc/passwd", As::Files),
        ("a model", "model.ron", "/etc/passwd", As::Model),
    ] {
        cases.add(
            format!("{name} by a link"),
            open,
            "leads out of its folder",
            move |folder| {
                symlink(target, folder.join(file)).unwrap();
                checkpoint(folder.parent().unwrap(), "outside.safetensors", SOUND, 8);
            },
        );
    }
    cases.add(
        "an index by a link",
        As::Checkpoint,
        "leads out of its folder",
        |folder| {
            let text = r#"{"weight_map":{"a":"model.safetensors","b":"model.safetensors"}}"#;
            fs::write(folder.parent().unwrap().join("index.json"), text).unwrap();
            symlink("../index.json", folder.join("model.safetensors.index.json")).unwrap();
        },
    );
    cases.add(
        "a shard by a link",
        As::Checkpoint,
        "leads out of its folder",
        |folder| {
            checkpoint(folder.parent().unwrap(), "outside.safetensors", SOUND, 8);
            symlink("../outside.safetensors", folder.join("a.safetensors")).unwrap();
            let text = r#"{"weight_map":{"a":"a.safetensors","b":"a.safetensors"}}"#;
            fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
        },
    );
    cases.add(
        "a link to itself",
        As::Checkpoint,
        "follow the link",
        |folder| {
            symlink("model.safetensors", folder.join("model.safetensors")).unwrap();
        },
    );
    for (file, open) in [
        ("model.safetensors", As::Checkpoint),
        ("config.json", As::Config),
        ("checksums.json", As::Files),
        ("model.ron", As::Model),
    ] {
        cases.add(
            format!("{file} is a pipe"),
            open,
            "regular file",
            move |folder| {
                let made = std::process::Command::new("mkfifo")
                    .arg(folder.join(file))
                    .status();
                assert!(made.unwrap().success());
            },
        );
    }
}
