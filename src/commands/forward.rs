//! `jamc forward`: logits of a model on given tokens, safetensors in and out.

use std::path::Path;

use jam_backends::Tokens;
use jam_runtime::steps::load_executable;
use jam_weights::checkpoints::CheckpointReader;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::cli::{Common, ForceArgs};
use crate::console::{Console, print_json};
use crate::failure::Failure;
use crate::model_source;
use crate::output::{check_file, rewrite};

pub(crate) fn run(
    model: &Path,
    tokens: &Path,
    output: &Path,
    force: ForceArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    check_file(output, force, &[tokens, model])?;
    let (graph, weights) = model_source::open(model, common.numbers(), console)?;
    let input = CheckpointReader::open(tokens)?;
    let shape = input.tensor("input_ids")?.shape.clone();
    let [rows, length] = shape[..] else {
        return Err(Failure::new(format!(
            "`input_ids` is {shape:?}, and [batch, time] is asked for"
        )));
    };
    if let Some(context) = graph.context.filter(|context| length > *context) {
        console.warn(&format!(
            "rows of {length} tokens are longer than the model's context of {context}: it never \
             learned what stands behind that"
        ));
    }
    let ids = input
        .read_i64("input_ids")?
        .into_iter()
        .map(|id| u32::try_from(id).map_err(|_| Failure::new(format!("{id} is not a token id"))));
    let ids: Vec<u32> = ids.collect::<Result<_, _>>()?;
    let mask = if input.tensors().contains_key("attention_mask") {
        let found = &input.tensor("attention_mask")?.shape;
        if *found != shape {
            return Err(Failure::new(format!(
                "`attention_mask` is {found:?}, and `input_ids` {shape:?}"
            )));
        }
        Some(
            input
                .read_i64("attention_mask")?
                .into_iter()
                .map(|x| x != 0)
                .collect::<Vec<bool>>(),
        )
    } else {
        None
    };
    let device = common.open_device()?;
    let precision = common.dtype.unwrap_or_default().precision();
    let executable = load_executable(&graph, &*weights, &device, precision)?;
    let tokens = match &mask {
        Some(mask) => Tokens::masked(&ids, rows as usize, mask),
        None => Tokens::new(&ids, rows as usize),
    };
    let logits = executable.forward(tokens)?;
    let shape = [rows, length, executable.vocabulary() as u64];
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
    let written = TensorView::new(safetensors::Dtype::F32, shape, &bytes)
        .and_then(|view| safetensors::serialize([("logits", view)], None))
        .map_err(|error| Failure::new(format!("the logits cannot be written: {error}")))?;
    rewrite(output, &written)?;
    match common.json {
        true => print_json(&json!({
            "logits": output.display().to_string(),
            "shape": [rows, length, executable.vocabulary() as u64],
        })),
        false => Ok(()),
    }
}
