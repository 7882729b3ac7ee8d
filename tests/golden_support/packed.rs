//! Merges of tensors that are several weights here: what mergekit made of a tensor, against what the same merge
//! makes of queries, keys and values that are stored in it side by side.
//!
//! mergekit measures a tensor whole and does not ask what it is. So the query matrices of a case serve as
//! matrices of GPT-2's `c_attn`, a third of their outputs each for queries, keys and values, and the gains of
//! the norms before them as its biases; what was expected of them is expected of those.

use std::fs;
use std::path::Path;

use indexmap::IndexMap;
use jam_ir::{Model, TokenLayout};
use jam_weights::checkpoints::CheckpointReader;
use jam_weights::checkpoints::decoder::{DecoderConfig, PositionConfig, decoder_only};
use jam_weights::checkpoints::hugging_face::HuggingFaceWeights;
use jam_weights::checkpoints::names::{NameTable, Sizes};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::case::{Case, Checked, Findings, Stop};
use super::merges::{Sources, add_masks, asked, merged, tolerance};
use super::names::{Place, Places, read};

/// Tensors of a LLaMA layer, the tensor of a GPT-2 layer that each serves as, and whether it is turned.
const SERVING: [(&str, &str, bool); 2] = [
    ("self_attn.q_proj.weight", "attn.c_attn.weight", true),
    ("input_layernorm.weight", "attn.c_attn.bias", false),
];
/// Files of a model and of a case.
const FILES: [&str; 3] = [
    "model.safetensors",
    "expected.safetensors",
    "masks.safetensors",
];

/// Runs the merge of a case on its tensors packed into `folder`; finds nothing where they are not LLaMA's.
pub(crate) fn packed(case: &Case, folder: &Path, findings: &mut Findings) -> Checked<()> {
    let (asked, group) = asked(case)?;
    let (layers, width) = pack(&case.folder, &folder.join("case"))?;
    if layers == 0 {
        return Ok(()); // Nothing serves: its layers are not LLaMA's.
    }
    let sizes = Sizes {
        layers,
        vocab: 1,
        embed: width,
        width,
        heads: width / 3 / 4,
        kv_heads: width / 3 / 4,
        head_dim: 4,
        hidden: 1,
        positions: 1,
        tied: true,
    };
    let model = model(&sizes);
    let open = |file: &Path| -> Checked<HuggingFaceWeights> {
        let table = NameTable::of("gpt2")?;
        Ok(HuggingFaceWeights::new(
            CheckpointReader::open(file)?,
            &table,
            &sizes,
        )?)
    };
    let expected = folder.join("case").join(FILES[1]);
    let places = open(&expected)?;
    let places = places.weights().iter().map(|(name, tensor)| {
        let place = Place::whole(tensor.clone());
        (name.clone(), place)
    });
    let places: Places = places.collect();
    let mut sources = Sources::new();
    for (index, model) in asked.models.iter().enumerate() {
        let to = folder.join(model);
        pack(&group.join(model), &to)?;
        sources.insert(format!("m{index}"), Box::new(open(&to.join(FILES[0]))?));
    }
    add_masks(&folder.join("case"), &places, &mut sources)?;
    let fused = asked.fused(|_| &model)?;
    let file = CheckpointReader::open(&expected)?;
    let tolerance = tolerance(case, &asked.method);
    for (name, value) in merged(&fused, &sources, &|name| places.contains_key(name))? {
        let place = &places[&name];
        let stored = read(&file, &place.tensor.file_name, place)?;
        findings.compare("merged parts", &name, &value, &stored, tolerance);
    }
    Ok(())
}

/// A GPT-2 whose heads are narrower than its width.
fn model(sizes: &Sizes) -> Model {
    let tokens = TokenLayout::bare(sizes.vocab);
    let mut config = DecoderConfig::opt(
        tokens,
        sizes.positions,
        sizes.width,
        sizes.layers,
        sizes.heads,
        sizes.hidden,
    );
    config.head_dim = sizes.head_dim;
    config.positions = PositionConfig::Learned { offset: 0 };
    decoder_only(&config)
}

/// Writes the tensors that serve as others into files of the same names; gives the number of layers and the
/// width.
fn pack(from: &Path, to: &Path) -> Checked<(u64, u64)> {
    fs::create_dir_all(to).map_err(|e| e.to_string())?;
    let (mut layers, mut width) = (0, 0);
    for name in FILES {
        let Ok(bytes) = fs::read(from.join(name)) else {
            continue;
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
        let mut tensors: IndexMap<String, (Dtype, Vec<usize>, Vec<u8>)> = IndexMap::new();
        for (stored, tensor) in file.tensors() {
            let layer = stored.strip_prefix("model.layers.");
            let Some((layer, rest)) = layer.and_then(|rest| rest.split_once('.')) else {
                continue;
            };
            let (rest, mask) = rest
                .split_once('|')
                .map_or((rest, None), |(a, b)| (a, Some(b)));
            let serves = SERVING.iter().find(|(served, _, _)| *served == rest);
            let Some((_, named, turned)) = serves else {
                continue;
            };
            let mask = mask.map_or(String::new(), |mask| format!("|{mask}"));
            let mut shape = tensor.shape().to_vec();
            let size = tensor.data().len() / shape.iter().product::<usize>();
            let mut data = tensor.data().to_vec();
            if *turned {
                let (outputs, inputs) = (shape[0], shape[1]);
                let entries = (0..inputs).flat_map(|i| (0..outputs).map(move |o| o * inputs + i));
                data = entries
                    .flat_map(|at| &tensor.data()[at * size..][..size])
                    .copied()
                    .collect();
                shape.reverse();
            }
            layers = layers.max(layer.parse::<u64>().map_err(|e| e.to_string())? + 1);
            width = shape[0] as u64;
            let named = format!("h.{layer}.{named}{mask}");
            tensors.insert(named, (tensor.dtype(), shape, data));
        }
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            let view = TensorView::new(*dtype, shape.clone(), data);
            view.map(|view| (name.clone(), view))
        });
        let views: Vec<_> = views
            .collect::<Result<_, _>>()
            .map_err(|e| Stop::Wrong(format!("{e}")))?;
        let written = safetensors::serialize(views, None).map_err(|e| e.to_string())?;
        fs::write(to.join(name), written).map_err(|e| e.to_string())?;
    }
    Ok((layers, width))
}
