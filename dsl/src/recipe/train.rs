//! Training runs, and memories for retrieval.

use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{BatchForm, BatchSize, DataRef, TrainRecipe};
use jam_ir::signature::Rule;
use jam_ir::{Called, DType, Holds, Signature, Span};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_call, as_count_within};
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
        let validate_span = validate.as_ref().map(|value| value.span);
        let validate = validate
            .map(|value| self.data_refs("validate", value, Holds::Documents))
            .unwrap_or_default();
        let learned = |held: &&DataRef| data.iter().any(|(_, data)| data == *held);
        if let (Some(held), Some(place)) = (validate.iter().find(learned), validate_span) {
            self.diagnostics.push(
                Diagnostic::warning(place, format!("`{held}` is trained on as well"))
                    .code("mixture")
                    .label(place, "what is learned by heart looks best here")
                    .help(format!("write another split of it: `{}.val`", held.name)),
            );
        }
        let words = self.options.words;
        let objective = given.take("objective");
        let objective = self.objective(objective);
        if let Some(value) = given.take("retrieve") {
            self.not_supported("retrieve", &value, "training with retrieved documents");
        }
        let optimizer = given.require("optimizer", &mut self.diagnostics);
        let optimizer = self.use_or_first("optimizer", &words.optimizers, optimizer);
        let schedule = given.take("schedule");
        let schedule_span = schedule.as_ref().map_or(name.span, |value| value.span);
        let schedule = self.use_or_first("schedule", &words.schedules, schedule);
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
        let before = diagnostics.errors_seen();
        let steps = given.count_within("steps", None, (1, limits::STEPS), diagnostics);
        let steps_given = diagnostics.errors_seen() == before && !given.partial;
        let recipe = TrainRecipe {
            model: model.unwrap_or_else(|| jam_ir::ModelRef::last("")),
            data,
            validate,
            objective,
            optimizer,
            schedule,
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
        given.finish(diagnostics);
        if steps_given {
            self.within_steps(&name.text, &recipe, schedule_span);
        }
        self.program.trainings.insert(name.text.clone(), recipe);
    }

    /// Warns of a phase of the schedule that the training is too short for.
    fn within_steps(&mut self, name: &str, recipe: &TrainRecipe, place: Span) {
        let mut schedules = self.options.words.schedules.iter();
        let schedule = schedules.find(|signature| signature.word == recipe.schedule.name);
        for rule in schedule.map_or(&[][..], |schedule| &schedule.rules) {
            let Rule::WithinSteps { setting } = rule else {
                continue;
            };
            let phase = recipe.schedule.count(setting).unwrap_or(0);
            if phase > recipe.steps {
                let message = format!(
                    "the `{setting}` of {phase} steps is longer than the {} of train `{name}`",
                    recipe.steps
                );
                self.diagnostics.push(
                    Diagnostic::warning(place, message)
                        .code("range")
                        .label(place, "it does not come to its end"),
                );
            }
        }
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
                self.data_holds("data", &reference, &data, Holds::Documents);
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

    /// What is learned: a word of the table, or one that is to come.
    fn objective(&mut self, value: Option<Spanned>) -> Called {
        let table = &self.options.words.objectives;
        let written = value.as_ref().and_then(|value| match &value.value {
            Value::Call(call) => Some(dotted(&call.name)),
            Value::Word { word, .. } => Some(word.clone()),
            _ => None,
        });
        if let (Some("cm3"), Some(value)) = (written.as_deref(), &value) {
            self.not_supported("cm3", value, "the CM3 objective");
            return Called::default();
        }
        self.use_or_first("objective", table, value)
    }

    /// The use that a value makes of a word of a table; where there is no value, or a wrong one, of the table's
    /// first word.
    fn use_or_first(&mut self, what: &str, table: &[Signature], value: Option<Spanned>) -> Called {
        let found = value.and_then(|value| self.uses(what, table, value).pop());
        let first = || table.first().map(|signature| signature.called([]));
        found.or_else(first).unwrap_or_default()
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
            self.data_refs("source", value, Holds::Documents);
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

/// A number with at most six digits behind the point.
fn rounded(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
