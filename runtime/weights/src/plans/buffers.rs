//! Memory for runs of rows, used again: pages that have been touched cost nothing the second time.

use std::sync::{Mutex, MutexGuard};

/// Spare buffers of one build.
pub(super) struct Buffers {
    /// Bytes that all buffers, spare and in use, have at most, but for one that needs more by itself.
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Capacities of all buffers, spare and in use.
    total: usize,
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    pub(super) fn new(limit: u64) -> Buffers {
        Buffers {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            held: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    /// A buffer with room for `bytes`; what it holds is left from its last use.
    pub(super) fn take(&self, bytes: u64) -> Vec<u8> {
        let bytes = bytes as usize;
        let mut held = self.lock();
        // One that is much larger would be counted for less than it is.
        let fits = |spare: &Vec<u8>| (bytes..=bytes + bytes / 16).contains(&spare.capacity());
        if let Some(index) = held.spare.iter().position(fits) {
            return held.spare.swap_remove(index);
        }
        while held.total + bytes > self.limit
            && let Some(spare) = held.spare.pop()
        {
            held.total -= spare.capacity();
        }
        let buffer = Vec::with_capacity(bytes);
        held.total += buffer.capacity();
        want_large_pages(&buffer);
        buffer
    }

    /// Bytes of all buffers, spare and in use.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        self.lock().total as u64
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        self.lock().spare.push(buffer);
    }
}

/// Asks for large pages, where they are to be had for asking (Linux): a buffer is filled column by column, which
/// touches a page for every row.
fn want_large_pages(buffer: &Vec<u8>) {
    #[cfg(target_os = "linux")]
    {
        const LARGE: usize = 2 << 20;
        let before = buffer.as_ptr().align_offset(LARGE);
        let length = buffer.capacity().saturating_sub(before) / LARGE * LARGE;
        if length > 0 {
            let start = buffer.as_ptr().wrapping_add(before).cast_mut();
            // SAFETY: whole pages of the buffer's own memory; it is advice, and changes nothing in them.
            unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_within_their_limit() {
        let buffers = Buffers::new(1000);
        let (first, second) = (buffers.take(400), buffers.take(400));
        let place = first.as_ptr();
        buffers.give(first);
        let again = buffers.take(390);
        assert_eq!(again.as_ptr(), place);
        buffers.give(again);
        buffers.give(second);
        assert_eq!(buffers.lock().total, 800);
        let large = buffers.take(900);
        let held = buffers.lock();
        assert!(held.spare.is_empty() && held.total == 900 && large.capacity() == 900);
    }
}
