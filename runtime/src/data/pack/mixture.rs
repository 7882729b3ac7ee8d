//! Which document comes next: data sets drawn by weight, each in an order of its own for every epoch.

use serde::{Deserialize, Serialize};

use crate::data::shuffled;
use crate::{Error, Result};

/// How far a mixture has come: enough to go on with the same documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixtureState {
    /// Documents drawn in all.
    pub drawn: u64,
    /// Documents drawn from each set, all epochs together.
    pub taken: Vec<u64>,
}

/// Data sets with weights, or one pass over a single set.
#[derive(Debug, Clone)]
pub struct Mixture {
    /// Documents of each set.
    sizes: Vec<usize>,
    /// Running sums of the normalised weights; empty for one pass.
    bounds: Vec<f64>,
    seed: u64,
    state: MixtureState,
    /// The epoch and the order of each set, made when first needed.
    orders: Vec<Option<(u64, Vec<u32>)>>,
}

impl Mixture {
    /// An endless mixture. `sets` has the weight and the number of documents of each set; a document is drawn from
    /// set i with the probability `weight[i] / Σ weight`. An epoch of a set is a new order of all its documents.
    ///
    /// # Errors
    /// When there is no set, a set is empty or has more than 2^32 documents, or a weight is not above 0.
    pub fn new(sets: &[(f64, usize)], seed: u64) -> Result<Self> {
        let total: f64 = sets.iter().map(|(weight, _)| weight).sum();
        let is_weight = |weight: f64| weight.is_finite() && weight > 0.0;
        if sets.is_empty()
            || !total.is_finite()
            || !sets.iter().all(|(weight, _)| is_weight(*weight))
        {
            return Err(Error::new("a mixture needs data sets with weights above 0"));
        }
        if let Some(index) = sets
            .iter()
            .position(|(_, size)| *size == 0 || *size > u32::MAX as usize)
        {
            let size = sets[index].1;
            return Err(Error::new(format!(
                "data set {} of the mixture has {size} documents",
                index + 1
            )));
        }
        let mut sum = 0.0;
        let bounds = sets.iter().map(|(weight, _)| {
            sum += weight / total;
            sum
        });
        Ok(Self {
            bounds: bounds.collect(),
            sizes: sets.iter().map(|(_, size)| *size).collect(),
            seed,
            state: MixtureState {
                drawn: 0,
                taken: vec![0; sets.len()],
            },
            orders: vec![None; sets.len()],
        })
    }

    /// One set of `size` documents, each once and in its place.
    pub fn pass(size: usize) -> Self {
        Self {
            bounds: Vec::new(),
            sizes: vec![size],
            seed: 0,
            state: MixtureState {
                drawn: 0,
                taken: vec![0],
            },
            orders: vec![None],
        }
    }

    /// Documents of all sets.
    pub fn documents(&self) -> u64 {
        self.sizes.iter().map(|size| *size as u64).sum()
    }

    /// How far it has come.
    pub fn state(&self) -> &MixtureState {
        &self.state
    }

    /// Goes on from `state`.
    ///
    /// # Errors
    /// When the state is of another number of sets.
    pub fn resume(&mut self, state: &MixtureState) -> Result<()> {
        if state.taken.len() != self.sizes.len() {
            let (had, has) = (state.taken.len(), self.sizes.len());
            return Err(Error::new(format!(
                "the run was begun with {had} data sets, and now has {has}"
            )));
        }
        self.state = state.clone();
        Ok(())
    }

    /// The set and the number in it of the next document; `None` at the end of a pass.
    pub fn draw(&mut self) -> Option<(usize, usize)> {
        if self.bounds.is_empty() {
            let index = self.state.drawn as usize;
            if index >= self.sizes[0] {
                return None;
            }
            self.state.drawn += 1;
            self.state.taken[0] += 1;
            return Some((0, index));
        }
        let place = share(self.seed, self.state.drawn);
        // The last bound may be a little less than 1.
        let found = self.bounds.iter().position(|bound| place < *bound);
        let set = found.unwrap_or(self.sizes.len() - 1);
        let size = self.sizes[set] as u64;
        let (epoch, index) = (self.state.taken[set] / size, self.state.taken[set] % size);
        // Sets of one size must not have one order.
        let seed = self.seed ^ (set as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let held = self.orders[set].take().filter(|(of, _)| *of == epoch);
        let order = held.unwrap_or_else(|| (epoch, shuffled(size as usize, seed, epoch)));
        let document = order.1[index as usize] as usize;
        self.orders[set] = Some(order);
        self.state.drawn += 1;
        self.state.taken[set] += 1;
        Some((set, document))
    }
}

/// Draw number `number` of a seed, uniform in 0..1.
fn share(seed: u64, number: u64) -> f64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    let hash = blake3::keyed_hash(b"jam: which data set comes next? ", &bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(mixture: &mut Mixture, count: usize) -> Vec<(usize, usize)> {
        (0..count).map(|_| mixture.draw().unwrap()).collect()
    }

    #[test]
    fn sets_come_by_weight_and_every_epoch_has_every_document_once() {
        let mut mixture = Mixture::new(&[(3.0, 50), (1.0, 7)], 5).unwrap();
        let drawn = draws(&mut mixture, 8000);
        let second: Vec<usize> = drawn.iter().filter(|d| d.0 == 1).map(|d| d.1).collect();
        assert!((1850..2150).contains(&second.len()), "{}", second.len());
        for epoch in second.chunks_exact(7) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(
            second[..7],
            second[7..14],
            "an epoch has an order of its own"
        );
        assert_eq!(
            drawn,
            draws(&mut Mixture::new(&[(3.0, 50), (1.0, 7)], 5).unwrap(), 8000)
        );
        assert_ne!(
            drawn,
            draws(&mut Mixture::new(&[(3.0, 50), (1.0, 7)], 6).unwrap(), 8000)
        );
    }

    #[test]
    fn a_mixture_goes_on_where_it_was() {
        let sets = [(0.5, 9), (0.5, 9)];
        let mut whole = Mixture::new(&sets, 1).unwrap();
        let first = draws(&mut whole, 100);
        assert!(first.iter().filter(|d| d.0 == 0).count() > 30);
        let text = serde_json::to_string(whole.state()).unwrap();
        let expected = draws(&mut whole, 100);
        let mut resumed = Mixture::new(&sets, 1).unwrap();
        resumed
            .resume(&serde_json::from_str(&text).unwrap())
            .unwrap();
        assert_eq!(draws(&mut resumed, 100), expected);
        assert!(
            Mixture::new(&sets[..1], 1)
                .unwrap()
                .resume(whole.state())
                .is_err()
        );
    }

    #[test]
    fn a_pass_ends() {
        let mut pass = Mixture::pass(3);
        let drawn: Vec<_> = std::iter::from_fn(|| pass.draw()).collect();
        assert_eq!(drawn, [(0, 0), (0, 1), (0, 2)]);
        for wrong in [
            &[][..],
            &[(0.0, 1)],
            &[(1.0, 0)],
            &[(f64::NAN, 1)],
            &[(f64::INFINITY, 1)],
        ] {
            assert!(Mixture::new(wrong, 0).is_err());
        }
    }
}
