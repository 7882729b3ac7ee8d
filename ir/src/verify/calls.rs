//! Calls: that they end, how deep they nest, and how much they expand to.

use std::collections::HashMap;

use super::problems::{Place, Problems};
use crate::model::MAX_CALL_DEPTH;
use crate::{Block, Model, Op};

/// Most calls, and most weights, that a graph may expand to.
pub(super) const MAX_EXPANSION: u64 = 1 << 20;

/// What a block expands to.
#[derive(Clone, Copy)]
struct Extent {
    /// Levels of calls below it.
    depth: usize,
    /// Calls and weights below it, with its own.
    total: u64,
}

/// Whether the calls of a model end within the bounds; callees that are not there are reported
/// with their statements.
pub(super) fn check_calls(model: &Model, problems: &mut Problems) -> bool {
    let before = problems.list.len();
    let mut known: HashMap<&str, Option<Extent>> = HashMap::new();
    for name in model.blocks.keys() {
        measure(model, name, &mut known, problems);
    }
    let main = extent(&model.main, |callee| known.get(callee).copied().flatten());
    if main.depth > MAX_CALL_DEPTH {
        let message = format!("calls nest {} deep, more than {MAX_CALL_DEPTH}", main.depth);
        problems.add(Place::Block(model.main.name.clone()), None, message);
    }
    if main.total > MAX_EXPANSION {
        let message = format!(
            "the graph expands to {} calls and weights, more than {MAX_EXPANSION}",
            main.total
        );
        problems.add(Place::Block(model.main.name.clone()), None, message);
    }
    problems.list.len() == before
}

/// Measures a block and all that it calls, without recursion: hostile models nest deeply.
fn measure<'m>(
    model: &'m Model,
    name: &'m str,
    known: &mut HashMap<&'m str, Option<Extent>>,
    problems: &mut Problems,
) {
    let mut stack = vec![name];
    while let Some(name) = stack.last().copied() {
        let Some(block) = model.blocks.get(name).filter(|_| !is_done(known, name)) else {
            stack.pop();
            continue;
        };
        // `None` marks a block whose callees are being measured.
        let opened = known.insert(name, None).is_some();
        let mut waiting = Vec::new();
        for callee in callees(block) {
            match known.get(callee) {
                None if model.blocks.contains_key(callee) => waiting.push(callee),
                // Blocks that are open lie on the way to this one.
                Some(None) if !opened => {
                    let message = format!("it calls itself, by way of `{callee}`");
                    problems.add(Place::Block(name.to_owned()), block.span, message);
                }
                _ => {}
            }
        }
        if waiting.is_empty() || opened {
            let extent = extent(block, |callee| known.get(callee).copied().flatten());
            known.insert(name, Some(extent));
            stack.pop();
        } else {
            stack.append(&mut waiting);
        }
    }
}

fn is_done(known: &HashMap<&str, Option<Extent>>, name: &str) -> bool {
    matches!(known.get(name), Some(Some(_)))
}

fn callees(block: &Block) -> impl Iterator<Item = &str> {
    block
        .body
        .iter()
        .filter_map(|statement| match &statement.op {
            Op::Call { block, .. } => Some(block.as_str()),
            _ => None,
        })
}

fn extent(block: &Block, known: impl Fn(&str) -> Option<Extent>) -> Extent {
    let mut extent = Extent {
        depth: 0,
        total: block.params.len() as u64,
    };
    for callee in callees(block) {
        let inner = known(callee).unwrap_or(Extent { depth: 0, total: 0 });
        extent.depth = extent.depth.max(inner.depth.saturating_add(1));
        extent.total = extent.total.saturating_add(inner.total).saturating_add(1);
    }
    extent
}
