//! Every weight of a model with its shape.

use jam_ir::{Model, WeightType};

use crate::{Error, Result};

/// Every weight of a model with its shape, in order of first use.
///
/// # Errors
/// When a weight has an axis without a size.
pub fn weight_shapes(model: &Model) -> Result<Vec<(String, Vec<u64>)>> {
    let uses = model.weight_uses();
    let shape = |name: &str, ty: &WeightType| {
        let shape = model.weight_shape(ty);
        shape.ok_or_else(|| Error::new(format!("weight `{name}` has an axis without a size")))
    };
    uses.iter()
        .map(|(name, param)| Ok((name.clone(), shape(name, &param.ty)?)))
        .collect()
}
