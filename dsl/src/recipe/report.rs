//! What is sampled, measured and shown: `decode`, `eval`, `page`.

use jam_ir::ModelRef;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::{DecodeRecipe, EvalRecipe, PageRecipe, Sampling};
use jam_ir::signature::Makes;

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_call, as_list, as_text, as_word, wrong_kind};
use crate::limits;
use crate::syntax::Name;
use crate::value::{Spanned, Value};

impl<'a> Checker<'a> {
    pub(crate) fn decode(&mut self, name: &'a Name) {
        let mut given = self.given(Kind::Decode, name);
        let model = given
            .take("model")
            .and_then(|value| self.model_ref("model", &value));
        if let Some(value) = given.take("retrieve") {
            self.not_supported("retrieve", &value, "sampling with retrieved documents");
        }
        let text = self.sampling("text", &mut given);
        let image = self.sampling("image", &mut given);
        let seed = self.program.seed;
        let diagnostics = &mut self.diagnostics;
        if let Some(value) = given.take("until") {
            as_word("until", &value, &["eos"], diagnostics);
        }
        let recipe = DecodeRecipe {
            model,
            text,
            image,
            max_tokens: given.count("max_tokens", Some(0), 0, diagnostics),
            max_pictures: given.count("max_pictures", Some(0), 0, diagnostics),
            seed: given.count("seed", Some(seed), 0, diagnostics),
            span: Some(name.span),
        };
        given.finish(diagnostics);
        self.program.decodings.insert(name.text.clone(), recipe);
    }

    /// `sample(temperature: 1, top_p: 0.9)` or `greedy`.
    fn sampling(&mut self, key: &'static str, given: &mut Given) -> Sampling {
        let mut sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            guidance: 1.0,
        };
        let diagnostics = &mut self.diagnostics;
        let Some(value) = given.take(key) else {
            return sampling;
        };
        let Some((name, mut given)) = as_call(key, value, &["sample", "greedy"], diagnostics)
        else {
            return sampling;
        };
        if name == "sample" {
            sampling.temperature =
                given.number("temperature", Some(1.0), (0.0, 100.0), diagnostics);
            sampling.top_p = given.number("top_p", Some(1.0), (0.0, 1.0), diagnostics);
            sampling.top_k = given.count("top_k", Some(0), 0, diagnostics);
        } else {
            sampling.temperature = 0.0;
        }
        // Guidance weighs the tokens of pictures, see `DecodeRecipe`.
        if key == "image" {
            sampling.guidance = given.number("guidance", Some(1.0), (0.0, 1000.0), diagnostics);
        }
        given.finish(diagnostics);
        sampling
    }

    pub(crate) fn eval(&mut self, name: &'a Name) {
        let mut given = self.given(Kind::Eval, name);
        let models = self.models(&mut given);
        let measures = given.require("measure", &mut self.diagnostics);
        let mut list = Vec::new();
        for value in self.some_of("measure", measures) {
            list.extend(self.uses("measure", &self.options.words.measures, value));
        }
        given.finish(&mut self.diagnostics);
        let recipe = EvalRecipe {
            models,
            measures: list,
            span: Some(name.span),
        };
        self.program.evaluations.insert(name.text.clone(), recipe);
    }

    /// `models = [a, b]`, or `model = a`.
    fn models(&mut self, given: &mut Given) -> Vec<ModelRef> {
        let values = match given.take("model") {
            Some(value) => Some(value),
            None => given.require("models", &mut self.diagnostics),
        };
        let values = self.some_of("models", values);
        values
            .iter()
            .filter_map(|value| self.model_ref("models", value))
            .collect()
    }

    /// The values of a list that must not be empty.
    fn some_of(&mut self, what: &str, value: Option<Spanned>) -> Vec<Spanned> {
        let Some(value) = value else {
            return Vec::new();
        };
        let place = value.span;
        let list = as_list(value);
        if list.is_empty() {
            self.diagnostics.push(
                Diagnostic::error(place, format!("`{what}` is empty"))
                    .code("missing")
                    .label(place, "at least one is needed"),
            );
        }
        list
    }

    pub(crate) fn page(&mut self, name: &'a Name) {
        let mut given = self.given(Kind::Page, name);
        let title = given.take("title");
        let title = title.and_then(|value| as_text("title", &value, &mut self.diagnostics));
        let questions = given.require("questions", &mut self.diagnostics);
        let questions = questions.and_then(|value| self.data_ref("questions", &value));
        let bounds = (1, limits::RECORDS);
        let count = given.count_within("count", Some(6), bounds, &mut self.diagnostics);
        let decode = given.require("decode", &mut self.diagnostics);
        let decode = decode.and_then(|value| self.named("decode", &value, Kind::Decode));
        let models = self.models(&mut given);
        let reports = self.all_named("reports", &mut given, Kind::Eval);
        let mut tokenizers = Vec::new();
        for value in given.take("tokenizers").map(as_list).unwrap_or_default() {
            let Value::Call(call) = value.value else {
                if !matches!(value.value, Value::Broken) {
                    self.diagnostics.push(
                        wrong_kind("tokenizers", &value, "tokenizers with pictures to show")
                            .help("write `tokenizer(data.val)`"),
                    );
                }
                continue;
            };
            let Some(tokenizer) = call.name.first().cloned() else {
                continue;
            };
            if self.defined(&tokenizer, &[Kind::Tokenizer]).is_none() {
                continue;
            }
            if let Some(Makes::Texts { .. }) = self.makes(&tokenizer.text) {
                self.diagnostics.push(
                    Diagnostic::error(
                        tokenizer.span,
                        format!("`{}` makes tokens of texts", tokenizer.text),
                    )
                    .code("wrong-kind")
                    .label(tokenizer.span, "expected a tokenizer of pictures"),
                );
                continue;
            }
            let mut arguments = Given::call(call, &mut self.diagnostics);
            let data = arguments.require_next("a data set", &mut self.diagnostics);
            if let Some(data) = data.and_then(|value| self.data_ref("tokenizers", &value)) {
                tokenizers.push((tokenizer.text.clone(), data));
            }
            arguments.finish(&mut self.diagnostics);
        }
        let curves = self.all_named("curves", &mut given, Kind::Train);
        given.finish(&mut self.diagnostics);
        let (Some(questions), Some(decode)) = (questions, decode) else {
            return;
        };
        let recipe = PageRecipe {
            title: title.unwrap_or_else(|| name.text.clone()),
            questions,
            count,
            decode,
            models,
            reports,
            tokenizers,
            curves,
            span: Some(name.span),
        };
        self.program.pages.insert(name.text.clone(), recipe);
    }

    fn all_named(&mut self, key: &'static str, given: &mut Given, kind: Kind) -> Vec<String> {
        let values = given.take(key).map(as_list).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| self.named(key, value, kind))
            .collect()
    }
}
