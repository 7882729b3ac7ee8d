//! Models and blocks: their statements, updates of them, and the settings of a model.

use std::collections::BTreeSet;

use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::ModelRecipe;
use jam_ir::span::Span;
use jam_ir::verify::verify;
use jam_ir::{DType, TokenLayout};

use crate::checker::{Checker, Kind, ModelLine, not_plain};
use crate::evaluate::Global;
use crate::given::{
    as_call, as_count, as_count_within, as_number, as_text, as_word, twice, wrong_kind,
};
use crate::graph::{Fresh, Graph};
use crate::limits;
use crate::suggest;
use crate::syntax::{Body, Expression, ExpressionKind, Name, Statement};
use crate::value::{Spanned, Value};
use crate::world::{World, folder_of, join};

/// The settings of a model; every other name of its body is part of the graph.
const SETTINGS: [&str; 6] = ["tokens", "context", "width", "weights", "precision", "init"];

/// Whether a setting is a size: it may be computed from names of the model, and holds from its line on. The others
/// hold for the whole model.
fn is_size(word: &Name) -> bool {
    matches!(word.text.as_str(), "context" | "width")
}

impl<'a> Checker<'a> {
    /// What can be said of a block before it is called with sizes.
    pub(crate) fn block(&mut self, name: &'a Name, statement: &'a Statement) {
        let sound = statement
            .body
            .as_ref()
            .is_some_and(|body| !body.statements.is_empty());
        if !sound {
            let place = statement.span;
            self.diagnostics.push(
                Diagnostic::error(place, format!("the block `{}` does nothing", name.text))
                    .code("missing")
                    .label(place, "no statements in `{ … }`")
                    .help(format!("write `block {}(x) {{ x = … }}`", name.text)),
            );
        }
        let mut seen: Vec<&Name> = Vec::new();
        for parameter in statement
            .parameters
            .iter()
            .flat_map(|parameters| &parameters.list)
        {
            let name = match (&parameter.label, &parameter.value.kind) {
                (Some(label), _) => label,
                (None, ExpressionKind::Path(path)) if path.len() == 1 => &path[0],
                _ => {
                    let place = parameter.value.span;
                    self.diagnostics.push(
                        Diagnostic::error(place, "a parameter is a name")
                            .code("wrong-kind")
                            .label(place, "not a name")
                            .help("write `name`, or `name: default`"),
                    );
                    continue;
                }
            };
            match seen.iter().find(|first| first.text == name.text) {
                Some(first) => self.diagnostics.push(twice(name, first.span)),
                None => seen.push(name),
            }
        }
    }

    pub(crate) fn model(&mut self, name: &'a Name, statement: &'a Statement, world: &dyn World) {
        let Some(mut lines) = self.model_lines(name, statement) else {
            return;
        };
        for set in self
            .overrides
            .iter()
            .filter(|set| set.target.text == name.text)
        {
            if let (Some(key), Ok(value)) = (&set.key, &set.value) {
                self.update_line(&mut lines, key, value, statement);
            }
        }
        self.model_texts.insert(&name.text, lines.clone());
        let broken = lines.iter().any(|line| line.statement.broken);
        let before = self.diagnostics.errors_seen();
        let mut graph = Graph::new(&name.text, name.span, lines.iter().map(|line| line.word));
        let mut weights = None;
        let mut seen: Vec<&Name> = Vec::new();
        for line in &lines {
            let word = line.word;
            if !SETTINGS.contains(&word.text.as_str()) {
                continue;
            }
            match seen.iter().find(|first| first.text == word.text) {
                Some(first) => self.diagnostics.push(twice(word, first.span)),
                None => seen.push(word),
            }
            if let Some(value) = line.value.filter(|_| !is_size(word)) {
                self.model_setting(&mut graph, &word.text, value, &mut weights, world);
            }
        }
        for line in &lines {
            if line.statement.broken {
                graph.wrong(&line.word.text, line.word.span);
                continue;
            }
            match (line.word.text.as_str(), line.value) {
                (key, Some(value)) if SETTINGS.contains(&key) => {
                    if is_size(line.word) {
                        self.model_setting(&mut graph, key, value, &mut weights, world);
                    }
                }
                ("repeat", _) => graph.repeat(self, line.statement),
                (_, Some(value)) => graph.bind(self, line.word, value),
                (key, None) => self.diagnostics.push(
                    Diagnostic::error(line.statement.span, format!("`{key}` needs a value"))
                        .code("missing")
                        .label(line.statement.span, "not `name = value`")
                        .maybe_help(
                            suggest::nearest(key, ["repeat"])
                                .map(|near| format!("did you mean `{near}`?")),
                        ),
                ),
            }
        }
        if self.diagnostics.errors_seen() != before || broken {
            return;
        }
        let slips = graph.unused();
        let source = weights.is_some().then_some(name.text.as_str());
        let Some(model) = graph.finish(self, source) else {
            return;
        };
        for (name, span) in slips {
            self.diagnostics.push(slip(&name, span));
        }
        if let Err(problems) = verify(&model) {
            for problem in problems {
                let mut report = Diagnostic::from(problem);
                if report.labels.is_empty() {
                    let labels = Diagnostic::error(name.span, "").labels;
                    report.labels = labels;
                }
                self.diagnostics
                    .push(report.label(name.span, "in this model"));
            }
            return;
        }
        let recipe = ModelRecipe {
            model,
            weights,
            span: Some(name.span),
        };
        self.program.models.insert(name.text.clone(), recipe);
    }

    /// The statements of a model, after those of the one that it updates.
    fn model_lines(
        &mut self,
        name: &'a Name,
        statement: &'a Statement,
    ) -> Option<Vec<ModelLine<'a>>> {
        let line = |statement: &'a Statement| ModelLine {
            word: &statement.word,
            value: statement.value.as_ref(),
            statement,
        };
        if let Some(body) = &statement.body {
            let plain = body.statements.iter();
            let plain = plain.filter(|line| line.word.text != "repeat" && line.value.is_some());
            self.diagnostics.extend(plain.filter_map(not_plain));
            return Some(body.statements.iter().map(line).collect());
        }
        let Some(value) = &statement.value else {
            let place = statement.span;
            self.diagnostics.push(
                Diagnostic::error(place, format!("the model `{}` is empty", name.text))
                    .code("missing")
                    .label(place, "no `{ … }` follows")
                    .help(format!("write `model {} {{ … }}`", name.text)),
            );
            return None;
        };
        let (base, bodies): (&Expression, &[Body]) = match &value.kind {
            ExpressionKind::Update(base, bodies) => (base, bodies),
            _ => (value, &[]),
        };
        let ExpressionKind::Path(path) = &base.kind else {
            self.diagnostics.push(
                Diagnostic::error(base.span, "a model is written `{ … }`")
                    .code("wrong-kind")
                    .label(base.span, "not a model to update")
                    .help("write `model name { … }`, or `model b = a { … }`"),
            );
            return None;
        };
        let [head] = path.as_slice() else {
            self.diagnostics.push(wrong_kind(
                "model",
                &Spanned::new(Value::Named(path.clone()), base.span),
                "another model",
            ));
            return None;
        };
        self.defined(head, &[Kind::Model])?;
        let mut lines = self.model_texts.get(head.text.as_str())?.clone();
        for body in bodies {
            let mut seen: Vec<&Name> = Vec::new();
            for update in &body.statements {
                match seen.iter().find(|first| first.text == update.word.text) {
                    Some(first) => self.diagnostics.push(twice(&update.word, first.span)),
                    None => seen.push(&update.word),
                }
            }
        }
        for update in bodies.iter().flat_map(|body| &body.statements) {
            if update.broken {
                continue;
            }
            match &update.value {
                Some(value) if not_plain(update).is_none() => {
                    self.update_line(&mut lines, &update.word, value, update);
                }
                _ => self.diagnostics.push(
                    Diagnostic::error(update.span, "an update gives names new values")
                        .code("wrong-kind")
                        .label(update.span, "not `name = value`")
                        .help("to repeat another number of times, let the model name the number: `layers = 4`"),
                ),
            }
        }
        Some(lines)
    }

    /// Gives a name of a model another value.
    fn update_line(
        &mut self,
        lines: &mut Vec<ModelLine<'a>>,
        word: &'a Name,
        value: &'a Expression,
        statement: &'a Statement,
    ) {
        let places: Vec<usize> = (0..lines.len())
            .filter(|index| lines[*index].word.text == word.text)
            .collect();
        match places.as_slice() {
            [place] if word.text != "repeat" => {
                lines[*place] = ModelLine {
                    word,
                    value: Some(value),
                    statement,
                };
            }
            [] if SETTINGS.contains(&word.text.as_str()) => {
                lines.insert(
                    0,
                    ModelLine {
                        word,
                        value: Some(value),
                        statement,
                    },
                );
            }
            [] => {
                let names = lines
                    .iter()
                    .map(|line| line.word.text.as_str())
                    .chain(SETTINGS);
                let names: BTreeSet<&str> = names.filter(|name| *name != "repeat").collect();
                let help = suggest::help(&word.text, "it has", names);
                self.diagnostics.push(
                    Diagnostic::error(word.span, format!("the model has no `{}`", word.text))
                        .code("unknown-name")
                        .label(word.span, "nothing to update")
                        .maybe_help(help),
                );
            }
            [first, ..] => {
                let first = lines[*first].word.span;
                self.diagnostics.push(
                    Diagnostic::error(
                        word.span,
                        format!("`{}` is bound more than once", word.text),
                    )
                    .code("twice")
                    .label(word.span, "which of them?")
                    .label(first, "bound here, and again below")
                    .help("write the whole model, or give the part a name of its own"),
                );
            }
        }
    }

    fn model_setting(
        &mut self,
        graph: &mut Graph<'a>,
        key: &str,
        expression: &'a Expression,
        weights: &mut Option<String>,
        world: &dyn World,
    ) {
        let span = expression.span;
        let value = match key {
            "context" | "width" => self.evaluate(expression, graph),
            _ => self.evaluate(expression, &mut Global),
        };
        match key {
            "tokens" => match self.model_tokens(value) {
                Some(tokens) => graph.tokens(tokens, span),
                None => graph.wrong(key, span),
            },
            "context" | "width" => {
                let most = match key {
                    "context" => limits::SEQUENCE,
                    _ => u64::MAX,
                };
                let count = as_count_within(key, &value, (1, most), &mut self.diagnostics);
                match (count, key) {
                    (None, _) => graph.wrong(key, span),
                    (count, "width") => graph.width = count,
                    (count, _) => graph.context = count,
                }
                if count.is_some() {
                    graph.local(key, value);
                }
            }
            "weights" => {
                if let Some(text) = as_text(key, &value, &mut self.diagnostics) {
                    let path = join(folder_of(&self.folders, span.file), &text);
                    self.note_absent(&path, span, world);
                    *weights = Some(path);
                }
            }
            "precision" => {
                let words = ["f32", "bf16", "f16"];
                let word = as_word(key, &value, &words, &mut self.diagnostics);
                graph.precision(word.and_then(DType::from_word).unwrap_or(DType::F32));
            }
            _ => {
                if let Some(fresh) = self.fresh(value) {
                    graph.fresh = fresh;
                }
            }
        }
    }

    fn model_tokens(&mut self, value: Spanned) -> Option<TokenLayout> {
        match &value.value {
            Value::Named(path) if path.len() == 1 => {
                self.defined(&path[0], &[Kind::Tokens])?;
                self.program.tokens.get(&path[0].text).cloned()
            }
            Value::Number(_) => {
                let size = as_count("tokens", &value, 1, &mut self.diagnostics)?;
                if size > u64::from(u32::MAX) {
                    self.diagnostics.push(
                        Diagnostic::error(value.span, "token ids fit 32 bits")
                            .code("size")
                            .label(value.span, "too many tokens"),
                    );
                    return None;
                }
                Some(TokenLayout::bare(size))
            }
            Value::Word { word, .. } => {
                self.undefined(word, value.span, &[Kind::Tokens]);
                None
            }
            Value::Broken => None,
            _ => {
                let wanted = "a vocabulary, or its size";
                self.diagnostics.push(wrong_kind("tokens", &value, wanted));
                None
            }
        }
    }

    /// `truncated_normal(0.006, cut: 3)` or `normal(0.02)`.
    fn fresh(&mut self, value: Spanned) -> Option<Fresh> {
        let diagnostics = &mut self.diagnostics;
        let (name, mut given) =
            as_call("init", value, &["truncated_normal", "normal"], diagnostics)?;
        let bounds = (0.0, 1000.0);
        let sd = given.require_next("a standard deviation", diagnostics)?;
        let sd = as_number("sd", &sd, bounds, diagnostics)?;
        let truncated = name == "truncated_normal";
        let cut = truncated.then(|| given.number("cut", Some(3.0), (0.1, 100.0), diagnostics));
        let positions = given.number("positions", Some(sd), bounds, diagnostics);
        let residual = given.take("residual");
        let residual =
            residual.and_then(|value| as_number("residual", &value, bounds, diagnostics));
        given.finish(diagnostics);
        Some(Fresh {
            sd,
            cut,
            positions,
            residual,
        })
    }
}

/// The report of a name of a model that nothing uses: most often a slip in a setting's name.
fn slip(name: &str, span: Span) -> Diagnostic {
    match suggest::nearest(name, SETTINGS) {
        Some(near) => Diagnostic::error(span, format!("a model has no `{name}`"))
            .code("unknown-name")
            .label(span, "nothing uses this name")
            .help(format!("did you mean `{near}`?")),
        None => Diagnostic::warning(span, format!("`{name}` is never used"))
            .code("unused")
            .label(span, "nothing uses this name")
            .help("remove it"),
    }
}
