//! `jamc doctor`: what this machine offers, and what the program was built with.

use jam_backends::kernels::served::{Service, services};
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
    for kind in &found.kinds {
        let Kind {
            name,
            built,
            devices,
            note,
            ..
        } = kind;
        let state = if *built { "built in" } else { "not built in" };
        print(&format!("\n{name}: {state}\n"))?;
        for (device, description) in devices {
            print(&format!("  --device {device:<10} {description}\n"))?;
        }
        if let Some(note) = note {
            print(&format!("  {note}\n"))?;
        }
        for line in kernels(kind) {
            print(&format!("  {line}\n"))?;
        }
    }
    print(&format!("\n--device auto takes {}\n", found.auto))
}

/// What the devices of a kind do about every operation; nothing where it is not built in.
fn services_of(kind: &Kind) -> Vec<Service> {
    if kind.built {
        services(kind.place)
    } else {
        Vec::new()
    }
}

/// The operations that a kind of device has kernels for, and those that plain tensor operations compute.
fn kernels(kind: &Kind) -> Vec<String> {
    let services = services_of(kind);
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

fn as_json(found: &Doctor) -> serde_json::Value {
    let kinds = found.kinds.iter().map(|kind| {
        let devices = kind
            .devices
            .iter()
            .map(|(device, description)| json!({ "device": device, "description": description }));
        let kernels = services_of(kind).into_iter().map(|service| {
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
