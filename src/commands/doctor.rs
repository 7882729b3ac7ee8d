//! `jamc doctor`: what this machine offers, and what the program was built with.

use crate::cli::Common;
use crate::console::print;
use crate::failure::Failure;

pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    let found = jam_backends::doctor();
    if common.json {
        let json = serde_json::to_string_pretty(&found);
        print(&json.map_err(|error| Failure::new(error.to_string()))?);
        print("\n");
    } else {
        print(&found.to_string());
    }
    Ok(())
}
