//! The operations that a model is written with: embeddings, norms, attention, feed-forward parts,
//! linear maps, the head.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::Span;
use jam_ir::{Activation, AxisId, Norm, Op, Plan, Role};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_word, wrong_kind};
use crate::graph::{FreshKind, Graph};
use crate::suggest;
use crate::value::{Call, Spanned, Stream, Value};

/// The operations, by name.
const LAYERS: [&str; 12] = [
    "embed",
    "positions",
    "layer_norm",
    "rms_norm",
    "attention",
    "mlp",
    "linear",
    "unembed",
    "relu",
    "gelu",
    "gelu_tanh",
    "silu",
];

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
    let Some(layer) = LAYERS.into_iter().find(|layer| *layer == name.text) else {
        if !on_values {
            return Err(call);
        }
        let blocks = checker.definitions.iter();
        let blocks = blocks.filter(|(_, definition)| definition.kind == Kind::Block);
        let names = blocks.map(|(name, _)| name.as_str()).chain(LAYERS);
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

/// A call of an operation.
pub(crate) struct LayerCall<'c, 'a> {
    pub(crate) graph: &'c mut Graph<'a>,
    pub(crate) checker: &'c mut Checker<'a>,
    pub(crate) given: Given,
    pub(crate) span: Span,
}

/// What a norm is told.
pub(crate) struct NormSettings {
    /// Whether there is a gain.
    pub(crate) affine: bool,
    /// Whether there is a bias.
    pub(crate) bias: bool,
    /// Constant and division.
    pub(crate) norm: Norm,
}

impl LayerCall<'_, '_> {
    pub(crate) fn error(&mut self, report: Diagnostic) {
        self.checker.diagnostics.push(report);
    }

    /// The next value, which must be of the model: `[b, t, …]`.
    pub(crate) fn input(&mut self) -> Option<(Stream, AxisId)> {
        let value = self
            .given
            .require_next("values of the model", &mut self.checker.diagnostics)?;
        self.stream(value)
    }

    pub(crate) fn stream(&mut self, value: Spanned) -> Option<(Stream, AxisId)> {
        match value.value {
            Value::Stream(stream) => {
                let last = *stream.axes.last()?;
                if stream.axes.len() != 3 {
                    let shape = self.graph.shown(&stream.axes);
                    self.error(
                        Diagnostic::error(value.span, format!("values {shape} do not fit here"))
                            .code("shape")
                            .label(value.span, "[b, t, features] is expected"),
                    );
                    return None;
                }
                Some((stream, last))
            }
            Value::Tokens(_) => {
                self.error(
                    wrong_kind("a layer", &value, "values of the model")
                        .help("look the tokens up first: `embed(tokens)`"),
                );
                None
            }
            _ => {
                let what = self.given.what.clone();
                let what = what.trim_matches('`').to_owned();
                self.error(wrong_kind(&what, &value, "values of the model"));
                None
            }
        }
    }

    /// Operations on token ids stand in the model itself.
    pub(crate) fn only_in_main(&mut self) -> Option<()> {
        if self.graph.in_main() {
            return Some(());
        }
        let message = format!("{} stands in a model, not in a block", self.given.what);
        let span = self.span;
        self.error(
            Diagnostic::error(span, message)
                .code("order")
                .label(span, "inside of a block"),
        );
        None
    }

    /// The model's width; its absence is reported.
    fn width(&mut self) -> Option<u64> {
        if self.graph.width.is_none() && !self.graph.wrong.contains("width") {
            let near = suggest::nearest("width", self.graph.local_names()).map(str::to_owned);
            let span = self.span;
            let help = match near {
                Some(near) => format!("did you mean `width` where `{near}` stands?"),
                None => "add `width = …` to the model, before its layers".to_owned(),
            };
            self.error(
                Diagnostic::error(span, "the model has no `width`")
                    .code("missing")
                    .label(span, "needed here")
                    .help(help),
            );
        }
        self.graph.width
    }

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

    /// The settings of a norm; layer norms may have a bias.
    pub(crate) fn norm_settings(
        given: &mut Given,
        layer_norm: bool,
        checker: &mut Checker<'_>,
    ) -> NormSettings {
        let diagnostics = &mut checker.diagnostics;
        let affine = given.flag("affine", true, diagnostics);
        let bias = layer_norm && given.flag("bias", affine, diagnostics);
        let eps = given.number("eps", Some(1e-5), (0.0, 1.0), diagnostics);
        NormSettings {
            affine,
            bias: bias && affine,
            norm: Norm {
                eps,
                parts: Vec::new(),
            },
        }
    }

    /// A norm over the last axis, with a gain of the last axes.
    pub(crate) fn normed(
        &mut self,
        name: &str,
        x: &Stream,
        settings: NormSettings,
        layer_norm: bool,
        gain_axes: &[AxisId],
    ) -> Stream {
        let span = self.span;
        let NormSettings { affine, bias, norm } = settings;
        let mut weight = |part: &str, plan: Plan| {
            self.graph
                .weight(format!("{name}.{part}"), &[], gain_axes, plan, span)
        };
        let gain = affine.then(|| weight("gain", Plan::Ones));
        let op = if layer_norm {
            let bias = bias.then(|| weight("bias", Plan::Zeros));
            Op::LayerNorm {
                x: x.value,
                gain,
                bias,
                norm,
            }
        } else {
            Op::RmsNorm {
                x: x.value,
                gain,
                norm,
            }
        };
        let short = name.rsplit('.').next().unwrap_or(name).to_owned();
        self.graph.push(&short, &x.axes.clone(), op, span)
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

    /// A matrix on values: `[b, t, in…]` → `[b, t, out…]`.
    pub(crate) fn map(
        &mut self,
        name: &str,
        (x, input): (&Stream, &[AxisId]),
        output: &[AxisId],
        bias: Option<String>,
        kind: FreshKind,
    ) -> Stream {
        let span = self.span;
        let weight = self
            .graph
            .matrix(name.to_owned(), input, output, kind, span);
        let bias = bias.map(|bias| self.graph.weight(bias, &[], output, Plan::Zeros, span));
        let mut axes = self.graph.row.to_vec();
        axes.extend(output);
        let short = name.rsplit('.').next().unwrap_or(name).to_owned();
        self.graph.push(
            &short,
            &axes,
            Op::Linear {
                x: x.value,
                weight,
                bias,
            },
            span,
        )
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
