//! The layers of JAM's image tokenizer as data: names and shapes of its weights, and how they begin.
//!
//! ```text
//! encoder: patch → linear → (block, join four → linear)* → block* → linear → latent
//! decoder: code  → linear → block* → (linear → split in four, block)* → linear → patch
//! block:   x + linear(relu(linear(neighbours(x))))
//! ```

use super::settings::VqSettings;

/// One matrix or bias by name, and how it begins.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The name in files, such as `encoder.block.0.read.weight`.
    pub name: String,
    /// Rows (inputs; 1 for a bias) and columns (outputs).
    pub shape: [usize; 2],
    /// Bound of the uniform distribution it is drawn from; 0 for zeros.
    pub bound: f64,
}

/// The weights in the order in which the forward pass reads them.
pub fn layers(settings: &VqSettings) -> Vec<Layer> {
    let (width, latent) = (settings.width, settings.latent);
    let mut layers = Vec::new();
    let mut linear = |name: String, inputs: usize, outputs: usize, gain: f64| {
        layers.push(Layer {
            name: format!("{name}.weight"),
            shape: [inputs, outputs],
            bound: gain * (3.0 / inputs as f64).sqrt(),
        });
        layers.push(Layer {
            name: format!("{name}.bias"),
            shape: [1, outputs],
            bound: 0.0,
        });
    };
    let reach = settings.kernel * settings.kernel;
    // The second matrix of a block begins small, so that blocks begin near the identity.
    let after = 1.0 / (2 * (settings.depth + settings.halvings()).max(1)) as f64;
    let relu = std::f64::consts::SQRT_2;
    let block = |linear: &mut dyn FnMut(String, usize, usize, f64), name: String, reach| {
        linear(format!("{name}.read"), reach * width, width, relu);
        linear(format!("{name}.write"), width, width, after);
    };

    linear("encoder.patch".into(), settings.patch_values(), width, 1.0);
    for i in 0..settings.halvings() {
        block(&mut linear, format!("encoder.halving.{i}.block"), 1);
        linear(format!("encoder.halving.{i}.join"), 4 * width, width, 1.0);
    }
    for i in 0..settings.depth {
        block(&mut linear, format!("encoder.block.{i}"), reach);
    }
    linear("encoder.latent".into(), width, latent, 1.0);

    linear("decoder.latent".into(), latent, width, 1.0);
    for i in 0..settings.depth {
        block(&mut linear, format!("decoder.block.{i}"), reach);
    }
    for i in 0..settings.halvings() {
        linear(format!("decoder.doubling.{i}.split"), width, 4 * width, 1.0);
        block(&mut linear, format!("decoder.doubling.{i}.block"), 1);
    }
    linear("decoder.patch".into(), width, settings.patch_values(), 0.5);
    layers
}
