//! Data sets: files of the world as documents, one at a time and in a fixed order.
//!
//! A [`DataSet`] is an index of records: opening reads where they lie, [`DataSet::document`] reads one. Text
//! comes from lists of JSON, tables and text files, captioned pictures from WebDataset `.tar` shards and from
//! folders with a `captions.jsonl`, articles of texts and pictures and pairs of question and answer from lists
//! of JSON (`endings` has the table); [`choices`] reads multiple choice in its published formats. Pictures stay
//! in their files until they are asked for. [`split_documents`] reads a split of a program's data set, and says
//! what of it is left out.
//!
//! A record's place in the order and its id depend on the files alone, so an index or a hash of an id means
//! the same in every run.

mod choice;
mod content;
mod document;
mod endings;
mod files;
mod format;
mod formats;
mod packing;
mod picture;
mod records;
mod rows;
mod set;
mod shards;
mod share;
mod split;
mod values;

pub(crate) use content::read_regular;
pub(crate) use picture::MAX_BYTES;

pub use choice::{CHOICE_FORMATS, ChoiceFormat, ChoiceItem, ChoiceOption, choices};
pub use document::{Document, Segment};
pub use endings::is_list;
pub use files::matching_files;
pub use format::{Format, Layout};
pub use formats::{FORMATS, format_of, formats};
pub use picture::PictureRef;
pub use set::{DataSet, ReadOptions, unfolded};
pub use share::is_held_out;
pub use split::{
    SplitDocuments, absent_pictures, divided_documents, holds_out, split_documents, split_files,
};
