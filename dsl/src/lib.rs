//! The .jam language: text to checked program, formatter, error reports.
//!
//! A text goes through [`parse`] (size and brackets, then the grammar, with recovery) into a
//! syntax tree that knows no keyword, and from there into a checked [`jam_ir::Program`].
//! Nothing here reads a file: what lies outside of a program's text comes through traits.
//!
//! Bad input is data: everything that could be read is returned, with a list of
//! [`jam_ir::diagnostic::Diagnostic`]s, which [`report`] renders.

mod format;
#[allow(dead_code)]
mod number;
mod parse;
pub mod report;
mod scan;
#[allow(dead_code)]
mod suggest;
pub mod syntax;
mod syntax_error;

pub use format::format;
pub use parse::{Parsed, parse, parse_value};
pub use scan::{MAX_BYTES, MAX_DEPTH, too_long};
