//! The layers of a VQGAN as data: what follows what, under which name, in which shape.
//!
//! ```text
//! encoder: first → levels (blocks of norm, swish, convolution, twice; halve) → middle → norm → last → latent
//! decoder: latent → first → middle → levels backwards (blocks, one more each; double) → norm → last
//! middle:  block → attention → block
//! ```
//!
//! The structure is that of taming-transformers' `Encoder` and `Decoder` (Esser et al., *Taming
//! Transformers for High-Resolution Image Synthesis*).

use super::settings::VqganSettings;

/// Groups of a norm, in every VQGAN.
pub const GROUPS: usize = 32;

/// The name of the table of codes, `[codes, latent]`.
pub const CODEBOOK: &str = "codebook";
/// The name before those of everything that makes pictures of codes.
pub const DECODER: &str = "decoder.";

/// A convolution that keeps the side: `weight` is `[outputs, inputs, kernel, kernel]`, `bias` `[outputs]`.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// Its name; those of its weights begin with it.
    pub name: String,
    inputs: usize,
    outputs: usize,
    /// 1 or 3.
    pub kernel: usize,
}

/// A norm over groups of features: `gain` and `bias` are `[features]`.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Its name; those of its weights begin with it.
    pub name: String,
    features: usize,
}

/// A residual block: `x + second(swish(norm2(first(swish(norm1(x))))))`.
#[derive(Debug, Clone)]
pub struct Block {
    /// Before each convolution.
    pub norms: [Norm; 2],
    /// The two, in order.
    pub convolutions: [Convolution; 2],
    /// What `x` passes where the block changes the number of features.
    pub shortcut: Option<Convolution>,
}

/// Attention of every position over all, with one head: `x + out(attention(norm(x)))`.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Before all.
    pub norm: Norm,
    /// Of 1 × 1, as the next three.
    pub query: Convolution,
    /// Keys.
    pub key: Convolution,
    /// Values.
    pub value: Convolution,
    /// The way out.
    pub out: Convolution,
}

/// One layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// A convolution alone.
    Convolution(Convolution),
    /// A residual block.
    Block(Box<Block>),
    /// Attention over all positions.
    Attention(Box<Attention>),
    /// A convolution of stride 2, with zeros below and to the right alone.
    Halve(Convolution),
    /// Every position four times, and a convolution.
    Double(Convolution),
    /// A norm and a swish.
    Norm(Norm),
}

fn convolution(name: String, inputs: usize, outputs: usize, kernel: usize) -> Convolution {
    Convolution {
        name,
        inputs,
        outputs,
        kernel,
    }
}

fn norm(name: String, features: usize) -> Norm {
    Norm { name, features }
}

fn block(name: &str, inputs: usize, outputs: usize) -> Layer {
    let part =
        |part: &str, inputs, kernel| convolution(format!("{name}.{part}"), inputs, outputs, kernel);
    Layer::Block(Box::new(Block {
        norms: [
            norm(format!("{name}.norm1"), inputs),
            norm(format!("{name}.norm2"), outputs),
        ],
        convolutions: [part("conv1", inputs, 3), part("conv2", outputs, 3)],
        shortcut: (inputs != outputs).then(|| part("shortcut", inputs, 1)),
    }))
}

fn attention(name: &str, features: usize) -> Layer {
    let part = |part: &str| convolution(format!("{name}.{part}"), features, features, 1);
    Layer::Attention(Box::new(Attention {
        norm: norm(format!("{name}.norm"), features),
        query: part("query"),
        key: part("key"),
        value: part("value"),
        out: part("out"),
    }))
}

/// Block, attention, block: the middle of `tower`.
fn middle(tower: &str, features: usize) -> [Layer; 3] {
    let name = |part: &str| format!("{tower}.middle.{part}");
    [
        block(&name("block1"), features, features),
        attention(&name("attention"), features),
        block(&name("block2"), features, features),
    ]
}

/// The layers from a picture to latents: `[n, channels, picture, picture]` to `[n, latent, grid, grid]`.
pub fn encoder(settings: &VqganSettings) -> Vec<Layer> {
    let (mut features, mut side) = (settings.width, settings.picture);
    let first = convolution("encoder.first".into(), settings.channels, features, 3);
    let mut layers = vec![Layer::Convolution(first)];
    for (level, outputs) in settings.widths().enumerate() {
        let name = format!("encoder.levels.{level}");
        for i in 0..settings.blocks {
            layers.push(block(&format!("{name}.blocks.{i}"), features, outputs));
            features = outputs;
            if settings.attention.contains(&side) {
                layers.push(attention(&format!("{name}.attentions.{i}"), features));
            }
        }
        if level + 1 < settings.levels() {
            layers.push(Layer::Halve(convolution(
                format!("{name}.halve"),
                features,
                features,
                3,
            )));
            side /= 2;
        }
    }
    layers.extend(middle("encoder", features));
    layers.push(Layer::Norm(norm("encoder.norm".into(), features)));
    for (name, inputs, outputs, kernel) in [
        ("encoder.last", features, settings.features, 3),
        ("encoder.latent", settings.features, settings.latent, 1),
    ] {
        layers.push(Layer::Convolution(convolution(
            name.into(),
            inputs,
            outputs,
            kernel,
        )));
    }
    layers
}

/// The layers from codes to a picture: `[n, latent, grid, grid]` to `[n, channels, picture, picture]`.
pub fn decoder(settings: &VqganSettings) -> Vec<Layer> {
    let mut features = settings.widths().next_back().unwrap_or(settings.width);
    let mut side = settings.grid();
    let mut layers = Vec::new();
    for (name, inputs, outputs, kernel) in [
        ("decoder.latent", settings.latent, settings.features, 1),
        ("decoder.first", settings.features, features, 3),
    ] {
        layers.push(Layer::Convolution(convolution(
            name.into(),
            inputs,
            outputs,
            kernel,
        )));
    }
    layers.extend(middle("decoder", features));
    for (level, outputs) in settings.widths().enumerate().rev() {
        let name = format!("decoder.levels.{level}");
        for i in 0..=settings.blocks {
            layers.push(block(&format!("{name}.blocks.{i}"), features, outputs));
            features = outputs;
            if settings.attention.contains(&side) {
                layers.push(attention(&format!("{name}.attentions.{i}"), features));
            }
        }
        if level > 0 {
            layers.push(Layer::Double(convolution(
                format!("{name}.double"),
                features,
                features,
                3,
            )));
            side *= 2;
        }
    }
    layers.push(Layer::Norm(norm("decoder.norm".into(), features)));
    let last = convolution("decoder.last".into(), features, settings.channels, 3);
    layers.push(Layer::Convolution(last));
    layers
}

/// A weight: its name and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Its name in JAM's files.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
}

impl Convolution {
    fn weights(&self) -> [Weight; 2] {
        let shape = vec![self.outputs, self.inputs, self.kernel, self.kernel];
        weights_of(
            &self.name,
            [("weight", shape), ("bias", vec![self.outputs])],
        )
    }
}

impl Norm {
    fn weights(&self) -> [Weight; 2] {
        let shape = || vec![self.features];
        weights_of(&self.name, [("gain", shape()), ("bias", shape())])
    }
}

fn weights_of(name: &str, parts: [(&str, Vec<usize>); 2]) -> [Weight; 2] {
    parts.map(|(part, shape)| Weight {
        name: format!("{name}.{part}"),
        shape,
    })
}

impl Layer {
    fn weights(&self) -> Vec<Weight> {
        match self {
            Layer::Convolution(it) | Layer::Halve(it) | Layer::Double(it) => it.weights().into(),
            Layer::Norm(it) => it.weights().into(),
            Layer::Block(it) => {
                let convolutions = it.convolutions.iter().chain(&it.shortcut);
                let convolutions = convolutions.flat_map(Convolution::weights);
                it.norms
                    .iter()
                    .flat_map(Norm::weights)
                    .chain(convolutions)
                    .collect()
            }
            Layer::Attention(it) => {
                let convolutions = [&it.query, &it.key, &it.value, &it.out];
                let convolutions = convolutions.into_iter().flat_map(Convolution::weights);
                it.norm.weights().into_iter().chain(convolutions).collect()
            }
        }
    }
}

/// Every weight of some layers, in order.
pub fn weights(layers: &[Layer]) -> Vec<Weight> {
    layers.iter().flat_map(Layer::weights).collect()
}
