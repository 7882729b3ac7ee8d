//! Every kernel on every device that is named, in every element type that the device has, against plain f64.
//!
//! `JAM_DEVICES` names devices (`wgpu:cpu,cuda`; by default all kinds that are built in); `--nocapture` prints the table.
//! Without a card: `backends/cuda-on-cpu/run cargo test --release -p jam-cube --features cuda`.

#![allow(clippy::print_stdout, reason = "the comparisons print a table")]

mod activation;
mod attention;
mod cross_entropy;
mod embedding;
mod norm;
mod optimizer;
mod rotary;
mod sampling;
mod sums;
mod support;
