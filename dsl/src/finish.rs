//! The end of a model: its logits, the plans of its weights, and whether it can be written out.

use std::collections::BTreeMap;

use jam_ir::diagnostic::Diagnostic;
use jam_ir::{Block, DType, Model, Op, Plan, Role, ValueId, ValueType, Weight};

use crate::checker::Checker;
use crate::graph::{FreshKind, Graph};
use crate::suggest;
use crate::value::Value;

/// Most calls and weights of a model, all layers counted.
const MAX_EXPANDED: u64 = 1 << 20;

impl<'a> Graph<'a> {
    /// The finished model; `source` is the name that its weights are loaded from.
    pub(crate) fn finish(
        mut self,
        checker: &mut Checker<'a>,
        source: Option<&str>,
    ) -> Option<Model> {
        let missing = |what: &str, help: &str| {
            Diagnostic::error(
                self.place,
                format!("the model `{}` has no `{what}`", self.model.name),
            )
            .code("missing")
            .label(self.place, format!("`{what}` is not given"))
            .help(help)
        };
        if self.tokens.is_none() {
            if self.wrong.contains("tokens") {
                return None;
            }
            checker.diagnostics.push(missing(
                "tokens",
                "add `tokens = …`, a vocabulary or its size",
            ));
            return None;
        }
        let logits = self.frames[0].locals.get("logits").cloned();
        let Some(logits) = logits else {
            let near = suggest::nearest("logits", self.local_names());
            let help = near.map(|near| format!("did you mean `logits` where `{near}` stands?"));
            let help = help.unwrap_or_else(|| "add `logits = unembed(x)`".to_owned());
            checker.diagnostics.push(missing("logits", &help));
            return None;
        };
        let Value::Stream(stream) = logits.value else {
            if !matches!(logits.value, Value::Broken) {
                let message = format!(
                    "`logits` must be values of the model, not {}",
                    logits.described()
                );
                checker.diagnostics.push(
                    Diagnostic::error(logits.span, message)
                        .code("wrong-kind")
                        .help("write `logits = unembed(x)`"),
                );
            }
            return None;
        };
        let vocab = self.axis(Role::Vocab, self.model.tokens.size, "vocab");
        let wanted = vec![self.row[0], self.row[1], vocab];
        if stream.axes != wanted {
            let message = format!(
                "`logits` must be {}, and are {}",
                self.shown(&wanted),
                self.shown(&stream.axes)
            );
            checker.diagnostics.push(
                Diagnostic::error(logits.span, message)
                    .code("shape")
                    .label(logits.span, "one number for each token of the vocabulary")
                    .help("write `logits = unembed(x)`"),
            );
            return None;
        }
        let mut result: ValueId = stream.value;
        if self.dtype != DType::F32 {
            let ty = ValueType {
                dtype: DType::F32,
                axes: wanted,
            };
            let op = Op::Cast {
                x: result,
                dtype: DType::F32,
            };
            result = self.frame().block.push("logits_f32", ty, op);
        }
        let layers = self.layers();
        let mut main = std::mem::replace(&mut self.frame().block, Block::new("main"));
        main.result = result;
        let plan = self.plan(FreshKind::Residual, layers);
        for (block, param) in &self.residual {
            let block = if block == "main" {
                Some(&mut main)
            } else {
                self.model.blocks.get_mut(block)
            };
            if let Some(param) = block.and_then(|block| block.params.get_mut(param.0 as usize)) {
                param.init = plan.clone();
            }
        }
        self.model.main = main;
        self.model.context = self.context;
        if self.expanded() > MAX_EXPANDED {
            checker.diagnostics.push(
                Diagnostic::error(self.place, "the model is too large to be written out")
                    .code("size")
                    .label(
                        self.place,
                        format!("more than {MAX_EXPANDED} calls and weights"),
                    ),
            );
            return None;
        }
        let uses = self.model.weight_uses().into_iter().map(|(name, param)| {
            let plan = match source {
                Some(source) => Plan::load(source, name.clone()),
                None => param.init.clone(),
            };
            (
                name,
                Weight {
                    plan,
                    span: param.span,
                },
            )
        });
        let weights = uses.collect();
        self.model.weights = weights;
        Some(self.model)
    }

    /// Layers of the main block, all repeats together; one of layers counts for those.
    fn layers(&self) -> u64 {
        let mut layers: BTreeMap<&str, u64> = BTreeMap::new();
        let main = &self.frames[0].block;
        let mut count = 0;
        for block in self.model.blocks.values().chain([main]) {
            count = 0;
            for statement in &block.body {
                if let Op::Call { block, at, .. } = &statement.op {
                    let inside = layers.get(block.as_str()).copied().unwrap_or(0);
                    let least = u64::from(at.starts_with("layers."));
                    count = inside.max(least).saturating_add(count);
                }
            }
            layers.insert(&block.name, count);
        }
        count
    }

    /// Calls and weights of the model with all blocks written out.
    fn expanded(&self) -> u64 {
        // A block is finished, and filed, after those that it calls.
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut main = 0;
        for block in self.model.blocks.values().chain([&self.model.main]) {
            main = block.params.len() as u64;
            for statement in &block.body {
                if let Op::Call { block, .. } = &statement.op {
                    let callee = sizes.get(block.as_str()).copied().unwrap_or(0);
                    main = main.saturating_add(callee).saturating_add(1);
                }
            }
            sizes.insert(&block.name, main);
        }
        main
    }
}
