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
    let take = |axis, runs: &[(u64, u64)], of| Plan::Take {
        axis,
        runs: runs.to_vec(),
        of: Box::new(of),
    };
    assert_eq!(
        run(&take(1, &[(2, 1), (0, 2), (2, 1)], load("a")), &[2, 4]),
        [2.0, 0.0, 1.0, 2.0, 5.0, 3.0, 4.0, 5.0]
    );
    let both = Plan::Concat {
        axis: 0,
        parts: vec![load("a"), load("b")],
    };
    let taken = take(0, &[(3, 1), (0, 2), (2, 1)], both);
    let expected = [
        [103.0, 104.0, 105.0],
        [0.0, 1.0, 2.0],
        [3.0, 4.0, 5.0],
        [100.0, 101.0, 102.0],
    ];
    assert_eq!(run(&taken, &[4, 3]), expected.concat());
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

fn boxed(plan: Plan) -> Box<Plan> {
    Box::new(plan)
}

/// Tensors `[3, 4]` whose passes take several pieces.
fn merged(plan: &Plan) -> Vec<f32> {
    let held = |numbers: [f32; 12]| {
        Box::new(Held(IndexMap::from([(
            "w".to_owned(),
            (vec![3, 4], numbers.to_vec()),
        )]))) as Box<dyn WeightSource>
    };
    let sources: IndexMap<String, Box<dyn WeightSource>> = IndexMap::from([
        (
            "a".to_owned(),
            held([1., -2., 3., 0., 0., 2., -2., 4., -5., 1., 0., 2.]),
        ),
        (
            "b".to_owned(),
            held([2., 2., -1., 0., 1., 2., 0., -4., 5., 3., 1., -2.]),
        ),
        ("zero".to_owned(), held([0.; 12])),
    ]);
    let whole = PlanRows::new(plan, "w", &[3, 4], 7, &sources)
        .all()
        .unwrap();
    // Rows asked for out of order, of a plan that measures for itself.
    let rows = PlanRows::new(plan, "w", &[3, 4], 7, &sources);
    let mut by_one = vec![Vec::new(); 3];
    for row in [2, 0, 1] {
        by_one[row as usize] = rows.rows(row..row + 1).unwrap();
    }
    assert_eq!(whole, by_one.concat());
    whole
}

#[test]
fn slerp_follows_the_arc() {
    let slerp = |t, straight, from: Plan, to: Plan| Plan::Slerp {
        t,
        straight,
        from: boxed(from),
        to: boxed(to),
    };
    let (a, b) = (merged(&load("a")), merged(&load("b")));
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
    let cosine = product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt();
    let angle = cosine.acos();
    let found = merged(&slerp(0.25, 0.9995, load("a"), load("b")));
    let (from, to) = (
        (0.75 * angle).sin() / angle.sin(),
        (0.25 * angle).sin() / angle.sin(),
    );
    for ((x, a), b) in found.iter().zip(&a).zip(&b) {
        let expected = from * f64::from(*a) + to * f64::from(*b);
        assert!(
            (f64::from(*x) - expected).abs() < 1e-6,
            "{x}, not {expected}"
        );
    }
    assert_eq!(merged(&slerp(0.0, 0.9995, load("a"), load("b"))), a);
    assert_eq!(merged(&slerp(1.0, 0.9995, load("a"), load("b"))), b);
    // Of one direction, the way is straight.
    let double = Plan::Scale {
        by: 2.0,
        of: boxed(load("a")),
    };
    let straight: Vec<f32> = a.iter().map(|x| 1.5 * x).collect();
    for bound in [0.9995, 1.0] {
        let found = merged(&slerp(0.5, bound, load("a"), double.clone()));
        assert!(
            found
                .iter()
                .zip(&straight)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }
    // A zero tensor stands at a right angle to all.
    let found = merged(&slerp(0.5, 0.9995, load("a"), load("zero")));
    let half: Vec<f32> = a
        .iter()
        .map(|x| std::f32::consts::FRAC_1_SQRT_2 * x)
        .collect();
    assert!(found.iter().zip(&half).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn trims_keep_the_largest_and_the_first_of_equals() {
    let trim = |density, rescale| Plan::Trim {
        density,
        rescale,
        of: boxed(load("a")),
    };
    // Five of twelve: 5, 4, 3, and the first two of five twos.
    let kept = [0., -2., 3., 0., 0., 2., 0., 4., -5., 0., 0., 0.];
    assert_eq!(merged(&trim(0.42, false)), kept);
    let factor = 22.0 / 16.0;
    assert_eq!(merged(&trim(0.42, true)), kept.map(|x| x * factor));
    assert_eq!(merged(&trim(0.0, true)), [0.0; 12]);
    assert_eq!(merged(&trim(1.0, true)), merged(&load("a")));
    // More than are not zero.
    assert_eq!(merged(&trim(0.95, true)), merged(&load("a")));
    let zero = Plan::Trim {
        density: 0.5,
        rescale: true,
        of: boxed(load("zero")),
    };
    assert_eq!(merged(&zero), [0.0; 12]);
}

#[test]
fn masks_are_drawn_by_seed_and_name_and_keep_the_sum_of_magnitudes() {
    let keep = |rescale, mask: Plan| Plan::Keep {
        rescale,
        mask: boxed(mask),
        of: boxed(load("a")),
    };
    let a = merged(&load("a"));
    let draw = Plan::Bernoulli { p: 0.5 };
    let plain = merged(&keep(false, draw.clone()));
    assert!(plain.iter().zip(&a).all(|(x, a)| *x == 0.0 || x == a));
    let scaled = merged(&keep(true, draw));
    let sum = |numbers: &[f32]| numbers.iter().map(|x| x.abs()).sum::<f32>();
    assert!((sum(&scaled) - sum(&a)).abs() < 1e-5);
    assert_eq!(merged(&keep(true, Plan::Zeros)), [0.0; 12]);
    assert_eq!(merged(&keep(true, Plan::Ones)), a);

    let draws = |p, name: &str, seed| {
        let plan = Plan::Bernoulli { p };
        PlanRows::new(&plan, name, &[100, 100], seed, &NoSources)
            .all()
            .unwrap()
    };
    let ones = draws(0.3, "w", 7);
    assert!(ones.iter().all(|x| *x == 0.0 || *x == 1.0));
    let share = ones.iter().sum::<f32>() / 1e4;
    assert!((share - 0.3).abs() < 0.02, "{share}");
    assert_ne!(ones, draws(0.3, "v", 7));
    assert_ne!(ones, draws(0.3, "w", 8));
    assert_eq!(ones, draws(0.3, "w", 7));
    assert!(draws(0.0, "w", 7).iter().all(|x| *x == 0.0));
    assert!(draws(1.0, "w", 7).iter().all(|x| *x == 1.0));
}

#[test]
fn the_majority_is_elected_by_weight() {
    let elect = |mean, a, b| Plan::Elect {
        mean,
        terms: vec![(a, load("a")), (b, load("b"))],
    };
    assert_eq!(
        merged(&elect(false, 1.0, 1.0)),
        [3., 2., 3., 0., 1., 4., -2., 4., 5., 4., 1., 2.],
        "where they cancel, plus wins"
    );
    assert_eq!(
        merged(&elect(true, 0.5, 0.25)),
        [
            4.0 / 3.0,
            -2.,
            3.,
            0.,
            1.,
            2.,
            -2.,
            4.,
            -5.,
            1.25 / 0.75,
            1.,
            2.
        ]
    );
}

#[test]
fn model_stock_weighs_the_mean_by_the_angle() {
    let stock = |base: Plan, of: Vec<Plan>| Plan::Stock {
        base: boxed(base),
        of,
    };
    let a = merged(&load("a"));
    // One direction: the mean itself.
    let double = Plan::Scale {
        by: 3.0,
        of: boxed(load("a")),
    };
    let found = merged(&stock(load("zero"), vec![load("a"), double]));
    assert!(
        found
            .iter()
            .zip(&a)
            .all(|(x, a)| (x - 2.0 * a).abs() < 1e-5)
    );
    // cos θ = 2/√(68 · 69), N = 2.
    let b = merged(&load("b"));
    let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let cosine = product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt();
    let ratio = 2.0 * cosine / (1.0 + cosine);
    let found = merged(&stock(load("zero"), vec![load("a"), load("b")]));
    for ((x, a), b) in found.iter().zip(&a).zip(&b) {
        assert!((x - ratio * (a + b) / 2.0).abs() < 1e-5);
    }
    // Models that are the base, and models that cancel, leave the base.
    assert_eq!(merged(&stock(load("a"), vec![load("a"), load("a")])), a);
    let less = Plan::Scale {
        by: -1.0,
        of: boxed(load("a")),
    };
    let found = merged(&stock(load("zero"), vec![load("a"), less]));
    assert_eq!(found, [0.0; 12]);
}

#[test]
fn a_measure_that_fails_is_told() {
    let trim = Plan::Trim {
        density: 0.5,
        rescale: false,
        of: boxed(load("c")),
    };
    let sources = sources();
    let error = PlanRows::new(&trim, "w", &[2, 3], 7, &sources).all();
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("`c` has no weights")
    );
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
