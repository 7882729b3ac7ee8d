//! The backward pass: one kernel for the gradients of keys and values, one for that of queries.

mod keys;
mod queries;

use cubecl::client::Client;
use cubecl::prelude::*;

use super::super::{Backward, Shape, delta};
use super::sizes::{Room, half, order, sizes};
use super::tile::{Half, Product, Tile};
use crate::device::{again, cubes};

/// The gradients that a kernel keeps sums of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    KeysAndValues,
    Keys,
    Values,
    Queries,
}

/// What is compiled into a kernel. Its own rows are keys, or queries for [`Part::Queries`]; the steps are of the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) part: Part,
    pub(super) key: usize,
    pub(super) value: usize,
    pub(super) planes: usize,
    /// Sixteens of rows of a plane.
    pub(super) bands: usize,
    /// Rows of a step.
    pub(super) step: usize,
    pub(super) causal: bool,
    pub(super) half: Half,
}

impl Form {
    pub(super) const fn units(self) -> usize {
        32 * self.planes
    }

    pub(super) const fn rows(self) -> usize {
        16 * self.bands * self.planes
    }

    pub(super) const fn tile(self, rows: usize, width: usize) -> Tile {
        Tile {
            rows,
            width,
            units: self.units(),
        }
    }

    /// Own rows of the size of a key.
    pub(super) const fn own_key(self) -> Tile {
        self.tile(self.rows(), self.key)
    }

    /// Own rows of the size of a value; the sums over values alone read none.
    pub(super) const fn own_value(self) -> Tile {
        let rows = if matches!(self.part, Part::Values) {
            0
        } else {
            self.rows()
        };
        self.tile(rows, self.value)
    }

    pub(super) const fn step_key(self) -> Tile {
        self.tile(self.step, self.key)
    }

    pub(super) const fn step_value(self) -> Tile {
        self.tile(self.step, self.value)
    }

    /// Own rows times those of a step, over `width`.
    pub(super) const fn scores(self, width: usize) -> Product {
        Product {
            bands: self.bands,
            inner: width.div_ceil(16),
            columns: self.step / 16,
            half: self.half,
        }
    }

    /// Weights times a step's columns.
    pub(super) const fn along(self, width: usize) -> Product {
        Product {
            bands: self.bands,
            inner: self.step / 16,
            columns: width.div_ceil(16),
            half: self.half,
        }
    }

    pub(super) const fn keeps_keys(self) -> bool {
        matches!(self.part, Part::KeysAndValues | Part::Keys)
    }

    pub(super) const fn keeps_values(self) -> bool {
        matches!(self.part, Part::KeysAndValues | Part::Values)
    }

    /// Bytes of shared memory.
    const fn shared(self) -> usize {
        2 * (self.own_key().len() + self.own_value().len())
            + 4 * (self.step_key().len() + self.step_value().len())
            + 2 * 4 * (2 * self.step + self.rows())
    }

    /// Those for a shape on a device, in the order in which they run.
    fn of(shape: &Shape, room: Room, half: Half) -> Option<Vec<Form>> {
        let widest = shape.key.max(shape.value);
        let parts: &[Part] = if widest <= 128 {
            &[Part::KeysAndValues, Part::Queries]
        } else {
            // Sums of both do not fit in registers.
            &[Part::Keys, Part::Values, Part::Queries]
        };
        parts
            .iter()
            .map(|&part| Form::of_part(part, shape, room, half))
            .collect()
    }

    fn of_part(part: Part, shape: &Shape, room: Room, half: Half) -> Option<Form> {
        let widest = shape.key.max(shape.value);
        let few = match part {
            Part::Queries => room.few(shape.batch * shape.heads, shape.queries),
            _ => room.few(shape.batch * shape.kv_heads, shape.keys),
        };
        let one = Form {
            part,
            key: shape.key,
            value: shape.value,
            planes: 4,
            bands: 1,
            step: if widest <= 128 { 32 } else { 16 },
            causal: shape.causal,
            half,
        };
        let two = Form { bands: 2, ..one };
        let eight = Form { planes: 8, ..one };
        let short = Form { step: 16, ..one };
        // Two bands read a step's rows half as often; they have to fit in registers, with sums of keys and of values
        // beside scores of short steps only.
        let first = match (widest, part) {
            _ if few => one,
            (..=64, Part::Queries) => two,
            (..=64, _) => Form { step: 16, ..two },
            (65..=96, Part::Queries) if room.holds_two(two.shared()) => two,
            (129.., _) => eight,
            _ => one,
        };
        [first, one, short, Form { planes: 2, ..short }]
            .into_iter()
            .find(|form| form.shared() <= room.shared)
    }
}

/// Whether forms fit in shared memory.
pub(super) fn fits(shape: &Shape, room: Room, half: Half) -> bool {
    Form::of(shape, room, half).is_some()
}

/// As [`super::backward`].
pub(super) fn launch(client: &Client, shape: &Shape, buffers: Backward, dtype: ElemType) {
    let half = half(dtype).expect("a 16-bit float");
    let forms = Form::of(shape, Room::of(client), half).expect("forms that fit");
    let rows = shape.batch * shape.queries * shape.heads;
    delta(
        client,
        shape,
        buffers.out,
        again(&buffers.dout),
        again(&buffers.delta),
        dtype,
    );
    for form in forms {
        let count = CubeDim::new_1d(form.units() as u32);
        if form.part == Part::Queries {
            if rows == 0 {
                continue;
            }
            let blocks = shape.queries.div_ceil(form.rows());
            let pairs = shape.batch * shape.heads;
            queries::attention_backward_queries::launch(
                client,
                cubes(blocks * pairs),
                count,
                again(&buffers.q),
                again(&buffers.k),
                again(&buffers.v),
                buffers.key_mask.as_ref().map(again).into(),
                again(&buffers.lse),
                again(&buffers.delta),
                again(&buffers.dout),
                again(&buffers.dq),
                sizes(shape),
                order(shape, pairs, blocks),
                form,
                dtype,
            );
        } else {
            let blocks = shape.keys.div_ceil(form.rows());
            let pairs = shape.batch * shape.kv_heads;
            if blocks * pairs == 0 {
                continue;
            }
            keys::attention_backward_keys::launch(
                client,
                cubes(blocks * pairs),
                count,
                again(&buffers.q),
                again(&buffers.k),
                again(&buffers.v),
                buffers.key_mask.as_ref().map(again).into(),
                again(&buffers.lse),
                again(&buffers.delta),
                again(&buffers.dout),
                form.keeps_keys().then(|| again(&buffers.dk)).into(),
                form.keeps_values().then(|| again(&buffers.dv)).into(),
                sizes(shape),
                order(shape, pairs, blocks),
                form,
                dtype,
            );
        }
    }
}
