//! Programs against the headers of their checkpoints, one file each, with the report that a person gets.
//!
//! A case is `tests/cases/headers/NAME.jam`: the program, blocks that say what lies in its folder, a line
//! `//~ report`, and the report in comments. A block `//~ tensors FOLDER` lists tensors, a line each
//! (`// NAME DTYPE SIZExSIZE`); `//~ config FOLDER` is a `config.json`. The tensors hold nothing: their files
//! are as long as they say and empty. `JAM_BLESS=1` writes what is reported now into the cases.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The line between a program and its report.
const MARK: &str = "//~ report";

/// A line of a block without its comment signs.
fn bare(line: &str) -> &str {
    let line = line.strip_prefix("//").unwrap_or(line);
    line.strip_prefix(' ').unwrap_or(line)
}

/// A safetensors file of these tensors, of which only the header is on the disk.
fn write_tensors(folder: &Path, lines: &[&str]) {
    let (mut entries, mut end) = (Vec::new(), 0u64);
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, dtype, shape] = words[..] else {
            panic!("{line}");
        };
        let sizes: Vec<u64> = shape.split('x').map(|size| size.parse().unwrap()).collect();
        let each = match dtype {
            "F32" => 4,
            "BF16" | "F16" => 2,
            "I64" | "F64" => 8,
            _ => panic!("{line}"),
        };
        let start = end;
        end += each * sizes.iter().product::<u64>();
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{sizes:?},"data_offsets":[{start},{end}]}}"#
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    fs::create_dir_all(folder).unwrap();
    let mut file = fs::File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

/// Puts what the blocks say into `root`.
fn lay_out(root: &Path, blocks: &str) {
    for block in blocks.split("//~ ").skip(1) {
        let (title, rest) = block.split_once('\n').unwrap_or((block, ""));
        let lines: Vec<&str> = rest
            .lines()
            .map(bare)
            .filter(|line| !line.is_empty())
            .collect();
        let (kind, folder) = title.trim().split_once(' ').unwrap();
        let folder = root.join(folder);
        match kind {
            "tensors" => write_tensors(&folder, &lines),
            "config" => {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("config.json"), lines.join("\n")).unwrap();
            }
            _ => panic!("{title}"),
        }
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_answered_as_their_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/headers");
    let bless = std::env::var_os("JAM_BLESS").is_some();
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 6, "{} cases", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (program, expected) = text.split_once(MARK).unwrap_or((&text, ""));
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let root = tempfile::tempdir().unwrap();
        let blocks = program.find("//~ ").map_or("", |start| &program[start..]);
        lay_out(root.path(), blocks);
        fs::write(root.path().join(&name), program).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
            .current_dir(root.path())
            .args(["check", &name])
            .output()
            .unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        let lines: Vec<&str> = report.trim_end().lines().map(str::trim_end).collect();
        let expected: Vec<&str> = expected
            .trim()
            .lines()
            .map(bare)
            .map(str::trim_end)
            .collect();
        if lines == expected {
            let errors = report.lines().any(|line| line.starts_with("error"));
            assert_eq!(code, Some(i32::from(errors)), "{name}");
            continue;
        }
        if bless {
            let comments: String = lines
                .iter()
                .map(|line| format!("// {line}").trim_end().to_owned() + "\n")
                .collect();
            fs::write(
                &file,
                format!("{}\n\n{MARK}\n{comments}", program.trim_end()),
            )
            .unwrap();
        } else {
            wrong.push(format!("{name}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
