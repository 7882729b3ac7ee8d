//! The graph of a model in the DOT language of Graphviz: a cluster for each block, a node for each
//! value, calls pointing at what they call.

use std::fmt::Write;

use jam_ir::infer::type_text;
use jam_ir::{Block, Model, Op, ValueId};

/// The graph as DOT. A model that the verifier does not accept is drawn as far as it goes.
pub(crate) fn dot(model: &Model) -> String {
    let mut out = String::new();
    let name = quoted(&model.name);
    // Writing to a string does not fail.
    let _ = writeln!(out, "digraph {name} {{");
    out.push_str("  compound=true;\n  rankdir=TB;\n");
    out.push_str("  node [shape=box, style=rounded, fontname=\"monospace\", fontsize=10];\n");
    let blocks = || std::iter::once(&model.main).chain(model.blocks.values());
    for (index, block) in blocks().enumerate() {
        cluster(&mut out, model, block, index);
    }
    for (index, block) in blocks().enumerate() {
        calls(&mut out, model, block, index);
    }
    out.push_str("}\n");
    out
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// The node of a value: blocks are numbered, the main block is 0.
fn node(block: usize, value: ValueId) -> String {
    format!("b{block}v{}", value.0)
}

fn cluster(out: &mut String, model: &Model, block: &Block, index: usize) {
    let label = quoted(&block.name);
    let _ = writeln!(out, "  subgraph cluster_{index} {{\n    label={label};");
    for input in &block.inputs {
        let label = quoted(&value_text(model, block, *input));
        let _ = writeln!(
            out,
            "    {} [label={label}, shape=ellipse];",
            node(index, *input)
        );
    }
    for statement in &block.body {
        let op = op_text(block, &statement.op);
        let value = value_text(model, block, statement.result);
        let label = quoted(&format!("{op}\n{value}"));
        let shape = match statement.result == block.result {
            true => ", peripheries=2",
            false => "",
        };
        let to = node(index, statement.result);
        let _ = writeln!(out, "    {to} [label={label}{shape}];");
        for operand in statement.op.operands() {
            let from = node(index, operand);
            let _ = writeln!(out, "    {from} -> {to};");
        }
    }
    out.push_str("  }\n");
}

/// A dashed line from each call to the block that it calls, once for each block called.
fn calls(out: &mut String, model: &Model, block: &Block, index: usize) {
    let mut drawn = Vec::new();
    for statement in &block.body {
        let Op::Call { block: callee, .. } = &statement.op else {
            continue;
        };
        let Some((number, _, callee)) = model.blocks.get_full(callee) else {
            continue;
        };
        if drawn.contains(&number) {
            continue;
        }
        drawn.push(number);
        let number = number + 1;
        if let Some(first) = callee.inputs.first() {
            let (from, to) = (node(index, statement.result), node(number, *first));
            let _ = writeln!(
                out,
                "  {from} -> {to} [style=dashed, lhead=cluster_{number}];"
            );
        }
    }
}

/// A value with its type.
pub(super) fn value_text(model: &Model, block: &Block, id: ValueId) -> String {
    match block.values.get(id.0 as usize) {
        Some(value) => format!("{}: {}", value.name, type_text(model, &value.ty)),
        None => format!("%{}", id.0),
    }
}

/// The operation with its weights.
pub(super) fn op_text(block: &Block, op: &Op) -> String {
    if let Op::Call { block, at, .. } = op {
        return format!("{block} at {at}");
    }
    let mut text = op.word().to_owned();
    for id in op.params() {
        let name = block.params.get(id.0 as usize).map(|p| p.name.as_str());
        let _ = write!(text, " {}", name.unwrap_or("?"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    #[test]
    fn every_block_is_a_cluster_and_every_operand_a_line() {
        let config = DecoderConfig::llama(TokenLayout::bare(9), 8, 8, 2, 2, 8);
        let mut model = decoder_only(&config);
        model.name = "a \"b\" \\".to_owned();
        let text = dot(&model);
        assert!(
            text.starts_with("digraph \"a \\\"b\\\" \\\\\" {\n"),
            "{text}"
        );
        assert_eq!(text.matches("subgraph cluster_").count(), 2);
        let blocks = [&model.main, &model.blocks["decoder"]];
        let operands: usize = blocks
            .iter()
            .flat_map(|block| &block.body)
            .map(|statement| statement.op.operands().len())
            .sum();
        let dashed = 1;
        assert_eq!(text.matches(" -> ").count(), operands + dashed);
        for line in [
            "    b0v0 [label=\"tokens: u32[b, t]\", shape=ellipse];",
            "    b0v2 [label=\"decoder at layers.0\\nx1: f32[b, t, width]\"];",
            "    b0v1 -> b0v2;",
            "  b0v2 -> b1v0 [style=dashed, lhead=cluster_1];",
            "    b1v1 [label=\"rms_norm norm1.gain\\nnorm1: f32[b, t, width]\"];",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_broken_model_is_drawn_as_far_as_it_goes() {
        let config = DecoderConfig::opt(TokenLayout::bare(9), 8, 8, 1, 2, 8);
        let mut model = decoder_only(&config);
        model.main.body[0].result = ValueId(99);
        model.main.params.clear();
        model.blocks.clear();
        assert!(dot(&model).contains("b0v99"));
    }
}
