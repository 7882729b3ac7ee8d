//! A verified model on a device: its parameters, and the entries that run it.

use burn::tensor::{Bool, DType, Device, FloatDType, Tensor, TensorData};
use jam_ir::Model;
use jam_ir::verify::verify;

use crate::error::ExecError;
use crate::interpreter::{ConstantTensor, Precision, Run, Value};
use crate::kernels::embedding::Ids;
use crate::kernels::rotary::RotaryTable;
use crate::lower::{Constant, Program, lower};
use crate::parameters::{ParamTensor, Parameter, read};

/// Where the numbers of weights come from: called once for every weight, in order of first use,
/// with its full name and its sizes in storage order (input side, then output side).
pub type WeightSource<'a> =
    dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// How an executable runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecOptions {
    /// What is computed in.
    pub precision: Precision,
}

/// Sequences of one length, padded where they are shorter.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Token ids, row by row: `[rows, length]`.
    pub ids: &'a [u32],
    /// Number of sequences.
    pub rows: usize,
    /// False where a token is padding, `[rows, length]`; `None` for no padding.
    pub mask: Option<&'a [bool]>,
}

impl<'a> Tokens<'a> {
    /// Sequences without padding.
    pub fn new(ids: &'a [u32], rows: usize) -> Tokens<'a> {
        Tokens {
            ids,
            rows,
            mask: None,
        }
    }

    /// Sequences with padding where `mask` is false.
    pub fn masked(ids: &'a [u32], rows: usize, mask: &'a [bool]) -> Tokens<'a> {
        Tokens {
            ids,
            rows,
            mask: Some(mask),
        }
    }

    /// Tokens of a sequence, padding included.
    pub fn length(&self) -> usize {
        self.ids.len() / self.rows.max(1)
    }
}

/// A verified model on a device.
///
/// Parameters are a flat list of named tensors, masters in f32; what runs reads them in the element type of the
/// run's precision, and an optimizer step replaces them.
#[derive(Debug)]
pub struct Executable {
    pub(crate) program: Program,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) constants: Vec<ConstantTensor>,
    pub(crate) device: Device,
    pub(crate) options: ExecOptions,
    /// Per rotary table the angle per position of each pair, and the factor on what is rotated.
    frequencies: Vec<(Vec<f32>, f32)>,
}

/// Tokens on the device, and what is derived from their mask.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// `[rows, length]`
    pub(crate) tokens: Ids,
    /// `[rows or 1, length]`
    pub(crate) positions: Ids,
    pub(crate) rotaries: Vec<RotaryTable>,
    /// `[rows, length]`, `None` without padding.
    pub(crate) key_mask: Option<Tensor<2, Bool>>,
}

impl Executable {
    /// Verifies and lowers a model, and asks `weights` for the numbers of every parameter.
    ///
    /// # Errors
    /// When the model is broken or has a form that cannot run, when the device does not compute in the precision, when
    /// `weights` fails, or when it gives a wrong number of elements.
    pub fn new(
        model: &Model,
        weights: &mut WeightSource<'_>,
        device: &Device,
        options: ExecOptions,
    ) -> Result<Executable, ExecError> {
        if let Err(problems) = verify(model)
            && let Some(problem) = problems.into_iter().next()
        {
            return Err(ExecError::Graph {
                place: problem.place.to_string(),
                reason: problem.message,
            });
        }
        let program = lower(model)?;
        let device = device.clone().without_autodiff();
        let compute = DType::from(options.precision.compute(&device));
        if !device.supports_dtype(compute) {
            let reason = format!("it does not compute in {compute:?}; every device does in f32");
            return Err(ExecError::Device(reason.to_lowercase()));
        }
        let mut parameters = Vec::with_capacity(program.params.len());
        for spec in &program.params {
            let values = weights(&spec.name, &spec.shape).map_err(|source| ExecError::Weight {
                name: spec.name.clone(),
                source,
            })?;
            if values.len() != spec.shape.iter().product::<usize>() {
                return Err(ExecError::WeightShape {
                    name: spec.name.clone(),
                    wanted: spec.shape.clone(),
                    given: values.len(),
                });
            }
            let master = ParamTensor::from_vec(values, spec, &device);
            parameters.push(Parameter::new(spec.clone(), master));
        }
        let constants = program
            .constants
            .iter()
            .map(|constant| place_constant(constant, &device))
            .collect();
        let frequencies = program
            .rotaries
            .iter()
            .map(|&(key, base, scaling)| {
                let (angles, factor) = scaling.angles(key, base);
                let angles = angles.into_iter().map(|angle| angle as f32).collect();
                (angles, factor as f32)
            })
            .collect();
        Ok(Executable {
            program,
            parameters,
            constants,
            device,
            options,
            frequencies,
        })
    }

    /// Every parameter, in order of first use in the graph.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The elements of a parameter in storage order.
    ///
    /// # Errors
    /// When there is no such parameter, or the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, ExecError> {
        self.parameters[self.index(name)?].read()
    }

    /// Replaces the elements of a parameter.
    ///
    /// # Errors
    /// When there is no such parameter, or the number of elements differs.
    pub fn write(&mut self, name: &str, values: Vec<f32>) -> Result<(), ExecError> {
        let index = self.index(name)?;
        let parameter = &mut self.parameters[index];
        if values.len() != parameter.len() {
            return Err(ExecError::WeightShape {
                name: name.to_owned(),
                wanted: parameter.spec.shape.clone(),
                given: values.len(),
            });
        }
        let master = ParamTensor::from_vec(values, &parameter.spec, &self.device);
        parameter.replace(master);
        Ok(())
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of logits of a position (rows of the vocabulary).
    pub fn vocabulary(&self) -> usize {
        self.program.classes
    }

    /// The logits of every position, `[rows, length, vocabulary]` row by row.
    ///
    /// At padding the numbers have no meaning.
    ///
    /// # Errors
    /// When the tokens do not fit the model, or the device fails.
    pub fn forward(&self, tokens: Tokens<'_>) -> Result<Vec<f32>, ExecError> {
        read(self.logits(tokens)?)
    }

    /// As [`Executable::forward`], left on the device: `[rows, length, vocabulary]`.
    ///
    /// # Errors
    /// When the tokens do not fit the model.
    pub fn logits(&self, tokens: Tokens<'_>) -> Result<Tensor<3>, ExecError> {
        let placed = self.place(tokens)?;
        let params = self.tensors();
        let mut run = self.run(&params, &placed);
        let states = run.trunk(&self.program)?;
        run.finish(&self.program, states)
    }

    pub(crate) fn index(&self, name: &str) -> Result<usize, ExecError> {
        let found = self.parameters.iter().position(|p| p.spec.name == name);
        found.ok_or_else(|| ExecError::UnknownWeight {
            name: name.to_owned(),
        })
    }

    /// Handles of all parameters as they are computed with.
    pub(crate) fn tensors(&self) -> Vec<ParamTensor> {
        let compute = self.compute();
        self.parameters.iter().map(|p| p.compute(compute)).collect()
    }

    /// The element type of activations, of the cache, and of weights where they are computed with.
    pub(crate) fn compute(&self) -> FloatDType {
        self.options.precision.compute(&self.device)
    }

    /// A run over placed tokens without a cache.
    pub(crate) fn run<'a>(&'a self, params: &'a [ParamTensor], placed: &'a Placed) -> Run<'a> {
        Run {
            params,
            constants: &self.constants,
            precision: self.options.precision,
            compute: self.compute(),
            tokens: placed.tokens.clone(),
            positions: placed.positions.clone(),
            rotaries: &placed.rotaries,
            key_mask: placed.key_mask.clone(),
            cache: None,
        }
    }

    /// Checks tokens and brings them to the device.
    pub(crate) fn place(&self, tokens: Tokens<'_>) -> Result<Placed, ExecError> {
        self.check(&tokens)?;
        let (rows, length) = (tokens.rows, tokens.length());
        let mask = tokens.mask.filter(|mask| mask.contains(&false));
        let positions: Vec<usize> = match mask {
            None => (0..length).collect(),
            Some(mask) => mask.chunks(length).flat_map(count_before).collect(),
        };
        let key_mask = mask.map(|mask| self.place_mask(mask, rows));
        self.place_at(tokens.ids, rows, &positions, key_mask)
    }

    /// Brings checked tokens to the device at given positions, `[rows or 1, length]`.
    pub(crate) fn place_at(
        &self,
        ids: &[u32],
        rows: usize,
        positions: &[usize],
        key_mask: Option<Tensor<2, Bool>>,
    ) -> Result<Placed, ExecError> {
        let length = ids.len() / rows;
        let position_rows = positions.len() / length;
        // Padding may lie beyond the table; what it holds is never read.
        let last = self
            .program
            .positions
            .map_or(usize::MAX, |rows| rows.saturating_sub(1));
        let rows_of_table = positions.iter().map(|&p| p.min(last) as u32);
        let rotaries = self
            .frequencies
            .iter()
            .map(|(frequencies, factor)| {
                RotaryTable::of(positions, position_rows, frequencies, &self.device).scaled(*factor)
            })
            .collect();
        Ok(Placed {
            tokens: Ids::new(ids.to_vec(), rows, &self.device),
            positions: Ids::new(rows_of_table.collect(), position_rows, &self.device),
            rotaries,
            key_mask,
        })
    }

    /// `[rows, columns]` on the device.
    pub(crate) fn place_mask(&self, mask: &[bool], rows: usize) -> Tensor<2, Bool> {
        let data = TensorData::new(mask.to_vec(), [rows, mask.len() / rows]);
        Tensor::from_data(data, &self.device)
    }

    /// Whether tokens have a shape, known ids and positions that the model has.
    pub(crate) fn check(&self, tokens: &Tokens<'_>) -> Result<(), ExecError> {
        let Tokens { ids, rows, mask } = *tokens;
        if rows == 0 || ids.is_empty() || ids.len() % rows != 0 {
            let reason = format!(
                "{} token ids are not {rows} sequences of one length",
                ids.len()
            );
            return Err(ExecError::input(reason));
        }
        if let Some(mask) = mask
            && mask.len() != ids.len()
        {
            let (mask, ids) = (mask.len(), ids.len());
            let reason = format!("the mask has {mask} entries for {ids} tokens");
            return Err(ExecError::input(reason));
        }
        let vocab = self.program.vocab;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            let reason = format!("token id {id} is outside the vocabulary of {vocab} ids");
            return Err(ExecError::input(reason));
        }
        let length = ids.len() / rows;
        let longest = match mask {
            None => length,
            Some(mask) => {
                let counts = mask
                    .chunks(length)
                    .map(|row| row.iter().filter(|&&m| m).count());
                counts.max().unwrap_or(0)
            }
        };
        self.check_positions(longest)
    }

    /// Whether the model has positions for sequences of `length` tokens.
    pub(crate) fn check_positions(&self, length: usize) -> Result<(), ExecError> {
        match self.program.positions {
            Some(rows) if length > rows => Err(ExecError::input(format!(
                "a sequence of {length} tokens is longer than the model's {rows} positions"
            ))),
            _ => Ok(()),
        }
    }
}

impl Run<'_> {
    /// The trunk's results.
    pub(crate) fn trunk(&mut self, program: &Program) -> Result<Vec<Tensor<3>>, ExecError> {
        let results = self.body(&program.trunk, vec![Value::Tokens])?;
        results
            .into_iter()
            .map(|value| self.states(value))
            .collect()
    }

    /// A result of the trunk, spread over the batch.
    pub(crate) fn states(&self, value: Value) -> Result<Tensor<3>, ExecError> {
        match value {
            Value::Floats(tensor) => Ok(self.spread(tensor)),
            Value::Tokens => Err(ExecError::Graph {
                place: "block main".to_owned(),
                reason: "its result is the tokens themselves".to_owned(),
            }),
        }
    }

    /// Logits from the trunk's results.
    pub(crate) fn finish(
        &self,
        program: &Program,
        states: Vec<Tensor<3>>,
    ) -> Result<Tensor<3>, ExecError> {
        match &program.head {
            Some(head) => self.logits(head, &states),
            None => states.into_iter().next().ok_or_else(|| ExecError::Graph {
                place: "block main".to_owned(),
                reason: "it has no result".to_owned(),
            }),
        }
    }
}

/// For every position the number of true entries before it.
pub(crate) fn count_before(row: &[bool]) -> impl Iterator<Item = usize> + '_ {
    let mut count = 0;
    row.iter().map(move |&real| {
        count += usize::from(real);
        count - usize::from(real)
    })
}

fn place_constant(constant: &Constant, device: &Device) -> ConstantTensor {
    match constant {
        Constant::Bias(bias) => {
            let data = TensorData::new(bias.clone(), [1, 1, bias.len()]);
            ConstantTensor::Bias(Tensor::from_data(data, (device, DType::F32)))
        }
        Constant::Choice(choice) => {
            let data = TensorData::new(choice.clone(), [1, 1, choice.len()]);
            ConstantTensor::Choice(Tensor::from_data(data, device))
        }
    }
}
