//! The key-value cache: keys and values `[rows, capacity, head, key]` for every attention of every call.

use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::lower::Site;

/// Keys and values of the past, per attention.
#[derive(Debug)]
pub(crate) struct Cache {
    /// `[rows, capacity, kv head, key]` and `[rows, capacity, kv head, value]`; taken out while written.
    pub(crate) sites: Vec<(Option<Tensor<4>>, Option<Tensor<4>>)>,
    /// Columns written by all earlier runs.
    pub(crate) past: usize,
}

impl Cache {
    pub(crate) fn new(
        sites: &[Site],
        rows: usize,
        capacity: usize,
        (device, dtype): (&Device, FloatDType),
    ) -> Cache {
        let empty = |heads, features| {
            let shape = [rows, capacity, heads, features];
            Some(Tensor::zeros(shape, (device, DType::from(dtype))))
        };
        Cache {
            sites: sites
                .iter()
                .map(|site| {
                    (
                        empty(site.kv_heads, site.key),
                        empty(site.kv_heads, site.value),
                    )
                })
                .collect(),
            past: 0,
        }
    }

    /// Writes the columns of this run; returns all columns so far and how many are of the past.
    pub(crate) fn extend(
        &mut self,
        site: usize,
        k: Tensor<4>,
        v: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>, usize) {
        let from = self.past;
        let (keys, values) = &mut self.sites[site];
        (write(keys, k, from), write(values, v, from), from)
    }
}

/// Writes columns `from ..` in place; returns a view of all columns up to their end.
fn write(slot: &mut Option<Tensor<4>>, new: Tensor<4>, from: usize) -> Tensor<4> {
    let [rows, time, heads, features] = new.dims();
    let Some(cached) = slot.take() else {
        return new;
    };
    let cached = cached.slice_assign([0..rows, from..from + time, 0..heads, 0..features], new);
    let all = cached.clone().narrow(1, 0, from + time);
    *slot = Some(cached);
    all
}

/// Largest cache that is asked of any machine: a tebibyte.
pub(crate) const MOST_BYTES: u64 = 1 << 40;

/// Bytes of a cache in an element type; `None` beyond 64 bits.
pub(crate) fn cache_bytes(
    sites: &[Site],
    rows: usize,
    capacity: usize,
    dtype: FloatDType,
) -> Option<u64> {
    let size = DType::from(dtype).size() as u64;
    let columns = (rows as u64).checked_mul(capacity as u64)?;
    sites.iter().try_fold(0u64, |sum, site| {
        let features = (site.kv_heads as u64).checked_mul(site.key as u64 + site.value as u64)?;
        sum.checked_add(columns.checked_mul(features)?.checked_mul(size)?)
    })
}
