//! Training runs, and memories for retrieval.

use jam_ir::DType;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{
    AdamW, BatchForm, BatchSize, DataKind, DataRef, Objective, Schedule, ScheduleKind, TrainRecipe,
    WeightKind,
};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_call, as_count_within, as_list, as_number, as_word};
use crate::limits;
use crate::number;
use crate::syntax::{Name, dotted};
use crate::value::{Spanned, Value};

impl<'a> Checker<'a> {
    pub(crate) fn train(&mut self, name: &'a Name) {
        let mut given = self.given(Kind::Train, name);
        let model = given.require("model", &mut self.diagnostics);
        let model_span = model.as_ref().map(|value| value.span);
        let model = model.and_then(|value| self.model_ref("model", &value));
        let data = given.require("data", &mut self.diagnostics);
        let data = data.map(|value| self.mixture(value)).unwrap_or_default();
        let validate = given.take("validate");
        let validate = validate
            .map(|value| self.data_refs("validate", value))
            .unwrap_or_default();
        let objective = given.take("objective");
        let objective = objective.and_then(|value| self.objective(value));
        if let Some(value) = given.take("retrieve") {
            self.not_supported("retrieve", &value, "training with retrieved documents");
        }
        let optimizer = given.require("optimizer", &mut self.diagnostics);
        let optimizer = optimizer.and_then(|value| self.optimizer(value));
        let schedule = given.take("schedule");
        let schedule = schedule.and_then(|value| self.schedule(value));
        let batch = given.require("batch", &mut self.diagnostics);
        let batch_span = batch.as_ref().map(|value| value.span);
        let batch = batch.and_then(|value| self.batch(value));

        let bound = model.as_ref().and_then(|model| self.context_of(model));
        let seed = self.program.seed;
        let diagnostics = &mut self.diagnostics;
        let form = match given.word("form", &["packed", "rows"], diagnostics) {
            "rows" => BatchForm::Rows,
            _ => BatchForm::Packed,
        };
        let length_span = given.keyed.get("length").map(|(_, value)| value.span);
        // Without a context the length must be said.
        let default = bound.unwrap_or(Some(1));
        let bounds = (1, limits::SEQUENCE);
        let length = given.count_within("length", default, bounds, diagnostics);
        let context = bound.flatten();
        if let (Some(context), Some(place)) = (context, length_span)
            && length > context
        {
            let message = format!("rows of {length} tokens do not fit the model");
            let mut report = Diagnostic::error(place, message)
                .code("size")
                .label(place, "longer than the context");
            if let Some(model) = model_span {
                report = report.label(model, format!("this model has a context of {context}"));
            }
            diagnostics.push(report);
        }
        if let (Some(BatchSize::Rows(rows)), Some(place)) = (batch, batch_span)
            && rows.saturating_mul(length) > limits::BATCH
        {
            let message = format!("{rows} rows of {length} tokens are too much for one batch");
            let mut report = Diagnostic::error(place, message)
                .code("size")
                .label(place, format!("at most {} tokens", limits::BATCH));
            report = match (length_span, model_span) {
                (Some(place), _) => report.label(place, "the length of a row"),
                (None, Some(place)) => report.label(place, "rows are as long as its context"),
                (None, None) => report,
            };
            diagnostics.push(report.help("give fewer rows, or a smaller `length`"));
        }
        let steps = given.count_within("steps", None, (1, limits::STEPS), diagnostics);
        let recipe = TrainRecipe {
            model: model.unwrap_or_else(|| jam_ir::ModelRef::last("")),
            data,
            validate,
            objective: objective.unwrap_or(Objective::NextToken),
            optimizer: optimizer.unwrap_or(AdamW {
                lr: 0.0,
                betas: (0.9, 0.999),
                eps: 1e-8,
                decay: 0.0,
                no_decay: Vec::new(),
                clip: 0.0,
            }),
            schedule: schedule.unwrap_or(Schedule {
                kind: ScheduleKind::Constant,
                warmup: 0,
                floor: 1.0,
            }),
            batch: batch.unwrap_or(BatchSize::Rows(1)),
            form,
            length,
            steps,
            precision: run_precision(&mut given, diagnostics),
            recompute: given.flag("recompute", false, diagnostics),
            validate_every: given.count(
                "validate_every",
                Some((steps / 10).max(1)),
                1,
                diagnostics,
            ),
            validate_limit: given.count("validate_limit", Some(0), 0, diagnostics),
            save_every: given.count("save_every", Some((steps / 10).max(50)), 1, diagnostics),
            seed: given.count("seed", Some(seed), 0, diagnostics),
            span: Some(name.span),
        };
        if recipe.schedule.warmup > recipe.steps {
            diagnostics.push(
                Diagnostic::warning(
                    name.span,
                    format!(
                        "the warm-up of {} steps is longer than the training of {}",
                        recipe.schedule.warmup, recipe.steps
                    ),
                )
                .code("range")
                .label(name.span, "the peak rate is never reached"),
            );
        }
        given.finish(diagnostics);
        self.program.trainings.insert(name.text.clone(), recipe);
    }

    /// A data set, or `mix(0.5 * pairs, 0.5 * corpus)`.
    fn mixture(&mut self, value: Spanned) -> Vec<(f64, DataRef)> {
        let place = value.span;
        let parts = match value.value {
            Value::Call(call) if dotted(&call.name) == "mix" => {
                let mut given = Given::call(call, &mut self.diagnostics);
                if given.positional.is_empty() {
                    given.require_next("data sets to mix", &mut self.diagnostics);
                }
                let parts = std::mem::take(&mut given.positional);
                given.finish(&mut self.diagnostics);
                parts
            }
            Value::Call(call) => {
                let place = call.name.first().map_or(call.span, |name| name.span);
                let message = format!("`{}` is neither a data set nor `mix`", dotted(&call.name));
                self.diagnostics.push(
                    Diagnostic::error(place, message)
                        .code("unknown-word")
                        .label(place, "not known here")
                        .help("write `mix(0.5 * pairs, 0.5 * corpus)`"),
                );
                return Vec::new();
            }
            _ => vec![value],
        };
        let weighted = parts
            .iter()
            .any(|part| matches!(part.value, Value::Weighted(..)));
        let count = parts.len();
        let mut mixture = Vec::new();
        for part in parts {
            let (weight, data) = match part.value {
                Value::Weighted(weight, data) => (number::float(&weight).unwrap_or(-1.0), *data),
                _ => (1.0, part.clone()),
            };
            if weight <= 0.0 {
                self.diagnostics.push(
                    Diagnostic::error(part.span, "the weight of a data set must be above zero")
                        .code("range")
                        .label(part.span, "this share is not"),
                );
                continue;
            }
            if let Some(reference) = self.data_ref("data", &data) {
                let documents = |kind: &DataKind| !matches!(kind, DataKind::Choice { .. });
                self.data_kind("data", &reference, &data, documents, "documents to learn");
                mixture.push((weight, reference));
            }
        }
        let sum: f64 = mixture.iter().map(|(weight, _)| weight).sum();
        if weighted && mixture.len() == count && (sum - 1.0).abs() > 1e-6 {
            let percent: Vec<String> = mixture
                .iter()
                .map(|(weight, data)| format!("{:.1}% of `{data}`", 100.0 * weight / sum))
                .collect();
            let message = format!(
                "the shares of the mixture add up to {}, not to 1",
                rounded(sum)
            );
            self.diagnostics.push(
                Diagnostic::warning(place, message)
                    .code("mixture")
                    .label(place, "together")
                    .note(format!(
                        "each counts by its part of the sum: {}",
                        percent.join(", ")
                    )),
            );
        }
        mixture
    }

    fn objective(&mut self, value: Spanned) -> Option<Objective> {
        let names = ["next_token", "answers", "cm3"];
        let place = value.clone();
        let (name, given) = as_call("objective", value, &names, &mut self.diagnostics)?;
        match name {
            "cm3" => {
                self.not_supported("cm3", &place, "the CM3 objective");
                None
            }
            _ => {
                given.finish(&mut self.diagnostics);
                let answers = name == "answers";
                Some(if answers {
                    Objective::Answers
                } else {
                    Objective::NextToken
                })
            }
        }
    }

    fn optimizer(&mut self, value: Spanned) -> Option<AdamW> {
        let diagnostics = &mut self.diagnostics;
        let (_, mut given) = as_call("optimizer", value, &["adamw"], diagnostics)?;
        let lr = given.number("lr", None, (0.0, 10.0), diagnostics);
        let mut betas = (0.9, 0.999);
        if let Some(value) = given.take("betas") {
            let place = value.span;
            let list = as_list(value);
            if let [first, second] = list.as_slice() {
                let bounds = (0.0, 0.999_999_999);
                betas.0 = as_number("betas", first, bounds, diagnostics).unwrap_or(0.9);
                betas.1 = as_number("betas", second, bounds, diagnostics).unwrap_or(0.999);
            } else {
                diagnostics.push(
                    Diagnostic::error(
                        place,
                        format!("`betas` are two numbers, not {}", list.len()),
                    )
                    .code("wrong-kind")
                    .label(place, "")
                    .help("write `betas: [0.9, 0.95]`"),
                );
            }
        }
        let optimizer = AdamW {
            lr,
            betas,
            eps: given.number("eps", Some(1e-8), (0.0, 1.0), diagnostics),
            decay: given.number("decay", Some(0.0), (0.0, 10.0), diagnostics),
            no_decay: weight_kinds("no_decay", &mut given, diagnostics),
            clip: given.number("clip", Some(0.0), (0.0, f64::MAX), diagnostics),
        };
        given.finish(diagnostics);
        Some(optimizer)
    }

    fn schedule(&mut self, value: Spanned) -> Option<Schedule> {
        let diagnostics = &mut self.diagnostics;
        let names = ["constant", "linear", "cosine"];
        let (name, mut given) = as_call("schedule", value, &names, diagnostics)?;
        let warmup = given.count("warmup", Some(0), 0, diagnostics);
        let (kind, floor) = match name {
            "constant" => (ScheduleKind::Constant, 1.0),
            "linear" => (
                ScheduleKind::Linear,
                given.number("floor", Some(0.0), (0.0, 1.0), diagnostics),
            ),
            _ => (
                ScheduleKind::Cosine,
                given.number("floor", Some(0.0), (0.0, 1.0), diagnostics),
            ),
        };
        given.finish(diagnostics);
        Some(Schedule {
            kind,
            warmup,
            floor,
        })
    }

    /// `tokens(8Mi)` or `rows(32)`.
    fn batch(&mut self, value: Spanned) -> Option<BatchSize> {
        let diagnostics = &mut self.diagnostics;
        if let Value::Number(exact) = &value.value {
            let shown = number::shown(exact);
            diagnostics.push(
                Diagnostic::error(value.span, format!("a batch of {shown} what?"))
                    .code("wrong-kind")
                    .label(value.span, "tokens or rows")
                    .help(format!("write `tokens({shown})` or `rows({shown})`")),
            );
            return None;
        }
        let (name, mut given) = as_call("batch", value, &["tokens", "rows"], diagnostics)?;
        let count = given.require_next("a number", diagnostics)?;
        let count = as_count_within(name, &count, (1, limits::BATCH), diagnostics)?;
        given.finish(diagnostics);
        Some(if name == "rows" {
            BatchSize::Rows(count)
        } else {
            BatchSize::Tokens(count)
        })
    }

    /// A memory is read whole, so that its mistakes are told too, and refused.
    pub(crate) fn memory(&mut self, name: &'a Name) {
        self.diagnostics.push(
            Diagnostic::error(
                name.span,
                format!("memory `{}` is not supported yet", name.text),
            )
            .code("not-supported")
            .label(name.span, "retrieval of documents comes later")
            .help("remove it for now"),
        );
        let mut given = self.given(Kind::Memory, name);
        if let Some(value) = given.require("encode", &mut self.diagnostics) {
            let encode = as_call("encode", value, &["clip"], &mut self.diagnostics);
            if let Some((_, mut clip)) = encode {
                let path = clip.require_next("a path", &mut self.diagnostics);
                if let Some(path) = path {
                    crate::given::as_text("clip", &path, &mut self.diagnostics);
                }
                clip.finish(&mut self.diagnostics);
            }
        }
        if let Some(value) = given.require("source", &mut self.diagnostics) {
            self.data_refs("source", value);
        }
        given.finish(&mut self.diagnostics);
    }

    /// What the language has and this version does not do.
    pub(crate) fn not_supported(&mut self, what: &str, value: &Spanned, long: &str) {
        self.diagnostics.push(
            Diagnostic::error(value.span, format!("`{what}` is not supported yet"))
                .code("not-supported")
                .label(value.span, format!("{long} comes later"))
                .help("remove it for now"),
        );
    }
}

/// The precision in which a training computes.
fn run_precision(given: &mut Given, diagnostics: &mut Diagnostics) -> DType {
    let place = given.keyed.get("precision").map(|(_, value)| value.span);
    let precision = given.precision(diagnostics);
    if let (DType::F16, Some(place)) = (precision, place) {
        diagnostics.push(
            Diagnostic::error(place, "a training cannot compute in `f16`")
                .code("not-supported")
                .label(place, "no kernel computes in it")
                .note("the gradients of small numbers vanish in f16 without a scaled loss")
                .help("write `bf16`: as short, with the range of f32"),
        );
    }
    precision
}

/// Kinds of weights: `norms`, or `[norms, biases]`; none where the key is not given.
fn weight_kinds(
    key: &'static str,
    given: &mut Given,
    diagnostics: &mut Diagnostics,
) -> Vec<WeightKind> {
    let words = ["norms", "biases", "embeddings"];
    let mut kinds = Vec::new();
    for value in given.take(key).map(as_list).unwrap_or_default() {
        let kind = match as_word(key, &value, &words, diagnostics) {
            Some("norms") => WeightKind::Norms,
            Some("biases") => WeightKind::Biases,
            Some(_) => WeightKind::Embeddings,
            None => continue,
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// A number with at most six digits behind the point.
fn rounded(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
