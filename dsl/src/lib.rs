//! The .jam language: text to checked program, formatter, error reports.
//!
//! A text goes through [`parse`] (size and brackets, then the grammar, with recovery) into a
//! syntax tree that knows no keyword, and from there into a checked [`jam_ir::Program`].
//! Nothing here reads a file: what lies outside of a program's text comes through traits.
//!
//! Bad input is data: everything that could be read is returned, with a list of
//! [`jam_ir::diagnostic::Diagnostic`]s, which [`report`] renders.

// This room knows no files (`clippy.toml`).
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod attention;
mod binding;
mod calls;
mod checker;
mod compile;
mod definitions;
mod evaluate;
mod finish;
mod format;
mod given;
mod graph;
mod head;
mod layer_call;
mod layers;
mod limits;
mod model;
mod number;
mod parse;
mod recipe;
mod records;
pub mod report;
mod scan;
mod settings;
mod suggest;
pub mod syntax;
mod syntax_error;
mod value;
mod world;

pub use compile::{COMMAND_LINE, Compiled, compile};
pub use format::format;
pub use parse::{Parsed, parse, parse_value};
pub use scan::{MAX_BYTES, MAX_DEPTH, too_long};
pub use suggest::nearest;
pub use world::{CompileOptions, World};
