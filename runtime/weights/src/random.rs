//! Random numbers: one generator, and every way in which numbers are drawn from it.
//!
//! Results of JAM are the same bits wherever they are computed, and what was drawn stays what it was: lessons,
//! fresh weights, the order of epochs and samples depend on the numbers here. So each way of drawing is fixed by
//! a test; a new need gets a new way, never another meaning of an old one.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers (ChaCha with 8 rounds). Streams of one seed are independent.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of this number for a seed.
    pub fn seeded(seed: u64, stream: u64) -> Random {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Random(generator)
    }

    /// The stream of this number for a key, as a hash is one.
    pub fn keyed(key: [u8; 32], stream: u64) -> Random {
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(stream);
        Random(generator)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number from 0 to 1, 1 left out: one of 2⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `low` to `high`, `high` left out: one of 2⁵².
    ///
    /// # Panics
    /// When there is none.
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        self.0.random_range(low..high)
    }

    /// A number from 0 to `end - 1`, each with the same chance.
    ///
    /// # Panics
    /// When `end` is 0 or above 2³².
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// Two independent draws of N(0, 1) (Box and Muller, 1958).
    pub fn normal_pair(&mut self) -> (f64, f64) {
        let mut open = || ((self.0.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let radius = (-2.0 * open().ln()).sqrt();
        let angle = std::f64::consts::TAU * open();
        (radius * angle.cos(), radius * angle.sin())
    }

    /// Puts items into an order, each with the same chance (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// [`Random::shuffle`] with remainders of 64 bits in place of [`Random::below`]: the order of epochs, which a
    /// training that goes on must see again.
    pub fn shuffle_by_remainders<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.0.next_u64() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of seed 7: both shuffles of eight items, bits and bytes, floats.
    const FIXED: [&str; 4] = [
        "[3, 4, 2, 5, 0, 6, 7, 1]",
        "[4, 1, 6, 0, 5, 7, 2, 3]",
        "[23d743bb, 28655334] [3a, 29, 9b, 2e]",
        "[3fb237db88ba0bb0, 3fe3e67f89a67b04, 3ff9399e55563df7, 3fd74a8719c95a09]",
    ];

    /// Fixed for good: these were drawn before this file was.
    #[test]
    fn what_was_drawn_is_drawn_again() {
        let plain = || ChaCha8Rng::seed_from_u64(7);
        let draw = || Random::seeded(7, 0);
        let old: Vec<usize> = {
            let mut random = plain();
            let draws = (1..2000).map(|end| random.random_range(0..end as u32) as usize);
            draws.collect()
        };
        let mut random = draw();
        let new: Vec<usize> = (1..2000).map(|end| random.below(end)).collect();
        assert_eq!(new, old, "numbers below a bound, as lessons drew them");
        let old: Vec<usize> = {
            let mut random = plain();
            (0..2000)
                .map(|last| random.random_range(0..=last))
                .collect()
        };
        let mut random = draw();
        let new: Vec<usize> = (0..2000).map(|last| random.below(last + 1)).collect();
        assert_eq!(new, old, "as orders of pictures drew them");
        let (mut old, mut new) = (plain(), draw());
        for _ in 0..100 {
            let value: f64 = old.random_range(0.0..1.0);
            assert_eq!(new.within(0.0, 1.0).to_bits(), value.to_bits());
            let value: f64 = old.random_range(-1.0..1.0);
            assert_eq!(new.within(-1.0, 1.0).to_bits(), value.to_bits());
            assert_eq!(new.unit().to_bits(), old.random::<f64>().to_bits());
        }
        let mut streamed = plain();
        streamed.set_stream(5);
        assert_eq!(Random::seeded(7, 5).bits(), streamed.next_u32());
        assert_eq!(
            Random::keyed([3; 32], 0).bits(),
            ChaCha8Rng::from_seed([3; 32]).next_u32()
        );
        let order = |shuffle: fn(&mut Random, &mut [u8])| {
            let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
            shuffle(&mut draw(), &mut items);
            items
        };
        let mut random = draw();
        let bits = [random.bits(), random.bits()];
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        let (a, b) = random.normal_pair();
        let floats = [random.unit(), random.within(-1.0, 1.0), a, b];
        let fixed = [
            format!("{:?}", order(Random::shuffle)),
            format!("{:?}", order(Random::shuffle_by_remainders)),
            format!("{bits:x?} {bytes:x?}"),
            format!("{:x?}", floats.map(f64::to_bits)),
        ];
        assert_eq!(fixed, FIXED);
    }
}
