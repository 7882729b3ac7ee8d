//! `jamc doctor`: what this machine offers, and what the program was built with.

use jam_backends::kernels::served::{Place, services};
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
        if *built {
            for line in kernels(name) {
                print(&format!("  {line}\n"))?;
            }
        }
    }
    print(&format!("\n--device auto takes {}\n", found.auto))
}

/// The operations that a kind of device has kernels for, and those that plain tensor operations compute.
fn kernels(kind: &str) -> Vec<String> {
    let services = services(place(kind));
    let mut by_types: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for service in &services {
        let name = service.kernel.to_string();
        match by_types
            .iter_mut()
            .find(|(types, _)| *types == service.types)
        {
            Some((_, names)) => names.push(name),
            None => by_types.push((service.types.clone(), vec![name])),
        }
    }
    let has = by_types.iter().filter(|(types, _)| !types.is_empty());
    let mut lines: Vec<String> = has
        .map(|(types, names)| format!("kernels in {}: {}", types.join(", "), names.join(", ")))
        .collect();
    let without = services.iter().filter_map(|service| {
        let note = service.note.as_ref()?;
        Some(format!("{} by plain operations: {note}", service.kernel))
    });
    lines.extend(without);
    lines
}

fn place(kind: &str) -> Place {
    match kind {
        "cpu" => Place::Processor,
        _ => Place::Gpu,
    }
}

fn as_json(found: &Doctor) -> serde_json::Value {
    let kinds = found.kinds.iter().map(|kind| {
        let devices = kind
            .devices
            .iter()
            .map(|(device, description)| json!({ "device": device, "description": description }));
        let kernels = services(place(kind.name)).into_iter().map(|service| {
            let state = json!({ "types": service.types, "note": service.note });
            (service.kernel.to_string(), state)
        });
        json!({
            "name": kind.name,
            "built": kind.built,
            "devices": devices.collect::<Vec<_>>(),
            "note": kind.note,
            "kernels": kernels.collect::<serde_json::Map<_, _>>(),
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
