//! The rotation against its reference, values and gradients.

use super::*;
use crate::kernels::comparison::*;
use burn::tensor::{Int, Tensor};

#[test]
fn matches_the_reference() {
    everywhere(|| {
        let [batch, time, heads, key] = [2, 37, 3, 10];
        let frequencies = inverse_frequencies(key, 10_000.0);
        let positions: Vec<usize> = (0..batch * time).map(|i| i * 5 % 41).collect();
        let shared = || RotaryTable::range(3, time, &frequencies, &device());
        let own = || RotaryTable::of(&positions, batch, &frequencies, &device());
        let tables: [&dyn Fn() -> RotaryTable; 2] = [&shared, &own];
        for layout in [RotaryLayout::Half, RotaryLayout::Interleaved] {
            for table in tables {
                assert_same(
                    &format!("rotary {layout:?}"),
                    vec![AnyTensor::Four(random([batch, time, heads, key], 1))],
                    |i| rotary(i[0].four(), &table(), layout),
                    |i| rotary_reference(i[0].four(), &table(), layout),
                    1e-6,
                );
            }
        }
    });
}

#[test]
fn scores_depend_on_distances_alone() {
    let frequencies = inverse_frequencies(8, 100.0);
    let x = constant([1, 6, 1, 8], 1);
    let score = |first: usize, i: usize, j: usize| {
        let table = RotaryTable::range(first, 6, &frequencies, &device());
        let same = x.clone().narrow(1, 0, 1).expand([1, 6, 1, 8]);
        let turned = rotary(same, &table, RotaryLayout::Half);
        let at = |i| turned.clone().narrow(1, i, 1);
        (at(i) * at(j)).sum().into_scalar::<f32>()
    };
    assert!((score(0, 1, 4) - score(17, 2, 5)).abs() < 1e-4);
    assert!((score(0, 1, 4) - score(0, 1, 5)).abs() > 1e-3);
}

#[test]
fn positions_in_a_tensor_give_the_same_table() {
    let frequencies = inverse_frequencies(4, 10.0);
    let positions = Tensor::<2, Int>::from_ints([[2, 3, 4]], &device());
    let table = RotaryTable::of_tensor(positions, &frequencies);
    let range = RotaryTable::range(2, 3, &frequencies, &device());
    assert_close("cos", table.cos.into_data(), range.cos.into_data(), 0.0);
    assert_close("sin", table.sin.into_data(), range.sin.into_data(), 0.0);
}
