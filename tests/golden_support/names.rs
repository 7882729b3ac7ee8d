//! Where the weights of a model lie in the files of a case: Hugging Face names through the name
//! tables, and the names of two-tower models.
//!
//! Gradients and stepped parameters of a case lie as its weights do, so one [`Place`] serves all.

use std::ops::Range;

use indexmap::IndexMap;
use jam_ir::{AxisId, Model, Param};
use jam_weights::checkpoints::hugging_face::HuggingFaceWeights;
use jam_weights::checkpoints::import::ImportedConfig;
use jam_weights::checkpoints::names::{FileWeight, NameTable, file_weights};
use jam_weights::checkpoints::{CheckpointReader, Dtype};

use super::case::{Checked, Stop};

/// Where a weight lies in a file.
#[derive(Clone)]
pub(crate) struct Place {
    /// The tensor, and how it lies there.
    pub(crate) tensor: FileWeight,
    /// Which of its inputs are this weight's; `None` for all.
    inputs: Option<Range<u64>>,
}

impl Place {
    /// A weight with all of its inputs.
    pub(crate) fn whole(tensor: FileWeight) -> Place {
        Place {
            tensor,
            inputs: None,
        }
    }
}

/// Weights by JAM name, with their places in a file.
pub(crate) type Places = IndexMap<String, Place>;

/// Places in a checkpoint of a known Hugging Face architecture; nothing may be left over in it.
pub(crate) fn of_architecture(
    reader: CheckpointReader,
    config: &ImportedConfig,
    model: &Model,
) -> Checked<Places> {
    let table = NameTable::of(&config.model_type)?;
    let weights = HuggingFaceWeights::new(reader, &table, &config.sizes())?;
    if !weights.surplus().is_empty() {
        return Err(Stop::Wrong(format!(
            "no weight reads {:?}",
            weights.surplus()
        )));
    }
    let whole = |(name, tensor): (&String, &FileWeight)| {
        let tensor = tensor.clone();
        (
            name.clone(),
            Place {
                tensor,
                inputs: None,
            },
        )
    };
    let mut places: Places = weights.weights().iter().map(whole).collect();
    divide(model, &mut places);
    Ok(places)
}

/// Gives weights that are halves of one tensor (`embed.table.first`, `embed.table.second`) their
/// places: along its outputs, or along its inputs where the outputs are those of the whole.
fn divide(model: &Model, places: &mut Places) {
    let mut divided = Vec::new();
    for (name, param) in model.weight_uses() {
        let first = name.strip_suffix(".first").map(|base| (base, true));
        let half = first.or_else(|| name.strip_suffix(".second").map(|base| (base, false)));
        let Some((base, first)) = half.filter(|_| !places.contains_key(&name)) else {
            continue;
        };
        let Some(Place { tensor, .. }) = places.get(base).cloned() else {
            continue;
        };
        let (rows, columns) = sides(model, param);
        let start = |all: u64, own: u64| if first { 0 } else { all - own.min(all) };
        let mut own = tensor.clone();
        own.shape = model.weight_shape(&param.ty).unwrap_or_default();
        let mut inputs = None;
        if columns < tensor.columns {
            own.columns = columns;
            own.outputs = (
                tensor.outputs.0 + start(tensor.columns, columns),
                tensor.outputs.1,
            );
        } else {
            let start = start(tensor.rows, rows);
            inputs = Some(start..start + rows);
        }
        divided.push(base.to_owned());
        places.insert(
            name,
            Place {
                tensor: own,
                inputs,
            },
        );
    }
    let uses = model.weight_uses();
    places.retain(|name, _| uses.contains_key(name) || !divided.contains(name));
}

/// Products of a weight's input sizes (0 without an input side) and of its output sizes.
fn sides(model: &Model, param: &Param) -> (u64, u64) {
    let product = |axes: &[AxisId]| -> u64 {
        axes.iter()
            .map(|axis| model.axis(*axis).size.unwrap_or(0))
            .product()
    };
    let rows = if param.ty.input.is_empty() {
        0
    } else {
        product(&param.ty.input)
    };
    (rows, product(&param.ty.output))
}

/// Weights of two-tower models that belong to neither parent: name here, name there, and whether
/// the file has the output axes first.
const JOINT: [(&str, &str, bool); 7] = [
    ("shared.embed", "shared_embed.weight", false),
    ("shared.positions", "shared_positions.weight", false),
    ("shared.unembed", "shared_unembed.weight", true),
    ("shared.unembed_bias", "shared_unembed.bias", false),
    ("join.weight", "out_combine.weight", true),
    ("join.norm.gain", "out_norm.weight", false),
    ("join.norm.bias", "out_norm.bias", false),
];

/// Places of a two-tower model's weights: a tower's own under the name of its parent's
/// architecture (`img.layers.0.fc1.weight`), those of an exchange under the receiver's
/// (`cross.0.llm_to_img.q_proj.weight`), joint ones as [`JOINT`] says. Nothing may be left over.
pub(crate) fn of_towers(
    model: &Model,
    towers: &[(String, ImportedConfig)],
    file: &CheckpointReader,
) -> Checked<Places> {
    let mut own = Vec::new();
    for (name, config) in towers {
        let table = NameTable::of(&config.model_type)?;
        let prefix = format!("{name}.");
        let weights = file_weights(&table, &config.sizes(), &prefix)?;
        own.push((name, prefix, weights));
    }
    let mut places = Places::new();
    for (name, param) in model.weight_uses() {
        let mut candidates: Vec<(String, bool)> = Vec::new();
        let joint = JOINT.iter().filter(|(here, _, _)| *here == name);
        candidates.extend(joint.map(|(_, there, turned)| ((*there).to_owned(), *turned)));
        for (tower, prefix, weights) in &own {
            if let Some(place) = name.strip_prefix(prefix).and_then(|rest| weights.get(rest)) {
                candidates.push((place.file_name.clone(), place.transposed));
            }
            let Some((at, rest)) = exchange(&name, tower) else {
                continue;
            };
            if let Some(place) = weights.get(&format!("layers.0.{rest}")) {
                let start = format!("{prefix}layers.0.");
                let there = place
                    .file_name
                    .strip_prefix(&start)
                    .unwrap_or(&place.file_name);
                let short: Vec<&str> = there.rsplitn(3, '.').take(2).collect();
                let short: Vec<&str> = short.into_iter().rev().collect();
                candidates.push((format!("{at}.{there}"), place.transposed));
                candidates.push((format!("{at}.{}", short.join(".")), place.transposed));
            }
        }
        let found = candidates
            .iter()
            .find(|(there, _)| file.tensors().contains_key(there));
        let Some((file_name, transposed)) = found else {
            let tried: Vec<&String> = candidates.iter().map(|(there, _)| there).collect();
            let message = format!("weight `{name}` is not in the file, not as any of {tried:?}");
            return Err(Stop::Wrong(message));
        };
        let (rows, columns) = sides(model, param);
        let tensor = FileWeight {
            file_name: file_name.clone(),
            shape: model.weight_shape(&param.ty).unwrap_or_default(),
            rows,
            columns,
            transposed: *transposed,
            outputs: (0, columns),
            grid: false,
        };
        places.insert(
            name,
            Place {
                tensor,
                inputs: None,
            },
        );
    }
    let used = |name: &&String| {
        !places
            .values()
            .any(|place| place.tensor.file_name == **name)
    };
    let surplus: Vec<&String> = file.tensors().keys().filter(used).collect();
    match surplus.is_empty() {
        true => Ok(places),
        false => Err(Stop::Wrong(format!("no weight reads {surplus:?}"))),
    }
}

/// `cross.K.GIVER_to_RECEIVER` and the rest of a weight's name, where `receiver` receives.
fn exchange<'n>(name: &'n str, receiver: &str) -> Option<(&'n str, &'n str)> {
    let rest = name.strip_prefix("cross.")?;
    let (number, rest) = rest.split_once('.')?;
    let (direction, rest) = rest.split_once('.')?;
    let of_receiver = direction.ends_with(&format!("_to_{receiver}"));
    let at = "cross.".len() + number.len() + 1 + direction.len();
    of_receiver.then_some((&name[..at], rest))
}

/// The numbers of a tensor that lies in a file as `place` says, in JAM's layout.
pub(crate) fn read(file: &CheckpointReader, tensor: &str, place: &Place) -> Checked<Vec<f32>> {
    let Place {
        tensor: place,
        inputs,
    } = place;
    let shape = &file.tensor(tensor)?.shape;
    if *shape != place.file_shape() {
        let wanted = place.file_shape();
        return Err(Stop::Wrong(format!(
            "`{tensor}` is {shape:?}, not {wanted:?}"
        )));
    }
    let stored = match file.tensor(tensor)?.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => file.read_f32(tensor)?,
        _ => file
            .read_i64(tensor)?
            .into_iter()
            .map(|x| x as f32)
            .collect(),
    };
    let (first, all) = (place.outputs.0 as usize, place.outputs.1 as usize);
    let (rows, columns) = (place.rows as usize, place.columns as usize);
    if rows == 0 {
        return Ok(stored[first..first + columns].to_vec());
    }
    let at = |i: usize| {
        let (row, column) = (i / columns, first + i % columns);
        match place.transposed {
            true => stored[column * rows + row],
            false => stored[row * all + column],
        }
    };
    let inputs = inputs.clone().unwrap_or(0..place.rows);
    let range = inputs.start as usize * columns..inputs.end as usize * columns;
    Ok(range.map(at).collect())
}
