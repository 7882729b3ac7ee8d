//! Drawings of graphs: DOT, for Graphviz to lay out, and SVG, laid out here.

mod dot;
mod svg;

pub(crate) use dot::dot;
pub(crate) use svg::svg;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_that_verifies_is_drawn() {
        for seed in 0..200 {
            let model = jam_ir_testing::generate::seeded(seed).model;
            assert!(dot(&model).starts_with("digraph "), "seed {seed}");
            assert!(svg(&model).starts_with("<svg "), "seed {seed}");
        }
    }
}
