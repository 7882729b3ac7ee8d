//! Launches every kernel at the sizes of a training step of a model of 7 billion parameters.
//!
//!     cargo run --release -p jam-cube --features cuda --example every_kernel [-- WORD…]
//!
//! prints time, bandwidth and arithmetic of each kernel whose label has all the words. Under `COC_SOURCES=FOLDER` with
//! the driver of `backends/cuda-on-cpu` nothing is run: the folder gets the sources of the kernels, and its file
//! `launches` the label of what follows as a line `# label`. `backends/cube/table` reads it.

#![allow(clippy::print_stdout, reason = "it prints a table")]

mod activation;
mod attention;
mod cross_entropy;
mod embedding;
mod list;
mod norm;
mod optimizer;
mod rotary;
mod sampling;
mod sums;

use list::List;

fn main() {
    let mut list = List::new(std::env::args().skip(1).collect());
    attention::kernels(&mut list);
    activation::kernels(&mut list);
    cross_entropy::kernels(&mut list);
    embedding::kernels(&mut list);
    norm::kernels(&mut list);
    optimizer::kernels(&mut list);
    rotary::kernels(&mut list);
    sampling::kernels(&mut list);
    sums::kernels(&mut list);
    list.end();
}
