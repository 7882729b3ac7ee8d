//! `jamc export`: a model as a folder that other programs open.

use std::path::Path;

use jam_runtime::folders::{Export, Exported, ModelFolder, export_model, model_card};
use serde_json::json;

use crate::cli::{Common, ForceArgs};
use crate::console::{Console, print, print_json, stop_on_interrupt};
use crate::failure::Failure;
use crate::model_source;
use crate::output::{Mark, check_folder};
use crate::vocabulary;

pub(crate) fn run(
    from: &Path,
    output: &Path,
    shard_bytes: u64,
    force: ForceArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let replace = check_folder(output, force, &[from], Mark::EXPORT)?;
    let read = |name: &str| std::fs::read_to_string(from.join(name)).ok();
    let own = model_source::own(from)?;
    let is_own = own.is_some();
    let (model, weights, source) = match own {
        Some(ModelFolder { model, weights, .. }) => {
            let weights = common.numbers().of(Box::new(weights));
            (model, weights, String::new())
        }
        None => {
            let (config, model) = model_source::with_vocabulary(from, console)?;
            let source = config.jam_source("model", &from.display().to_string());
            let weights = model_source::weights_of(&model, from, common.numbers(), console)?;
            (model, weights, source)
        }
    };
    let source = read("source.jam").unwrap_or(source);
    // A model folder has its card: its parents, strategy, counts and plan.
    let card = match read("README.md").filter(|_| is_own) {
        Some(card) => card,
        None => {
            let name = from.file_name().unwrap_or_default().display().to_string();
            model_card(
                &model,
                &format!("Imported from `{name}`, and exported again."),
            )
        }
    };
    // A checkpoint of one file has its tokenizer beside it.
    let beside = vocabulary::tokenizer_of(from);
    let export = Export {
        model: &model,
        weights: &*weights,
        source: &source,
        card,
        from: beside,
        shard_bytes,
        files: vec![(Mark::EXPORT.name().to_owned(), Vec::new())],
        replace,
    };
    let stop = stop_on_interrupt(console);
    let (model_type, why) = match export_model(output, &export, console, &stop)? {
        Exported::HuggingFace(model_type) => (Some(model_type), None),
        Exported::Jam(why) => (None, Some(why)),
        Exported::Stopped => return Err(Failure::Stopped),
    };
    let folder = output.display().to_string();
    if common.json {
        return print_json(&json!({ "folder": folder, "model_type": model_type, "why": why }));
    }
    match (model_type, why) {
        (Some(model_type), _) => {
            console.show(&format!("a Hugging Face folder of the type `{model_type}`"));
        }
        (None, why) => {
            console.show(&format!("a JAM folder: {}", why.unwrap_or_default()));
        }
    }
    print(&format!("{folder}\n"))
}
