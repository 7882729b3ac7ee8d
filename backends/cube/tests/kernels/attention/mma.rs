//! Attention on tensor cores: odd and tiny sizes, groups, head sizes, masks, caches.

use super::super::support::{Device, Kind, everywhere};
use super::{
    Case, Kernels, cached, cases, causal, compare, keeps_a_query_that_is_no_number,
    keeps_hidden_values_where_they_are, keys_of_many, large, many, shape,
};
use jam_cube::attention::{Shape, mma};

const MMA: Kernels = Kernels::Mma;

/// Runs a comparison where there are tensor cores for the type, and asks that the others are refused.
fn on_tensor_cores(compare: impl Fn(&Device, Kind)) {
    everywhere(|device, kind| {
        let s = shape([1, 8, 8], [1, 1], [64, 64]);
        let there = mma::supports(&device.client, &s, kind.elem());
        // A card older than compute capability 8.0 has none.
        assert!(!there || (kind != Kind::F32 && device.name.starts_with("cuda")));
        assert!(there || kind == Kind::F32 || device.name != "cuda");
        if there {
            compare(device, kind);
        }
    });
}

#[test]
fn attention_on_tensor_cores_matches_its_definition() {
    on_tensor_cores(|device, kind| {
        let offset = |s: Shape, offset: usize| Shape {
            causal: true,
            offset,
            ..s
        };
        let cases = [
            Case::of(causal(shape([2, 130, 130], [4, 1], [64, 64]))),
            Case::of(shape([1, 1, 5], [2, 1], [64, 64])),
            Case::of(causal(shape([1, 5, 5], [1, 1], [8, 8]))),
            Case::hidden(
                offset(shape([3, 131, 70], [2, 1], [128, 128]), 3),
                &[2, 5, 70],
            ),
            Case::of(causal(cached(shape([2, 33, 130], [2, 1], [64, 64]), 137))),
            Case::of(offset(shape([1, 67, 40], [4, 2], [40, 64]), 0)),
            Case::hidden(shape([2, 19, 130], [1, 1], [96, 96]), &[2, 130]),
            Case::of(causal(shape([2, 65, 97], [4, 4], [256, 256]))),
            Case::hidden(shape([2, 30, 50], [2, 2], [64, 24]), &[2, 50]),
        ];
        // The types differ in rounding alone, and kernels take long to compile.
        let few = if kind == Kind::F16 { 1 } else { 4 };
        for case in cases.iter().step_by(few) {
            assert!(mma::supports(&device.client, &case.shape, kind.elem()));
            compare(device, kind, MMA, case);
        }
    });
}

#[test]
fn attention_on_tensor_cores_sees_what_masks_offsets_and_caches_show() {
    on_tensor_cores(|device, kind| {
        if kind == Kind::Bf16 {
            for case in cases([16, 8]) {
                compare(device, kind, MMA, &case);
            }
        }
    });
}

#[test]
fn attention_on_tensor_cores_has_more_heads_than_cubes_on_an_axis() {
    on_tensor_cores(|device, kind| {
        if kind == Kind::Bf16 {
            let s = many(keys_of_many(device), 8);
            compare(device, kind, MMA, &Case::of(s));
        }
    });
}

#[test]
fn attention_on_tensor_cores_takes_large_scores() {
    on_tensor_cores(|device, kind| {
        for case in large(16) {
            compare(device, kind, MMA, &case);
        }
    });
}

#[test]
fn attention_on_tensor_cores_keeps_what_is_no_number() {
    on_tensor_cores(|device, kind| {
        if kind == Kind::Bf16 {
            // Wide rows are brought to shared memory by other planes than read them.
            keeps_a_query_that_is_no_number(device, kind, MMA, 64);
            keeps_hidden_values_where_they_are(device, kind, MMA, 16);
        }
    });
}
