//! Multiple choice and perplexity as lm-evaluation-harness computes them, request by request.

use std::fs;

use jam_backends::Executable;
use jam_data::batches::{EncodedSet, NextToken};
use jam_data::sources::{ChoiceItem, ChoiceOption, choices};
use jam_data::tokens::Codec;
use jam_data::tokens::text::TextTokenizer;
use jam_runtime::evaluation::{
    ChoiceRules, Reading, log_likelihoods, mean_loss, option_ids, score_choices,
};
use jam_runtime::steps::load_executable;
use serde_json::Value;

use super::case::{Case, Checked, Findings, Stop, Tolerance};
use super::models;

/// A model of a case with its vocabulary.
struct Subject {
    executable: Executable,
    codec: Codec,
    rules: ChoiceRules,
    of_sums: Tolerance,
}

/// A case of the harness: `model/`, documents in `*.jsonl`, what came out in `expected.json`.
pub(crate) fn lm_eval(case: &Case, findings: &mut Findings) -> Checked<()> {
    let folder = case.folder.join("model");
    let opened = models::open(&folder, "model")?;
    let config = json(&fs::read_to_string(folder.join("config.json")))?;
    let mut layout = opened.model.tokens.clone();
    for mark in ["bos", "eos"] {
        let id = config[format!("{mark}_token_id")].as_u64();
        if !id.is_some_and(|id| layout.take_mark(mark, id)) {
            return Err(Stop::Wrong(format!("the model has no `{mark}`")));
        }
    }
    let context = opened.model.context.unwrap_or(0) as usize;
    let device = jam_backends::Device::flex();
    let precision = jam_ir::DType::F32;
    let subject = Subject {
        executable: load_executable(&opened.model, &*opened.weights, &device, precision)?,
        codec: Codec::new(layout, Some(TextTokenizer::open(&folder)?), None)?,
        rules: ChoiceRules {
            context,
            begin: false,
        },
        of_sums: case.tolerance("loglikelihood", Tolerance::of(2e-3)),
    };
    let expected = json(&fs::read_to_string(case.folder.join("expected.json")))?;
    let (samples, results) = (&expected["samples"], &expected["results"]);

    let items = choices("jsonl", &[case.folder.join("mc.jsonl")])?;
    let own = subject.multiple_choice("jam_mc", &items, &samples["jam_mc"], findings)?;
    subject.shares("jam_mc", &own, &results["jam_mc"], findings);
    let items = partial(&list(&samples["jam_wg"])?)?;
    let own = subject.multiple_choice("jam_wg", &items, &samples["jam_wg"], findings)?;
    subject.shares("jam_wg", &own, &results["jam_wg"], findings);
    for measure in ["acc_bytes", "acc_mutual_info", "is_greedy"] {
        findings.pass_over(measure.to_owned(), "no measure here gives it");
    }
    let of_perplexity = case.tolerance(
        "perplexity",
        Tolerance {
            relative: 1e-4,
            absolute: 0.0,
        },
    );
    subject.rolling(
        &samples["jam_pp"],
        &results["jam_pp"],
        of_perplexity,
        findings,
    )
}

fn json(text: &std::io::Result<String>) -> Checked<Value> {
    let text = text.as_ref().map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

fn list(value: &Value) -> Checked<Vec<Value>> {
    let list = value.as_array().filter(|list| !list.is_empty());
    Ok(list
        .ok_or_else(|| "a list of `expected.json` is missing".to_owned())?
        .clone())
}

fn text(value: &Value, field: &str) -> Checked<String> {
    let found = value[field].as_str().map(str::to_owned);
    Ok(found.ok_or_else(|| format!("there is no `{field}`"))?)
}

fn number(value: &Value, field: &str) -> Checked<f64> {
    let found = value[field].as_f64();
    Ok(found.ok_or_else(|| format!("there is no number `{field}`"))?)
}

fn ids(value: &Value) -> Checked<Vec<u32>> {
    let ids = list(value)?;
    let ids: Option<Vec<u32>> = ids.iter().map(|id| Some(id.as_u64()? as u32)).collect();
    Ok(ids.ok_or_else(|| "an id is no number".to_owned())?)
}

/// The items of the Winogrande pattern: the same continuation after two contexts.
fn partial(samples: &[Value]) -> Checked<Vec<ChoiceItem>> {
    let mut items = Vec::new();
    for sample in samples {
        let doc = &sample["doc"];
        let mut options = Vec::new();
        for option in ["option1", "option2"] {
            options.push(ChoiceOption {
                context: format!("{} {}", text(doc, "pre")?, text(doc, option)?),
                continuation: format!(" {}", text(doc, "post")?),
            });
        }
        items.push(ChoiceItem {
            id: sample["doc_id"].to_string(),
            options,
            gold: number(doc, "answer")? as usize,
        });
    }
    Ok(items)
}

/// Items of a task answered right, by the sum and by the sum per character.
type Right = Vec<(u64, u64)>;

impl Subject {
    /// Every request of a task: its ids and its log-likelihood; then every item by itself.
    fn multiple_choice(
        &self,
        task: &str,
        items: &[ChoiceItem],
        samples: &Value,
        findings: &mut Findings,
    ) -> Checked<Right> {
        let samples = list(samples)?;
        findings.equal("items", task, &[items.len()], &[samples.len()]);
        let mut right = Vec::new();
        for (item, sample) in items.iter().zip(&samples) {
            let what = format!("{task} {}", item.id);
            let gold = ["gold", "answer"]
                .iter()
                .find_map(|key| sample["doc"][key].as_u64());
            findings.equal("golds", &what, &[Some(item.gold as u64)], &[gold]);
            // After the options themselves come the same without a context.
            let alone = item.options.iter().map(|option| ChoiceOption {
                context: String::new(),
                continuation: option.continuation.clone(),
            });
            let options: Vec<ChoiceOption> = item.options.iter().cloned().chain(alone).collect();
            let requests = list(&sample["requests"])?;
            let mut all = Vec::new();
            for (option, request) in options.iter().zip(&requests) {
                let texts = [&option.context, &option.continuation];
                let told = [text(request, "context")?, text(request, "continuation")?];
                findings.equal("texts", &what, &texts, &[&told[0], &told[1]]);
                let own = option_ids(&self.codec, option, self.rules)?;
                let given = ids(&request["context_ids"])?;
                findings.equal("ids", &what, &own.given, &given);
                findings.equal(
                    "ids",
                    &what,
                    &own.scored,
                    &ids(&request["continuation_ids"])?,
                );
                all.push(own);
            }
            let sums = log_likelihoods(&self.executable, &all, self.rules)?;
            for (sum, request) in sums.into_iter().zip(&requests) {
                let expected = number(request, "loglikelihood")?;
                findings.number("log-likelihoods", &what, sum, expected, self.of_sums);
            }
            let own = std::slice::from_ref(item);
            let score = score_choices(&self.executable, &self.codec, own, self.rules)?;
            let acc = score.right as f64;
            findings.equal("acc", &what, &[acc], &[number(sample, "acc")?]);
            if sample.get("acc_norm").is_some() {
                let norm = score.right_by_length as f64;
                findings.equal("acc_norm", &what, &[norm], &[number(sample, "acc_norm")?]);
            }
            let longest = all.iter().take(item.options.len());
            let longest = longest.map(|ids| ids.given.len() + ids.scored.len()).max();
            let cut = u64::from(longest > Some(self.rules.context + 1));
            findings.equal("cut", &what, &[score.cut], &[cut]);
            right.push((score.right, score.right_by_length));
        }
        Ok(right)
    }

    /// The shares of a task.
    fn shares(&self, task: &str, right: &Right, results: &Value, findings: &mut Findings) {
        let share = |count: u64| count as f64 / right.len() as f64;
        let sums = [
            ("acc,none", right.iter().map(|(acc, _)| acc).sum()),
            ("acc_norm,none", right.iter().map(|(_, norm)| norm).sum()),
        ];
        for (measure, count) in sums {
            if let Some(expected) = results[measure].as_f64() {
                let what = format!("{task} {measure}");
                findings.number("shares", &what, share(count), expected, Tolerance::of(1e-9));
            }
        }
    }

    /// Documents read in windows of the context, each of which is given one token.
    fn rolling(
        &self,
        samples: &Value,
        results: &Value,
        tolerance: Tolerance,
        findings: &mut Findings,
    ) -> Checked<()> {
        let reading = Reading {
            limit: 0,
            length: self.rules.context,
            objective: &NextToken,
        };
        let bos = self.codec.layout().marks.get("bos").copied().unwrap_or(0) as u32;
        let (mut sum, mut words, mut bytes) = (0.0, 0.0, 0.0);
        for sample in list(samples)? {
            let what = format!("jam_pp {}", sample["doc_id"]);
            let document = text(&sample["doc"], "text")?;
            let own = self.codec.text_ids(&document)?;
            findings.equal("ids", &what, &own, &ids(&sample["ids"])?);
            let mut set = EncodedSet::default();
            let whole: Vec<u32> = [bos].into_iter().chain(own).collect();
            set.push(&whole, 0);
            let losses = mean_loss(&self.executable, self.codec.layout(), &set, &reading)?;
            let own = -losses.all.sum;
            let expected = number(&sample, "loglikelihood")?;
            findings.number("log-likelihoods", &what, own, expected, self.of_sums);
            let counts = [
                document.split_whitespace().count() as f64,
                document.len() as f64,
            ];
            let told = [number(&sample, "n_words")?, number(&sample, "n_bytes")?];
            findings.equal("words and bytes", &what, &counts, &told);
            sum += own;
            words += counts[0];
            bytes += counts[1];
        }
        for (measure, own) in [
            ("word_perplexity,none", (-sum / words).exp()),
            ("byte_perplexity,none", (-sum / bytes).exp()),
            ("bits_per_byte,none", -sum / bytes / std::f64::consts::LN_2),
        ] {
            let expected = number(results, measure)?;
            findings.number("perplexities", measure, own, expected, tolerance);
        }
        Ok(())
    }
}
