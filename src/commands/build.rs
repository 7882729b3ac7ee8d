//! `jamc build`: fused models, each in a folder that stands alone; or what that would take.

use std::fmt::Write as _;
use std::path::Path;

use jam_ir::recipe::Step;
use jam_runtime::steps::{Forecast, Runner, Workload};
use jam_weights::progress::Stop;
use serde_json::json;

use super::{carry_out, known};
use crate::cli::{Common, PassArgs};
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(
    file: &Path,
    names: &[String],
    dry: bool,
    passes: &PassArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    passes.check(common)?;
    let purpose = if dry { Purpose::Check } else { Purpose::Make };
    let mut work = program::load(file, purpose, common, console)?.workload(common);
    if passes.asked() {
        passes.run_on_fusions(&mut work, names, common, console)?;
    }
    let all = &work.program.fusions;
    for name in names {
        known(all, "fusion", name)?;
    }
    let chosen: Vec<_> = all
        .keys()
        .filter(|name| names.is_empty() || names.contains(name))
        .collect();
    if chosen.is_empty() {
        return Err(Failure::new(format!(
            "{} has no `fuse` to build",
            file.display()
        )));
    }
    if dry {
        return forecast(&work, &chosen, common, console);
    }
    let steps: Vec<_> = chosen
        .iter()
        .map(|name| Step::Fuse((*name).clone()))
        .collect();
    carry_out(&work, &steps, &[], common, console)?;
    if let Some(peak) = jam_weights::memory::peak() {
        console.detail(&format!("peak memory: {} MiB", peak.div_ceil(1 << 20)));
    }
    let folder = |name: &str| {
        let step = Step::Fuse(name.to_owned());
        work.result(&step).display().to_string()
    };
    if common.json {
        let models = chosen
            .iter()
            .map(|name| json!({ "name": name, "folder": folder(name) }));
        return print_json(&json!({ "models": models.collect::<Vec<_>>() }));
    }
    for name in chosen {
        print(&format!("{}\n", folder(name)))?;
    }
    Ok(())
}

/// Prints what building would read, write and take.
fn forecast(
    work: &Workload,
    names: &[&String],
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let mut runner =
        Runner::new(work, common.open_device()?, console, Stop::default()).taking(common.numbers());
    if let Some(limits) = common.limits() {
        runner = runner.with_limits(limits);
    }
    let forecasts = names.iter().map(|name| runner.forecast(name));
    let forecasts = forecasts.collect::<Result<Vec<_>, _>>()?;
    if common.json {
        return print_json(&json!({ "models": forecasts }));
    }
    for forecast in &forecasts {
        print(&shown(forecast))?;
    }
    Ok(())
}

/// A forecast as lines of text.
fn shown(forecast: &Forecast) -> String {
    let mut text = format!("{}\n", forecast.name);
    let mut line = |what: &str, told: String| {
        let _ = writeln!(text, "  {what:<7} {told}");
    };
    let files = |count: usize| match count {
        1 => "1 file".to_owned(),
        _ => format!("{count} files"),
    };
    for reads in &forecast.reads {
        let size = format!("`{}`: {} tensors", reads.source, reads.tensors);
        line(
            "reads",
            match (&reads.folder, reads.there) {
                (None, _) => format!("{size}, drawn"),
                (Some(folder), true) => format!(
                    "{size}, {} in {} of {}",
                    bytes(reads.bytes),
                    files(reads.files),
                    folder.display()
                ),
                (Some(_), false) => {
                    format!(
                        "{size}, {}, which an earlier step makes",
                        bytes(reads.bytes)
                    )
                }
            },
        );
    }
    let writes = &forecast.writes;
    line(
        "writes",
        format!(
            "{} tensors, {} in {} of {}",
            writes.tensors,
            bytes(writes.bytes),
            files(writes.files),
            forecast.folder.display()
        ),
    );
    let [least, fast] =
        [forecast.least_memory, forecast.fast_memory].map(|bytes| bytes.div_ceil(1 << 20));
    let would_do = match fast > least {
        true => {
            format!("`--max-memory {least}MiB` would do, and {fast}MiB without slowing it down")
        }
        false => format!("`--max-memory {least}MiB` would do"),
    };
    line(
        "memory",
        format!("at most {}; {would_do}", bytes(forecast.peak_memory)),
    );
    line(
        "time",
        match (forecast.done, forecast.seconds) {
            (true, _) => "none: it is built from these inputs already".to_owned(),
            (false, Some(seconds)) if seconds < 1.0 => "less than a second".to_owned(),
            (false, Some(seconds)) if seconds < 100.0 => format!("about {seconds:.0} s"),
            (false, Some(seconds)) => format!("about {:.0} min", seconds / 60.0),
            (false, None) => "not known before its inputs are there".to_owned(),
        },
    );
    text
}

/// A size with three digits: `13.5 GB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    for (scale, unit) in units {
        let size = count as f64 / scale;
        if size >= 1.0 {
            let digits = 2 - (size.log10().floor() as usize).min(2);
            return format!("{size:.digits$} {unit}");
        }
    }
    format!("{count} bytes")
}
