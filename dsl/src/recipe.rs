//! Recipes: what the records and variants of a program ask for, checked key by key.

mod called;
mod data;
mod fuse;
mod graded;
mod references;
mod report;
mod tokens;
mod train;
