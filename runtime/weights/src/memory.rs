//! How much memory this process has resident, where the system tells, and how much is left for work.

/// What the program may grow by beside the work that is counted: stacks, tables, what the allocator
/// cannot give back.
const MARGIN: u64 = 48 << 20;
/// What a program takes where the system does not tell.
const GUESS: u64 = 192 << 20;

/// Bytes that are resident now, mapped files included; `None` where the system does not tell.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most bytes that were resident at once; `None` where the system does not tell.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

/// A line of `/proc/self/status`, which counts in kB.
fn status(line: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = text.lines().find_map(|found| found.strip_prefix(line))?;
    let number: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

/// What the program holds before work begins.
pub fn held() -> u64 {
    resident().unwrap_or(GUESS)
}

/// Bytes that work may take beside `held` so that no more than `most` are resident; `None` when that
/// is nothing. An eighth is left to the allocator.
pub(crate) fn left(most: u64, held: u64) -> Option<u64> {
    Some(most.checked_sub(held + MARGIN)? / 8 * 7)
}

/// Bytes resident at most while work takes `bytes` beside `held`: [`left`] the other way about.
pub(crate) fn for_work(bytes: u64, held: u64) -> u64 {
    let work = bytes.div_ceil(7).saturating_mul(8).saturating_add(8);
    work.saturating_add(held + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_do_does() {
        for bytes in [0, 1, 7, 8, 1000, 12_345_678] {
            assert!(left(for_work(bytes, 99), 99).unwrap() >= bytes);
        }
        assert_eq!(left(MARGIN, 1), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        let before = resident().unwrap();
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(peak().unwrap() >= resident().unwrap().min(before + (16 << 20)));
        assert_eq!(block[1 << 20], 1);
    }
}
