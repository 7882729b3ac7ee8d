//! Image tokenizers of cases: those of a case of their own, and those that a parent has beside its text model.

use jam_backends::Device;
use jam_data::tokens::image::vqgan::{VqganCheckpoint, ids_of_codes};
use jam_runtime::image_tokenizers::vqgan::VqganTokenizer;
use jam_weights::checkpoints::CheckpointReader;
use jam_weights::checkpoints::import::CONFIG_FILE;
use serde_json::Value;

use super::case::{Case, Checked, Findings, Stop, Tolerance};

/// The configuration of a case.
pub(crate) fn config(case: &Case) -> Checked<Value> {
    let path = case.folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let json = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(json)
}

fn open(case: &Case) -> Checked<VqganTokenizer> {
    Ok(VqganTokenizer::import(&case.folder, &Device::flex())?)
}

fn signed(codes: &[u32]) -> Vec<i64> {
    codes.iter().map(|&code| i64::from(code)).collect()
}

/// A case of an image tokenizer alone.
pub(crate) fn vq(case: &Case, findings: &mut Findings) -> Checked<()> {
    let tokenizer = open(case)?;
    let file = VqganCheckpoint::find(&case.folder)?.map(|found| found.file());
    let file = file.ok_or_else(|| "the headers show no image tokenizer".to_owned())?;
    let all = CheckpointReader::open(&case.folder)?;
    if let Some(told) = case.field("parameters").as_u64() {
        let found: u64 = all.tensors().values().map(|info| info.elements()).sum();
        findings.equal("parameters", "", &[found], &[told]);
        findings.equal("weights", "", &[file.weights.len()], &[all.tensors().len()]);
    }
    let inputs = CheckpointReader::open(case.folder.join("inputs.safetensors"))?;
    let expected = CheckpointReader::open(case.folder.join("expected.safetensors"))?;
    let image = inputs.read_f32("image")?;
    let tolerance = |name, default| case.tolerance(name, Tolerance::of(default));
    let codes = tokenizer.codes_of(&image)?;
    let loss = tokenizer.loss(&image)?;
    let names = file.weights.iter().map(|(jam, file)| (file.as_str(), jam));
    let names: std::collections::BTreeMap<&str, &String> = names.collect();
    let gradient = |file: &str| -> Checked<&Vec<f32>> {
        let found = names.get(file).and_then(|jam| loss.gradients.get(*jam));
        Ok(found.ok_or_else(|| format!("no weight has the gradient of `{file}`"))?)
    };
    let of_gradients = case.tolerance(
        "grad",
        Tolerance {
            relative: 1e-3,
            absolute: 1e-5,
        },
    );
    // Where the file gives a share alone, gradients that cancel out to rounding noise need a distance.
    let of_gradients = Tolerance {
        absolute: of_gradients.absolute.max(1e-5),
        ..of_gradients
    };
    for name in expected.tensors().keys() {
        match name.as_str() {
            "codes" => {
                let expected = expected.read_i64(name)?;
                findings.equal("codes", name, &signed(&codes), &expected);
            }
            "pre_quant" => {
                let found = tokenizer.latents_of(&image)?;
                let expected = expected.read_f32(name)?;
                findings.compare(
                    "latents",
                    name,
                    &found,
                    &expected,
                    tolerance("pre_quant", 1e-4),
                );
            }
            "reconstruction" | "decoded_random_codes" => {
                let codes = match name.as_str() {
                    "reconstruction" => codes.clone(),
                    _ => {
                        let codes = inputs.read_i64("random_codes")?;
                        codes.into_iter().map(|code| code as u32).collect()
                    }
                };
                let found = tokenizer.numbers_of(&codes)?;
                let expected = expected.read_f32(name)?;
                let tolerance = tolerance("reconstruction", 2e-4);
                findings.compare("pictures", name, &found, &expected, tolerance);
            }
            "train_loss" | "vq_loss" => {
                let found = match name.as_str() {
                    "train_loss" => loss.total,
                    _ => loss.quantisation,
                };
                let expected = expected.read_f32(name)?;
                let expected = expected.first().copied().map_or(f64::NAN, f64::from);
                findings.number("loss", name, found, expected, tolerance("loss", 1e-5));
            }
            name => match name.strip_prefix("grad.") {
                Some(weight) => {
                    let expected = expected.read_f32(name)?;
                    let found = gradient(weight)?;
                    findings.compare("gradients", weight, found, &expected, of_gradients);
                }
                None => findings.wrong.push(format!("nothing compares `{name}`")),
            },
        }
    }
    for (name, [norm, sum, largest]) in case.grad_table("") {
        let found: Vec<f64> = gradient(&name)?.iter().map(|&x| f64::from(x)).collect();
        let square: f64 = found.iter().map(|x| x * x).sum();
        let size = found.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
        findings.number("gradient norms", &name, square.sqrt(), norm, of_gradients);
        findings.number("gradient norms", &name, size, largest, of_gradients);
        // A sum adds the errors of its terms.
        let of_sum = Tolerance {
            absolute: of_gradients.absolute * (found.len() as f64).sqrt(),
            ..of_gradients
        };
        findings.number("gradient sums", &name, found.iter().sum(), sum, of_sum);
    }
    is_kept(&tokenizer, &image, findings)
}

/// What is written to a folder and read again gives the same codes and pictures.
fn is_kept(tokenizer: &VqganTokenizer, image: &[f32], findings: &mut Findings) -> Checked<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    tokenizer.save(folder.path())?;
    let again = VqganTokenizer::load(folder.path(), &Device::flex())?;
    let (found, codes) = (again.codes_of(image)?, tokenizer.codes_of(image)?);
    findings.equal("kept", "codes", &found, &codes);
    let nothing = Tolerance::of(0.0);
    let (found, pictures) = (again.codebook()?, tokenizer.codebook()?);
    findings.compare("kept", "codebook", &found, &pictures, nothing);
    if tokenizer.decodes() {
        let (found, pictures) = (again.numbers_of(&codes)?, tokenizer.numbers_of(&codes)?);
        findings.compare("kept", "pictures", &found, &pictures, nothing);
    }
    Ok(())
}

/// The tokens of a parent's pictures in its vocabulary, from their numbers on, each step compared with what is
/// `told`: the names of the pictures' numbers, codes, entries of the codebook, and tokens.
pub(crate) fn tokens_of_pictures(
    case: &Case,
    inputs: &CheckpointReader,
    expected: &CheckpointReader,
    told: &[String; 4],
    findings: &mut Findings,
) -> Checked<Vec<i64>> {
    let [pictures, codes, entries, tokens] = told;
    let tokenizer = open(case)?;
    let pictures = inputs.read_f32(pictures)?;
    let found = tokenizer.codes_of(&pictures)?;
    let expected_codes = expected.read_i64(codes)?;
    findings.equal("codes", codes, &signed(&found), &expected_codes);
    let settings = tokenizer.settings();
    let (cells, latent) = (settings.cells(), settings.latent);
    let codebook = tokenizer.codebook()?;
    let mut met = vec![0.0; found.len() * latent]; // [n, latent, cells]
    for (place, &code) in found.iter().enumerate() {
        let (picture, cell) = (place / cells, place % cells);
        let entry = &codebook[code as usize * latent..][..latent];
        for (feature, &number) in entry.iter().enumerate() {
            met[(picture * latent + feature) * cells + cell] = number;
        }
    }
    let expected_entries = expected.read_f32(entries)?;
    let tolerance = case.tolerance("quant", Tolerance::of(1e-5));
    findings.compare("codebook", entries, &met, &expected_entries, tolerance);
    let config = config(case)?;
    let names = config["vocabulary_map"].as_object();
    let names = names.ok_or_else(|| Stop::Wrong("there is no `vocabulary_map`".to_owned()))?;
    let names = names
        .iter()
        .filter_map(|(name, id)| Some((name.as_str(), id.as_u64()?)));
    let ids = ids_of_codes(names, settings.codes)?;
    let found: Vec<i64> = found
        .iter()
        .map(|&code| i64::from(ids[code as usize]))
        .collect();
    findings.equal(
        "picture tokens",
        tokens,
        &found,
        &expected.read_i64(tokens)?,
    );
    Ok(found)
}
