//! Vocabularies and what steps ask of them: an end, a text tokenizer, pictures and the break beside them.

use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{DataRef, DataSource, Step};
use jam_ir::{Holds, ImageTokens, Model, ModelRef, Program, TextTokens, TokenKind, TokenLayout};

use super::data::{Seen, asked_of, holds};
use super::written::written;

/// What a step asks of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The mark that ends documents.
    End,
    /// A tokenizer of texts.
    Text,
    /// Image tokens with a tokenizer behind them.
    Pictures,
    /// The mark that stands beside pictures.
    Break,
    /// A context with room for a picture.
    Room,
}

/// What documents ask for.
const TEXTS: &[Need] = &[Need::End, Need::Text];
/// What documents with pictures ask for.
const PICTURES: &[Need] = &[Need::End, Need::Text, Need::Pictures, Need::Break];
/// What drawing asks for.
const DRAWN: &[Need] = &[
    Need::End,
    Need::Text,
    Need::Pictures,
    Need::Break,
    Need::Room,
];

/// Adds an error for everything that a vocabulary lacks: one, at the first step that asks for it.
pub(super) fn check(
    program: &Program,
    models: &IndexMap<String, Arc<Model>>,
    seen: &Seen,
    diagnostics: &mut Diagnostics,
) {
    let mut told: Vec<(String, Need)> = Vec::new();
    for step in &program.steps {
        for (model, needs, data) in asked(program, step, seen) {
            let Some(graph) = models.get(&model.name) else {
                continue;
            };
            let tokens = &graph.tokens;
            // Vocabularies without a name are those of their models.
            let whose = match tokens.name.is_empty() {
                true => format!("the vocabulary of `{}`", model.name),
                false => format!("the vocabulary `{}`", tokens.name),
            };
            for need in needs.iter().filter(|need| !has(graph, **need)) {
                if told.contains(&(whose.clone(), *need)) {
                    continue;
                }
                told.push((whose.clone(), *need));
                diagnostics.push(lacking(program, step, model, data, &whose, graph, *need));
                // What else is missing of a vocabulary without pictures follows from that.
                if *need == Need::Pictures {
                    told.extend([Need::Break, Need::Room].map(|need| (whose.clone(), need)));
                }
            }
        }
    }
}

/// What a step asks of the vocabularies of models, and which data make it ask.
fn asked<'p>(
    program: &'p Program,
    step: &Step,
    seen: &Seen,
) -> Vec<(&'p ModelRef, &'static [Need], Option<&'p DataRef>)> {
    let mut all: Vec<(&ModelRef, &[Need], Option<&DataRef>)> = Vec::new();
    match step {
        Step::Lessons(_) | Step::Tokenizer(_) | Step::Fuse(_) => {}
        Step::Train(name) => {
            let Some(recipe) = program.trainings.get(name) else {
                return all;
            };
            let data = recipe.data.iter().map(|(_, data)| data);
            for data in data.chain(&recipe.validate) {
                all.push((&recipe.model, of_data(program, data, seen), Some(data)));
            }
        }
        Step::Eval(name) => {
            let Some(recipe) = program.evaluations.get(name) else {
                return all;
            };
            for model in &recipe.models {
                for measure in &recipe.measures {
                    let asked = asked_of(measure).into_iter().map(|(of, data)| {
                        let needs = match of {
                            Holds::Documents | Holds::Questions => of_data(program, data, seen),
                            Holds::Pictures | Holds::Captions => PICTURES,
                            Holds::Choices => TEXTS,
                            // What they show is held against what is drawn.
                            Holds::Scenes => DRAWN,
                        };
                        (model, needs, Some(data))
                    });
                    all.extend(asked);
                }
            }
        }
        Step::Page(name) => {
            let recipe = program.pages.get(name);
            let models = recipe.iter().flat_map(|recipe| &recipe.models);
            all.extend(models.map(|model| (model, TEXTS, None)));
        }
    }
    all
}

/// What the documents of a data set ask for.
fn of_data(program: &Program, data: &DataRef, seen: &Seen) -> &'static [Need] {
    let holds = |what| holds(program, data, what);
    if !holds(Holds::Documents) {
        return &[Need::End];
    }
    if !holds(Holds::Pictures) {
        return TEXTS;
    }
    let recipe = program.data.get(&data.name);
    let source = recipe.and_then(|recipe| recipe.splits.get(&data.split));
    // Articles may have no pictures; those of lessons have.
    let of_lessons = matches!(source, Some(DataSource::Lessons { .. }));
    match holds(Holds::Captions) || of_lessons || seen.pictures(data) == Some(true) {
        true => PICTURES,
        false => &[Need::End],
    }
}

fn has(model: &Model, need: Need) -> bool {
    let tokens: &TokenLayout = &model.tokens;
    match need {
        Need::End => tokens.marks.contains_key("eos"),
        Need::Text => tokens.text != TextTokens::Ids,
        Need::Pictures => {
            let ids = tokens.range(TokenKind::Image);
            tokens.image != ImageTokens::Ids && ids.is_some_and(|range| range.len > 0)
        }
        Need::Break => tokens.marks.contains_key("break"),
        // What begins the document, the break, and the picture.
        Need::Room => {
            let least = tokens.picture_tokens() + 2;
            model.context.is_none_or(|context| context >= least)
        }
    }
}

/// The report on what a vocabulary lacks.
fn lacking(
    program: &Program,
    step: &Step,
    model: &ModelRef,
    data: Option<&DataRef>,
    whose: &str,
    graph: &Model,
    need: Need,
) -> Diagnostic {
    let (step, span) = written(program, step);
    let because = match data {
        Some(data) => format!("`{step}` reads `{data}` with `{model}`"),
        None => format!("`{step}` asks `{model}` questions"),
    };
    let (what, help) = match need {
        Need::End => (
            format!("{whose} has no `eos`, with which documents end"),
            "give the `tokens` of the model `marks = [eos]`, or its id",
        ),
        Need::Text => (
            format!("{whose} has no text tokenizer"),
            "give its `tokens` one: `text = bpe(\"FOLDER\", size: …)`, or a `tokenizer` of the program",
        ),
        Need::Pictures => (
            format!("{whose} has no pictures"),
            "give its `tokens` an image tokenizer: `image = vq(\"FOLDER\", codes: …, grid: …)`, or a \
             `tokenizer` of the program",
        ),
        Need::Break => (
            format!("{whose} has no `break`, which stands beside pictures"),
            "add it to its marks: `marks = [bos, pad, eos, unk, break]`",
        ),
        Need::Room => (
            format!(
                "a picture of {} tokens has no room in its context of {}",
                graph.tokens.picture_tokens(),
                graph.context.unwrap_or_default()
            ),
            "give the model a longer `context`",
        ),
    };
    let span = span.unwrap_or_default();
    let mut report = Diagnostic::error(span, format!("{because}, and {what}"))
        .code("vocabulary")
        .label(span, "asked for here");
    let mut name = &model.name;
    while let Some(training) = program.trainings.get(name) {
        name = &training.model.name;
    }
    let described = program.models.get(name).and_then(|recipe| recipe.span);
    let fused = program.fusions.get(name).and_then(|recipe| recipe.span);
    if let Some(place) = described.or(fused) {
        report = report.label(place, "this model's vocabulary");
    }
    report.help(help)
}
