//! The head of a model: logits from the last states, with those of some ids masked.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::{AxisId, Op, ParamId, Role};

use crate::given::{as_call, as_count, as_list};
use crate::graph::FreshKind;
use crate::layer_call::LayerCall;
use crate::value::{Spanned, Stream, Value};

impl LayerCall<'_, '_> {
    /// Logits of last states, from the token table or a matrix of their own.
    pub(crate) fn unembed(&mut self) -> Option<Stream> {
        self.only_in_main()?;
        let span = self.span;
        let (x, input) = self.input()?;
        let diagnostics = &mut self.checker.diagnostics;
        let tied = self.given.flag("tied", true, diagnostics);
        let bias_span = self
            .given
            .keyed
            .get("bias")
            .map_or(span, |(_, value)| value.span);
        let bias = self.given.flag("bias", false, diagnostics);
        let masked = self.given.take("masked");
        let vocabulary = self.graph.vocabulary()?;
        let rows = match masked {
            Some(value) => self.masked(value, vocabulary)?,
            None => Vec::new(),
        };
        let vocab = self.graph.axis(Role::Vocab, vocabulary, "vocab");
        if !tied {
            let bias = bias.then(|| "unembed.bias".to_owned());
            let name = "unembed.weight";
            let logits = self.map(name, (&x, &[input]), &[vocab], bias, FreshKind::Matrix);
            return Some(self.without_rows(logits, rows));
        }
        if bias {
            self.error(
                Diagnostic::error(bias_span, "a tied head has no bias")
                    .code("not-supported")
                    .label(bias_span, "the token table has none")
                    .help("write `tied: no`, or `bias: no`"),
            );
            return None;
        }
        let table: Option<(ParamId, AxisId)> = self.graph.table;
        let Some((table, features)) = table else {
            self.error(
                Diagnostic::error(span, "a tied head needs a token table")
                    .code("missing")
                    .label(span, "tied to what?")
                    .help("begin with `embed(tokens)`, or write `tied: no`"),
            );
            return None;
        };
        if features != input {
            let shown = self.graph.shown(&[input]);
            let table_shown = self.graph.shown(&[features]);
            self.error(
                Diagnostic::error(span, "the states do not fit the token table")
                    .code("shape")
                    .label(span, format!("states {shown}, table {table_shown}"))
                    .help("map them first: `linear(x, width: …)`, or write `tied: no`"),
            );
            return None;
        }
        let row = self.graph.row;
        let op = Op::Unembed { x: x.value, table };
        let logits = self
            .graph
            .push("logits", &[row[0], row[1], vocab], op, span);
        Some(self.without_rows(logits, rows))
    }

    /// `masked: ids(8, 71)`, or a list of such runs, first and last id: half-open ranges, ascending.
    fn masked(&mut self, value: Spanned, vocabulary: u64) -> Option<Vec<(u64, u64)>> {
        let span = value.span;
        if matches!(value.value, Value::Flag(false)) {
            return Some(Vec::new());
        }
        let diagnostics = &mut self.checker.diagnostics;
        let before = diagnostics.errors_seen();
        let mut rows = Vec::new();
        for run in as_list(value) {
            let place = run.span;
            let (_, mut given) = as_call("masked", run, &["ids"], diagnostics)?;
            let mut id = |what| {
                let value = given.require_next(what, diagnostics);
                value.and_then(|value| as_count("ids", &value, 0, diagnostics))
            };
            let (first, last) = (id("a first id"), id("a last id"));
            given.finish(diagnostics);
            let (Some(first), Some(last)) = (first, last) else {
                continue;
            };
            if first > last || last >= vocabulary {
                let message =
                    format!("ids {first} to {last} are no run of a vocabulary of {vocabulary}");
                diagnostics.push(
                    Diagnostic::error(place, message)
                        .code("range")
                        .label(place, "first and last id, counted from 0"),
                );
                continue;
            }
            rows.push((first, last + 1));
        }
        rows.sort_unstable();
        if rows.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            diagnostics.push(
                Diagnostic::error(span, "runs of masked ids overlap")
                    .code("range")
                    .label(span, "an id stands in two of them"),
            );
        }
        if rows.iter().map(|(start, end)| end - start).sum::<u64>() == vocabulary {
            diagnostics.push(
                Diagnostic::error(span, "every id of the vocabulary is masked")
                    .code("range")
                    .label(span, "no logit is left"),
            );
        }
        (diagnostics.errors_seen() == before).then_some(rows)
    }

    /// Logits of which those of some ids are never the largest.
    fn without_rows(&mut self, logits: Stream, rows: Vec<(u64, u64)>) -> Stream {
        if rows.is_empty() {
            return logits;
        }
        let op = Op::MaskRows {
            x: logits.value,
            rows,
        };
        self.graph
            .push("masked", &logits.axes.clone(), op, self.span)
    }
}
