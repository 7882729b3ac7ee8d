//! A call of an operation: its operands, and the norms and matrices that operations are made of.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::Span;
use jam_ir::{AxisId, Norm, Op, Plan};

use crate::checker::Checker;
use crate::given::{Given, wrong_kind};
use crate::graph::{FreshKind, Graph};
use crate::suggest;
use crate::value::{Spanned, Stream, Value};

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
    pub(crate) fn width(&mut self) -> Option<u64> {
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
}
