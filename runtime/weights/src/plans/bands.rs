//! Sources for one run of rows: what lies the other way about in its file is read once for the run,
//! in bands, and not once for every small block.

use std::ops::Range;
use std::sync::Mutex;

use indexmap::IndexMap;
use jam_ir::Plan;

use super::PlanSources;
use super::buffers::Buffers;
use crate::checkpoints::{Band, Stored, WeightSource};
use crate::{Error, Result};

/// The sources of one plan, for one run of rows of it.
pub(super) struct BandedSources<'a>(IndexMap<String, Banded<'a>>);

impl Drop for Banded<'_> {
    fn drop(&mut self) {
        for (_, held) in self.held.values_mut() {
            let held = held.get_mut().unwrap_or_else(|poison| poison.into_inner());
            for band in held.drain(..) {
                self.buffers.give(band.into_buffer());
            }
        }
    }
}

/// A source whose bands are held.
struct Banded<'a> {
    inner: &'a dyn WeightSource,
    buffers: &'a Buffers,
    /// Rows of a band: those of the run.
    rows: u64,
    /// By tensor: how often the plan loads it, and the bands held, the last used last.
    held: IndexMap<String, (usize, Mutex<Vec<Band>>)>,
}

impl<'a> BandedSources<'a> {
    /// For `rows` rows of `plan`.
    pub(super) fn new(
        plan: &Plan,
        rows: u64,
        sources: &'a dyn PlanSources,
        buffers: &'a Buffers,
    ) -> Result<BandedSources<'a>> {
        let mut loads: Vec<(String, String)> = Vec::new();
        let mut banded: IndexMap<String, Banded<'a>> = IndexMap::new();
        plan.for_each(&mut |part| {
            if let Plan::Load { source, name } = part {
                loads.push((source.clone(), name.clone()));
            }
        });
        for (source, name) in loads {
            if !banded.contains_key(&source) {
                let entry = Banded {
                    inner: sources.source(&source)?,
                    buffers,
                    rows,
                    held: IndexMap::new(),
                };
                banded.insert(source.clone(), entry);
            }
            if let Some(entry) = banded.get_mut(&source)
                && entry.inner.band_bytes(&name) > 0
            {
                entry.held.entry(name).or_default().0 += 1;
            }
        }
        Ok(BandedSources(banded))
    }
}

impl PlanSources for BandedSources<'_> {
    fn source(&self, name: &str) -> Result<&dyn WeightSource> {
        match self.0.get(name) {
            Some(banded) => Ok(banded),
            None => Err(Error::new(format!("`{name}` has no weights to load"))),
        }
    }
}

impl WeightSource for Banded<'_> {
    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.inner.shape(name)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.inner.stored(name)
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        let Some((most, held)) = self.held.get(name) else {
            return self.inner.rows(name, rows);
        };
        let mut held = held.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(index) = held.iter().position(|band| {
            let there = band.rows();
            there.start <= rows.start && rows.end <= there.end
        }) {
            let band = held.remove(index);
            let numbers = band.read(rows);
            held.push(band);
            return numbers.ok_or_else(|| Error::damaged(format!("`{name}` is cut")));
        }
        // Blocks come in order: the band begins here, and what came before is not needed again.
        while held.len() >= *most {
            let band = held.remove(0);
            self.buffers.give(band.into_buffer());
        }
        let total = self
            .inner
            .shape(name)
            .and_then(|shape| shape.first().copied());
        let total = total.unwrap_or(rows.end);
        let end = total.min(rows.start + self.rows).max(rows.end);
        let bytes = self.inner.band_bytes(name).saturating_mul(end - rows.start);
        let buffer = self.buffers.take(bytes);
        match self.inner.band(name, rows.start..end, buffer)? {
            Some(band) => {
                let numbers = band.read(rows);
                held.push(band);
                numbers.ok_or_else(|| Error::damaged(format!("`{name}` is cut")))
            }
            None => self.inner.rows(name, rows),
        }
    }
}
