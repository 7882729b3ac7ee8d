//! Plans against numbers worked out by hand, and blocks of rows against the whole.

use std::ops::Range;

use indexmap::IndexMap;
use jam_ir::Plan;

use super::*;

/// A tensor in memory.
struct Held(IndexMap<String, (Vec<u64>, Vec<f32>)>);

impl WeightSource for Held {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.get(name).map(|(shape, _)| shape.clone())
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        let (shape, numbers) = &self.0[name];
        let width: usize = shape[1..].iter().product::<u64>() as usize;
        Ok(numbers[rows.start as usize * width..rows.end as usize * width].to_vec())
    }
}

fn sources() -> IndexMap<String, Box<dyn WeightSource>> {
    let held = |start: f32| {
        let numbers = |n: usize, at: f32| (0..n).map(|i| at + i as f32).collect::<Vec<_>>();
        Box::new(Held(IndexMap::from([
            ("w".to_owned(), (vec![2, 3], numbers(6, start))),
            ("deep".to_owned(), (vec![3, 2, 2], numbers(12, start))),
        ]))) as Box<dyn WeightSource>
    };
    IndexMap::from([("a".to_owned(), held(0.0)), ("b".to_owned(), held(100.0))])
}

fn run(plan: &Plan, shape: &[u64]) -> Vec<f32> {
    let sources = sources();
    let rows = PlanRows::new(plan, "w", shape, 7, &sources);
    let all = rows.all().unwrap();
    let mut by_one = Vec::new();
    for row in 0..shape[0] {
        by_one.extend(rows.rows(row..row + 1).unwrap());
    }
    assert_eq!(
        all, by_one,
        "rows one by one give the same numbers as all at once"
    );
    all
}

fn load(source: &str) -> Plan {
    Plan::load(source, "w")
}

#[test]
fn sums_and_scales() {
    let mean = Plan::Sum(vec![(0.5, load("a")), (0.5, load("b"))]);
    assert_eq!(run(&mean, &[2, 3]), [50.0, 51.0, 52.0, 53.0, 54.0, 55.0]);
    let scaled = Plan::Scale {
        by: 2.0,
        of: Box::new(load("a")),
    };
    assert_eq!(run(&scaled, &[2, 3]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
}

#[test]
fn grids_follow_their_axes() {
    let grid = |row_axis, column_axis| Plan::Grid {
        row_axis,
        column_axis,
        rows: vec![vec![load("a"), Plan::Zeros], vec![Plan::Ones, load("b")]],
    };
    let by_rows = [
        [0.0, 1.0, 2.0, 0.0, 0.0, 0.0],
        [3.0, 4.0, 5.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 100.0, 101.0, 102.0],
        [1.0, 1.0, 1.0, 103.0, 104.0, 105.0],
    ];
    assert_eq!(run(&grid(0, 1), &[4, 6]), by_rows.concat());
    let by_columns = [
        [0.0, 1.0, 2.0, 1.0, 1.0, 1.0],
        [3.0, 4.0, 5.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 100.0, 101.0, 102.0],
        [0.0, 0.0, 0.0, 103.0, 104.0, 105.0],
    ];
    assert_eq!(run(&grid(1, 0), &[4, 6]), by_columns.concat());
}

#[test]
fn slices_concatenations_and_rows() {
    let slice = |axis, start, len| Plan::Slice {
        axis,
        start,
        len,
        of: Box::new(load("a")),
    };
    assert_eq!(run(&slice(1, 1, 2), &[2, 2]), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(run(&slice(0, 1, 1), &[1, 3]), [3.0, 4.0, 5.0]);
    let concat = Plan::Concat {
        axis: 1,
        parts: vec![slice(1, 2, 1), load("b")],
    };
    assert_eq!(
        run(&concat, &[2, 4]),
        [2.0, 100.0, 101.0, 102.0, 5.0, 103.0, 104.0, 105.0]
    );
    let rows = Plan::Rows {
        runs: vec![(1, 1), (1, 0)],
        sources: vec![load("a"), load("b")],
    };
    assert_eq!(run(&rows, &[2, 3]), [100.0, 101.0, 102.0, 3.0, 4.0, 5.0]);
}

#[test]
fn permutations() {
    let permute = |order: &[usize]| Plan::Permute {
        order: order.to_vec(),
        of: Box::new(Plan::load("a", "deep")),
    };
    let expected = |order: [usize; 3]| {
        let source = [3usize, 2, 2];
        let shape = order.map(|axis| source[axis]);
        let mut numbers = Vec::new();
        for i in 0..shape[0] {
            for j in 0..shape[1] {
                for k in 0..shape[2] {
                    let mut at = [0; 3];
                    at[order[0]] = i;
                    at[order[1]] = j;
                    at[order[2]] = k;
                    numbers.push((at[0] * 4 + at[1] * 2 + at[2]) as f32);
                }
            }
        }
        numbers
    };
    assert_eq!(run(&permute(&[0, 2, 1]), &[3, 2, 2]), expected([0, 2, 1]));
    assert_eq!(run(&permute(&[2, 0, 1]), &[2, 3, 2]), expected([2, 0, 1]));
}

#[test]
fn draws_have_their_moments_and_their_own_seeds() {
    let normal = run(&Plan::Normal { sd: 0.5 }, &[100, 100]);
    let mean = normal.iter().sum::<f32>() / 1e4;
    let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 1e4;
    assert!(
        mean.abs() < 0.02 && (variance - 0.25).abs() < 0.02,
        "{mean} {variance}"
    );
    let cut = run(&Plan::TruncatedNormal { sd: 0.5, cut: 1.0 }, &[50, 50]);
    assert!(cut.iter().all(|x| x.abs() <= 0.5) && cut.iter().any(|x| x.abs() > 0.45));
    let two = Plan::Concat {
        axis: 0,
        parts: vec![
            Plan::Slice {
                axis: 0,
                start: 0,
                len: 1,
                of: Box::new(load("a")),
            },
            Plan::Normal { sd: 1.0 },
        ],
    };
    assert_ne!(run(&two, &[3, 3])[3..6], normal[..3]);
    let other = PlanRows::new(&Plan::Normal { sd: 0.5 }, "v", &[100, 100], 7, &NoSources).all();
    assert_ne!(other.unwrap(), normal);
}

#[test]
fn misfits_are_told() {
    let sources = sources();
    let tell = |plan: &Plan, shape: &[u64]| {
        PlanRows::new(plan, "w", shape, 7, &sources)
            .all()
            .unwrap_err()
            .to_string()
    };
    assert!(tell(&load("a"), &[3, 3]).contains("is [2, 3], and [3, 3] is needed"));
    assert!(tell(&load("c"), &[2, 3]).contains("`c` has no weights"));
    let concat = Plan::Concat {
        axis: 0,
        parts: vec![load("a"), load("b")],
    };
    assert!(tell(&concat, &[5, 3]).contains("concatenation"));
    let permute = Plan::Permute {
        order: vec![0, 0],
        of: Box::new(load("a")),
    };
    assert!(tell(&permute, &[2, 2]).contains("permutation"));
}
