//! The main job, end to end and small: the drawing lessons at size smoke; and what the command line answers.

#[path = "program/answers.rs"]
mod answers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jam_backends::Device;
use jam_data::tokens::text::TextTokenizer;
use jam_ir::{Model, TokenKind};
use jam_runtime::folders::ModelFolder;
use jam_runtime::vocabulary::codec_of_folder;
use jam_weights::checkpoints::import::open_weights;

fn jamc(arguments: &[&str]) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
        .current_dir(root)
        .args(arguments)
        .output();
    output.expect("jamc starts")
}

fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(out: &Path) -> (String, String) {
    let out = out.display().to_string();
    let output = jamc(&[
        "run",
        "examples/drawing/drawing.jam",
        "--set",
        "size=smoke",
        "--device",
        "cpu",
        "--out",
        &out,
    ]);
    (
        stdout(&output),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path)
            }
        }
    }
    let mut found: Vec<_> = found
        .iter()
        .map(|path| path.strip_prefix(folder).unwrap().to_owned())
        .collect();
    found.sort();
    found
}

#[test]
fn the_drawing_lessons_run_once_and_give_the_same_bits_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let (told, notes) = run(&first);
    assert!(told.contains("pages/answers/index.html"), "{told}");
    for row in [
        "read",
        "paint",
        "jam_uniform",
        "jam_width",
        "jam_cross",
        "tune_cross",
    ] {
        assert!(told.contains(&format!("| {row} |")), "{told}");
    }
    assert!(!notes.contains("done before"), "{notes}");

    let page = fs::read_to_string(first.join("pages/answers/index.html")).unwrap();
    assert!(page.matches("<svg").count() >= 1 && page.contains("alt=\"reconstruction\""));
    for picture in page
        .split("src=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(
            first.join("pages/answers").join(picture).is_file(),
            "{picture}"
        );
    }

    let (_, notes) = run(&first);
    assert_eq!(
        notes.matches("done before").count(),
        13,
        "every step is passed over: {notes}"
    );

    run(&second);
    let mut compared = 0;
    for file in files(&first) {
        // Speeds and dates differ from run to run.
        let dated = ["log.jsonl", "result.json", "hashes.json"];
        let name = file.file_name().unwrap().to_string_lossy();
        let sealed_log = file.ends_with("checksums.json")
            && file
                .parent()
                .is_some_and(|folder| first.join(folder).join("log.jsonl").exists());
        if dated.contains(&&*name) || sealed_log {
            continue;
        }
        let (a, b) = (
            fs::read(first.join(&file)).unwrap(),
            fs::read(second.join(&file)).unwrap(),
        );
        assert!(a == b, "{} differs between two runs", file.display());
        compared += 1;
    }
    assert!(compared > 50, "only {compared} files were compared");
}

#[test]
fn an_answer_is_written_as_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let (out, answer) = (folder.path().join("out"), folder.path().join("answer"));
    let out_text = out.display().to_string();
    let train = jamc(&[
        "train",
        "examples/drawing/drawing.jam",
        "tune_uniform",
        "--set",
        "size=smoke",
        "--device",
        "cpu",
        "--out",
        &out_text,
    ]);
    let last = stdout(&train);
    assert!(
        !out.join("training/tune_cross").exists(),
        "only what is needed is done"
    );
    let answer_text = answer.display().to_string();
    let generate = jamc(&[
        "generate",
        last.trim(),
        "--prompt",
        "a red house at the top left",
        "--picture",
        "--device",
        "cpu",
        "-o",
        &answer_text,
    ]);
    assert!(stdout(&generate).contains("index.html"));
    let page = fs::read_to_string(answer.join("index.md")).unwrap();
    assert!(page.contains("](pictures/001.png)"), "{page}");

    // Products that are rounded lead to other texts.
    let written = |precision: &[&str]| {
        let asked = [
            "generate",
            last.trim(),
            "--prompt",
            "a red",
            "--continue",
            "-n",
            "4",
        ];
        let rest = ["--device", "cpu", "--force", "-o", &answer_text];
        stdout(&jamc(&[&asked[..], &rest, precision].concat()));
        fs::read_to_string(answer.join("index.md")).unwrap()
    };
    let plain = written(&[]);
    assert_eq!(plain, written(&["--dtype", "f32"]));
    assert_ne!(plain, written(&["--dtype", "bf16"]));
}

#[test]
fn the_papers_models_have_the_papers_sizes() {
    let output = stdout(&jamc(&[
        "inspect",
        "examples/paper/tables.jam",
        "--json",
        "-q",
    ]));
    let found: serde_json::Value = serde_json::from_str(&output).unwrap();
    let parameters = |name: &str| {
        let models = found["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == name);
        model.unwrap_or_else(|| panic!("no {name}"))["parameters"]
            .as_u64()
            .unwrap() as f64
    };
    let expected = [
        ("llm", 6.73e9),
        ("cm3leon", 6.73e9),
        ("jam_uniform", 6.73e9),
        ("jam_cross_never", 13.2e9),
        ("jam_cross_4", 16.4e9),
        ("jam_cross", 19.65e9),
        ("jam_cross_1", 26.1e9),
        ("jam_width", 26.3e9),
        ("jam_width_average", 26.3e9),
    ];
    for (name, count) in expected {
        let off = parameters(name) / count - 1.0;
        assert!(
            off.abs() < 0.005,
            "{name} has {} parameters, not about {count}",
            parameters(name)
        );
    }
}

/// Two vocabularies, one with all tokens of the other: rows are taken by token, and told.
#[test]
fn rows_of_a_fused_table_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("rows.jam");
    let text = "tokens words { text = 10, marks = [bos, eos] }\n\
                tokens mixed {\n\
                    text  = 10\n\
                    image = vq(\"pictures\", codes: 4, grid: 2)\n\
                    marks = [bos, pad, eos, break]\n\
                }\n\
                block layer(x) { x = x + attention(layer_norm(x), heads: 2) }\n\
                model llm {\n\
                    tokens  = words\n\
                    context = 8\n\
                    width   = 4\n\
                    x       = embed(tokens)\n\
                    repeat 2 { x = layer(x) }\n\
                    logits  = unembed(layer_norm(x))\n\
                }\n\
                model img = llm { tokens = mixed }\n\
                fuse both = cross(llm, img, rows: mean)\n";
    fs::write(&program, text).unwrap();
    let output = stdout(&jamc(&[
        "inspect",
        &program.display().to_string(),
        "both",
        "--rows",
        "-q",
    ]));
    let found: Vec<String> = output
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "both shared.embed",
        "0..1 mark 0.5 * llm embed.table 0..1 + 0.5 * img embed.table 0..1",
        "1..2 mark img embed.table 1..2",
        "2..3 mark 0.5 * llm embed.table 1..2 + 0.5 * img embed.table 2..3",
        "3..13 text 0.5 * llm embed.table 2..12 + 0.5 * img embed.table 3..13",
        "13..17 image img embed.table 13..17",
        "17..18 mark img embed.table 17..18",
    ];
    assert_eq!(found, expected);
}

/// Two parents that read unlike tokenizers: the folder has the joint one, and rows of its tokens.
#[test]
fn unlike_tokenizers_are_built_into_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let texts = [
        "a red house and a red horse, a red hose",
        "zebras quack and quack, zigzag zebras",
    ];
    let tokenizers = texts.map(|text| {
        let texts = [text, text, "in the rain in the plain"].map(str::to_owned);
        TextTokenizer::train(texts.into_iter(), 275).unwrap()
    });
    let sizes = [0, 1].map(|index| {
        let file = place(["llm.json", "img.json"][index]);
        tokenizers[index].save(&file).unwrap();
        tokenizers[index].size()
    });
    let program = place("joint.jam");
    let text = format!(
        "tokens first {{ text = bpe(\"llm.json\", size: {}), marks = [bos, eos] }}\n\
         tokens second {{\n\
             text  = bpe(\"img.json\", size: {})\n\
             marks = [pad, eos, break]\n\
         }}\n\
         block layer(x) {{ x = x + attention(layer_norm(x), heads: 2) }}\n\
         model llm {{\n\
             tokens  = first\n\
             context = 32\n\
             width   = 4\n\
             x       = embed(tokens)\n\
             repeat 2 {{ x = layer(x) }}\n\
             logits  = unembed(layer_norm(x))\n\
         }}\n\
         model img = llm {{ tokens = second }}\n\
         fuse both  = uniform(llm, img)\n\
         fuse one   = uniform(llm, llm)\n\
         fuse other = uniform(img, img)\n",
        sizes[0], sizes[1]
    );
    fs::write(&program, text).unwrap();
    let (program, out) = (program.display().to_string(), place("out"));
    let built = jamc(&["build", &program, "-v", "--out", &out.display().to_string()]);
    stdout(&built);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(said.contains("the union of their vocabularies"), "{said}");

    let open = |name: &str| {
        let model = ModelFolder::open(&out.join("models").join(name)).unwrap();
        let table = open_weights(&model.path).unwrap();
        let rows = model.model.tokens.size;
        (model, table.rows("embed.table", 0..rows).unwrap())
    };
    let (both, table) = open("both");
    let parents = ["one", "other"].map(open);
    let joint = TextTokenizer::open(&both.path).unwrap();
    // Spelling or mark of an id of a model that reads a tokenizer.
    let token = |model: &Model, tokenizer: &TextTokenizer, id: u64| match model.tokens.kind(id)? {
        TokenKind::Text => {
            let place = id - model.tokens.range(TokenKind::Text)?.start;
            tokenizer.token(place as u32)
        }
        TokenKind::Mark => {
            let mut marks = model.tokens.marks.iter();
            marks
                .find(|(_, own)| **own == id)
                .map(|(mark, _)| format!("<{mark}>"))
        }
        _ => None,
    };
    let row = |table: &[f32], id: u64| table[id as usize * 4..][..4].to_vec();
    let mut counts = [0, 0, 0];
    for id in 0..both.model.tokens.size {
        let Some(told) = token(&both.model, &joint, id) else {
            assert_eq!(row(&table, id), [0.0; 4], "filler {id}");
            continue;
        };
        let rows = [0, 1].map(|index| {
            let (parent, table) = &parents[index];
            let mut ids = 0..parent.model.tokens.size;
            let own = ids
                .find(|id| token(&parent.model, &tokenizers[index], *id).as_ref() == Some(&told));
            own.map(|own| row(table, own))
        });
        let (case, expected) = match rows {
            [Some(a), Some(b)] => (0, a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect()),
            [Some(a), None] => (1, a),
            [None, Some(b)] => (2, b),
            [None, None] => panic!("`{told}` is of no parent"),
        };
        counts[case] += 1;
        assert_eq!(row(&table, id), expected, "{told}");
    }
    assert!(
        counts[0] > 256 && counts[1] > 4 && counts[2] > 4,
        "{counts:?}"
    );
    let codec = codec_of_folder(&both.model, &both.path, &Device::flex()).unwrap();
    let asked = "zebras in a red house";
    let ids = codec.text_ids(asked).unwrap();
    assert_eq!(codec.text(&ids).unwrap(), asked);

    // What cannot be united is an error at both parents, with a way out.
    let mut lower: serde_json::Value =
        serde_json::from_str(&tokenizers[1].to_json().unwrap()).unwrap();
    lower["normalizer"] = serde_json::json!({ "type": "Lowercase" });
    fs::write(place("img.json"), lower.to_string()).unwrap();
    let refused = jamc(&["check", &program]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in [
        "their tokenizers cannot be united: they differ in how texts are normalised",
        "`llm` lacks",
        "`img` lacks",
        "help:",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
