//! Activations of elements, plain (`act(x)`) and gated (`act(gate) · value`).
//!
//! All are computed in f32. An element that is not a number stays one.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, lanes, vectors};

/// Which activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// `max(x, 0)`.
    Relu,
    /// `x Φ(x)`, Φ the normal distribution's (Hendrycks and Gimpel 2016).
    Gelu,
    /// Its form with a tanh, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x / (1 + e^-x)` (Elfwing et al. 2018).
    Silu,
}

impl Act {
    /// Each of them.
    pub const ALL: [Act; 4] = [Act::Relu, Act::Gelu, Act::GeluTanh, Act::Silu];
}

/// How gate and value lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub width: usize,
    /// Elements from one row of gate (and of value) to the next.
    pub stride: usize,
    /// The first column of the gate.
    pub gate: usize,
    /// The first column of the value.
    pub value: usize,
}

impl Shape {
    /// Each in a matrix `[rows, width]`, or x alone.
    pub fn apart(rows: usize, width: usize) -> Shape {
        Shape {
            rows,
            width,
            stride: width,
            gate: 0,
            value: 0,
        }
    }

    /// Side by side in one matrix `[rows, 2 · width]`, the gate first.
    pub fn together(rows: usize, width: usize) -> Shape {
        Shape {
            stride: 2 * width,
            value: width,
            ..Shape::apart(rows, width)
        }
    }
}

/// What is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    act: Act,
    gated: bool,
    /// Whether the operands lie like the result.
    plain: bool,
}

/// `√(2/π)` of the tanh form.
const ROOT: f32 = 0.797_884_6;

/// The cubic term of the tanh form.
const CUBIC: f32 = 0.044_715;

/// `1 / √(2π)`.
const DENSITY: f32 = 0.398_942_3;

/// The error function to 3e-7, by a rational function on [-4, 4] (Eigen's coefficients) and ±1 beyond.
///
/// Devices without one of their own are given one with the errors of Abramowitz and Stegun (7.1.26) by CubeCL.
#[cube]
fn erf(x: f32) -> f32 {
    let c = clamped(x, 4.0f32);
    let s = c * c;
    let mut p = fma(-2.726_142_3e-10f32, s, 2.770_681_4e-8f32);
    p = fma(p, s, -2.101_024e-6f32);
    p = fma(p, s, -5.692_506_4e-5f32);
    p = fma(p, s, -7.349_906_3e-4f32);
    p = fma(p, s, -2.954_6e-3f32);
    p = fma(p, s, -1.609_603_3e-2f32);
    let mut q = fma(-1.456_607_2e-5f32, s, -2.133_740_6e-4f32);
    q = fma(q, s, -1.682_827e-3f32);
    q = fma(q, s, -7.373_329_3e-3f32);
    q = fma(q, s, -1.426_473_9e-2f32);
    let inner = c * p / q;
    // Beyond the interval exactly one: x times what is left of it would show.
    let low = select(x < -4.0f32, -1.0f32, inner);
    select(x > 4.0f32, 1.0f32, low)
}

/// x between `-bound` and `bound`; one that is not a number comes through.
#[cube]
fn clamped(x: f32, bound: f32) -> f32 {
    let low = select(x < -bound, -bound, x);
    select(low > bound, bound, low)
}

/// `1 / (1 + e^-x)`.
#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

/// The sigmoid s of `of`, which is above -88, and `x s (1 - s)`.
#[cube]
fn steep(x: f32, of: f32) -> (f32, f32) {
    let e = (-of).exp();
    let s = 1.0f32 / (1.0f32 + e);
    // 1 - s would lose its digits.
    (s, x * s * (e * s))
}

/// `act(x)`.
#[cube]
fn apply(x: f32, #[comptime] act: Act) -> f32 {
    match comptime!(act) {
        Act::Relu => select(x < 0.0f32, 0.0f32, x),
        Act::Gelu => x * 0.5f32 * (1.0f32 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        // (1 + tanh u) / 2 is a sigmoid of 2 u, which loses no digits where it is small.
        Act::GeluTanh => x * sigmoid(fma(x * x * CUBIC, x, x) * comptime!(2.0 * ROOT)),
        Act::Silu => x * sigmoid(x),
    }
}

/// The derivative of `act` at x.
#[cube]
fn slope(x: f32, #[comptime] act: Act) -> f32 {
    match comptime!(act) {
        Act::Relu => select(x > 0.0f32, 1.0f32, 0.0f32),
        Act::Gelu => {
            let below = 0.5f32 * (1.0f32 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            // Where the density is 0 its factor must not overflow.
            let c = clamped(x, 20.0f32);
            fma(c * DENSITY, (c * c * -0.5f32).exp(), below)
        }
        Act::GeluTanh => {
            let c = clamped(x, 10.0f32);
            let (s, rest) = steep(c, fma(c * c * CUBIC, c, c) * comptime!(2.0 * ROOT));
            let inner = fma(c * c, comptime!(3.0 * CUBIC), 1.0f32) * comptime!(2.0 * ROOT);
            fma(rest, inner, s)
        }
        Act::Silu => {
            let c = clamped(x, 80.0f32);
            let (s, rest) = steep(c, c);
            s + rest
        }
    }
}

/// Where the gate of the `index`th vector of the result lies, without the gate's offset.
#[cube]
fn start(index: usize, width: usize, stride: usize, #[comptime] form: Form) -> usize {
    if comptime!(form.plain) {
        index
    } else {
        (index / width) * stride + index % width
    }
}

#[cube(launch)]
fn activation_forward<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    value: ComptimeOption<&[Vector<F, N>]>,
    out: &mut [Vector<F, N>],
    count: u32,
    width: u32,
    stride: u32,
    of_gate: u32,
    of_value: u32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let index = ABSOLUTE_POS;
    if index >= count as usize {
        terminate!();
    }
    let at = start(index, width as usize, stride as usize, form);
    let x = Vector::<f32, N>::cast_from(gate[at + of_gate as usize]);
    let mut other = Vector::<f32, N>::new(1.0f32);
    if comptime!(form.gated) {
        #[comptime]
        match &value {
            ComptimeOption::Some(value) => {
                other = Vector::cast_from(value[at + of_value as usize]);
            }
            ComptimeOption::None => {
                other = Vector::cast_from(gate[at + of_value as usize]);
            }
        }
    }
    let mut y = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..N::value() {
        let act = apply(x.extract(i), form.act);
        if comptime!(form.gated) {
            y.insert(i, act * other.extract(i));
        } else {
            y.insert(i, act);
        }
    }
    out[index] = Vector::cast_from(y);
}

#[cube(launch)]
fn activation_backward<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    value: ComptimeOption<&[Vector<F, N>]>,
    dy: &[Vector<F, N>],
    dgate: &mut [Vector<F, N>],
    dvalue: ComptimeOption<&mut [Vector<F, N>]>,
    count: u32,
    width: u32,
    stride: u32,
    of_gate: u32,
    of_value: u32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let index = ABSOLUTE_POS;
    if index >= count as usize {
        terminate!();
    }
    let at = start(index, width as usize, stride as usize, form);
    let x = Vector::<f32, N>::cast_from(gate[at + of_gate as usize]);
    let above = Vector::<f32, N>::cast_from(dy[index]);
    let mut other = Vector::<f32, N>::new(1.0f32);
    if comptime!(form.gated) {
        #[comptime]
        match &value {
            ComptimeOption::Some(value) => {
                other = Vector::cast_from(value[at + of_value as usize]);
            }
            ComptimeOption::None => {
                other = Vector::cast_from(gate[at + of_value as usize]);
            }
        }
    }
    let mut first = Vector::<f32, N>::new(0.0f32);
    let mut second = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..N::value() {
        let g = above.extract(i);
        let d = g * slope(x.extract(i), form.act);
        if comptime!(form.gated) {
            first.insert(i, d * other.extract(i));
            second.insert(i, g * apply(x.extract(i), form.act));
        } else {
            first.insert(i, d);
        }
    }
    dgate[at + of_gate as usize] = Vector::cast_from(first);
    if comptime!(form.gated) {
        #[comptime]
        match dvalue {
            ComptimeOption::Some(dvalue) => {
                dvalue[at + of_value as usize] = Vector::cast_from(second);
            }
            ComptimeOption::None => {
                dgate[at + of_value as usize] = Vector::cast_from(second);
            }
        }
    }
}

/// What is activated, or its gradients.
pub enum Operands {
    /// x, `[rows, stride]`.
    Plain(BufferArg),
    /// Gate and value in matrices of their own, each `[rows, stride]`.
    Apart {
        /// What goes through the activation.
        gate: BufferArg,
        /// What the result of that is multiplied with.
        value: BufferArg,
    },
    /// Gate and value in one matrix `[rows, stride]`.
    Together(BufferArg),
}

impl Operands {
    /// One or two buffers, and whether there is a gate.
    fn split(self) -> (BufferArg, Option<BufferArg>, bool) {
        match self {
            Operands::Plain(x) => (x, None, false),
            Operands::Apart { gate, value } => (gate, Some(value), true),
            Operands::Together(both) => (both, None, true),
        }
    }
}

/// A launch over all vectors of the result.
struct Launch {
    form: Form,
    vector: usize,
    count: usize,
    units: usize,
}

impl Launch {
    fn of(client: &Client, shape: Shape, act: Act, gated: bool, dtype: ElemType) -> Launch {
        let widest = lanes(client, dtype);
        let plain = shape.stride == shape.width && shape.gate == 0 && (!gated || shape.value == 0);
        let vector = if plain {
            vectors(widest, &[shape.rows * shape.width])
        } else {
            let value = if gated { shape.value } else { 0 };
            vectors(widest, &[shape.width, shape.stride, shape.gate, value])
        };
        Launch {
            form: Form { act, gated, plain },
            vector,
            count: shape.rows * shape.width / vector,
            units: Limits::of(client).units.min(256),
        }
    }

    fn cubes(&self) -> CubeCount {
        cubes(self.count.div_ceil(self.units))
    }

    fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.units as u32)
    }

    fn in_vectors(&self, len: usize) -> u32 {
        // Where the operands lie like the result nothing but the count is looked at.
        (len / self.vector) as u32
    }
}

/// Writes `act(x)` or `act(gate) · value` to out `[rows, width]`. All have the type `dtype`.
pub fn forward(
    client: &Client,
    shape: Shape,
    act: Act,
    operands: Operands,
    out: BufferArg,
    dtype: ElemType,
) {
    let (gate, value, gated) = operands.split();
    let launch = Launch::of(client, shape, act, gated, dtype);
    if launch.count == 0 {
        return;
    }
    activation_forward::launch(
        client,
        launch.cubes(),
        launch.dim(),
        launch.vector,
        gate,
        value.into(),
        out,
        launch.count as u32,
        launch.in_vectors(shape.width),
        launch.in_vectors(shape.stride),
        launch.in_vectors(shape.gate),
        launch.in_vectors(shape.value),
        launch.form,
        dtype,
    );
}

/// Gradients of [`forward`] from that of its result, dy `[rows, width]`; they lie as the operands do.
///
/// # Panics
/// Where `gradients` are not of the same kind as `operands`.
pub fn backward(
    client: &Client,
    shape: Shape,
    act: Act,
    operands: Operands,
    dy: BufferArg,
    gradients: Operands,
    dtype: ElemType,
) {
    let (gate, value, gated) = operands.split();
    let (dgate, dvalue, also) = gradients.split();
    assert!(
        gated == also && value.is_some() == dvalue.is_some(),
        "activation: gradients lie as the operands do"
    );
    let launch = Launch::of(client, shape, act, gated, dtype);
    if launch.count == 0 {
        return;
    }
    activation_backward::launch(
        client,
        launch.cubes(),
        launch.dim(),
        launch.vector,
        gate,
        value.into(),
        dy,
        dgate,
        dvalue.into(),
        launch.count as u32,
        launch.in_vectors(shape.width),
        launch.in_vectors(shape.stride),
        launch.in_vectors(shape.gate),
        launch.in_vectors(shape.value),
        launch.form,
        dtype,
    );
}
