//! The process's allocator, told to keep what is freed.
//!
//! A training step allocates and frees the same hundreds of megabytes over and over. By default the C
//! library gives large freed blocks back to the system, and every step pays for fresh, zeroed pages:
//! more than many of the kernels cost.

/// Lets the allocator keep freed memory for the next step, where the C library can be told (glibc).
///
/// Call it once, at the start of a program that trains or decodes; it returns whether it took effect.
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        const TRIM_THRESHOLD: c_int = -1;
        const MMAP_THRESHOLD: c_int = -3;
        const ARENA_MAX: c_int = -8;
        /// The largest block size that the C library lets come from its heap.
        const LARGEST: c_int = 32 << 20;
        // SAFETY: `mallopt` takes any values, and says by its result which it accepted.
        unsafe {
            mallopt(TRIM_THRESHOLD, c_int::MAX) == 1
                && mallopt(MMAP_THRESHOLD, LARGEST) == 1
                // One heap: what one thread frees another can use.
                && mallopt(ARENA_MAX, 1) == 1
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}
