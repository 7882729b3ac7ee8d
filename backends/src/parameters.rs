//! Parameters: named tensors on a device.

use std::sync::OnceLock;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use crate::error::ExecError;
use crate::lower::ParamSpec;

/// A stored weight on a device: a vector, or a matrix `[product of inputs, product of outputs]`.
#[derive(Debug, Clone)]
pub(crate) enum ParamTensor {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
}

impl ParamTensor {
    /// `values` in storage order, in f32, on a device.
    pub(crate) fn from_vec(values: Vec<f32>, spec: &ParamSpec, device: &Device) -> ParamTensor {
        let options = (device, DType::F32);
        match spec.matrix {
            None => {
                let shape = [values.len()];
                ParamTensor::Vector(Tensor::from_data(TensorData::new(values, shape), options))
            }
            Some(shape) => {
                ParamTensor::Matrix(Tensor::from_data(TensorData::new(values, shape), options))
            }
        }
    }

    /// A leaf of a new tape.
    pub(crate) fn leaf(&self) -> ParamTensor {
        match self {
            ParamTensor::Vector(t) => ParamTensor::Vector(t.clone().autodiff().require_grad()),
            ParamTensor::Matrix(t) => ParamTensor::Matrix(t.clone().autodiff().require_grad()),
        }
    }

    /// The same numbers in another element type; on a tape the gradient comes back in this one.
    pub(crate) fn cast(self, dtype: FloatDType) -> ParamTensor {
        match self {
            ParamTensor::Vector(t) => ParamTensor::Vector(cast(t, dtype)),
            ParamTensor::Matrix(t) => ParamTensor::Matrix(cast(t, dtype)),
        }
    }

    /// All elements in storage order.
    pub(crate) fn flat(self) -> Tensor<1> {
        match self {
            ParamTensor::Vector(t) => t,
            ParamTensor::Matrix(t) => {
                let [rows, columns] = t.dims();
                t.reshape([rows * columns])
            }
        }
    }

    /// The inverse of [`ParamTensor::flat`].
    pub(crate) fn from_flat(flat: Tensor<1>, spec: &ParamSpec) -> ParamTensor {
        match spec.matrix {
            None => ParamTensor::Vector(flat),
            Some(shape) => ParamTensor::Matrix(flat.reshape(shape)),
        }
    }

    /// Element by element sum of two of one shape.
    ///
    /// # Errors
    /// When one is a vector and the other a matrix.
    pub(crate) fn plus(self, other: ParamTensor) -> Result<ParamTensor, ExecError> {
        match (self, other) {
            (ParamTensor::Vector(a), ParamTensor::Vector(b)) => Ok(ParamTensor::Vector(a + b)),
            (ParamTensor::Matrix(a), ParamTensor::Matrix(b)) => Ok(ParamTensor::Matrix(a + b)),
            _ => Err(ExecError::Graph {
                place: "a sum of two tensors".to_owned(),
                reason: "one is a vector and the other a matrix".to_owned(),
            }),
        }
    }

    /// The elements, copied to the host.
    pub(crate) fn to_vec(&self) -> Result<Vec<f32>, ExecError> {
        match self {
            ParamTensor::Vector(t) => read(t.clone()),
            ParamTensor::Matrix(t) => read(t.clone()),
        }
    }
}

/// A tensor in another element type; itself where it has that type.
pub(crate) fn cast<const D: usize>(tensor: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    if tensor.dtype() == DType::from(dtype) {
        return tensor;
    }
    tensor.cast(dtype)
}

/// The elements of a tensor in order, as f32, on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| ExecError::Device(format!("reading a tensor back failed: {error}")))
}

/// The one number of a tensor, on the host.
///
/// # Errors
/// When the device fails, or gives no number.
pub(crate) fn read_number(tensor: Tensor<1>) -> Result<f32, ExecError> {
    let numbers = read(tensor)?;
    numbers.first().copied().ok_or_else(|| {
        ExecError::Device("the device gave nothing where a number was computed".to_owned())
    })
}

/// One weight of an executable: its master in f32, which training improves, and the form that is computed with.
#[derive(Debug)]
pub struct Parameter {
    pub(crate) spec: ParamSpec,
    master: ParamTensor,
    /// The master in the element type that is computed with; made at the first use.
    compute: OnceLock<ParamTensor>,
}

impl Parameter {
    pub(crate) fn new(spec: ParamSpec, master: ParamTensor) -> Parameter {
        Parameter {
            spec,
            master,
            compute: OnceLock::new(),
        }
    }

    /// In f32.
    pub(crate) fn master(&self) -> &ParamTensor {
        &self.master
    }

    /// As it is computed with.
    pub(crate) fn compute(&self, dtype: FloatDType) -> ParamTensor {
        let made = || self.master.clone().cast(dtype);
        self.compute.get_or_init(made).clone()
    }

    /// Puts another master in place of this one, which it gives back.
    pub(crate) fn replace(&mut self, master: ParamTensor) -> ParamTensor {
        self.compute = OnceLock::new();
        std::mem::replace(&mut self.master, master)
    }

    /// Full name: `layers.0.attn.q`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Sizes of its axes in storage order: input side, then output side.
    pub fn shape(&self) -> &[usize] {
        &self.spec.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.spec.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its elements in storage order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<Vec<f32>, ExecError> {
        self.master.to_vec()
    }
}
