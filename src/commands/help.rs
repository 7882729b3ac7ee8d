//! `jamc help`: a word of the language, or a command, or all words there are.

use clap::Command;
use jam_ir::reference::{Entry, SECTIONS};
use serde_json::json;

use crate::cli::Common;
use crate::console::{print, print_json};
use crate::failure::Failure;
use crate::words::words;

pub(crate) fn run(
    mut commands: Command,
    word: Option<&str>,
    common: &Common,
) -> Result<(), Failure> {
    let entries = words().entries();
    let Some(word) = word else {
        if common.json {
            return print_json(
                &json!({ "words": entries.iter().map(as_json).collect::<Vec<_>>() }),
            );
        }
        return print(&all(&entries));
    };
    let found: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.signature.word == word)
        .collect();
    commands.build();
    let command = commands.find_subcommand_mut(word);
    if common.json && !found.is_empty() {
        let found: Vec<_> = found.into_iter().map(as_json).collect();
        return print_json(&json!({ "words": found }));
    }
    if let Some(command) = command {
        let text = command.render_long_help().to_string();
        if common.json {
            return print_json(&json!({ "command": word, "help": text }));
        }
        print(&text)?;
    } else if found.is_empty() {
        return Err(unknown(word, &entries, &commands));
    }
    for (number, entry) in found.iter().enumerate() {
        if number > 0 {
            print("\n")?;
        }
        print(&entry.help())?;
    }
    Ok(())
}

/// Every word with what it is.
fn all(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.signature.word.len());
    let width = width.max().unwrap_or(0);
    let mut text = String::new();
    for section in SECTIONS {
        text.push_str(&format!("{}: {}…\n", section.name, section.place));
        for entry in entries.iter().filter(|entry| entry.section == section) {
            let signature = &entry.signature;
            text.push_str(&format!(
                "  {:width$}  {}\n",
                signature.word, signature.help
            ));
        }
        text.push('\n');
    }
    text.push_str("`jamc help WORD` tells all of a word, `jamc COMMAND --help` of a command.\n");
    text
}

fn unknown(word: &str, entries: &[Entry], commands: &Command) -> Failure {
    let words = entries.iter().map(|entry| entry.signature.word.as_str());
    let commands = commands.get_subcommands().map(Command::get_name);
    let message = format!("there is no help for `{word}`");
    Failure::Usage(match jam_dsl::nearest(word, words.chain(commands)) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => format!("{message}; `jamc help` tells the words there are"),
    })
}

fn as_json(entry: &Entry) -> serde_json::Value {
    json!({
        "word": entry.signature.word,
        "kind": entry.section.name,
        "call": entry.call,
        "help": entry.signature.help,
        "value": entry.signature.each,
        "settings": entry.signature.settings,
        "notes": entry.notes,
    })
}
