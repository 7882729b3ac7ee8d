//! Sampling: filters by hand-made cases, draws by their statistics.

use super::*;

const NO: f32 = f32::NEG_INFINITY;

#[test]
fn greedy_takes_the_first_of_the_largest_allowed() {
    let mut logits = [1.0, 3.0, 3.0, 9.0];
    let allowed = [true, true, true];
    assert_eq!(
        sample(&mut logits, Some(&allowed), &Sampling::greedy(), 0.0),
        Ok(1)
    );
}

#[test]
fn filters_keep_what_they_should() {
    let mut x = [0.0, 2.0, 1.0, 2.0];
    keep_top_k(&mut x, 1);
    assert_eq!(x, [NO, 2.0, NO, 2.0], "ties of the last are kept");

    let base: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let kept = |p: f64| {
        let mut x = base.clone();
        keep_top_p(&mut x, p);
        x.iter().filter(|x| x.is_finite()).count()
    };
    assert_eq!(
        [
            kept(0.0),
            kept(0.4),
            kept(0.6),
            kept(0.9),
            kept(0.97),
            kept(1.0)
        ],
        [1, 1, 2, 3, 4, 4]
    );

    let mut x = base.clone();
    keep_min_p(&mut x, 0.29);
    assert_eq!(x.iter().filter(|x| x.is_finite()).count(), 3);

    let mut x = [-1.0, 2.0, 3.0];
    penalise_repetition(&mut x, &[0, 1, 1, 7], 2.0);
    assert_eq!(x, [-2.0, 1.0, 3.0]);
}

#[test]
fn guidance_mixes_and_keeps_forbidden_ids() {
    let mut with = [2.0, 1.0, NO, 4.0];
    guide(&mut with, &[1.0, 3.0, NO, NO], 3.0);
    assert_eq!(with, [4.0, -3.0, NO, NO]);
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let sampling = Sampling::default();
    let nothing = sample(&mut [1.0, 2.0], Some(&[]), &sampling, 0.5);
    assert_eq!(nothing, Err(SamplingError::NothingAllowed));
    let greedy = sample(&mut [NO, NO], None, &Sampling::greedy(), 0.5);
    assert_eq!(greedy, Err(SamplingError::NothingAllowed));
    let diverged = sample(&mut [1.0, f32::NAN], None, &sampling, 0.5);
    assert_eq!(diverged, Err(SamplingError::NotANumber));
}

#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = [0.1f32, 0.0, 0.6, 0.3].iter().map(|p| p.ln()).collect();
    let mut counts = [0u32; 4];
    let draws = 40_000;
    for step in 0..draws {
        let id = draw(&logits, uniform(7, 3, step)).unwrap();
        counts[id] += 1;
    }
    for (count, p) in counts.iter().zip([0.1, 0.0, 0.6, 0.3]) {
        let share = f64::from(*count) / draws as f64;
        assert!((share - p).abs() < 0.01, "{counts:?}");
    }
    assert_eq!(draw(&logits, 0.0), Some(0));
    assert_eq!(
        draw(&logits, 1.0),
        Some(3),
        "the end is the last possible id"
    );
}

#[test]
fn uniform_numbers_are_a_function_of_their_place() {
    assert_eq!(uniform(1, 2, 3), uniform(1, 2, 3));
    assert_ne!(uniform(1, 2, 3), uniform(1, 3, 2));
    let mean = (0..10_000).map(|i| uniform(5, i, 0)).sum::<f64>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.01);
}
