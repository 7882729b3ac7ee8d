//! Runs a model on the inputs of a case and compares what comes out: logits, losses, gradients,
//! optimizer steps, greedy sequences, and decoding step by step.

use std::collections::BTreeSet;

use jam_backends::kernels::sampling::likeliest;
use jam_backends::{AdamW, ExecOptions, Executable, Gradients, Optimizer, Targets, Tokens};
use jam_weights::checkpoints::CheckpointReader;

use super::case::{Case, Checked, Findings, Stop, Tolerance};
use super::names::{Places, read};

/// How far logits of decoding with a cache may lie from those of the full pass.
const INCREMENTAL: f64 = 1e-4;
/// A gradient that is nowhere larger is rounding noise (a bias of keys has none), which Adam turns
/// into steps of full size: what it steps to cannot be compared.
const NOISE: f32 = 1e-7;
/// Losses after the first optimizer step carry the rounding of the steps before them.
const STEPPED_LOSS: f64 = 1e-4;

/// A case's model, ready to run, with the files that say what it should give.
pub(crate) struct Subject<'a> {
    /// The case.
    pub(crate) case: &'a Case,
    /// The model.
    pub(crate) executable: Executable,
    /// Where its weights, and what is told of them, lie in files.
    pub(crate) places: &'a Places,
    inputs: CheckpointReader,
    expected: CheckpointReader,
    /// Expected tensors that were looked at.
    used: BTreeSet<String>,
}

/// One batch of a case. Names of its tensors begin with `set`: `plain.`, or nothing.
struct Batch {
    set: String,
    ids: Vec<u32>,
    rows: usize,
    mask: Option<Vec<bool>>,
}

impl Batch {
    fn tokens(&self) -> Tokens<'_> {
        match &self.mask {
            Some(mask) => Tokens::masked(&self.ids, self.rows, mask),
            None => Tokens::new(&self.ids, self.rows),
        }
    }

    fn length(&self) -> usize {
        self.ids.len() / self.rows
    }

    fn real(&self, place: usize) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[place])
    }
}

/// What every token should be followed by.
struct Labels {
    ids: Vec<u32>,
    weights: Vec<f32>,
    /// Padding that the expected loss predicts a token from, each with that token.
    from_padding: Vec<(usize, usize)>,
}

impl<'a> Subject<'a> {
    /// Opens the files of a case beside its model.
    pub(crate) fn new(
        case: &'a Case,
        executable: Executable,
        places: &'a Places,
    ) -> Checked<Subject<'a>> {
        Subject::expecting("expected.safetensors", case, executable, places)
    }

    /// As [`Subject::new`], where another file says what should come.
    pub(crate) fn expecting(
        expected: &str,
        case: &'a Case,
        executable: Executable,
        places: &'a Places,
    ) -> Checked<Subject<'a>> {
        let open = |name: &str| CheckpointReader::open(case.folder.join(name));
        Ok(Subject {
            inputs: open("inputs.safetensors")?,
            expected: open(expected)?,
            case,
            executable,
            places,
            used: BTreeSet::new(),
        })
    }

    /// Everything that the case tells of this model.
    pub(crate) fn check(mut self, findings: &mut Findings) -> Checked<()> {
        let names: Vec<String> = self.inputs.tensors().keys().cloned().collect();
        let sets = names
            .iter()
            .filter_map(|name| name.strip_suffix("input_ids"));
        for set in sets.map(str::to_owned) {
            let batch = self.batch(set, findings)?;
            let logits = self.executable.forward(batch.tokens())?;
            self.check_logits(&batch, &logits, findings)?;
            self.check_incremental(&batch, &logits, findings)?;
            self.check_loss(&batch, findings)?;
            self.check_greedy(&batch, findings)?;
            self.check_optimizer(&batch, findings)?;
        }
        if findings.is_empty() {
            return Err(Stop::Wrong("nothing was compared".to_owned()));
        }
        let names = self.expected.tensors().keys();
        for name in names.filter(|name| !self.used.contains(*name)) {
            if name.contains("hidden") {
                findings.pass_over(name.clone(), "no entry gives states");
            } else {
                findings.wrong.push(format!("nothing compares `{name}`"));
            }
        }
        Ok(())
    }

    fn batch(&mut self, set: String, findings: &mut Findings) -> Checked<Batch> {
        let name = format!("{set}input_ids");
        let [rows, _] = self.inputs.tensor(&name)?.shape[..] else {
            return Err(Stop::Wrong(format!("`{name}` is no batch of sequences")));
        };
        let mask_name = format!("{set}attention_mask");
        let mask = match self.inputs.tensors().contains_key(&mask_name) {
            true => Some(
                self.inputs
                    .read_i64(&mask_name)?
                    .iter()
                    .map(|&m| m != 0)
                    .collect(),
            ),
            false => None,
        };
        let mut ids = self.inputs.read_i64(&name)?;
        self.place_pictures(&set, &mut ids, findings)?;
        let ids = ids
            .iter()
            .map(|&id| u32::try_from(id))
            .collect::<Result<_, _>>();
        Ok(Batch {
            ids: ids.map_err(|e| format!("`{name}`: {e}"))?,
            rows: rows as usize,
            mask,
            set,
        })
    }

    /// Puts the tokens of a case's pictures where its text has a sign for them, as its image tokenizer makes them.
    fn place_pictures(
        &mut self,
        set: &str,
        ids: &mut [i64],
        findings: &mut Findings,
    ) -> Checked<()> {
        let name = format!("{set}bpe_tokens");
        if !self.expected.tensors().contains_key(&name) {
            return Ok(());
        }
        let config = super::vq::config(self.case)?;
        let sign = config["image_token_id"].as_i64();
        let sign = sign.ok_or_else(|| "the configuration has no `image_token_id`".to_owned())?;
        let told = ["pixel_values", "codes", "quant", "bpe_tokens"];
        let told = told.map(|part| format!("{set}{part}"));
        self.used.extend(told.iter().cloned());
        let pictures = super::vq::tokens_of_pictures(
            self.case,
            &self.inputs,
            &self.expected,
            &told,
            findings,
        )?;
        let places: Vec<usize> = (0..ids.len()).filter(|&place| ids[place] == sign).collect();
        if places.len() != pictures.len() {
            let (places, pictures) = (places.len(), pictures.len());
            return Err(Stop::Wrong(format!(
                "{set}{places} signs of pictures for {pictures} tokens"
            )));
        }
        for (place, token) in places.into_iter().zip(pictures) {
            ids[place] = token;
        }
        Ok(())
    }

    /// An expected tensor, where there is one.
    fn expected(&mut self, name: &str) -> Checked<Option<Vec<f32>>> {
        if !self.expected.tensors().contains_key(name) {
            return Ok(None);
        }
        self.used.insert(name.to_owned());
        Ok(Some(self.expected.read_f32(name)?))
    }

    fn check_logits(
        &mut self,
        batch: &Batch,
        logits: &[f32],
        findings: &mut Findings,
    ) -> Checked<()> {
        let Some(expected) = self.expected(&format!("{}logits", batch.set))? else {
            return Ok(());
        };
        let vocab = self.executable.vocabulary();
        let tolerance = self.case.tolerance("logits", Tolerance::of(1e-4));
        let real = |i: usize| batch.real(i / vocab);
        findings.compare_where("logits", &batch.set, logits, &expected, tolerance, real);
        Ok(())
    }

    /// Reads half of the tokens at once and the rest one by one.
    fn check_incremental(
        &self,
        batch: &Batch,
        full: &[f32],
        findings: &mut Findings,
    ) -> Checked<()> {
        let (rows, length) = (batch.rows, batch.length());
        let vocab = self.executable.vocabulary();
        let starts = (0..rows).map(|row| (0..length).find(|t| batch.real(row * length + t)));
        let Some(latest) = starts
            .collect::<Option<Vec<_>>>()
            .and_then(|s| s.into_iter().max())
        else {
            return Err(Stop::Wrong(format!(
                "{}: a row of padding alone",
                batch.set
            )));
        };
        let first = (length / 2).max(latest + 1);
        let columns = |from: usize, to: usize| -> (Vec<u32>, Vec<bool>) {
            let places = (0..rows).flat_map(|row| row * length + from..row * length + to);
            places
                .map(|place| (batch.ids[place], batch.real(place)))
                .unzip()
        };
        let mut decoder = self.executable.decoder(rows, length)?;
        let (ids, mask) = columns(0, first);
        let mut logits = decoder.prefill(Tokens::masked(&ids, rows, &mask))?;
        for end in first..=length {
            for row in 0..rows {
                let real = (0..end).rev().find(|t| batch.real(row * length + t));
                // Rows that stood still in this step give nothing to look at.
                let Some(last) = real.filter(|&last| last + 1 == end || end == first) else {
                    continue;
                };
                let found = &logits[row * vocab..][..vocab];
                let expected = &full[(row * length + last) * vocab..][..vocab];
                let what = format!("{}row {row} at {last}", batch.set);
                let tolerance = Tolerance::of(INCREMENTAL);
                findings.compare("step by step", &what, found, expected, tolerance);
            }
            if end < length {
                let (ids, mask) = columns(end, end + 1);
                logits = decoder.step_some(&ids, &mask)?;
            }
        }
        Ok(())
    }

    /// Labels of the case (-100 counts nothing), or each token's successor.
    fn labels(&self, batch: &Batch) -> Checked<Labels> {
        let name = format!("{}labels", batch.set);
        let given = match self.inputs.tensors().contains_key(&name) {
            true => self.inputs.read_i64(&name)?,
            false => batch.ids.iter().map(|&id| i64::from(id)).collect(),
        };
        let mut labels = Labels {
            ids: vec![0; given.len()],
            weights: vec![0.0; given.len()],
            from_padding: Vec::new(),
        };
        for place in (0..given.len()).filter(|place| (place + 1) % batch.length() != 0) {
            let Ok(id) = u32::try_from(given[place + 1]) else {
                continue;
            };
            match batch.real(place) {
                true => (labels.ids[place], labels.weights[place]) = (id, 1.0),
                false => labels.from_padding.push((place, id as usize)),
            }
        }
        Ok(labels)
    }

    /// The loss, and the gradients with and without recomputation.
    fn check_loss(&mut self, batch: &Batch, findings: &mut Findings) -> Checked<()> {
        let set = &batch.set;
        let labels = self.labels(batch)?;
        let targets = Targets {
            ids: &labels.ids,
            weights: &labels.weights,
        };
        if let Some(expected) = self.expected(&format!("{set}loss"))? {
            let tolerance = self.case.tolerance("loss", Tolerance::of(1e-5));
            let loss = self.executable.loss(batch.tokens(), targets)?;
            let (mut sum, mut count) = (loss.mean * loss.weight, loss.weight);
            // What is predicted from padding has no meaning; it is taken from the expected logits.
            if let Some(logits) = self.expected(&format!("{set}logits"))? {
                for &(place, id) in &labels.from_padding {
                    let row = &logits[place * self.executable.vocabulary()..];
                    sum += cross_entropy(&row[..self.executable.vocabulary()], id);
                    count += 1.0;
                }
            }
            let expected = expected.first().copied().map_or(f64::NAN, f64::from);
            findings.number("loss", set, sum / count, expected, tolerance);
            let each = self.executable.token_losses(batch.tokens(), targets)?;
            let each: f64 = each.iter().map(|&x| f64::from(x)).sum();
            findings.number(
                "loss",
                "of each token",
                each / loss.weight,
                loss.mean,
                tolerance,
            );
        }
        let start = format!("{set}grad.");
        let told = self
            .expected
            .tensors()
            .keys()
            .any(|name| name.starts_with(&start));
        let table = self.case.grad_table(set);
        if !told && table.is_empty() {
            return Ok(());
        }
        if !labels.from_padding.is_empty() {
            findings.pass_over(format!("{set}grad_table"), "its loss predicts from padding");
            return Ok(());
        }
        for recompute in [false, true] {
            let step = self
                .executable
                .train_step(&[(batch.tokens(), targets)], recompute)?;
            self.check_gradients(&start, &step.gradients, findings)?;
            self.check_grad_table(set, &step.gradients, findings)?;
        }
        Ok(())
    }

    /// Whole gradients that the case holds.
    fn check_gradients(
        &mut self,
        start: &str,
        gradients: &Gradients,
        findings: &mut Findings,
    ) -> Checked<()> {
        let tolerance = self.grad_tolerance();
        for (name, place) in self.places {
            let tensor = format!("{start}{}", place.tensor.file_name);
            if !self.expected.tensors().contains_key(&tensor) {
                continue;
            }
            let expected = read(&self.expected, &tensor, place)?;
            self.used.insert(tensor);
            let found = gradient(&self.executable, gradients, name)?;
            findings.compare("gradients", name, &found, &expected, tolerance);
        }
        Ok(())
    }

    /// Norm, sum and largest size of every gradient.
    fn check_grad_table(
        &self,
        set: &str,
        gradients: &Gradients,
        findings: &mut Findings,
    ) -> Checked<()> {
        let tolerance = self.grad_tolerance();
        for (tensor, [norm, sum, largest]) in self.case.grad_table(set) {
            let mut found: Vec<f64> = Vec::new();
            for (name, _) in self
                .places
                .iter()
                .filter(|(_, p)| p.tensor.file_name == tensor)
            {
                let own = gradient(&self.executable, gradients, name)?;
                found.extend(own.into_iter().map(f64::from));
            }
            if found.is_empty() {
                findings
                    .wrong
                    .push(format!("no weight has the gradient of `{tensor}`"));
                continue;
            }
            let square: f64 = found.iter().map(|x| x * x).sum();
            let size = found.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
            findings.number("gradient norms", &tensor, square.sqrt(), norm, tolerance);
            findings.number("gradient norms", &tensor, size, largest, tolerance);
            // A sum adds the errors of its terms, each of which may be off by the absolute part.
            let of_sum = Tolerance {
                absolute: tolerance.absolute * (found.len() as f64).sqrt(),
                ..tolerance
            };
            findings.number("gradient sums", &tensor, found.iter().sum(), sum, of_sum);
        }
        Ok(())
    }

    fn grad_tolerance(&self) -> Tolerance {
        let default = Tolerance {
            relative: 1e-3,
            absolute: 1e-5,
        };
        self.case.tolerance("grad", default)
    }

    /// The sequence of likeliest tokens after every prompt.
    fn check_greedy(&mut self, batch: &Batch, findings: &mut Findings) -> Checked<()> {
        let name = format!("{}output_ids", batch.set);
        if !self.expected.tensors().contains_key(&name) {
            return Ok(());
        }
        self.used.insert(name.clone());
        let expected = self.expected.read_i64(&name)?;
        let length = expected.len() / batch.rows;
        let mut found: Vec<Vec<u32>> = batch
            .ids
            .chunks(batch.length())
            .map(<[_]>::to_vec)
            .collect();
        let mut decoder = self.executable.decoder(batch.rows, length)?;
        let mut logits = decoder.prefill(batch.tokens())?;
        for end in batch.length()..length {
            let rows = logits.chunks(self.executable.vocabulary());
            let next = rows.map(|row| likeliest(row).map(|id| id as u32));
            let Some(next) = next.collect::<Option<Vec<u32>>>() else {
                return Err(Stop::Wrong(format!("{}no token is likeliest", batch.set)));
            };
            found
                .iter_mut()
                .zip(&next)
                .for_each(|(row, &id)| row.push(id));
            if end + 1 < length {
                logits = decoder.step(&next)?;
            }
        }
        let found: Vec<i64> = found.concat().into_iter().map(i64::from).collect();
        findings.equal("greedy ids", &batch.set, &found, &expected);
        Ok(())
    }

    /// Steps of AdamW on one batch; the subject's weights change.
    fn check_optimizer(&mut self, batch: &Batch, findings: &mut Findings) -> Checked<()> {
        let start = format!("{}adamw.", batch.set);
        let Some(losses) = self.expected(&format!("{start}losses"))? else {
            return Ok(());
        };
        let settings = self.case.field("adamw");
        let number = |name: &str| {
            let found = settings[name].as_f64();
            found.ok_or_else(|| Stop::Wrong(format!("`adamw` has no `{name}`")))
        };
        let beta = |i: usize| settings["betas"][i].as_f64().unwrap_or(f64::NAN);
        let recipe = AdamW {
            lr: number("lr")?,
            betas: (beta(0), beta(1)),
            eps: number("eps")?,
            decay: number("weight_decay")?,
            no_decay: Vec::new(),
            clip: 0.0,
        };
        let before: Vec<(String, Vec<f32>)> = self
            .executable
            .parameters()
            .iter()
            .map(|parameter| Ok((parameter.name().to_owned(), parameter.read()?)))
            .collect::<Checked<_>>()?;
        let labels = self.labels(batch)?;
        let targets = Targets {
            ids: &labels.ids,
            weights: &labels.weights,
        };
        let mut optimizer = Optimizer::new(&self.executable, &recipe.called())?;
        let mut noise = BTreeSet::new();
        for (number, expected) in losses.into_iter().enumerate() {
            let step = self
                .executable
                .train_step(&[(batch.tokens(), targets)], false)?;
            for name in self.places.keys().filter(|_| number == 0) {
                let own = gradient(&self.executable, &step.gradients, name)?;
                if own.iter().all(|x| x.abs() < NOISE) {
                    noise.insert(name);
                }
            }
            optimizer.step(&mut self.executable, step.gradients, recipe.lr)?;
            let what = format!("{start}losses {number}");
            let tolerance = Tolerance::of(STEPPED_LOSS);
            findings.number(
                "adamw",
                &what,
                step.loss.mean,
                f64::from(expected),
                tolerance,
            );
        }
        let tolerance = self.case.tolerance("adamw.param", Tolerance::of(2e-4));
        for (name, place) in self.places {
            let tensor = format!("{start}param.{}", place.tensor.file_name);
            if self.expected.tensors().contains_key(&tensor) {
                let expected = read(&self.expected, &tensor, place)?;
                self.used.insert(tensor);
                if noise.contains(name) {
                    findings.pass_over(format!("{start}{name}"), "its gradient is noise");
                    continue;
                }
                findings.compare(
                    "adamw",
                    name,
                    &self.executable.read(name)?,
                    &expected,
                    tolerance,
                );
            }
        }
        if let Some(expected) = self.expected(&format!("{start}logits_after"))? {
            let tolerance = self
                .case
                .tolerance("adamw.logits_after", Tolerance::of(2e-3));
            let logits = self.executable.forward(batch.tokens())?;
            findings.compare("adamw", "logits after", &logits, &expected, tolerance);
        }
        for (name, values) in before {
            self.executable.write(&name, values)?;
        }
        Ok(())
    }
}

/// The gradient of a weight; zeros where the loss does not depend on it.
fn gradient(executable: &Executable, gradients: &Gradients, name: &str) -> Checked<Vec<f32>> {
    let parameter = executable.parameters().iter().find(|p| p.name() == name);
    let found = gradients.read(executable, name)?;
    Ok(found.unwrap_or_else(|| vec![0.0; parameter.map_or(0, |parameter| parameter.len())]))
}

/// −ln softmax(logits)[id].
fn cross_entropy(logits: &[f32], id: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    sum.ln() - f64::from(logits.get(id).copied().unwrap_or(f32::NAN) - top)
}

/// How the executables of all cases run.
pub(crate) fn options() -> ExecOptions {
    ExecOptions::default()
}
