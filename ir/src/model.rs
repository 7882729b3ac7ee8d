//! A model: axes, blocks, a main block, and a plan for every weight.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{Axis, AxisId, Op, Plan, Role, Span, TokenLayout, ValueType, WeightType};

/// Index of a [`Value`] in its block; prints as `%3` where it has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// Index of a [`Param`] in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParamId(pub u32);

/// A value of a block: an input, or the result of a statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Unique in its block.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}

/// A weight that a block asks for; each call of the block has one of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Unique in its block: `attn.q`. The weight of a call at `layers.0` is `layers.0.attn.q`.
    pub name: String,
    /// Its type.
    pub ty: WeightType,
    /// How a fresh one begins: a plan that loads nothing.
    pub init: Plan,
    /// Where the program asks for it.
    pub span: Option<Span>,
}

/// One operation and the value it defines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The value defined.
    pub result: ValueId,
    /// The operation.
    pub op: Op,
    /// Where the program asks for it.
    pub span: Option<Span>,
}

/// A function over values, with parameters of its own.
///
/// Statements stand in an order in which every operand is defined before it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Unique in its model; the main block is called `main`.
    pub name: String,
    /// The values that a caller gives, in order.
    pub inputs: Vec<ValueId>,
    /// Parameters, indexed by [`ParamId`].
    pub params: Vec<Param>,
    /// Values, indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// The operations.
    pub body: Vec<Statement>,
    /// The value that a caller gets.
    pub result: ValueId,
    /// Where the program defines it.
    pub span: Option<Span>,
}

impl Block {
    /// An empty block; `result` must be set once it is known.
    pub fn new(name: impl Into<String>) -> Block {
        Block {
            name: name.into(),
            inputs: Vec::new(),
            params: Vec::new(),
            values: Vec::new(),
            body: Vec::new(),
            result: ValueId(0),
            span: None,
        }
    }

    /// Adds an input.
    pub fn input(&mut self, name: impl Into<String>, ty: ValueType) -> ValueId {
        let id = self.value(name, ty);
        self.inputs.push(id);
        id
    }

    /// Adds a parameter.
    pub fn param(&mut self, name: impl Into<String>, ty: WeightType, init: Plan) -> ParamId {
        self.params.push(Param {
            name: name.into(),
            ty,
            init,
            span: None,
        });
        ParamId(self.params.len() as u32 - 1)
    }

    /// Adds an operation and the value it defines.
    pub fn push(&mut self, name: impl Into<String>, ty: ValueType, op: Op) -> ValueId {
        let result = self.value(name, ty);
        self.body.push(Statement {
            result,
            op,
            span: None,
        });
        result
    }

    /// Adds a value whose name is made unique with a number.
    fn value(&mut self, name: impl Into<String>, ty: ValueType) -> ValueId {
        let wanted = name.into();
        let mut name = wanted.clone();
        let mut number = 2;
        while self.values.iter().any(|value| value.name == name) {
            name = format!("{wanted}.{number}");
            number += 1;
        }
        self.values.push(Value { name, ty });
        ValueId(self.values.len() as u32 - 1)
    }

    /// The value with this id.
    ///
    /// # Panics
    /// When the id is of another block; the verifier reports that first.
    pub fn value_of(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The parameter with this id.
    ///
    /// # Panics
    /// When the id is of another block; the verifier reports that first.
    pub fn param_of(&self, id: ParamId) -> &Param {
        &self.params[id.0 as usize]
    }
}

/// One weight of a model: a parameter at the path of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Where its numbers come from.
    pub plan: Plan,
    /// Where the program asks for it.
    pub span: Option<Span>,
}

/// A model: a graph and a weight plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Name of its definition in the program.
    pub name: String,
    /// The meaning of its token ids.
    pub tokens: TokenLayout,
    /// Longest sequence, in tokens; `None` where positions set no bound and the program none.
    pub context: Option<u64>,
    /// Axes, indexed by [`AxisId`].
    pub axes: Vec<Axis>,
    /// Blocks that are called, by name.
    pub blocks: IndexMap<String, Block>,
    /// The block that runs: tokens `u32[b, t]` → logits `f32[b, t, vocab]`.
    pub main: Block,
    /// Every weight by its full name, in order of first use, with its plan.
    pub weights: IndexMap<String, Weight>,
}

impl Model {
    /// The axis with this id.
    ///
    /// # Panics
    /// When the id is of another model; the verifier reports that first.
    pub fn axis(&self, id: AxisId) -> &Axis {
        &self.axes[id.0 as usize]
    }

    /// Adds an axis.
    pub fn add_axis(&mut self, name: impl Into<String>, size: Option<u64>, role: Role) -> AxisId {
        self.axes.push(Axis {
            name: name.into(),
            size,
            role,
        });
        AxisId(self.axes.len() as u32 - 1)
    }

    /// Every weight that the graph asks for: full name, the block that asks and its parameter, in
    /// order of first use. Calls nest to any depth; a weight asked for twice is listed once.
    pub fn weight_uses(&self) -> IndexMap<String, &Param> {
        let mut uses = IndexMap::with_capacity(self.weights.len());
        self.for_each_weight_use(&mut |name, param| {
            // Asking first spares a copy of the name where a weight is used again.
            if !uses.contains_key(name) {
                uses.insert(name.to_owned(), param);
            }
        });
        uses
    }

    /// Visits every use of a weight in the order of the graph: its full name and the parameter
    /// that asks for it. A weight asked for twice is visited twice.
    pub fn for_each_weight_use<'m>(&'m self, visit: &mut dyn FnMut(&str, &'m Param)) {
        let mut path = String::new();
        visit_uses(self, &self.main, &mut path, 0, visit);
    }

    /// Sizes of a weight's axes in storage order; `None` where one is symbolic.
    pub fn weight_shape(&self, ty: &WeightType) -> Option<Vec<u64>> {
        ty.axes()
            .map(|axis| self.axes.get(axis.0 as usize)?.size)
            .collect()
    }
}

/// Deepest nesting of calls that is followed; the verifier reports a deeper one.
pub(crate) const MAX_CALL_DEPTH: usize = 64;

/// `path` is where the block stands, and again so at the end.
fn visit_uses<'m>(
    model: &'m Model,
    block: &'m Block,
    path: &mut String,
    depth: usize,
    visit: &mut dyn FnMut(&str, &'m Param),
) {
    let here = path.len();
    for statement in &block.body {
        if let Op::Call {
            block: callee, at, ..
        } = &statement.op
            && let (Some(callee), true) = (model.blocks.get(callee), depth < MAX_CALL_DEPTH)
        {
            push_path(path, at);
            visit_uses(model, callee, path, depth + 1, visit);
            path.truncate(here);
        }
        for param in statement.op.params() {
            if let Some(param) = block.params.get(param.0 as usize) {
                push_path(path, &param.name);
                visit(path, param);
                path.truncate(here);
            }
        }
    }
}

/// Makes `path` what [`join_path`] gives.
fn push_path(path: &mut String, name: &str) {
    if !path.is_empty() && !name.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// `a.b`, or the one that is not empty.
pub fn join_path(a: &str, b: &str) -> String {
    let mut path = String::with_capacity(a.len() + b.len() + 1);
    path.push_str(a);
    push_path(&mut path, b);
    path
}
