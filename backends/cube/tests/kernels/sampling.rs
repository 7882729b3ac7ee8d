//! Tokens drawn on the device against the definition in f64: every filter, ties, guidance, forbidden ids, faults.

use super::support::{Device, Kind, everywhere, noise};
use jam_cube::sampling::{self, NOT_A_NUMBER, NOTHING_ALLOWED, Random, Row, Sample};

/// What sums in f32 may move a bound by, as a share of all mass.
const ROUNDING: f64 = 4e-6;

const PLAIN: Row = Row {
    first: 0,
    end: usize::MAX >> 33,
    temperature: 1.0,
    top_k: None,
    top_p: None,
    min_p: None,
    guidance: 1.0,
    random: Random::Given(0.5),
};

/// SplitMix64 of three numbers, as a share of 2⁵³.
fn counter(seed: u64, sequence: u64, step: u64) -> f64 {
    let mix = |z: u64| {
        let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(mix(seed) ^ sequence) ^ step) >> 11) as f64 / (1u64 << 53) as f64
}

/// The id of a row by definition, with its uniform number and the mass of top-p moved.
fn plain(
    row: &Row,
    logits: &[f64],
    without: Option<&[f64]>,
    allowed: &[bool],
    moved: (f64, f64),
) -> i32 {
    let end = row.end.min(logits.len());
    let mut ids: Vec<(usize, f64)> = Vec::new();
    for id in row.first.min(end)..end {
        let mut x = logits[id];
        if let Some(without) = without {
            let base = without[id] as f32;
            if base == f32::NEG_INFINITY {
                x = f64::NEG_INFINITY;
            } else if x > f64::NEG_INFINITY {
                x = f64::from(base + row.guidance as f32 * (x as f32 - base));
            }
        }
        if x.is_nan() || x == f64::INFINITY {
            return NOT_A_NUMBER;
        }
        if allowed[id] && x > f64::NEG_INFINITY {
            ids.push((id, x));
        }
    }
    // Likeliest first, of equals the higher id: what is dropped first is last.
    ids.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
    let Some(&(_, largest)) = ids.first() else {
        return NOTHING_ALLOWED;
    };
    if row.temperature == 0.0 {
        let equals = ids.iter().filter(|(_, x)| *x == largest);
        return equals.map(|(id, _)| *id as i32).min().expect("the largest");
    }
    for (_, x) in &mut ids {
        *x = f64::from(*x as f32 / row.temperature as f32);
    }
    let largest = ids[0].1;
    if let Some(k) = row.top_k
        && k.max(1) < ids.len()
    {
        let last = ids[k.max(1) - 1].1;
        ids.retain(|(_, x)| *x >= last);
    }
    if let Some(p) = row.top_p.filter(|&p| p < 1.0) {
        let total: f64 = ids.iter().map(|(_, x)| (x - largest).exp()).sum();
        let mut below = 0.0;
        while ids.len() > 1 {
            below += (ids[ids.len() - 1].1 - largest).exp() / total;
            if below > 1.0 - p + moved.1 {
                break;
            }
            ids.pop();
        }
    }
    if let Some(p) = row.min_p {
        ids.retain(|(_, x)| *x >= largest + p.ln());
    }
    ids.sort_by_key(|(id, _)| *id);
    let uniform = moved.0
        + match row.random {
            Random::Given(x) => x,
            Random::Counter {
                seed,
                sequence,
                step,
            } => counter(seed, sequence, step),
        };
    let total: f64 = ids.iter().map(|(_, x)| (x - largest).exp()).sum();
    let mut sum = 0.0;
    for (id, x) in &ids {
        sum += (x - largest).exp();
        if sum > uniform * total {
            return *id as i32;
        }
    }
    ids[ids.len() - 1].0 as i32
}

/// Logits of rows, and what may be chosen.
struct Case {
    classes: usize,
    logits: Vec<f64>,
    without: Option<Vec<f64>>,
    allowed: Option<Vec<bool>>,
}

impl Case {
    /// Noise as wide as logits of a model.
    fn noise(rows: usize, classes: usize, seed: u64) -> Case {
        let logits = noise(rows * classes, seed);
        Case {
            classes,
            logits: logits.iter().map(|x| 3.0 * x).collect(),
            without: None,
            allowed: None,
        }
    }
}

/// Draws every row on the device; of those that differ from the definition, rounding has to be the reason.
fn compare(device: &Device, kind: Kind, what: &str, case: &Case, rows: &[Row]) -> Vec<i32> {
    let classes = case.classes;
    let logits = device.put(kind, &case.logits);
    let without = case.without.as_ref().map(|values| device.put(kind, values));
    let words = classes.div_ceil(32);
    let everything = vec![true; rows.len() * classes];
    let allowed = case.allowed.as_ref().unwrap_or(&everything);
    let mut bits = vec![0i32; rows.len() * words];
    for (i, _) in allowed.iter().enumerate().filter(|(_, allowed)| **allowed) {
        bits[i / classes * words + i % classes / 32] |= 1 << (i % classes % 32);
    }
    let bits = case.allowed.as_ref().map(|_| device.put_ids(&bits));
    let settings: Vec<i32> = rows
        .iter()
        .flat_map(Row::words)
        .map(|word| word as i32)
        .collect();
    let settings = device.put_ids(&settings);
    let scratch = device.put_ids(&vec![-1; rows.len() * classes]);
    let ids = device.put_ids(&vec![i32::MIN; rows.len()]);
    let buffers = Sample {
        logits: logits.arg(),
        without: without.as_ref().map(|without| without.arg()),
        allowed: bits.as_ref().map(|bits| bits.arg()),
        settings: settings.arg(),
        scratch: scratch.arg(),
        ids: ids.arg(),
    };
    sampling::sample(&device.client, rows.len(), classes, buffers, kind.elem());
    let got = device.read_ids(&ids);
    let mut rounded = 0;
    for (i, (row, &got)) in rows.iter().zip(&got).enumerate() {
        let here = i * classes..(i + 1) * classes;
        let guide = without
            .as_ref()
            .map(|without| &without.values[here.clone()]);
        let want = |moved| {
            plain(
                row,
                &logits.values[here.clone()],
                guide,
                &allowed[here.clone()],
                moved,
            )
        };
        if got == want((0.0, 0.0)) {
            continue;
        }
        rounded += 1;
        let moves = [-ROUNDING, 0.0, ROUNDING];
        let near = moves
            .iter()
            .any(|&u| moves.iter().any(|&p| got == want((u, p))));
        assert!(
            near,
            "{what} on {} in {kind:?}: row {i} is {got}, not {}: {row:?}",
            device.name,
            want((0.0, 0.0))
        );
    }
    assert!(
        rounded * 20 <= rows.len(),
        "{what}: {rounded} of {} rows differ",
        rows.len()
    );
    println!(
        "{:<58} {:<9} {:<5} {rounded} of {} differ",
        format!("sampling {what} {classes}"),
        device.name,
        format!("{kind:?}"),
        rows.len()
    );
    got
}

fn counters(rows: usize, of: Row) -> Vec<Row> {
    let row = |i| Row {
        random: Random::Counter {
            seed: 0x1234_5678_9abc_def0,
            sequence: i as u64,
            step: 7 + (i as u64 % 3) * 0x1_0000_0001,
        },
        ..of
    };
    (0..rows).map(row).collect()
}

#[test]
fn sampling_chooses_what_the_definition_does() {
    let filters = [
        ("plain", PLAIN),
        (
            "greedy",
            Row {
                temperature: 0.0,
                ..PLAIN
            },
        ),
        (
            "temperature",
            Row {
                temperature: 0.7,
                ..PLAIN
            },
        ),
        (
            "top-k",
            Row {
                top_k: Some(5),
                ..PLAIN
            },
        ),
        (
            "top-k 1",
            Row {
                top_k: Some(1),
                ..PLAIN
            },
        ),
        (
            "top-p",
            Row {
                top_p: Some(0.8),
                ..PLAIN
            },
        ),
        (
            "top-p 0",
            Row {
                top_p: Some(0.0),
                ..PLAIN
            },
        ),
        (
            "min-p",
            Row {
                min_p: Some(0.05),
                ..PLAIN
            },
        ),
        (
            "all",
            Row {
                temperature: 1.3,
                top_k: Some(40),
                top_p: Some(0.9),
                min_p: Some(0.01),
                first: 3,
                end: 70,
                ..PLAIN
            },
        ),
    ];
    everywhere(|device, kind| {
        for (seed, (what, row)) in filters.into_iter().enumerate() {
            for classes in [1, 5, 97, 1030] {
                if row.first >= classes {
                    continue;
                }
                let case = Case::noise(40, classes, seed as u64 + 1);
                compare(device, kind, what, &case, &counters(40, row));
            }
        }
    });
}

#[test]
fn sampling_treats_ties_as_the_definition_does() {
    everywhere(|device, kind| {
        let mut case = Case::noise(60, 130, 9);
        for x in &mut case.logits {
            *x = (*x / 2.0).round();
        }
        for row in [
            Row {
                temperature: 0.0,
                ..PLAIN
            },
            Row {
                top_k: Some(7),
                ..PLAIN
            },
            Row {
                top_p: Some(0.7),
                ..PLAIN
            },
            Row {
                top_k: Some(20),
                top_p: Some(0.5),
                ..PLAIN
            },
        ] {
            compare(device, kind, "ties", &case, &counters(60, row));
        }
        case.logits.fill(0.0);
        let row = Row {
            top_p: Some(0.503),
            ..PLAIN
        };
        compare(device, kind, "all equal", &case, &counters(60, row));
    });
}

#[test]
fn sampling_guides_and_forbids() {
    everywhere(|device, kind| {
        let mut case = Case::noise(30, 77, 4);
        case.without = Some(noise(30 * 77, 5));
        case.logits[3] = f64::NEG_INFINITY;
        case.without.as_mut().expect("just made")[80] = f64::NEG_INFINITY;
        let row = Row {
            guidance: 2.5,
            top_p: Some(0.9),
            ..PLAIN
        };
        compare(device, kind, "guided", &case, &counters(30, row));
        case.allowed = Some((0..30 * 77).map(|i| i % 5 == 2).collect());
        compare(device, kind, "guided, forbidden", &case, &counters(30, row));
        let row = Row {
            top_k: Some(70),
            ..row
        };
        let got = compare(device, kind, "fewer than k", &case, &counters(30, row));
        assert!(
            got.iter()
                .enumerate()
                .all(|(i, &id)| (i * 77 + id as usize) % 5 == 2)
        );
    });
}

#[test]
fn sampling_says_what_is_wrong() {
    everywhere(|device, kind| {
        let mut case = Case::noise(5, 40, 2);
        case.logits[7] = f64::NAN;
        case.logits[40 + 7] = f64::INFINITY;
        case.logits[80..120].fill(f64::NEG_INFINITY);
        case.logits[120 + 7] = f64::NEG_INFINITY;
        let mut allowed = vec![true; 200];
        allowed[160..].fill(false);
        case.allowed = Some(allowed);
        for row in [
            PLAIN,
            Row {
                temperature: 0.0,
                ..PLAIN
            },
            Row {
                top_p: Some(0.5),
                ..PLAIN
            },
        ] {
            let got = compare(device, kind, "faults", &case, &counters(5, row));
            assert_eq!(got[..2], [NOT_A_NUMBER; 2]);
            assert_eq!([got[2], got[4]], [NOTHING_ALLOWED; 2]);
        }
    });
}

#[test]
fn sampling_draws_as_often_as_likely() {
    everywhere(|device, kind| {
        let mut case = Case::noise(2000, 3, 1);
        let row = [1f64.ln(), 2f64.ln(), 5f64.ln()];
        case.logits = row.repeat(2000);
        let got = compare(device, kind, "shares", &case, &counters(2000, PLAIN));
        for (id, share) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            let count = got.iter().filter(|&&found| found == id).count();
            assert!(
                (count as f64 / 2000.0 - share).abs() < 0.05,
                "{id}: {count} of 2000"
            );
        }
        let ends = [0.0, 1.0 - f64::EPSILON, 0.124, 0.126, 0.374, 0.376];
        let rows: Vec<Row> = ends
            .map(|x| Row {
                random: Random::Given(x),
                ..PLAIN
            })
            .to_vec();
        case.logits.truncate(18);
        let got = compare(device, kind, "given", &case, &rows);
        assert_eq!(got, [0, 2, 0, 1, 1, 2]);
    });
}
