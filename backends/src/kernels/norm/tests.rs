//! Normalisation against its reference, values and gradients.

use super::*;
use crate::kernels::comparison::*;
use AnyTensor::{One, Three};

#[test]
fn matches_the_reference() {
    everywhere(|| {
        let widths: [(usize, &[usize]); 5] = [
            (1, &[]),
            (7, &[]),
            (128, &[]),
            (33, &[16, 17]),
            (12, &[4, 4, 4]),
        ];
        for kind in [Norm::Layer, Norm::Rms] {
            for (width, parts) in widths {
                // A single element has no spread: only a large epsilon keeps its gradient comparable.
                let eps = if width == 1 { 0.1 } else { 1e-5 };
                let x = || Three(random([3, 171, width], 1));
                let name = format!("{kind:?} norm {width} {parts:?}");
                assert_same(
                    &name,
                    vec![x(), One(random([width], 2)), One(random([width], 3))],
                    |i| {
                        norm(
                            i[0].three(),
                            Some(i[1].one()),
                            Some(i[2].one()),
                            kind,
                            parts,
                            eps,
                        )
                    },
                    |i| {
                        norm_reference(
                            i[0].three(),
                            Some(i[1].one()),
                            Some(i[2].one()),
                            kind,
                            parts,
                            eps,
                        )
                    },
                    5e-5,
                );
                assert_same(
                    &name,
                    vec![x()],
                    |i| norm(i[0].three(), None, None, kind, parts, eps),
                    |i| norm_reference(i[0].three(), None, None, kind, parts, eps),
                    5e-5,
                );
            }
        }
    });
}

#[test]
fn threads_do_not_matter() {
    assert_threads_do_not_matter(|| {
        let (x, gain) = (random([4, 700, 96], 1), random([96], 2));
        let y = norm(x.clone(), Some(gain.clone()), None, Norm::Layer, &[], 1e-5);
        let grads = (y.clone() * y.clone()).sum().backward();
        let grad_x = x.grad(&grads).unwrap().into_data();
        vec![
            y.into_data(),
            grad_x,
            gain.grad(&grads).unwrap().into_data(),
        ]
    });
}
