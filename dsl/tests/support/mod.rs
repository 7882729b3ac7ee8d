//! What the tests of the language give a program from outside: files, and the words of the other rooms.

use std::path::{Path, PathBuf};

use jam_ir::Words;

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The words of all tables, from their copy: this room imports none of the others. A test of the command
/// line holds the copy to the tables, and rewrites it with `JAM_BLESS=1`.
pub(crate) fn words() -> Words {
    Words::read(include_str!("../words.ron")).unwrap()
}
