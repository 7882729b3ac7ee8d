//! Programs that were damaged, and programs made to exhaust a compiler: always an answer.

mod support;

use std::time::Instant;

use jam_dsl::{CompileOptions, World, compile, report};
use proptest::prelude::*;
use support::{repository, words};

/// Nothing is there.
struct Nowhere;

impl World for Nowhere {
    fn read(&self, path: &str) -> Result<String, String> {
        Err(format!("there is no file `{path}`"))
    }

    fn exists(&self, _: &str) -> bool {
        false
    }
}

/// Compiles and renders; gives the number of errors and the reports.
fn answer(text: &str) -> (usize, String) {
    let words = words();
    let options = CompileOptions {
        words: &words,
        set: &[],
        seed: None,
    };
    let compiled = compile("a.jam", text, &Nowhere, &options);
    for report in &compiled.diagnostics {
        for label in &report.labels {
            let text = &compiled.sources.get(label.span.file).unwrap().text;
            assert!(label.span.start <= label.span.end && label.span.end as usize <= text.len());
        }
        report::json(report, &compiled.sources);
    }
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    (compiled.diagnostics.error_count(), text)
}

fn examples() -> Vec<String> {
    let paths = [
        "drawing/drawing.jam",
        "emoji/emoji.jam",
        "paper/parents.jam",
    ];
    let read = |path| std::fs::read_to_string(repository().join("examples").join(path)).unwrap();
    paths.map(read).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_examples_are_answered(
        which in 0usize..3,
        edits in proptest::collection::vec((any::<u16>(), 0usize..6, any::<u8>()), 1..8)
    ) {
        let mut text: Vec<char> = examples()[which].chars().collect();
        for (place, kind, choice) in edits {
            let at = usize::from(place) % text.len();
            let length = usize::from(choice % 24).min(text.len() - at);
            match kind {
                0 => { text.drain(at..at + length); }
                1 => { let part: Vec<char> = text[at..at + length].to_vec(); text.splice(at..at, part); }
                2 => text.insert(at, ['(', ')', '{', '}', '"', ',', '=', ':', '.', '-'][usize::from(choice) % 10]),
                3 => { let other = usize::from(choice) * 7 % text.len(); text.swap(at, other); }
                4 => { text.splice(at..at, " 18446744073709551616 ".chars()); }
                _ => { let lines = text.split(|c| *c == '\n').count(); let line = usize::from(place) % lines;
                       let kept: Vec<Vec<char>> = text.split(|c| *c == '\n').enumerate()
                           .filter(|(index, _)| *index != line).map(|(_, line)| line.to_vec()).collect();
                       text = kept.join(&'\n'); }
            }
            if text.is_empty() {
                text.push('x');
            }
        }
        let text: String = text.into_iter().collect();
        let (errors, report) = answer(&text);
        prop_assert_eq!(errors == 0, !report.contains("error"), "{}", report);
    }
}

#[test]
fn programs_made_to_exhaust_a_compiler_are_answered() {
    let start = Instant::now();
    let doubling = |first: &str, next: &dyn Fn(usize) -> String| {
        let mut text = format!("let a0 = {first}\n");
        for index in 1..200 {
            text.push_str(&format!("let a{index} = {}\n", next(index - 1)));
        }
        text
    };
    let model = |body: &str| {
        format!(
            "model m {{\n    tokens = 10\n    width = 8\n    x = embed(tokens)\n{body}\n    logits = unembed(x)\n}}\n"
        )
    };
    // Blocks that call the next one twice, with other parameters each time.
    let mut blocks = String::new();
    let mut same = String::new();
    for level in (0..30).rev() {
        let inner = match level {
            29 => "x = x + mlp(x, hidden: 1 + n - n)".to_owned(),
            _ => format!(
                "x = b{0}(x, n: 2 * n), x = b{0}(x, n: 2 * n + 1)",
                level + 1
            ),
        };
        blocks.push_str(&format!("block b{level}(x, n) {{ {inner} }}\n"));
        same.push_str(&format!(
            "block b{level}(x, n) {{ {} }}\n",
            inner.replace("2 * n + 1", "n").replace("2 * n", "n")
        ));
    }
    let hostile: Vec<(&str, String)> = vec![
        (
            "too long",
            doubling("[1, 2]", &|index| format!("[a{index}, a{index}]")),
        ),
        (
            "too long",
            doubling("mix(1, 2)", &|index| format!("mix(a{index}, a{index})")),
        ),
        (
            "too long",
            doubling("\"aaaaaaaa\"", &|index| format!("a{index} + a{index}")),
        ),
        (
            "too large",
            doubling("3", &|index| format!("a{index} * a{index}")),
        ),
        (
            "too many different blocks",
            blocks + &model("    x = b0(x, n: 1)"),
        ),
        (
            "too large to be written out",
            same + &model("    x = b0(x, n: 1)"),
        ),
        ("too long", model(&"    x = x + x\n".repeat(30_000))),
        (
            "too long",
            model(&format!("    x = x{}", " + x".repeat(30_000))),
        ),
        ("begins no statement", "what = 1\n".repeat(30_000)),
        (
            "not defined",
            (0..20_000)
                .map(|index| format!("data d{index} = text(e{index})\n"))
                .collect(),
        ),
        ("layers are too many", model("    repeat 1e9 { x = x + x }")),
    ];
    let long = "1+".repeat(25 << 20);
    assert!(answer(&long).1.len() < 1000, "{}", &answer(&long).1[..1000]);
    let hostile = hostile.into_iter().chain([
        ("too long to be a program", format!("let a = {long}1")),
        ("64 deep", format!("let a = {}", "(".repeat(100_000))),
        ("64 deep", "model a { ".repeat(100_000)),
        ("64 deep", format!("x = {}", "a { b = ".repeat(100_000))),
        (
            "more than 64 bits hold",
            model("    y = 1").replace("= 8", "= 18446744073709551616"),
        ),
    ]);
    for (expected, text) in hostile {
        let (errors, report) = answer(&text);
        assert!(
            errors > 0 && report.contains(expected),
            "{expected}: {}",
            &report[..report.len().min(600)]
        );
        assert!(
            report.len() < 4 << 20,
            "{expected}: a report of {} bytes",
            report.len()
        );
    }
    let deep = format!("{}{}", "block b(x) { x = b(x) }\n", model("    x = b(x)"));
    assert!(answer(&deep).1.contains("calls itself"));
    assert_eq!(
        answer(&model("    repeat 4096 { x = x + mlp(x, hidden: 4) }")).0,
        0
    );
    // Seconds where the machine is slow; minutes would be growth out of bounds.
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}
