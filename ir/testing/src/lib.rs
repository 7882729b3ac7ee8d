//! What tests and fuzz targets of several crates need of the IR: random models. Nothing that is built depends
//! on it.

pub mod generate;
