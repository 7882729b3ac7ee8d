//! Shares that depend on an id and on nothing else.

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
