//! The operations that a model is written with: embeddings, norms, attention, feed-forward parts,
//! linear maps, the head.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::{Activation, Op, Role};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_word, wrong_kind};
use crate::graph::{FreshKind, Graph};
use crate::layer_call::LayerCall;
use crate::suggest;
use crate::value::{Call, Stream, Value};

/// The operations, by name, but for activations.
const LAYERS: [&str; 8] = [
    "embed",
    "positions",
    "layer_norm",
    "rms_norm",
    "attention",
    "mlp",
    "linear",
    "unembed",
];

/// All operations by name.
fn layers<'w>() -> impl Iterator<Item = &'w str> {
    LAYERS
        .into_iter()
        .chain(Activation::ALL.map(Activation::word))
}

/// What an operation makes; `Err` gives back a call that is a setting and no operation.
pub(crate) fn layer<'a>(
    graph: &mut Graph<'a>,
    checker: &mut Checker<'a>,
    call: Call,
) -> Result<Value, Call> {
    let [name] = call.name.as_slice() else {
        return Err(call);
    };
    let first = call
        .arguments
        .iter()
        .find(|argument| argument.label.is_none());
    let on_values = first.is_some_and(|first| {
        matches!(
            first.value.value,
            Value::Stream(_) | Value::Tokens(_) | Value::Broken
        )
    });
    let Some(layer) = layers().find(|layer| *layer == name.text) else {
        if !on_values {
            return Err(call);
        }
        let blocks = checker.definitions.iter();
        let blocks = blocks.filter(|(_, definition)| definition.kind == Kind::Block);
        let names = blocks.map(|(name, _)| name.as_str()).chain(layers());
        let help = suggest::help(&name.text, "there are", names);
        let report = Diagnostic::error(name.span, format!("`{}` is not a layer", name.text))
            .code("unknown-name")
            .label(name.span, "neither a layer of the language nor a block")
            .maybe_help(help);
        checker.diagnostics.push(report);
        return Ok(Value::Broken);
    };
    // `qk_norm: rms_norm(…)` is a setting of attention.
    if first.is_none() && matches!(layer, "layer_norm" | "rms_norm") {
        return Err(call);
    }
    // So is `scaling: linear(factor: …)`.
    let labelled = |name: &str| {
        let mut labels = call.arguments.iter().filter_map(|a| a.label.as_ref());
        labels.any(|label| label.text == name)
    };
    if first.is_none() && layer == "linear" && (labelled("factor") || call.arguments.is_empty()) {
        return Err(call);
    }
    let broken = call
        .arguments
        .iter()
        .any(|argument| matches!(argument.value.value, Value::Broken));
    if broken {
        return Ok(Value::Broken);
    }
    let span = call.span;
    let before = checker.diagnostics.errors_seen();
    let given = Given::call(call, &mut checker.diagnostics);
    let mut layer_call = LayerCall {
        graph,
        checker,
        given,
        span,
    };
    let stream = match layer {
        "embed" => layer_call.embed(),
        "positions" => layer_call.positions(),
        "layer_norm" | "rms_norm" => layer_call.norm(layer == "layer_norm"),
        "attention" => layer_call.attention(),
        "mlp" => layer_call.mlp(),
        "linear" => layer_call.linear(),
        "unembed" => layer_call.unembed(),
        _ => layer_call.activation(layer),
    };
    let LayerCall { given, .. } = layer_call;
    // An operation that stopped has not asked for all that it knows.
    if stream.is_some() {
        given.finish(&mut checker.diagnostics);
    }
    let sound = checker.diagnostics.errors_seen() == before;
    Ok(match stream.filter(|_| sound) {
        Some(stream) => Value::Stream(stream),
        None => Value::Broken,
    })
}

impl LayerCall<'_, '_> {
    fn embed(&mut self) -> Option<Stream> {
        self.only_in_main()?;
        let value = self
            .given
            .require_next("`tokens`", &mut self.checker.diagnostics)?;
        let Value::Tokens(tokens) = value.value else {
            let near = suggest::nearest("tokens", self.graph.local_names());
            let report = match (&value.value, self.graph.vocabulary(), near) {
                (Value::Word { word, .. }, None, _) if word == "tokens" => {
                    Diagnostic::error(value.span, "the model has no `tokens`")
                        .code("missing")
                        .label(value.span, "needed here")
                        .help("add `tokens = …` before its layers: a vocabulary or its size")
                }
                _ => wrong_kind("embed", &value, "the model's `tokens`"),
            };
            self.error(report);
            return None;
        };
        let width = self.width()?;
        let vocabulary = self.graph.vocabulary()?;
        let size = self
            .given
            .count("width", Some(width), 1, &mut self.checker.diagnostics);
        let span = self.span;
        if self.graph.table.is_some() {
            self.error(
                Diagnostic::error(span, "a model has one token table")
                    .code("twice")
                    .label(span, "a second `embed`"),
            );
            return None;
        }
        let vocab = self.graph.axis(Role::Vocab, vocabulary, "vocab");
        let features = self.graph.features(size);
        let table = self.graph.matrix(
            "embed.table".to_owned(),
            &[vocab],
            &[features],
            FreshKind::Matrix,
            span,
        );
        self.graph.table = Some((table, features));
        let axes = [self.graph.row[0], self.graph.row[1], features];
        Some(
            self.graph
                .push("embed", &axes, Op::Embed { tokens, table }, span),
        )
    }

    fn positions(&mut self) -> Option<Stream> {
        self.only_in_main()?;
        let span = self.span;
        let kind = self
            .given
            .require_next("`learned`", &mut self.checker.diagnostics)?;
        if matches!(&kind.value, Value::Word { word, .. } if word == "rotary") {
            self.error(
                Diagnostic::error(kind.span, "rotary positions are a setting of attention")
                    .code("unknown-word")
                    .label(kind.span, "not added to the embedding")
                    .help("write `attention(…, rotary: rotary(base: 10_000))`"),
            );
            return None;
        }
        as_word(
            "positions",
            &kind,
            &["learned"],
            &mut self.checker.diagnostics,
        )?;
        let offset = self
            .given
            .count("offset", Some(0), 0, &mut self.checker.diagnostics);
        let width = self.width()?;
        if self.graph.wrong.contains("tokens") || self.graph.wrong.contains("context") {
            return None;
        }
        let tokens = match self.graph.token_input() {
            Some(tokens) => tokens,
            None => {
                self.error(
                    Diagnostic::error(span, "the model has no `tokens`")
                        .code("missing")
                        .label(span, "needed here")
                        .help("add `tokens = …` before its layers: a vocabulary or its size"),
                );
                return None;
            }
        };
        let Some(context) = self.graph.context else {
            self.error(
                Diagnostic::error(span, "the model has no `context`")
                    .code("missing")
                    .label(span, "how many positions are learned?")
                    .help("add `context = …` to the model, before its layers"),
            );
            return None;
        };
        let Some(rows) = context.checked_add(offset) else {
            self.error(Diagnostic::error(span, "too many positions").code("size"));
            return None;
        };
        let rows = self.graph.axis(Role::Positions, rows, "positions");
        let features = self.graph.features(width);
        let name = "positions.table".to_owned();
        let table = self
            .graph
            .matrix(name, &[rows], &[features], FreshKind::Positions, span);
        let axes = [self.graph.row[0], self.graph.row[1], features];
        Some(self.graph.push(
            "positions",
            &axes,
            Op::Positions {
                tokens,
                table,
                offset,
            },
            span,
        ))
    }

    fn norm(&mut self, layer_norm: bool) -> Option<Stream> {
        let (x, last) = self.input()?;
        let settings = Self::norm_settings(&mut self.given, layer_norm, self.checker);
        let (kind, numbered) = if self.graph.after_layers() {
            ("final_norm", false)
        } else {
            ("norm", true)
        };
        let name = self.graph.weights_name(kind, numbered, self.span);
        Some(self.normed(&name, &x, settings, layer_norm, &[last]))
    }

    fn mlp(&mut self) -> Option<Stream> {
        let span = self.span;
        let (x, input) = self.input()?;
        let diagnostics = &mut self.checker.diagnostics;
        let before = diagnostics.errors_seen();
        let hidden = self.given.count("hidden", None, 1, diagnostics);
        let words = Activation::ALL.map(Activation::word);
        let act = self.given.word("act", &words, diagnostics);
        let gated = self.given.flag("gated", false, diagnostics);
        let bias = self.given.flag("bias", false, diagnostics);
        let out_bias = self.given.flag("out_bias", bias, diagnostics);
        if diagnostics.errors_seen() != before {
            return None;
        }
        let kind = Activation::from_word(act).unwrap_or(Activation::Relu);
        let hidden = self.graph.axis(Role::Hidden, hidden, "hidden");
        let name = self.graph.weights_name("mlp", false, span);
        let mut project = |part: &str| {
            let bias = bias.then(|| format!("{name}.{part}_bias"));
            let path = format!("{name}.{part}");
            self.map(&path, (&x, &[input]), &[hidden], bias, FreshKind::Matrix)
        };
        let active = if gated {
            let gate = project("gate");
            let up = project("up");
            let op = Op::Activation {
                x: gate.value,
                kind,
            };
            let gate = self.graph.push("active", &gate.axes, op, span);
            let op = Op::Mul {
                a: gate.value,
                b: up.value,
            };
            self.graph.push("gated", &gate.axes, op, span)
        } else {
            let up = project("up");
            let op = Op::Activation { x: up.value, kind };
            self.graph.push("active", &up.axes, op, span)
        };
        let bias = out_bias.then(|| format!("{name}.down_bias"));
        let path = format!("{name}.down");
        Some(self.map(
            &path,
            (&active, &[hidden]),
            &[input],
            bias,
            FreshKind::Residual,
        ))
    }

    fn linear(&mut self) -> Option<Stream> {
        let (x, input) = self.input()?;
        let diagnostics = &mut self.checker.diagnostics;
        let before = diagnostics.errors_seen();
        let width = self.given.count("width", None, 1, diagnostics);
        let bias = self.given.flag("bias", false, diagnostics);
        if diagnostics.errors_seen() != before {
            return None;
        }
        let output = self.graph.features(width);
        let name = self.graph.weights_name("linear", false, self.span);
        let bias = bias.then(|| format!("{name}.bias"));
        let path = format!("{name}.weight");
        Some(self.map(&path, (&x, &[input]), &[output], bias, FreshKind::Matrix))
    }

    fn activation(&mut self, word: &str) -> Option<Stream> {
        let (x, _) = self.input()?;
        let kind = Activation::from_word(word)?;
        Some(self.graph.push(
            word,
            &x.axes.clone(),
            Op::Activation { x: x.value, kind },
            self.span,
        ))
    }
}
