//! Attention without tensor cores.

use super::super::support::{Device, Kind, everywhere};
use super::{
    Case, Kernels, cases, causal, compare, keeps_a_query_that_is_no_number,
    keeps_hidden_values_where_they_are, keys_of_many, large, many, shape,
};

const PLAIN: Kernels = Kernels::Plain;

/// The largest head size that a device is asked for: the compiler of a WGPU device that is no card takes seconds for
/// each kernel.
fn heads_up_to(device: &Device) -> usize {
    if device.name == "wgpu:cpu" { 130 } else { 300 }
}

#[test]
fn attention_matches_its_definition() {
    everywhere(|device, kind| {
        let all = [
            ([1, 1, 1], [1, 1], [1, 1]),
            ([2, 130, 130], [3, 3], [17, 17]),
            ([1, 33, 65], [4, 2], [128, 128]),
            ([1, 70, 100], [2, 2], [64, 64]),
            ([2, 5, 70], [2, 1], [64, 20]),
            ([1, 67, 9], [2, 1], [10, 130]),
            ([1, 9, 20], [2, 1], [300, 260]),
        ];
        // The types differ in how they are read alone: a size by elements and one by vectors.
        let some = if kind == Kind::F32 { 0..7 } else { 1..3 };
        for &(sizes, heads, [key, value]) in &all[some] {
            if key.max(value) > heads_up_to(device) {
                continue;
            }
            let s = shape(sizes, heads, [key, value]);
            compare(device, kind, PLAIN, &Case::of(s));
            compare(device, kind, PLAIN, &Case::of(causal(s)));
        }
    });
}

#[test]
fn attention_sees_what_masks_offsets_and_caches_show() {
    everywhere(|device, kind| {
        if kind == Kind::F32 {
            for case in cases([16, 8]) {
                compare(device, kind, PLAIN, &case);
            }
        }
        let s = shape([3, 67, 67], [2, 1], [16, 8]);
        for s in [s, causal(s)] {
            compare(device, kind, PLAIN, &Case::hidden(s, &[0, 13, 67]));
        }
    });
}

#[test]
fn attention_has_more_heads_than_cubes_on_an_axis() {
    everywhere(|device, kind| {
        if kind == Kind::F32 {
            let s = many(keys_of_many(device), 4);
            compare(device, kind, PLAIN, &Case::of(s));
        }
    });
}

#[test]
fn attention_takes_large_scores() {
    everywhere(|device, kind| {
        for case in large(16) {
            compare(device, kind, PLAIN, &case);
        }
    });
}

#[test]
fn attention_keeps_what_is_no_number() {
    everywhere(|device, kind| {
        keeps_a_query_that_is_no_number(device, kind, PLAIN, 16);
        keeps_hidden_values_where_they_are(device, kind, PLAIN, 16);
    });
}
