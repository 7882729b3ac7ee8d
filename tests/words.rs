//! The words of the language: the reference has the tables that the code has, and so has the copy for the
//! language's own tests. `JAM_BLESS=1` rewrites both; look at what changed before keeping it.

use std::fs;
use std::path::{Path, PathBuf};

use jam_ir::reference::SECTIONS;
use jam_ir::{Signature, Words};

fn words() -> Words {
    Words {
        strategies: jam_fusion_passes::signatures(),
        ..jam_runtime::words()
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bless() -> bool {
    std::env::var_os("JAM_BLESS").is_some()
}

#[test]
fn the_page_of_the_language_has_the_tables_that_the_code_has() {
    let path = file("docs/language.md");
    let before = fs::read_to_string(&path).unwrap();
    let mut page = before.clone();
    for section in SECTIONS {
        let mark = format!("<!-- words: {} -->\n", section.name);
        let end = "\n<!-- end of words -->";
        let at = page.find(&mark);
        let at = at.unwrap_or_else(|| panic!("the page has no `{}`", mark.trim_end())) + mark.len();
        let length = page[at..].find(end).expect("the table ends");
        page.replace_range(at..at + length, &words().table(section));
    }
    if bless() {
        fs::write(&path, &page).unwrap();
    } else if page != before {
        let mut pairs = before.lines().zip(page.lines());
        let (found, wanted) = pairs.find(|(found, wanted)| found != wanted).unwrap();
        panic!(
            "docs/language.md has\n{found}\nwhere the tables give\n{wanted}\n(JAM_BLESS=1 rewrites it)"
        );
    }
}

/// Words that the tables have and the copy has not do no harm: who adds one need not touch the copy.
#[test]
fn the_copy_for_the_tests_of_the_language_says_what_the_tables_say() {
    let path = file("dsl/tests/words.ron");
    let words = words();
    if bless() {
        fs::write(&path, words.written().unwrap()).unwrap();
    }
    let copy = Words::read(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(Words::read(&words.written().unwrap()).unwrap(), words);
    let wrong = |what: &str| panic!("{what} of dsl/tests/words.ron is no longer so (JAM_BLESS=1)");
    for strategy in &copy.strategies {
        if !words.strategies.contains(strategy) {
            wrong(&strategy.signature.word);
        }
    }
    for format in &copy.formats {
        if !words.formats.contains(format) {
            wrong(&format.signature.word);
        }
    }
    for tokenizer in &copy.tokenizers {
        if !words.tokenizers.contains(tokenizer) {
            wrong(&tokenizer.signature.word);
        }
    }
    for part in &copy.lessons {
        if !words.lessons.contains(part) {
            wrong(&part.name);
        }
    }
    let plain = |words: &Words| -> Vec<Signature> {
        let all = [
            &words.objectives,
            &words.optimizers,
            &words.schedules,
            &words.measures,
        ];
        all.into_iter().flatten().cloned().collect()
    };
    let all = plain(&words);
    for signature in plain(&copy) {
        if !all.contains(&signature) {
            wrong(&signature.word);
        }
    }
}

#[test]
fn every_word_is_told_in_full() {
    let entries = words().entries();
    for section in SECTIONS {
        assert!(
            entries.iter().any(|entry| entry.section == section),
            "{}",
            section.name
        );
    }
    for entry in entries {
        let Signature {
            word,
            help,
            each,
            settings,
            ..
        } = &entry.signature;
        assert!(!help.is_empty() && !help.ends_with('.'), "{word}: {help}");
        for setting in each.iter().chain(settings) {
            assert!(
                !setting.help.is_empty(),
                "`{}` of `{word}` has no help",
                setting.name
            );
            assert!(
                !setting.help.ends_with('.'),
                "`{}` of `{word}`",
                setting.name
            );
            assert!(entry.help().contains(&setting.help), "help of `{word}`");
        }
    }
}
