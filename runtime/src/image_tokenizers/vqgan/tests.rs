//! A small VQGAN in files: read, kept, refused.

use std::path::Path;

use burn::tensor::Device;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::*;
use crate::image_tokenizers::ImageTokenizer;
use jam_data::tokens::PictureTokenizer;
use jam_data::tokens::image::vqgan::layers::{self, CODEBOOK, Weight};
use jam_data::tokens::image::vqgan::names::Naming;
use jam_data::tokens::image::{SETTINGS_FILE, WEIGHTS_FILE};

/// Two levels over pictures of 8 pixels: 16 codes of a codebook of 6.
fn configuration() -> Value {
    json!({
        "ddconfig": {"resolution": 8, "in_channels": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1,
                     "attn_resolutions": [8], "z_channels": 4, "double_z": false},
        "n_embed": 6, "embed_dim": 3
    })
}

/// What may be changed about a file before it is written.
type Change<'a> = &'a dyn Fn(&mut Vec<Weight>);

/// Writes a checkpoint in the names of taming-transformers.
fn write(folder: &Path, configuration: &Value, change: Change<'_>) {
    let (naming, settings) = Naming::of(configuration).unwrap().unwrap();
    let mut weights = layers::weights(&layers::encoder(&settings));
    weights.extend(layers::weights(&layers::decoder(&settings)));
    weights.push(Weight {
        name: CODEBOOK.to_owned(),
        shape: vec![settings.codes, settings.latent],
    });
    for weight in &mut weights {
        weight.name = naming.file_name(&weight.name).unwrap();
    }
    change(&mut weights);
    let mut state = 1u32;
    let mut number = |spread: f32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32 * spread
    };
    let bytes: Vec<Vec<u8>> = weights
        .iter()
        .map(|weight| {
            let inputs: usize = weight.shape[1..].iter().product();
            let count: usize = weight.shape.iter().product();
            let spread = 3.0 / (inputs as f32).sqrt();
            (0..count)
                .flat_map(|_| number(spread).to_le_bytes())
                .collect()
        })
        .collect();
    let views = std::iter::zip(&weights, &bytes).map(|(weight, bytes)| {
        let view = TensorView::new(Dtype::F32, weight.shape.clone(), bytes).unwrap();
        (weight.name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
    std::fs::write(folder.join("config.json"), configuration.to_string()).unwrap();
}

/// A folder with a checkpoint that was changed.
fn changed(change: Change<'_>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &configuration(), change);
    folder
}

fn import(folder: &Path) -> Result<VqganTokenizer> {
    VqganTokenizer::import(folder, &Device::flex())
}

fn pictures() -> Vec<Picture> {
    let pixel = |i: usize| ((i * 2_654_435) >> 5) as u8;
    let picture = |n: usize| (0..8 * 8 * 3).map(|i| pixel(i + 1000 * n)).collect();
    let picture = |n: usize| Picture::from_pixels(8, 8, picture(n)).unwrap();
    (0..3).map(picture).collect()
}

#[test]
fn it_is_read_and_kept() {
    let folder = changed(&|_| ());
    let tokenizer = import(folder.path()).unwrap();
    let pictures = pictures();
    let codes = tokenizer.encode(&pictures).unwrap();
    assert!(codes.iter().all(|codes| codes.len() == 16));
    assert!(
        codes
            .iter()
            .flatten()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            > 1
    );
    // A picture has the same codes alone.
    assert_eq!(tokenizer.encode(&pictures[1..2]).unwrap()[0], codes[1]);
    let lists: Vec<&[u32]> = codes.iter().map(Vec::as_slice).collect();
    let back = tokenizer.decode(&lists).unwrap();
    assert_eq!((back[2].width(), back[2].height()), (8, 8));

    let kept = tempfile::tempdir().unwrap();
    tokenizer.save(kept.path()).unwrap();
    for path in [kept.path().to_owned(), kept.path().join(WEIGHTS_FILE)] {
        let again = ImageTokenizer::open(&path, &Device::flex()).unwrap();
        assert_eq!(
            (again.codes(), again.picture(), again.tokens_per_picture()),
            (6, 8, 16)
        );
        assert_eq!(again.encode(&pictures).unwrap(), codes);
        assert_eq!(again.decode(&lists).unwrap(), back);
    }
    // The file alone, with its settings under its own name.
    let beside = folder.path().join("tokenizer.safetensors");
    std::fs::rename(folder.path().join("model.safetensors"), &beside).unwrap();
    std::fs::rename(
        folder.path().join("config.json"),
        beside.with_extension("json"),
    )
    .unwrap();
    let again = ImageTokenizer::open(&beside, &Device::flex()).unwrap();
    assert_eq!(again.encode(&pictures).unwrap(), codes);
}

#[test]
fn an_encoder_alone_makes_codes_and_says_that_it_draws_nothing() {
    let folder = changed(&|weights| weights.retain(|weight| !weight.name.starts_with("decoder.")));
    let whole = changed(&|_| ());
    let tokenizer = import(folder.path()).unwrap();
    assert!(!tokenizer.decodes() && import(whole.path()).unwrap().decodes());
    let codes = tokenizer.encode(&pictures()).unwrap();
    let kept = tempfile::tempdir().unwrap();
    tokenizer.save(kept.path()).unwrap();
    let again = VqganTokenizer::load(kept.path(), &Device::flex()).unwrap();
    assert_eq!(again.encode(&pictures()).unwrap(), codes);
    for tokenizer in [tokenizer, again] {
        let error = tokenizer.decode(&[&codes[0]]).unwrap_err();
        assert!(error.message.contains("no decoder"), "{error}");
        assert!(tokenizer.loss(&[0.0; 192]).is_err());
    }
}

#[test]
fn what_does_not_fit_its_settings_is_named() {
    let cases: [(Change<'_>, &str); 5] = [
        (
            &|weights| weights.retain(|weight| weight.name != "decoder.conv_out.bias"),
            "`decoder.conv_out.bias` is missing",
        ),
        (
            &|weights| weights.retain(|weight| !weight.name.starts_with("quant")),
            "`quant_conv.weight` is missing, and 2 more",
        ),
        (
            &|weights| weights[0].shape = vec![32, 3, 1, 1],
            "`encoder.conv_in.weight` is [32, 3, 1, 1], the settings make it [32, 3, 3, 3]",
        ),
        (
            &|weights| {
                weights.push(Weight {
                    name: "encoder.down.2.block.0.conv1.weight".to_owned(),
                    shape: vec![2, 2],
                });
            },
            "the settings have no `encoder.down.2.block.0.conv1.weight`",
        ),
        (
            &|weights| weights.retain(|weight| weight.name == "none"),
            "no image tokenizer here",
        ),
    ];
    for (change, word) in cases {
        let folder = changed(change);
        let error = import(folder.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    // What was only there to train it is no matter.
    let critics = changed(&|weights| {
        weights.push(Weight {
            name: "loss.discriminator.weight".to_owned(),
            shape: vec![2],
        });
    });
    import(critics.path()).unwrap();
}

#[test]
fn damaged_and_missing_files_are_refused() {
    let folder = changed(&|_| ());
    let kept = tempfile::tempdir().unwrap();
    import(folder.path()).unwrap().save(kept.path()).unwrap();
    let path = kept.path().join(WEIGHTS_FILE);
    let whole = std::fs::read(&path).unwrap();
    let load = || {
        VqganTokenizer::load(kept.path(), &Device::flex())
            .unwrap_err()
            .to_string()
    };
    let mut bytes = whole.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(load().contains("damaged"));
    std::fs::write(&path, whole).unwrap();
    let settings = kept.path().join(SETTINGS_FILE);
    let told = std::fs::read_to_string(&settings).unwrap();
    for (from, to, word) in [
        ("\"width\": 32", "\"width\": 0", "`width`"),
        ("\"codes\": 6", "\"codes\": 7", "`codebook` is [6, 3]"),
        ("\"format\": 1", "\"format\": 9", "format 9"),
        ("\"scale\"", "\"shade\"", "description"),
    ] {
        assert!(told.contains(from), "{told}");
        std::fs::write(&settings, told.replace(from, to)).unwrap();
        let error = load();
        assert!(error.contains(word), "{word}: {error}");
    }
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = import(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn what_is_no_picture_and_no_code_is_refused() {
    let folder = changed(&|_| ());
    let tokenizer = import(folder.path()).unwrap();
    let wide = Picture::new(8, 4, [0; 3]).unwrap();
    assert!(
        tokenizer
            .encode(&[wide])
            .unwrap_err()
            .message
            .contains("8×8")
    );
    assert!(tokenizer.decode(&[&[0; 15]]).is_err());
    assert!(
        tokenizer
            .decode(&[&[6; 16]])
            .unwrap_err()
            .message
            .contains("codebook of 6")
    );
    for numbers in [&[][..], &[0.0; 100][..]] {
        assert!(tokenizer.codes_of(numbers).is_err());
    }
}
