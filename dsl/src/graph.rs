//! Graphs under construction: blocks, their local names and the names of weights.
//!
//! A weight's name is the path of what leads to it. An operation is called by the name it is bound
//! to where that name is bound once in its block (`first = attention(…)` holds `first.q`);
//! otherwise by its kind and, from the second on, its number: `attn.q`, `mlp2.up`, `norm1.gain`.
//! Norms are numbered from the first; the norm after the layers is `final_norm`. Layers are
//! numbered through: `layers.0`, `layers.1`, ….

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use jam_ir::span::Span;
use jam_ir::{
    AxisId, Block, DType, Model, Op, ParamId, Plan, Role, TokenLayout, ValueId, ValueType,
    WeightType,
};

use crate::syntax::Name;
use crate::value::{Spanned, Stream, Value};

/// How weights begin where nothing is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    /// Standard deviation of matrices and the token table.
    pub(crate) sd: f64,
    /// Where the normal is cut, in standard deviations.
    pub(crate) cut: Option<f64>,
    /// Standard deviation of learned positions.
    pub(crate) positions: f64,
    /// Standard deviation of the matrices that write to the residual stream; by default `sd`
    /// over the root of twice the number of layers.
    pub(crate) residual: Option<f64>,
}

/// Which standard deviation a fresh weight takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FreshKind {
    /// An ordinary matrix, or the token table.
    Matrix,
    /// A table of positions.
    Positions,
    /// A matrix that writes to the residual stream.
    Residual,
}

/// A finished block.
#[derive(Clone)]
pub(crate) struct Instance {
    /// Its name in the model.
    pub(crate) name: String,
    /// Axes of its result.
    pub(crate) axes: Vec<AxisId>,
}

/// A model under construction.
pub(crate) struct Graph<'a> {
    pub(crate) model: Model,
    pub(crate) place: Span,
    /// Batch and time.
    pub(crate) row: [AxisId; 2],
    pub(crate) dtype: DType,
    pub(crate) tokens: Option<Span>,
    /// Longest sequence.
    pub(crate) context: Option<u64>,
    /// Features of the residual stream.
    pub(crate) width: Option<u64>,
    /// How weights begin.
    pub(crate) fresh: Fresh,
    /// Blocks under construction, the main block first.
    pub(crate) frames: Vec<Frame<'a>>,
    /// Finished blocks by name of definition and printed parameters; `None` for broken ones.
    pub(crate) instances: IndexMap<String, Option<Instance>>,
    /// The token table of the main block, and its features.
    pub(crate) table: Option<(ParamId, AxisId)>,
    /// Axes by role and size.
    axes: BTreeMap<(Role, u64), AxisId>,
    /// Names of axes that are taken.
    axis_names: BTreeSet<String>,
    /// The last number that was given to an axis of a name.
    axis_numbers: BTreeMap<String, u64>,
    /// Weights whose standard deviation depends on the number of layers.
    pub(crate) residual: Vec<(String, ParamId)>,
    /// Settings whose value is wrong, which is reported already.
    pub(crate) wrong: BTreeSet<String>,
    /// Local names of the main block that somebody read.
    pub(crate) used: BTreeSet<String>,
}

/// A block under construction.
pub(crate) struct Frame<'a> {
    /// Name of the definition of a block; the model and layers that are written out have none.
    pub(crate) definition: Option<&'a str>,
    pub(crate) block: Block,
    pub(crate) locals: IndexMap<String, Spanned>,
    /// Names that the block binds once.
    pub(crate) once: BTreeSet<&'a str>,
    /// The name that is being bound, and the expression bound to it.
    pub(crate) binding: Option<(&'a str, Span)>,
    /// Number of operations by kind.
    ordinals: BTreeMap<String, u64>,
    /// Names of operations that are taken.
    taken: BTreeSet<String>,
    /// Number of values by name.
    names: BTreeMap<String, u64>,
    /// Layers so far.
    pub(crate) layers: u64,
    /// The layer being called, in a repeat of one call.
    pub(crate) layer: Option<u64>,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(
        definition: Option<&'a str>,
        name: &str,
        words: impl Iterator<Item = &'a Name>,
    ) -> Self {
        let mut once = BTreeSet::new();
        let mut several = BTreeSet::new();
        for word in words {
            if !once.insert(word.text.as_str()) {
                several.insert(word.text.as_str());
            }
        }
        once.retain(|word| !several.contains(word));
        Self {
            definition,
            block: Block::new(name),
            locals: IndexMap::new(),
            once,
            binding: None,
            ordinals: BTreeMap::new(),
            taken: BTreeSet::new(),
            names: BTreeMap::new(),
            layers: 0,
            layer: None,
        }
    }
}

impl<'a> Graph<'a> {
    /// An empty model; `words` are the names that its statements bind.
    pub(crate) fn new(name: &'a str, place: Span, words: impl Iterator<Item = &'a Name>) -> Self {
        let mut model = Model {
            name: name.to_owned(),
            tokens: TokenLayout::bare(0),
            context: None,
            axes: Vec::new(),
            blocks: IndexMap::new(),
            main: Block::new("main"),
            weights: IndexMap::new(),
        };
        let row = [
            model.add_axis("b", None, Role::Batch),
            model.add_axis("t", None, Role::Time),
        ];
        let mut main = Frame::new(None, "main", words);
        main.block.span = Some(place);
        Self {
            model,
            place,
            row,
            dtype: DType::F32,
            tokens: None,
            context: None,
            width: None,
            fresh: Fresh {
                sd: 0.02,
                cut: Some(3.0),
                positions: 0.02,
                residual: None,
            },
            frames: vec![main],
            instances: IndexMap::new(),
            table: None,
            axes: BTreeMap::new(),
            axis_names: ["b", "t"].map(str::to_owned).into(),
            axis_numbers: BTreeMap::new(),
            residual: Vec::new(),
            wrong: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }

    /// The block under construction.
    pub(crate) fn frame(&mut self) -> &mut Frame<'a> {
        // The main block is there from the beginning and is never taken away.
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Whether the main block is under construction.
    pub(crate) fn in_main(&self) -> bool {
        self.frames.len() == 1
    }

    /// Whether the main block has layers already.
    pub(crate) fn after_layers(&self) -> bool {
        self.in_main() && self.frames[0].layers > 0
    }

    /// Sets the vocabulary and makes the token ids known as `tokens`.
    pub(crate) fn tokens(&mut self, tokens: TokenLayout, span: Span) {
        self.tokens = Some(span);
        self.model.tokens = tokens;
        let ty = ValueType {
            dtype: DType::U32,
            axes: self.row.to_vec(),
        };
        if self.frames[0].block.inputs.is_empty() {
            self.frames[0].block.input("tokens", ty);
        }
        let input = self.frames[0].block.inputs[0];
        self.local("tokens", Spanned::new(Value::Tokens(input), span));
        self.used.insert("tokens".to_owned());
    }

    /// The token ids of the main block.
    pub(crate) fn token_input(&self) -> Option<ValueId> {
        self.frames[0].block.inputs.first().copied()
    }

    /// Number of rows of the token table.
    pub(crate) fn vocabulary(&self) -> Option<u64> {
        self.tokens.map(|_| self.model.tokens.size)
    }

    /// Sets the stored type of weights.
    pub(crate) fn precision(&mut self, dtype: DType) {
        self.dtype = dtype;
    }

    /// Makes a name known whose value is wrong, which is reported already.
    pub(crate) fn wrong(&mut self, name: &str, span: Span) {
        self.wrong.insert(name.to_owned());
        self.local(name, Spanned::new(Value::Broken, span));
    }

    /// Gives a local name a value.
    pub(crate) fn local(&mut self, name: &str, value: Spanned) {
        self.frame().locals.insert(name.to_owned(), value);
    }

    /// Names of numbers and words that nothing read, with their places.
    pub(crate) fn unused(&self) -> Vec<(String, Span)> {
        let settings = ["tokens", "context", "width", "logits"];
        let locals = self.frames[0].locals.iter();
        let unused = locals.filter(|(name, value)| {
            !settings.contains(&name.as_str())
                && !self.used.contains(*name)
                && !matches!(value.value, Value::Broken)
        });
        unused
            .map(|(name, value)| (name.clone(), value.span))
            .collect()
    }

    /// Local names of the block under construction.
    pub(crate) fn local_names(&self) -> Vec<&str> {
        let last = self.frames.last();
        last.map_or(Vec::new(), |frame| {
            frame.locals.keys().map(String::as_str).collect()
        })
    }

    /// The size of an axis, 0 for batch and time.
    pub(crate) fn size(&self, axis: AxisId) -> u64 {
        self.model
            .axes
            .get(axis.0 as usize)
            .and_then(|axis| axis.size)
            .unwrap_or(0)
    }

    /// The axis of a role and size; a new one where there is none.
    pub(crate) fn axis(&mut self, role: Role, size: u64, name: &str) -> AxisId {
        if let Some(found) = self.axes.get(&(role, size)) {
            return *found;
        }
        let mut unique = name.to_owned();
        while !self.axis_names.insert(unique.clone()) {
            let number = self.axis_numbers.entry(name.to_owned()).or_insert(1);
            *number += 1;
            unique = format!("{name}{number}");
        }
        let axis = self.model.add_axis(unique, Some(size), role);
        self.axes.insert((role, size), axis);
        axis
    }

    /// The feature axis of a size: the residual stream's, or one of its own.
    pub(crate) fn features(&mut self, size: u64) -> AxisId {
        if self.width == Some(size) {
            self.axis(Role::Width, size, "width")
        } else {
            self.axis(Role::Inner, size, "inner")
        }
    }

    /// The name of an operation's weights, see the head of this file.
    pub(crate) fn weights_name(&mut self, kind: &str, numbered: bool, span: Span) -> String {
        let frame = self.frame();
        if let Some((name, bound)) = frame.binding
            && bound == span
            && frame.once.contains(name)
            && frame.taken.insert(name.to_owned())
        {
            return name.to_owned();
        }
        loop {
            let ordinal = frame.ordinals.entry(kind.to_owned()).or_insert(0);
            *ordinal += 1;
            let name = match *ordinal {
                1 if !numbered => kind.to_owned(),
                number => format!("{kind}{number}"),
            };
            if frame.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Asks for a weight.
    pub(crate) fn weight(
        &mut self,
        name: String,
        input: &[AxisId],
        output: &[AxisId],
        init: Plan,
        span: Span,
    ) -> ParamId {
        let ty = WeightType {
            dtype: self.dtype,
            input: input.to_vec(),
            output: output.to_vec(),
        };
        let frame = self.frame();
        let id = frame.block.param(name, ty, init);
        if let Some(param) = frame.block.params.last_mut() {
            param.span = Some(span);
        }
        id
    }

    /// Asks for a matrix or a table.
    pub(crate) fn matrix(
        &mut self,
        name: String,
        input: &[AxisId],
        output: &[AxisId],
        kind: FreshKind,
        span: Span,
    ) -> ParamId {
        let id = self.weight(name, input, output, Plan::Zeros, span);
        // How many layers write to the residual stream is known at the end.
        let block = self.frame().block.name.clone();
        let plan = self.plan(kind, 1);
        if kind == FreshKind::Residual {
            self.residual.push((block, id));
        }
        if let Some(param) = self.frame().block.params.last_mut() {
            param.init = plan;
        }
        id
    }

    /// How a fresh weight of a kind begins, in a model of so many layers.
    pub(crate) fn plan(&self, kind: FreshKind, layers: u64) -> Plan {
        let Fresh {
            sd,
            cut,
            positions,
            residual,
        } = self.fresh;
        let sd = match kind {
            FreshKind::Matrix => sd,
            FreshKind::Positions => positions,
            FreshKind::Residual => residual.unwrap_or(sd / (2.0 * layers.max(1) as f64).sqrt()),
        };
        match cut {
            _ if sd == 0.0 => Plan::Zeros,
            Some(cut) => Plan::TruncatedNormal { sd, cut },
            None => Plan::Normal { sd },
        }
    }

    /// Adds an operation.
    pub(crate) fn push(&mut self, name: &str, axes: &[AxisId], op: Op, span: Span) -> Stream {
        let ty = ValueType {
            dtype: self.dtype,
            axes: axes.to_vec(),
        };
        let frame = self.frame();
        let number = frame.names.entry(name.to_owned()).or_insert(0);
        *number += 1;
        let name = match *number {
            1 => name.to_owned(),
            number => format!("{name}.{number}"),
        };
        let value = frame.block.push(name, ty, op);
        if let Some(statement) = frame.block.body.last_mut() {
            statement.span = Some(span);
        }
        Stream {
            value,
            axes: axes.to_vec(),
        }
    }

    /// Axes as errors show them: `f32[b, t, width = 768]`.
    pub(crate) fn shown(&self, axes: &[AxisId]) -> String {
        let axes = axes.iter().map(|axis| {
            let Some(axis) = self.model.axes.get(axis.0 as usize) else {
                return String::new();
            };
            match axis.size {
                Some(size) => format!("{} = {size}", axis.name),
                None => axis.name.clone(),
            }
        });
        format!("[{}]", axes.collect::<Vec<_>>().join(", "))
    }
}
