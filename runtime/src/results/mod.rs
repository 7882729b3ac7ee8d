//! Results: what the steps of a program made, each addressed by what it was made from.
//!
//! A result is a folder `KIND/NAME` below the folder of results, with a [`Record`] in `result.json` and every file
//! under a checksum. Its key is a hash of its [`Ingredients`]: what the recipe says, the contents of files, the keys
//! of results before it. Time stamps and spellings of paths are no part of it.
//!
//! Nothing made is lost: where a program asks for another result of the same name, the one that stands there is
//! moved to `NAME@KEY` beside it, whole, and found again when the program asks for it once more. Only
//! [`remove`] takes a result away, and only the one that it names.

mod aside;
mod hashes;
mod ingredients;
mod list;
mod record;
mod slots;

pub(crate) use aside::{Known, Place, Standing, find, set_aside, taken};
pub(crate) use hashes::Hashes;
pub use ingredients::{Ingredients, lines};
pub use list::{Entry, State, list, removable, remove};
pub use record::{Progress, RESULT_FILE, Record};
pub(crate) use slots::{Slots, whole};

use std::path::Path;

use jam_weights::checkpoints::bounded::is_absent;

use crate::{Error, Result};

/// The bytes of a file; `None` where there is none. Any other failure is one: unreadable is not absent.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Whether something stands at a path, a link that leads nowhere included.
pub(crate) fn stands(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(Error::io("read", path, error)),
    }
}
