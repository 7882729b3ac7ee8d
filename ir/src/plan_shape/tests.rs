//! Shapes of plans that add up, and of those that do not.

use super::*;

/// `m` is [4, 6], `n` is [4, 2], `v` is [6].
fn lookup(_: &str, name: &str) -> Option<Vec<u64>> {
    match name {
        "m" => Some(vec![4, 6]),
        "n" => Some(vec![4, 2]),
        "v" => Some(vec![6]),
        _ => None,
    }
}

fn load(name: &str) -> Plan {
    Plan::load("llm", name)
}

fn slice(axis: usize, start: u64, len: u64) -> Plan {
    let of = Box::new(load("m"));
    Plan::Slice {
        axis,
        start,
        len,
        of,
    }
}

fn grid(rows: Vec<Vec<Plan>>) -> Plan {
    Plan::Grid {
        row_axis: 0,
        column_axis: 1,
        rows,
    }
}

fn concat(axis: usize, parts: Vec<Plan>) -> Plan {
    Plan::Concat { axis, parts }
}

#[test]
fn fresh_blocks_take_their_shape_from_their_neighbours() {
    let plan = grid(vec![
        vec![load("m"), Plan::Zeros],
        vec![Plan::Normal { sd: 1.0 }, load("n")],
    ]);
    let shaped = plan_shape(&plan, &[8, 8], &lookup).unwrap();
    let shapes: Vec<_> = shaped.parts.iter().map(ShapedPlan::known).collect();
    let of = |shape: [u64; 2]| Some(shape.to_vec());
    assert_eq!(shapes, [of([4, 6]), of([4, 2]), of([4, 6]), of([4, 2])]);
    assert_eq!(climb(&plan, &lookup, 0).unwrap().known(), of([8, 8]));

    let plan = concat(1, vec![load("n"), Plan::Ones, load("m")]);
    let shaped = plan_shape(&plan, &[4, 11], &lookup).unwrap();
    assert_eq!(shaped.parts[1].known(), of([4, 3]));
    assert!(shaped.is_known());
    assert_eq!(climb(&plan, &lookup, 0).unwrap().known(), None);
}

#[test]
fn shapes_flow_through_permutations_slices_and_runs() {
    let plan = Plan::Permute {
        order: vec![1, 0],
        of: Box::new(slice(1, 2, 3)),
    };
    let shaped = plan_shape(&plan, &[3, 4], &lookup).unwrap();
    assert_eq!(shaped.parts[0].known(), Some(vec![4, 3]));
    let plan = Plan::Rows {
        runs: vec![(1, 0), (2, 1), (1, 0)],
        sources: vec![load("m"), Plan::Zeros],
    };
    let shaped = plan_shape(&plan, &[4, 6], &lookup).unwrap();
    assert!(shaped.is_known());
}

#[test]
fn what_is_merged_has_one_shape_and_gives_it_to_what_is_drawn() {
    let plan = Plan::Elect {
        mean: true,
        terms: vec![(
            0.5,
            Plan::Keep {
                rescale: true,
                mask: Box::new(Plan::Bernoulli { p: 0.5 }),
                of: Box::new(load("m")),
            },
        )],
    };
    let shaped = plan_shape(&plan, &[4, 6], &lookup).unwrap();
    assert!(shaped.is_known());
    assert_eq!(shaped.parts[0].parts[0].known(), Some(vec![4, 6]));
    assert_eq!(climb(&plan, &lookup, 0).unwrap().known(), Some(vec![4, 6]));
}

#[test]
fn what_is_not_known_stays_unknown() {
    let plan = concat(0, vec![load("?"), load("?")]);
    let shaped = plan_shape(&plan, &[4, 6], &lookup).unwrap();
    assert_eq!(shaped.parts[0].shape, Some(vec![None, Some(6)]));
    assert!(!shaped.is_known());
    assert!(shaped.parts[0].known().is_none());
}

#[test]
fn what_does_not_add_up_is_said() {
    let rows = |runs: Vec<(u64, usize)>| Plan::Rows {
        runs,
        sources: vec![load("m"), load("m")],
    };
    let permute = |order: Vec<usize>| Plan::Permute {
        order,
        of: Box::new(load("m")),
    };
    let elect = |terms: Vec<(f64, Plan)>| Plan::Elect { mean: true, terms };
    let mut deep = load("m");
    for _ in 0..MAX_PLAN_DEPTH {
        deep = Plan::Sum(vec![(1.0, deep)]);
    }
    for (plan, wanted, words) in [
        (
            load("m"),
            vec![4, 7],
            "load: [4, 7] and [4, 6] do not agree",
        ),
        (load("m"), vec![4], "load: [4] and [4, 6] do not agree"),
        (Plan::Sum(vec![]), vec![4], "nothing to add"),
        (
            Plan::Sum(vec![(1.0, load("m")), (1.0, load("n"))]),
            vec![4, 6],
            "sum: [4, 6] and [4, 2] do not agree",
        ),
        (
            Plan::Sum(vec![(f64::NAN, load("m"))]),
            vec![4, 6],
            "not finite",
        ),
        (grid(vec![]), vec![4, 6], "rows must be of one length"),
        (
            grid(vec![vec![load("m"), load("m")], vec![load("m")]]),
            vec![8, 12],
            "rows must be of one length",
        ),
        (
            grid(vec![vec![load("m")], vec![load("n")]]),
            vec![8, 6],
            "row 1, column 0 is [4, 2]",
        ),
        (
            Plan::Grid {
                row_axis: 1,
                column_axis: 1,
                rows: vec![vec![load("m")]],
            },
            vec![4, 6],
            "the same axis",
        ),
        (grid(vec![vec![load("v")]]), vec![6], "no axis 1 in [6]"),
        (concat(0, vec![]), vec![4], "nothing to put"),
        (
            concat(0, vec![load("m"), load("n")]),
            vec![8, 6],
            "do not agree",
        ),
        (
            concat(0, vec![load("m"), Plan::Ones]),
            vec![4, 6],
            "add up to 4",
        ),
        (concat(0, vec![load("m")]), vec![5, 6], "do not agree"),
        (
            concat(2, vec![load("m")]),
            vec![4, 6],
            "no axis 2 in [4, 6]",
        ),
        (slice(1, 4, 3), vec![4, 3], "3 entries from 4 on"),
        (slice(1, u64::MAX, 3), vec![4, 3], "are not in axis 1"),
        (slice(1, 0, 0), vec![4, 0], "0 entries"),
        (slice(2, 0, 1), vec![4, 6], "no axis 2"),
        (rows(vec![(3, 0)]), vec![4, 6], "cover 3 rows, not 4"),
        (rows(vec![(4, 2)]), vec![4, 6], "no source 2"),
        (rows(vec![(4, 0), (0, 1)]), vec![4, 6], "a run is empty"),
        (rows(vec![(u64::MAX, 0), (5, 0)]), vec![4, 6], "64 bits"),
        (permute(vec![0, 0]), vec![4, 6], "no permutation"),
        (permute(vec![0, 2]), vec![4, 6], "no permutation"),
        (permute(vec![0]), vec![4], "permute: [4, 6] and [?]"),
        (permute(vec![1, 0]), vec![4, 6], "do not agree"),
        (
            Plan::Slerp {
                t: f64::NAN,
                straight: 1.0,
                from: Box::new(load("m")),
                to: Box::new(load("m")),
            },
            vec![4, 6],
            "must be finite",
        ),
        (
            Plan::Slerp {
                t: 0.5,
                straight: 1.0,
                from: Box::new(load("m")),
                to: Box::new(load("n")),
            },
            vec![4, 6],
            "slerp: [4, 6] and [4, 2] do not agree",
        ),
        (
            Plan::Stock {
                base: Box::new(load("m")),
                of: vec![load("m")],
            },
            vec![4, 6],
            "no two tensors",
        ),
        (
            Plan::Trim {
                density: 1.5,
                rescale: false,
                of: Box::new(load("m")),
            },
            vec![4, 6],
            "between 0 and 1",
        ),
        (
            Plan::Keep {
                rescale: true,
                mask: Box::new(load("n")),
                of: Box::new(load("m")),
            },
            vec![4, 6],
            "keep: [4, 2] and [4, 6] do not agree",
        ),
        (elect(vec![]), vec![4, 6], "nothing to elect from"),
        (
            elect(vec![(f64::INFINITY, load("m"))]),
            vec![4, 6],
            "not finite",
        ),
        (Plan::Bernoulli { p: -0.1 }, vec![6], "between 0 and 1"),
        (Plan::Identity, vec![4, 6], "[4, 6] is not square"),
        (Plan::Identity, vec![6], "do not agree"),
        (Plan::Normal { sd: -1.0 }, vec![6], "not negative"),
        (
            Plan::TruncatedNormal { sd: 1.0, cut: 0.0 },
            vec![6],
            "positive",
        ),
        (
            Plan::Cast {
                dtype: crate::DType::U32,
                of: Box::new(load("v")),
            },
            vec![6],
            "float types",
        ),
        (
            Plan::Scale {
                by: f64::INFINITY,
                of: Box::new(load("v")),
            },
            vec![6],
            "not finite",
        ),
        (deep, vec![4, 6], "nested deeper than 64"),
    ] {
        let error = plan_shape(&plan, &wanted, &lookup).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
}
