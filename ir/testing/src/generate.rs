//! Random models that the verifier accepts: what property tests run on.
//!
//! A model is made from a list of bytes, each of which decides something; when they run out,
//! everything is decided in the simplest way. So a test that shrinks its bytes shrinks the model.
//!
//! Models are small enough to run: axes of up to a few dozen entries, a few layers. Together they
//! have every operation, every plan, blocks of one and two streams of different widths, nested and
//! repeated calls, odd names, values that nothing reads, and ids in any order.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;

use jam_ir::span::FileId;
use jam_ir::{
    AxisId, Block, DType, ImageTokens, Model, Role, Span, TextTokens, TokenKind, TokenLayout,
    ValueId, Weight,
};

mod blocks;
mod plans;

/// A model, and the tensors that its plans load.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The model; the verifier accepts it.
    pub model: Model,
    /// Shapes of the tensors that its plans load, by source and name. With them every part of
    /// every plan has a known shape.
    pub sources: BTreeMap<(String, String), Vec<u64>>,
}

/// The model that `bytes` decide on.
pub fn model(bytes: &[u8]) -> Generated {
    let mut choices = Choices { bytes, at: 0 };
    let mut graph = blocks::graph(&mut choices);
    for block in graph.blocks.values_mut() {
        shuffle_ids(&mut choices, block);
    }
    shuffle_ids(&mut choices, &mut graph.main);

    let mut sources = BTreeMap::new();
    let uses = graph.weight_uses().into_iter();
    let shapes: Vec<(String, Vec<u64>)> = uses
        .filter_map(|(name, param)| Some((name, graph.weight_shape(&param.ty)?)))
        .collect();
    let mut weights = IndexMap::new();
    for (name, shape) in shapes {
        let plan = plans::plan(&mut choices, &name, &shape, &mut sources);
        let span = choices.span();
        weights.insert(name, Weight { plan, span });
    }
    graph.weights = weights;
    Generated {
        model: graph,
        sources,
    }
}

/// The model of a seed.
pub fn seeded(seed: u64) -> Generated {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut state = seed;
    let mut bytes = Vec::with_capacity(4096);
    while bytes.len() < 4096 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend((z ^ (z >> 31)).to_le_bytes());
    }
    model(&bytes)
}

/// Bytes, each of which decides something.
struct Choices<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Choices<'_> {
    /// A number below `count`, which is 1 to 256; 0 once the bytes have run out.
    fn below(&mut self, count: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % count.max(1)
    }

    /// True in `percent` of 100 cases; false once the bytes have run out.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent.min(100)
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn size(&mut self, least: u64, most: u64) -> u64 {
        least + self.below((most - least + 1) as usize) as u64
    }

    /// A factor of moderate size whose decimals do not end.
    fn factor(&mut self) -> f64 {
        let magnitude = (self.below(200) as f64 + 1.0) / 97.0;
        if self.chance(20) {
            -magnitude
        } else {
            magnitude
        }
    }

    /// A share between 0 and 1, both included.
    fn share(&mut self) -> f64 {
        self.below(98) as f64 / 97.0
    }

    fn span(&mut self) -> Option<Span> {
        if !self.chance(20) {
            return None;
        }
        let start = self.below(200) as u32;
        let end = start + self.below(200) as u32;
        Some(Span::new(FileId(self.below(3) as u16), start, end))
    }

    /// `name`, or now and then one that needs quotes; always with `name` in it.
    fn name(&mut self, name: &str) -> String {
        if !self.chance(5) {
            return name.to_owned();
        }
        let odd = [
            "{} x", "ü{}", "\"{}\"", "\\{}", "{}\n", "1{}", "{}..a", "{}.", "\u{7}{}",
        ];
        self.pick(&odd).replace("{}", name)
    }
}

/// A token layout whose ranges come in the order of the language; sometimes tokens of its text are marks, or
/// images.
fn tokens(choices: &mut Choices<'_>) -> TokenLayout {
    let mut layout = TokenLayout::empty("");
    let kinds = [
        (TokenKind::Mark, choices.size(0, 3)),
        (TokenKind::Text, choices.size(1, 12)),
        (TokenKind::Image, choices.size(0, 8)),
        (TokenKind::Reserved, choices.size(0, 2)),
        (TokenKind::Mark, choices.size(0, 4)),
        (TokenKind::Filler, choices.size(0, 2)),
    ];
    for (kind, len) in kinds {
        if kind != TokenKind::Mark {
            layout.add(kind, len);
            continue;
        }
        for id in layout.size..layout.size + len {
            layout.add_mark(&format!("mask:{id}"));
        }
    }
    let (start, end) = layout.text_ids;
    if choices.chance(30) {
        let id = choices.size(start, end - 1);
        layout.take_mark("eos", id);
        layout.take_mark("bos", id);
        layout.begin = choices.pick(&["eos", "bos"]).to_owned();
    }
    if choices.chance(20) {
        let first = choices.size(start, end - 1);
        layout.take_images(first, choices.size(1, end - first));
    }
    if choices.chance(50) {
        layout.name = choices.name("mixed");
    }
    layout.text = match choices.below(3) {
        0 => TextTokens::Ids,
        1 if layout.size.is_multiple_of(2) => {
            TextTokens::Joint(vec!["a \"b\".json".to_owned(), "c".to_owned()])
        }
        1 => TextTokens::Files("tokenizers/a \"b\".json".to_owned()),
        _ => TextTokens::Tokenizer(choices.name("words")),
    };
    layout.image = match choices.below(3) {
        0 => ImageTokens::Ids,
        1 => ImageTokens::Files("weights/vq.safetensors".to_owned()),
        _ => ImageTokens::Tokenizer(choices.name("pictures")),
    };
    if layout.range(TokenKind::Image).is_some() {
        layout.grid = choices.size(1, 4);
    }
    layout
}

/// Axes of a model: those that every model has, and one width for each stream.
struct Axes {
    batch: AxisId,
    time: AxisId,
    vocab: AxisId,
    widths: Vec<AxisId>,
    heads: AxisId,
    kv_heads: AxisId,
    key: AxisId,
    hidden: AxisId,
}

/// An empty model with its axes and its stored element type.
fn skeleton(choices: &mut Choices<'_>) -> (Model, Axes, DType) {
    let tokens = tokens(choices);
    let dtype = choices.pick(&[DType::F32, DType::F16, DType::BF16]);
    let mut model = Model {
        name: choices.name("model"),
        context: Some(choices.size(4, 24)),
        axes: Vec::new(),
        blocks: IndexMap::new(),
        main: Block::new("main"),
        weights: IndexMap::new(),
        tokens,
    };
    let kv_heads = choices.size(1, 2);
    let heads = kv_heads * choices.size(1, 2);
    let vocab = model.tokens.size;
    let mut add = |name: &str, size: Option<u64>, role: Role| {
        let name = choices.name(name);
        model.add_axis(name, size, role)
    };
    let mut axes = Axes {
        batch: add("b", None, Role::Batch),
        time: add("t", None, Role::Time),
        vocab: add("vocab", Some(vocab), Role::Vocab),
        widths: Vec::new(),
        heads: add("head", Some(heads), Role::Heads),
        kv_heads: add("kv", Some(kv_heads), Role::KvHeads),
        key: add("key", Some(2), Role::HeadDim),
        hidden: add("hidden", Some(5), Role::Hidden),
    };
    for id in [axes.key, axes.hidden] {
        let size = choices.size(1, 4);
        model.axes[id.0 as usize].size = Some(2 * size);
    }
    for stream in 0..1 + choices.below(2) {
        let size = choices.size(2, 12);
        let name = choices.name(&format!("width{stream}"));
        axes.widths
            .push(model.add_axis(name, Some(size), Role::Width));
    }
    (model, axes, dtype)
}

/// Puts the ids of a block's values in another order, now and then, and adds one that nothing
/// defines.
fn shuffle_ids(choices: &mut Choices<'_>, block: &mut Block) {
    if !choices.chance(30) {
        return;
    }
    if choices.chance(50) {
        let mut unused = block.values[0].clone();
        let names: HashSet<&str> = block.values.iter().map(|v| v.name.as_str()).collect();
        unused.name = "unused".to_owned();
        if !names.contains("unused") {
            block.values.push(unused);
        }
    }
    let count = block.values.len();
    let mut order: Vec<u32> = (0..count as u32).collect();
    for index in (1..count).rev() {
        order.swap(index, choices.below(index + 1));
    }
    let mut values = block.values.clone();
    for (old, new) in order.iter().enumerate() {
        values[*new as usize] = block.values[old].clone();
    }
    block.values = values;
    let moved = |id: &mut ValueId| *id = ValueId(order[id.0 as usize]);
    block.inputs.iter_mut().for_each(moved);
    moved(&mut block.result);
    for statement in &mut block.body {
        moved(&mut statement.result);
        statement.op.for_each_operand(moved);
    }
}
