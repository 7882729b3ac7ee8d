//! Attention in models: projections, norms and rotations of queries and keys.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::{AxisId, Mask, Op, Role, RotaryLayout, RotaryScaling};

use crate::given::{as_call, as_number};
use crate::graph::FreshKind;
use crate::layer_call::{LayerCall, NormSettings};
use crate::value::{Spanned, Stream, Value};

impl LayerCall<'_, '_> {
    /// Attention of `[b, t, width]` to itself, or to a second input: → `[b, t, width]`.
    pub(crate) fn attention(&mut self) -> Option<Stream> {
        let span = self.span;
        let (x, input) = self.input()?;
        let (y, other) = match self.given.next() {
            Some(value) => self.stream(value)?,
            None => (x.clone(), input),
        };
        let width = self.graph.size(input);
        let diagnostics = &mut self.checker.diagnostics;
        let before = diagnostics.errors_seen();
        let heads_span = self
            .given
            .keyed
            .get("heads")
            .map_or(span, |(_, value)| value.span);
        let heads = self.given.count("heads", None, 1, diagnostics);
        let kv_span = self
            .given
            .keyed
            .get("kv_heads")
            .map(|(_, value)| value.span);
        let kv_heads = self.given.count("kv_heads", Some(heads), 1, diagnostics);
        let has_key = self.given.keyed.contains_key("key");
        let key_span = self
            .given
            .keyed
            .get("key")
            .map_or(heads_span, |(_, value)| value.span);
        let key = self
            .given
            .count("key", Some((width / heads).max(1)), 1, diagnostics);
        let mask = match self.given.word("mask", &["causal", "none"], diagnostics) {
            "none" => Mask::Full,
            _ => Mask::Causal,
        };
        let bias = self.given.flag("bias", false, diagnostics);
        let out_bias = self.given.flag("out_bias", bias, diagnostics);
        let scale = self.given.take("scale");
        let scale = scale.and_then(|value| {
            as_number("scale", &value, (0.0, 1e6), &mut self.checker.diagnostics)
        });
        let rotary_span = self.given.keyed.get("rotary").map(|(_, value)| value.span);
        let rotary = self.rotary();
        let qk_norm = self.qk_norm();
        if self.checker.diagnostics.errors_seen() != before {
            return None;
        }
        if !has_key && !width.is_multiple_of(heads) {
            self.error(
                Diagnostic::error(
                    heads_span,
                    format!("{width} features cannot be divided among {heads} heads"),
                )
                .code("size")
                .label(heads_span, format!("does not divide {width}"))
                .help("give another number of heads, or the size of one: `key: 64`"),
            );
            return None;
        }
        if !heads.is_multiple_of(kv_heads) {
            let place = kv_span.unwrap_or(span);
            self.error(
                Diagnostic::error(
                    place,
                    format!("{heads} heads cannot share {kv_heads} key and value heads"),
                )
                .code("size")
                .label(place, format!("does not divide {heads}"))
                .label(heads_span, "the heads"),
            );
            return None;
        }
        if let (Some(_), Some(place), true) = (&rotary, rotary_span, key % 2 == 1) {
            self.error(
                Diagnostic::error(
                    place,
                    format!("heads of {key} features cannot be rotated in pairs"),
                )
                .code("size")
                .label(place, "needs an even head")
                .label(key_span, format!("makes heads of {key}")),
            );
            return None;
        }
        let head = self.graph.axis(Role::Heads, heads, "head");
        let kv = self.graph.axis(Role::KvHeads, kv_heads, "kv");
        let key_axis = self.graph.axis(Role::HeadDim, key, "key");
        let name = self.graph.weights_name("attn", false, span);
        let mut projected = Vec::with_capacity(3);
        for (part, source, from, heads) in [
            ("q", &x, input, head),
            ("k", &y, other, kv),
            ("v", &y, other, kv),
        ] {
            let sides = [heads, key_axis];
            let bias = bias.then(|| format!("{name}.{part}_bias"));
            let path = format!("{name}.{part}");
            let mut value = self.map(&path, (source, &[from]), &sides, bias, FreshKind::Matrix);
            if part != "v" {
                if let Some((layer_norm, per_head, settings)) = &qk_norm {
                    let gain: &[AxisId] = if *per_head { &sides } else { &sides[1..] };
                    let settings = NormSettings {
                        norm: settings.norm.clone(),
                        ..*settings
                    };
                    let path = format!("{name}.{part}_norm");
                    value = self.normed(&path, &value, settings, *layer_norm, gain);
                }
                if let Some((base, layout, scaling)) = rotary {
                    let op = Op::Rotary {
                        x: value.value,
                        base,
                        layout,
                        scaling,
                    };
                    value = self
                        .graph
                        .push(&format!("{part}_rotated"), &value.axes, op, span);
                }
            }
            projected.push(value.value);
        }
        let op = Op::Attention {
            q: projected[0],
            k: projected[1],
            v: projected[2],
            mask,
            scale: scale.unwrap_or((key as f64).powf(-0.5)),
        };
        let row = self.graph.row;
        let attended = self
            .graph
            .push("attended", &[row[0], row[1], head, key_axis], op, span);
        let bias = out_bias.then(|| format!("{name}.out_bias"));
        let path = format!("{name}.out");
        let sides = [head, key_axis];
        Some(self.map(
            &path,
            (&attended, &sides),
            &[input],
            bias,
            FreshKind::Residual,
        ))
    }

    /// `rotary: rotary(base: 10_000, layout: halves)`, or `rotary: yes`.
    fn rotary(&mut self) -> Option<(f64, RotaryLayout, RotaryScaling)> {
        let value = self.given.take("rotary")?;
        let diagnostics = &mut self.checker.diagnostics;
        match value.value {
            Value::Flag(false) => return None,
            Value::Flag(true) => {
                return Some((10_000.0, RotaryLayout::Halves, RotaryScaling::None));
            }
            _ => {}
        }
        let (_, mut given) = as_call("rotary", value, &["rotary"], diagnostics)?;
        let base = given.number("base", Some(10_000.0), (1.0, 1e12), diagnostics);
        let words = [RotaryLayout::Halves, RotaryLayout::Pairs].map(RotaryLayout::word);
        let layout = RotaryLayout::from_word(given.word("layout", &words, diagnostics));
        let layout = layout.unwrap_or(RotaryLayout::Halves);
        let scaling = match given.take("scaling") {
            Some(value) => self.scaling(value)?,
            None => RotaryScaling::None,
        };
        given.finish(&mut self.checker.diagnostics);
        Some((base, layout, scaling))
    }

    /// `scaling: llama3(factor: 8, low: 1, high: 4, original: 8192)`, or another rule.
    fn scaling(&mut self, value: Spanned) -> Option<RotaryScaling> {
        let span = value.span;
        let diagnostics = &mut self.checker.diagnostics;
        if matches!(value.value, Value::Flag(false)) {
            return Some(RotaryScaling::None);
        }
        let before = diagnostics.errors_seen();
        let names = ["linear", "dynamic", "llama3", "yarn"];
        let (name, mut given) = as_call("scaling", value, &names, diagnostics)?;
        let mut number =
            |key, default| given.number(key, default, (f64::MIN_POSITIVE, 1e12), diagnostics);
        let factor = number("factor", None);
        let scaling = match name {
            "linear" => RotaryScaling::Linear { factor },
            "dynamic" => RotaryScaling::Dynamic { factor },
            "llama3" => RotaryScaling::Llama3 {
                factor,
                low: number("low", Some(1.0)),
                high: number("high", Some(4.0)),
                original: given.count("original", None, 1, diagnostics),
            },
            _ => RotaryScaling::Yarn {
                factor,
                fast: number("fast", Some(32.0)),
                slow: number("slow", Some(1.0)),
                attention: number("attention", Some(RotaryScaling::yarn_attention(factor))),
                original: given.count("original", None, 1, diagnostics),
                whole: given.flag("whole", true, diagnostics),
            },
        };
        given.finish(diagnostics);
        if diagnostics.errors_seen() != before {
            return None;
        }
        if let Some(fault) = scaling.fault() {
            self.error(
                Diagnostic::error(
                    span,
                    format!("rotary positions cannot be scaled so: {fault}"),
                )
                .code("range")
                .label(span, "out of range"),
            );
            return None;
        }
        Some(scaling)
    }

    /// `qk_norm: rms_norm(per_head: no)`: kind, whether each head has gains, and the norm.
    fn qk_norm(&mut self) -> Option<(bool, bool, NormSettings)> {
        let value = self.given.take("qk_norm")?;
        if matches!(value.value, Value::Flag(false)) {
            return None;
        }
        let names = ["layer_norm", "rms_norm"];
        let (name, mut given) = as_call("qk_norm", value, &names, &mut self.checker.diagnostics)?;
        let layer_norm = name == "layer_norm";
        let per_head = given.flag("per_head", false, &mut self.checker.diagnostics);
        let settings = Self::norm_settings(&mut given, layer_norm, self.checker);
        given.finish(&mut self.checker.diagnostics);
        Some((layer_norm, per_head, settings))
    }
}
