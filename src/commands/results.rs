//! `jamc results`: what programs have made and where it lies, and taking away what is named.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use jam_ir::{Error, ErrorKind};
use jam_runtime::results::State;
use jam_runtime::steps::{Listed, Workload, overview, remove_results};
use serde_json::json;

use super::build::bytes;
use crate::cli::Common;
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(
    place: &Path,
    remove: &[String],
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let (out, work) = if place.is_dir() {
        common.refuse_program_flags(place, common.seed)?;
        (place.to_owned(), None)
    } else {
        let work = program::load(place, Purpose::Look, common, console)?.workload(common);
        (work.out.clone(), Some(work))
    };
    if !out.is_dir() {
        return Err(Failure::Input(
            Error::of(ErrorKind::Absent, "there is no folder of results yet").with_path(out),
        ));
    }
    if remove.is_empty() {
        return list(&out, work.as_ref(), common);
    }
    let ids: Vec<&str> = remove.iter().map(|id| id.trim_end_matches('/')).collect();
    let removed: Vec<PathBuf> = remove_results(&out, &ids)?;
    if common.json {
        let removed: Vec<String> = removed
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return print_json(&json!({ "removed": removed }));
    }
    for path in removed {
        print(&format!("removed {}\n", path.display()))?;
    }
    Ok(())
}

fn list(out: &Path, work: Option<&Workload>, common: &Common) -> Result<(), Failure> {
    let listed = overview(out, work)?;
    if common.json {
        return print_json(&json!({ "folder": out.display().to_string(), "results": listed }));
    }
    if listed.is_empty() {
        return print(&format!("{}: no results\n", out.display()));
    }
    let rows: Vec<[String; 5]> = listed.iter().map(row).collect();
    let head = ["result", "state", "made", "size", "wanted"].map(str::to_owned);
    let widths: Vec<usize> = (0..4)
        .map(|column| {
            let all = rows.iter().chain([&head]);
            all.map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = format!("{}\n", out.display());
    for row in [&head].into_iter().chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.push_str(&row[4]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text)
}

fn row(listed: &Listed) -> [String; 5] {
    let entry = &listed.entry;
    let state = match &entry.state {
        State::Done => "done".to_owned(),
        State::Begun(Some(step)) => format!("paused at step {step}"),
        State::Begun(None) => "begun".to_owned(),
        State::Damaged(_) => "damaged".to_owned(),
        State::Earlier => "of an earlier version".to_owned(),
        State::Later(_) => "of a later version".to_owned(),
        State::Foreign => "not ours".to_owned(),
        State::LeftOver => "left over".to_owned(),
    };
    let made = entry.made.map_or_else(String::new, |seconds| {
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    });
    let wanted = match (&entry.state, listed.wanted, &listed.why) {
        (State::Damaged(why) | State::Later(why), _, _) => why.clone(),
        (_, Some(true), _) if !entry.changes.is_empty() => {
            format!("yes; it went on though {}", entry.changes.join("; "))
        }
        (_, Some(true), _) => "yes".to_owned(),
        (_, Some(false), Some(why)) => format!("no: {why}"),
        _ => String::new(),
    };
    [entry.id.clone(), state, made, bytes(entry.bytes), wanted]
}
