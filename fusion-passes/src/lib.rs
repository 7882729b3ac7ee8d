//! Fusion strategies (several models to one) and passes (one model to one).
//!
//! A **strategy** takes verified parents and gives a fused model: a graph, and for every weight a
//! [`Plan`](jam_ir::Plan) over the parents' weights. Strategies are rules over sides and roles of
//! axes and over blocks, never over tensor names of one architecture. They stand in one ordered
//! table, [`STRATEGIES`]; a new one is a file and a line there. [`fuse`] is the way in: it checks
//! settings and parents before, and verifies the fused model after.
//!
//! A **pass** rewrites one model into an equivalent one. Passes stand in one ordered table,
//! [`passes::PASSES`]; every file opens with a model before and after, which is also its test.
//!
//! Parents whose vocabularies differ are brought to one before (`vocabulary`).
//!
//! What several strategies need: `anatomy` takes a parent apart into embedding, layers and head;
//! `matching` pairs two parents of one structure, statement by statement; `merge` gives a plan to every
//! weight of several parents of one structure, and `graded` numbers that differ by layer and part.
//!
//! Nothing here reads a file or a weight: parents are graphs, and their weights are names in plans.

// This room knows no files (`clippy.toml`).
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod anatomy;
mod axes;
mod cross;
mod dare;
mod flatten;
mod fresh;
mod graded;
mod linear;
mod matching;
mod merge;
mod model_stock;
mod nuslerp;
mod parents;
pub mod passes;
mod passthrough;
mod reports;
mod settings;
mod slerp;
mod strategy;
mod table;
mod task_arithmetic;
mod tasks;
mod ties;
mod uniform;
mod vocabulary;
mod width;

pub use strategy::{Fused, Parent, Strategy};
pub use table::{STRATEGIES, fuse, fuse_by_tokens, fuse_verified, signatures};
pub use vocabulary::{NoPieces, Pieces};
