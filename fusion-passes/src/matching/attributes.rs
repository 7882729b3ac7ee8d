//! What operations hold beside operands and weights: constants, layouts, masks, ranges.

use std::collections::BTreeMap;

use jam_ir::{AxisId, Block, Model, Op, Role};

use super::words::parts_text;

/// What two operations of one kind hold beside operands and weights: name, left, right.
///
/// `left` is the block of the first, `axes` the pairs of axes so far; norms over axes of the roles in
/// `sizes_free` may be divided otherwise.
pub(super) fn attributes(
    models: [&Model; 2],
    left: &Block,
    ops: [&Op; 2],
    axes: &BTreeMap<AxisId, AxisId>,
    sizes_free: &[Role],
) -> Vec<(String, String, String)> {
    let row = |thing: &str, left: String, right: String| (thing.to_owned(), left, right);
    match ops {
        [
            Op::Positions { offset: a, .. },
            Op::Positions { offset: b, .. },
        ] => {
            vec![row(
                "the first row of positions",
                a.to_string(),
                b.to_string(),
            )]
        }
        [
            Op::LayerNorm { x, norm: a, .. },
            Op::LayerNorm { norm: b, .. },
        ]
        | [Op::RmsNorm { x, norm: a, .. }, Op::RmsNorm { norm: b, .. }] => {
            let mut rows = vec![row(
                "the constant of a norm",
                a.eps.to_string(),
                b.eps.to_string(),
            )];
            let axis = left.value_of(*x).ty.axes.last();
            let role = axis.map(|axis| models[0].axis(*axis).role);
            if !role.is_some_and(|role| sizes_free.contains(&role)) {
                rows.push(row("the division of a norm", parts_text(a), parts_text(b)));
            }
            rows
        }
        [
            Op::Rotary {
                base: a,
                layout: m,
                scaling: s,
                ..
            },
            Op::Rotary {
                base: b,
                layout: n,
                scaling: t,
                ..
            },
        ] => vec![
            row(
                "the scaling of rotary positions",
                s.to_string(),
                t.to_string(),
            ),
            row("the base of rotary positions", a.to_string(), b.to_string()),
            row(
                "the layout of rotary positions",
                m.word().to_owned(),
                n.word().to_owned(),
            ),
        ],
        [
            Op::Attention {
                q,
                mask: m,
                scale: a,
                ..
            },
            Op::Attention {
                mask: n, scale: b, ..
            },
        ] => {
            let mut rows = vec![row(
                "the mask of attention",
                format!("{m:?}"),
                format!("{n:?}"),
            )];
            // The factor follows from the size of a head; one of them is enough to hear of.
            let key = left.value_of(*q).ty.axes.last();
            let other = key.and_then(|key| axes.get(key));
            let sizes = [
                key.and_then(|key| models[0].axis(*key).size),
                other.and_then(|key| models[1].axis(*key).size),
            ];
            if sizes[0] == sizes[1] {
                rows.push(row(
                    "the factor on the scores of attention",
                    a.to_string(),
                    b.to_string(),
                ));
            }
            rows
        }
        [Op::Scale { by: a, .. }, Op::Scale { by: b, .. }] => {
            vec![row("a factor", a.to_string(), b.to_string())]
        }
        [Op::Slice { start: a, .. }, Op::Slice { start: b, .. }] => {
            vec![row("the start of a slice", a.to_string(), b.to_string())]
        }
        [
            Op::ChooseRows { second: a, .. },
            Op::ChooseRows { second: b, .. },
        ]
        | [Op::MaskRows { rows: a, .. }, Op::MaskRows { rows: b, .. }] => {
            vec![row(
                "the rows of the vocabulary chosen",
                format!("{a:?}"),
                format!("{b:?}"),
            )]
        }
        [Op::Cast { dtype: a, .. }, Op::Cast { dtype: b, .. }] => {
            vec![row(
                "the type of a cast",
                a.word().to_owned(),
                b.word().to_owned(),
            )]
        }
        // Activations differ in their word, and calls by what they call; the others hold nothing.
        [
            Op::Embed { .. }
            | Op::Linear { .. }
            | Op::Unembed { .. }
            | Op::Activation { .. }
            | Op::Add { .. }
            | Op::Mul { .. }
            | Op::Concat { .. }
            | Op::Call { .. },
            _,
        ] => Vec::new(),
        [
            a @ (Op::Positions { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::Rotary { .. }
            | Op::Attention { .. }
            | Op::Scale { .. }
            | Op::Slice { .. }
            | Op::ChooseRows { .. }
            | Op::MaskRows { .. }
            | Op::Cast { .. }),
            b,
        ] => vec![row(
            "an operation",
            a.word().to_owned(),
            b.word().to_owned(),
        )],
    }
}
