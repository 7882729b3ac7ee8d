//! `jamc completions`: what makes a shell complete commands and flags.

use clap::Command;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::Common;
use crate::console::{print, print_json};
use crate::failure::Failure;

pub(crate) fn run(mut command: Command, shell: Shell, common: &Common) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    if common.json {
        return print_json(&json!({ "shell": shell.to_string(), "script": script }));
    }
    print(&script)
}
