//! Towers: each parent, its names and its places in the fused model.

use std::collections::BTreeMap;

use jam_ir::{AxisId, Block, Model, ParamId, Role, ValueId, ValueType};

use crate::Parent;
use crate::anatomy::{Anatomy, Dissected};
use crate::axes::for_each_axis_of;

/// One parent in the fused model.
pub(super) struct Tower<'a> {
    /// The parent as it is named.
    pub(super) parent: &'a Parent<'a>,
    /// Its graph, made plain.
    pub(super) model: &'a Model,
    /// Its parts.
    pub(super) anatomy: &'a Anatomy,
    /// Begin of the names of its weights.
    pub(super) prefix: String,
    /// Its axes in the fused model.
    pub(super) axes: Vec<AxisId>,
    /// Parameters of its main block in the fused main block, as far as they are there.
    pub(super) params: BTreeMap<ParamId, ParamId>,
    /// Values of its main block in the fused main block, as far as they are there.
    pub(super) values: BTreeMap<ValueId, ValueId>,
    /// Its layers' blocks in the fused model.
    pub(super) blocks: BTreeMap<String, String>,
    /// Cross blocks made of its layers' blocks.
    pub(super) cross_blocks: BTreeMap<String, String>,
}

impl<'a> Tower<'a> {
    /// Both towers, with distinct names.
    pub(super) fn pair(
        parents: [&'a Parent<'a>; 2],
        dissected: [&'a Dissected; 2],
    ) -> [Tower<'a>; 2] {
        let names = prefixes([&parents[0].source, &parents[1].source]);
        let tower = |index: usize, prefix: String| Tower {
            parent: parents[index],
            model: &dissected[index].model,
            anatomy: &dissected[index].anatomy,
            prefix,
            axes: Vec::new(),
            params: BTreeMap::new(),
            values: BTreeMap::new(),
            blocks: BTreeMap::new(),
            cross_blocks: BTreeMap::new(),
        };
        let [a, b] = names;
        [tower(0, a), tower(1, b)]
    }

    /// A type of the parent in the fused model's axes.
    pub(super) fn value_type(&self, ty: &ValueType) -> ValueType {
        let axes = ty.axes.iter().map(|axis| self.axes[axis.0 as usize]);
        ValueType {
            dtype: ty.dtype,
            axes: axes.collect(),
        }
    }

    /// A block of the parent in the fused model's axes.
    pub(super) fn block(&self, name: &str) -> Block {
        let mut block = self.model.blocks[name].clone();
        for_each_axis_of(&mut block, &mut |axis| *axis = self.axes[axis.0 as usize]);
        block
    }

    /// Type of the states between its layers, in the fused model's axes.
    pub(super) fn state_type(&self) -> ValueType {
        self.value_type(&self.model.main.value_of(self.anatomy.stack_in).ty)
    }

    /// Features of its states, in the fused model's axes.
    pub(super) fn stream(&self) -> AxisId {
        self.axes[self.anatomy.stream.0 as usize]
    }
}

/// Names of two towers: sources without their checkpoint, made distinct from one another and from
/// the words that other weights begin with.
fn prefixes(sources: [&str; 2]) -> [String; 2] {
    let stem = |source: &str| {
        let stem = source.split('.').next().unwrap_or_default().to_owned();
        match ["shared", "cross", "join", ""].contains(&stem.as_str()) {
            true => format!("{stem}_parent"),
            false => stem,
        }
    };
    let [a, b] = sources.map(stem);
    match a == b {
        true => [format!("{a}_1"), format!("{b}_2")],
        false => [a, b],
    }
}

/// `name`, or one made distinct by the tower's name.
pub(super) fn free_axis_name(model: &Model, name: &str, prefix: &str) -> String {
    let taken = |name: &str| model.axes.iter().any(|axis| axis.name == name);
    let mut free = name.to_owned();
    let mut number = 1;
    while taken(&free) {
        free = match number {
            1 => format!("{prefix}_{name}"),
            _ => format!("{prefix}_{name}_{number}"),
        };
        number += 1;
    }
    free
}

/// Whether an axis is one of rows of a vocabulary.
pub(super) fn is_vocab(model: &Model, axis: AxisId) -> bool {
    model.axis(axis).role == Role::Vocab
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn towers_have_distinct_names() {
        let names = |a, b| prefixes([a, b]).join(" ");
        assert_eq!(names("llm", "img"), "llm img");
        assert_eq!(names("tune.best", "img"), "tune img");
        assert_eq!(names("tune.best", "tune"), "tune_1 tune_2");
        assert_eq!(names("shared", "cross"), "shared_parent cross_parent");
    }
}
