//! Rows by id, with a second table and another type, and their gradient: ids once, often, and one that fills the batch.

use super::support::{Device, Kind, everywhere, noise};
use jam_cube::embedding::{self, Gather, Scatter, Segments};

fn ids(rows: usize, vocab: usize) -> Vec<i32> {
    // The first is more frequent than a segment is long.
    (0..rows)
        .map(|i| if i % 3 == 0 { 0 } else { i * i * 7 % vocab } as i32)
        .collect()
}

fn gather(device: &Device, kind: Kind, rows: usize, vocab: usize, width: usize, of_table: Kind) {
    let table = device.noise(of_table, vocab * width, 1);
    let more = device.noise(of_table, 5 * width, 2);
    let at = ids(rows, vocab);
    let also: Vec<i32> = (0..rows).map(|i| (i % 5) as i32).collect();
    let (at_device, also_device) = (device.put_ids(&at), device.put_ids(&also));
    for with in [false, true] {
        let out = device.empty(kind, rows * width);
        let buffers = Gather {
            table: table.arg(),
            ids: at_device.arg(),
            more: with.then(|| (more.arg(), also_device.arg())),
            out: out.arg(),
        };
        let (from, to) = (of_table.elem(), kind.elem());
        embedding::gather(&device.client, rows, width, buffers, from, to);
        let want: Vec<f64> = (0..rows * width)
            .map(|i| {
                let (row, column) = (i / width, i % width);
                let first = table.values[at[row] as usize * width + column];
                let second = more.values[also[row] as usize * width + column];
                if with { first + second } else { first }
            })
            .collect();
        let what = format!(
            "embedding of {of_table:?}{} {rows} of {vocab}x{width}",
            if with { " + positions" } else { "" }
        );
        device.compare(&what, kind, kind, &out, &want);
    }
}

fn scatter(
    device: &Device,
    kind: Kind,
    ids: &[i32],
    vocab: usize,
    width: usize,
    to: Kind,
    add: bool,
) {
    let dy = device.noise(kind, ids.len() * width, 1);
    let gradient = if add {
        device.noise(to, vocab * width, 2)
    } else {
        device.put(to, &vec![0.0; vocab * width])
    };
    let unsigned: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let segments = Segments::of(&unsigned);
    let words: Vec<i32> = segments.words().iter().map(|&word| word as i32).collect();
    let words = device.put_ids(&words);
    let buffers = Scatter {
        dy: dy.arg(),
        words: words.arg(),
        gradient: gradient.arg(),
        add,
    };
    embedding::scatter(
        &device.client,
        &segments,
        width,
        buffers,
        kind.elem(),
        to.elem(),
    );
    let mut want = gradient.values.clone();
    for (row, &id) in ids.iter().enumerate() {
        for i in 0..width {
            want[id as usize * width + i] += dy.values[row * width + i];
        }
    }
    let what = format!(
        "embedding gradient in {to:?}{} {} of {vocab}x{width}",
        if add { " added" } else { "" },
        ids.len()
    );
    device.compare(&what, to, to, &gradient, &want);
}

#[test]
fn gathers_match_their_definition() {
    everywhere(|device, kind| {
        gather(device, kind, 1, 1, 1, kind);
        gather(device, kind, 37, 301, 48, kind);
        if kind != Kind::F32 {
            gather(device, kind, 9, 11, 7, Kind::F32);
            gather(device, kind, 37, 301, 48, Kind::F32);
        }
    });
}

#[test]
fn scatters_match_their_definition() {
    everywhere(|device, kind| {
        scatter(device, kind, &ids(1, 1), 1, 1, Kind::F32, false);
        scatter(device, kind, &ids(50, 11), 11, 7, Kind::F32, false);
        scatter(device, kind, &ids(700, 41), 41, 48, Kind::F32, false);
        scatter(device, kind, &ids(300, 41), 41, 48, kind, true);
        // One id alone.
        scatter(device, kind, &vec![3; 9000], 5, 24, Kind::F32, false);
        // Wider than the units of a cube.
        scatter(device, kind, &ids(70, 9), 9, 2056, Kind::F32, false);
    });
}

#[test]
fn segments_hold_every_row_once_and_in_order() {
    for (rows, vocab) in [(0, 1), (1, 1), (64, 1), (65, 1), (129, 1), (5000, 17)] {
        let ids: Vec<u32> = noise(rows, 3)
            .iter()
            .map(|x| (x.abs() * 1e6) as u32 % vocab)
            .collect();
        let segments = Segments::of(&ids);
        let mut seen = vec![false; rows];
        let mut before = None;
        for (id, group) in segments.groups() {
            assert!(!group.is_empty() && group.len() <= 256);
            assert!(group.is_sorted(), "rows keep their order");
            let of = ids[group[0] as usize];
            assert!(id.is_none_or(|id| id == of));
            if let Some((last, row)) = before {
                assert!(of > last || (of == last && id.is_none() && group[0] > row));
            }
            before = Some((of, group[group.len() - 1]));
            for &row in group {
                assert!(ids[row as usize] == of && !seen[row as usize]);
                seen[row as usize] = true;
            }
        }
        assert!(seen.iter().all(|&seen| seen));
    }
}
