//! What this program is: its version, the commit that it was built from, and its features.

use std::sync::LazyLock;

/// `0.1.0 (0123456789ab; cpu, wgpu)`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = features().join(", ");
    let built = match commit() {
        Some(commit) => format!("{commit}; {features}"),
        None => features,
    };
    format!("{} ({built})", number())
});

/// The version, for people.
pub(crate) fn version() -> &'static str {
    &VERSION
}

/// The version alone.
pub(crate) fn number() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The commit that it was built from, where that is known.
pub(crate) fn commit() -> Option<&'static str> {
    option_env!("JAM_COMMIT").filter(|commit| !commit.is_empty())
}

/// The kinds of devices that it was built for.
pub(crate) fn features() -> Vec<&'static str> {
    let all = [
        ("cpu", true),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    let built = all.into_iter().filter(|(_, built)| *built);
    built.map(|(name, _)| name).collect()
}
