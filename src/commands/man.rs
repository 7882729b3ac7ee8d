//! `jamc man`: the manual page of the program, or of one of its commands.

use clap::Command;
use clap_mangen::Man;
use serde_json::json;

use crate::cli::Common;
use crate::console::{print, print_json};
use crate::failure::Failure;

pub(crate) fn run(mut all: Command, command: Option<&str>, common: &Common) -> Result<(), Failure> {
    // Commands get the flags that all have.
    all.build();
    let page_of = match command {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names = all.get_subcommands().map(|command| command.get_name());
                let names: Vec<&str> = names.collect();
                let message = format!(
                    "there is no command `{name}`; there are {}",
                    names.join(", ")
                );
                return Err(Failure::usage(message));
            }
        },
    };
    let name = page_of.get_display_name().unwrap_or(page_of.get_name());
    let name = name.to_owned();
    let mut page = Vec::new();
    Man::new(page_of)
        .render(&mut page)
        .map_err(|error| Failure::new(format!("the page cannot be written: {error}")))?;
    let page = String::from_utf8_lossy(&page);
    if common.json {
        return print_json(&json!({ "name": name, "page": page }));
    }
    print(&page)
}
