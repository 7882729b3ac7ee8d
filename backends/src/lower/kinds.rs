//! What kind of weight every parameter is, by the operations that read it.

use jam_ir::recipe::WeightKind;

use super::{Action, Body, Program};

impl Program {
    /// The kind of every parameter, in their order; `None` for the matrices of linear layers and of untied
    /// heads.
    pub(crate) fn weight_kinds(&self) -> Vec<Option<WeightKind>> {
        let mut kinds = vec![None; self.params.len()];
        note(&self.trunk, &mut kinds);
        for output in self.head.iter().flat_map(|head| &head.outputs) {
            if output.table {
                kinds[output.weight] = Some(WeightKind::Embeddings);
            }
            if let Some(bias) = output.bias {
                kinds[bias] = Some(WeightKind::Biases);
            }
        }
        kinds
    }
}

fn note(body: &Body, kinds: &mut [Option<WeightKind>]) {
    for step in &body.steps {
        match &step.action {
            Action::Embed { table }
            | Action::Positions { table, .. }
            | Action::Unembed { table } => kinds[*table] = Some(WeightKind::Embeddings),
            Action::Linear {
                bias: Some(bias), ..
            } => kinds[*bias] = Some(WeightKind::Biases),
            Action::Norm { gain, bias, .. } => {
                for &weight in gain.iter().chain(bias) {
                    kinds[weight] = Some(WeightKind::Norms);
                }
            }
            Action::Call(body) => note(body, kinds),
            _ => {}
        }
    }
}
