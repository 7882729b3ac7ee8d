//! Programs that are right: the examples, and what they become.

mod support;

use jam_dsl::{CompileOptions, Compiled, compile, report};
use jam_ir::Program;
use jam_ir::verify::verify;
use support::{Repository, repository, strategies};

fn compile_file(path: &str, set: &[(&str, &str)]) -> Compiled {
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    compile_text(path, &text, set)
}

fn compile_text(path: &str, text: &str, set: &[(&str, &str)]) -> Compiled {
    let strategies = strategies();
    let set: Vec<(String, String)> = set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let options = CompileOptions {
        strategies: &strategies,
        set: &set,
        seed: None,
    };
    compile(path, text, &Repository, &options)
}

/// The program of a text without errors.
fn sound(compiled: Compiled) -> Program {
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    assert!(!compiled.diagnostics.has_errors(), "{text}");
    compiled.program.unwrap()
}

fn parameters(program: &Program, model: &str) -> u64 {
    let model = &program.models[model].model;
    let uses = model.weight_uses();
    let sizes = uses
        .values()
        .map(|param| model.weight_shape(&param.ty).unwrap());
    sizes.map(|shape| shape.iter().product::<u64>()).sum()
}

#[test]
fn every_example_compiles_at_every_size() {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(repository().join("examples")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path())
            .into_iter()
            .flatten()
        {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jam") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 4);
    for file in files {
        let path = file
            .strip_prefix(repository())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let program = sound(compile_file(&path, &[]));
        if program.settings.contains_key("size") {
            for size in ["smoke", "quick", "full"] {
                let program = sound(compile_file(&path, &[("size", size)]));
                assert_eq!(program.settings["size"], size);
            }
        }
        for (name, recipe) in &program.models {
            assert_eq!(verify(&recipe.model), Ok(()), "{path}: {name}");
        }
    }
}

#[test]
fn the_parents_of_the_paper_have_its_sizes() {
    let program = sound(compile_file("examples/paper/parents.jam", &[]));
    assert_eq!(parameters(&program, "llm"), 6_729_801_728);
    assert_eq!(
        program.models["cm3leon"].weights.as_deref(),
        Some("weights/cm3leon")
    );
    let layout = &program.tokens["mixed"];
    assert_eq!((layout.size, layout.grid), (66_056, 32));
    assert_eq!((layout.marks["bos"], layout.marks["eos"]), (0, 2));
    assert_eq!(layout.marks["mask:511"], layout.marks["break"] + 2 + 511);
    let names: Vec<&str> = program.models["llm"]
        .model
        .weights
        .keys()
        .map(String::as_str)
        .take(4)
        .collect();
    assert_eq!(
        names,
        [
            "embed.table",
            "positions.table",
            "layers.0.attn.q",
            "layers.0.attn.k"
        ]
    );
}
