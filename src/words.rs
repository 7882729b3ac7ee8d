//! The words that a program may use, from the tables of all rooms.

use std::sync::LazyLock;

use jam_ir::Words;

/// Every word, in the order in which help lists them.
pub(crate) fn words() -> &'static Words {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
        strategies: jam_fusion_passes::signatures(),
        ..jam_runtime::words()
    });
    &WORDS
}
