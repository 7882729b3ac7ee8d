//! The command line of JAM.
fn main() {}
