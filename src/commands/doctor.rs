//! `jamc doctor`: what this machine offers, and what the program was built with.

use jam_backends::{Doctor, Kind};
use serde_json::json;

use crate::cli::Common;
use crate::console::{print, print_json};
use crate::failure::Failure;
use crate::version;

pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    let found = jam_backends::doctor();
    if common.json {
        return print_json(&as_json(&found));
    }
    print(&format!("jamc {}\n", version::version()))?;
    print(&format!(
        "processor: {} threads, {}\n",
        found.threads, found.simd
    ))?;
    for Kind {
        name,
        built,
        devices,
        note,
    } in &found.kinds
    {
        let state = if *built { "built in" } else { "not built in" };
        print(&format!("\n{name}: {state}\n"))?;
        for (device, description) in devices {
            print(&format!("  --device {device:<10} {description}\n"))?;
        }
        if let Some(note) = note {
            print(&format!("  {note}\n"))?;
        }
    }
    print(&format!("\n--device auto takes {}\n", found.auto))
}

fn as_json(found: &Doctor) -> serde_json::Value {
    let kinds = found.kinds.iter().map(|kind| {
        let devices = kind
            .devices
            .iter()
            .map(|(device, description)| json!({ "device": device, "description": description }));
        json!({
            "name": kind.name,
            "built": kind.built,
            "devices": devices.collect::<Vec<_>>(),
            "note": kind.note,
        })
    });
    json!({
        "version": version::number(),
        "commit": version::commit(),
        "features": version::features(),
        "threads": found.threads,
        "simd": found.simd,
        "kinds": kinds.collect::<Vec<_>>(),
        "auto": found.auto,
    })
}
