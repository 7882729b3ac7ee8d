//! Orders and shares that depend on a seed or an id and on nothing else.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The numbers `0..len` in an order of their own for every `seed` and `epoch` (Fisher and Yates).
pub fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..order.len()).rev() {
        // u64, so that the draw does not depend on the width of a pointer.
        let j = random.random_range(0..=i as u64) as usize;
        order.swap(i, j);
    }
    order
}

/// Whether a record belongs to the share that is set aside: a matter of its id alone, so that records added
/// later move no other. `share` is from 0 to 1.
pub fn is_held_out(id: &str, share: f64) -> bool {
    let hash = blake3::hash(id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    // 53 bits, which a float holds exactly.
    let place = (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64;
    place < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_that_its_seed_fixes() {
        let order = shuffled(1000, 7, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_eq!(order, shuffled(1000, 7, 0));
        assert_ne!(order, shuffled(1000, 7, 1));
        assert_ne!(order, shuffled(1000, 8, 0));
        assert!(shuffled(0, 1, 1).is_empty());
        let moved = order.iter().zip(0..).filter(|(a, b)| **a != *b).count();
        assert!(moved > 980, "{moved}");
        // Fixed for good: a run that goes on must see the order it saw before.
        assert_eq!(shuffled(8, 1, 0), [6, 1, 0, 7, 5, 4, 2, 3]);
    }

    #[test]
    fn a_share_is_about_as_large_as_asked_and_grows_by_adding() {
        let ids: Vec<String> = (0..10_000).map(|i| format!("record {i}")).collect();
        let held = |share: f64| ids.iter().filter(|id| is_held_out(id, share)).count();
        assert_eq!((held(0.0), held(1.0)), (0, 10_000));
        assert!((450..550).contains(&held(0.05)), "{}", held(0.05));
        assert!(
            ids.iter()
                .all(|id| !is_held_out(id, 0.05) || is_held_out(id, 0.1))
        );
    }
}
