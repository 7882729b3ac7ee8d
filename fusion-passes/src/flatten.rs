//! Blocks without calls: the bodies of called blocks put in the place of their calls.
//!
//! Weights keep their full names: parameter `q` of a call at `attn` becomes parameter `attn.q`.

use std::collections::BTreeMap;

use jam_ir::{Block, Model, Op, ParamId, ValueId, join_path};

/// The block with every call replaced by the body of its callee, except for calls at the
/// statements that `keep` lists. The model must be verified: its calls end and its ids are there.
pub(crate) fn flatten(model: &Model, block: &Block, keep: &[usize]) -> Block {
    let mut out = Block::new(block.name.clone());
    out.span = block.span;
    let mut values = BTreeMap::new();
    for input in &block.inputs {
        let value = block.value_of(*input);
        values.insert(*input, out.input(value.name.clone(), value.ty.clone()));
    }
    let mut flattener = Flattener { model, out };
    let result = flattener.emit(block, "", values, keep);
    flattener.out.result = result;
    flattener.out
}

struct Flattener<'m> {
    model: &'m Model,
    out: Block,
}

impl Flattener<'_> {
    /// Appends the body of a block that stands at `path`; gives its result.
    fn emit(
        &mut self,
        block: &Block,
        path: &str,
        mut values: BTreeMap<ValueId, ValueId>,
        keep: &[usize],
    ) -> ValueId {
        let mut params: BTreeMap<ParamId, ParamId> = BTreeMap::new();
        for (index, statement) in block.body.iter().enumerate() {
            let mut op = statement.op.clone();
            op.for_each_operand(|value| *value = values[value]);
            op.for_each_param(|param| {
                let mapped = params.entry(*param);
                *param = *mapped.or_insert_with(|| self.param(block, path, *param));
            });
            let result = block.value_of(statement.result);
            let callee = match &op {
                Op::Call { block, .. } if !keep.contains(&index) => self.model.blocks.get(block),
                _ => None,
            };
            let id = match (callee, &op) {
                (Some(callee), Op::Call { args, at, .. }) => {
                    let inputs = callee.inputs.iter().copied();
                    let inner = inputs.zip(args.iter().copied()).collect();
                    self.emit(callee, &join_path(path, at), inner, &[])
                }
                _ => {
                    let name = join_path(path, &result.name);
                    let id = self.out.push(name, result.ty.clone(), op);
                    if let Some(last) = self.out.body.last_mut() {
                        last.span = statement.span;
                    }
                    id
                }
            };
            values.insert(statement.result, id);
        }
        values[&block.result]
    }

    /// The parameter of the flat block for one of an inner block.
    fn param(&mut self, block: &Block, path: &str, id: ParamId) -> ParamId {
        let mut param = block.param_of(id).clone();
        param.name = join_path(path, &param.name);
        let known = self.out.params.iter().position(|p| p.name == param.name);
        let index = known.unwrap_or_else(|| {
            self.out.params.push(param);
            self.out.params.len() - 1
        });
        ParamId(index as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::TokenLayout;
    use jam_ir::verify::verify;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    #[test]
    fn weights_keep_their_names_and_the_graph_stays_sound() {
        let config = DecoderConfig::opt(TokenLayout::bare(20), 16, 8, 3, 2, 12);
        let mut model = decoder_only(&config);
        let names: Vec<String> = model.weights.keys().cloned().collect();
        // Calls one and two are kept, layer 1 is put in its place.
        let calls = model.main.body.iter().enumerate();
        let calls = calls.filter(|(_, s)| matches!(s.op, Op::Call { .. }));
        let calls: Vec<usize> = calls.map(|(index, _)| index).collect();
        model.main = flatten(&model, &model.main, &[calls[0], calls[2]]);
        verify(&model).unwrap();
        let calls = model
            .main
            .body
            .iter()
            .filter(|s| matches!(s.op, Op::Call { .. }));
        assert_eq!(calls.count(), 2);
        let found: Vec<String> = model.weight_uses().into_keys().collect();
        assert_eq!(found, names);
        assert!(
            model
                .main
                .params
                .iter()
                .any(|p| p.name == "layers.1.attn.q")
        );
    }
}
