//! Every token learned once, whatever the form; streams that go on to the same bits.

use super::*;

const EOS: u32 = 2;
const PAD: i32 = 1;

/// Documents of many lengths; ids tell set, document and place.
fn read(set: usize, index: usize) -> Result<EncodedDocument> {
    let length = 1 + (index * 7 + set * 3) % 23;
    let mut ids = vec![EOS];
    ids.extend((0..length).map(|place| (1000 * (set + 1) + 30 * index + place) as u32));
    ids.push(EOS);
    Ok(EncodedDocument {
        question: 1 + length / 2,
        ids,
        pictures: Vec::new(),
    })
}

fn options(form: BatchForm, size: BatchSize, length: usize) -> PackOptions {
    PackOptions {
        form,
        size,
        length,
        objective: Objective::NextToken,
        multiple: 1,
        pad: PAD as u32,
        seed: 9,
    }
}

fn stream(options: &PackOptions) -> Batches<'static> {
    let mixture = Mixture::new(&[(0.7, 20), (0.3, 11)], 4).unwrap();
    Batches::new(mixture, options.clone(), read).unwrap()
}

/// Input and target pairs that are learned, row by row.
fn learned(batch: &Batch) -> Vec<(i32, i32)> {
    assert_eq!(batch.tokens.len(), batch.rows * batch.length);
    let pairs = batch.tokens.iter().zip(&batch.targets).zip(&batch.weights);
    pairs
        .filter(|(_, weight)| **weight > 0.0)
        .map(|((a, b), _)| (*a, *b))
        .collect()
}

fn all_options() -> Vec<PackOptions> {
    let mut all = Vec::new();
    for form in [BatchForm::Packed, BatchForm::Rows] {
        for size in [BatchSize::Rows(3), BatchSize::Tokens(64)] {
            for length in [5, 16, 40] {
                for objective in [Objective::NextToken, Objective::Answers] {
                    all.push(PackOptions {
                        objective,
                        ..options(form, size, length)
                    });
                }
            }
        }
    }
    all
}

#[test]
fn one_pass_learns_every_token_once() {
    for form in [BatchForm::Packed, BatchForm::Rows] {
        for length in [4, 7, 30] {
            let options = options(form, BatchSize::Rows(4), length);
            let mut batches = Batches::new(Mixture::pass(20), options, read).unwrap();
            let mut found = Vec::new();
            while let Some(batch) = batches.next_batch().unwrap() {
                assert!(batch.length <= length && batch.rows <= 4);
                found.extend(learned(&batch));
            }
            assert!(batches.next_batch().unwrap().is_none());
            let mut expected = Vec::new();
            for index in 0..20 {
                let ids = read(0, index).unwrap().ids;
                expected.extend(ids.windows(2).map(|pair| (pair[0] as i32, pair[1] as i32)));
            }
            if form == BatchForm::Rows {
                found.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(found, expected, "{form:?} {length}");
        }
    }
}

#[test]
fn a_stream_goes_on_to_the_same_bits_from_every_place() {
    for options in all_options() {
        let mut whole = stream(&options);
        let mut states = vec![whole.state().clone()];
        let mut expected = Vec::new();
        for _ in 0..45 {
            expected.push(whole.next_batch().unwrap().unwrap());
            states.push(whole.state().clone());
        }
        for (place, state) in states.iter().enumerate().take(40) {
            let text = serde_json::to_string(state).unwrap();
            assert!(text.len() < 120, "{text}");
            let mut resumed = stream(&options);
            resumed
                .resume(&serde_json::from_str(&text).unwrap())
                .unwrap();
            assert_eq!(resumed.state(), state);
            for next in &expected[place..place + 5] {
                assert_eq!(
                    resumed.next_batch().unwrap().as_ref(),
                    Some(next),
                    "{options:?} at {place}"
                );
            }
            assert_eq!(resumed.state(), &states[place + 5]);
        }
    }
}

#[test]
fn packed_rows_are_full_and_documents_share_one_end() {
    let mut batches = stream(&options(BatchForm::Packed, BatchSize::Tokens(64), 16));
    let mut last = None;
    for _ in 0..30 {
        let batch = batches.next_batch().unwrap().unwrap();
        assert_eq!((batch.rows, batch.length), (4, 16));
        assert_eq!(batch.learned(), 64);
        for row in 0..4 {
            let tokens = &batch.tokens[row * 16..][..16];
            let targets = &batch.targets[row * 16..][..16];
            assert_eq!(tokens[1..], targets[..15]);
            assert!(
                last.is_none_or(|last| last == tokens[0]),
                "a row goes on where the last ended"
            );
            assert!(tokens.windows(2).all(|pair| pair != [EOS as i32; 2]));
            last = Some(targets[15]);
        }
    }
}

#[test]
fn rows_are_padded_to_the_longest_and_sorted_together() {
    let mut batches = stream(&PackOptions {
        multiple: 4,
        ..options(BatchForm::Rows, BatchSize::Rows(8), 30)
    });
    let (mut tokens, mut room) = (0, 0);
    for _ in 0..64 {
        let batch = batches.next_batch().unwrap().unwrap();
        assert_eq!(batch.rows, 8);
        assert!(batch.length.is_multiple_of(4) || batch.length == 30);
        for row in 0..8 {
            let weights = &batch.weights[row * batch.length..][..batch.length];
            let used = weights.iter().filter(|weight| **weight > 0.0).count();
            assert!(weights[..used].iter().all(|weight| *weight == 1.0));
            assert!(
                batch.tokens[row * batch.length + used..][..batch.length - used]
                    .iter()
                    .all(|t| *t == PAD)
            );
        }
        tokens += batch.learned();
        room += (batch.rows * batch.length) as u64;
    }
    assert!(tokens * 100 > room * 80, "{tokens} of {room}");
    let mut batches = stream(&options(BatchForm::Rows, BatchSize::Tokens(100), 30));
    for _ in 0..64 {
        let batch = batches.next_batch().unwrap().unwrap();
        assert!(
            batch.rows * batch.length <= 100,
            "{} × {}",
            batch.rows,
            batch.length
        );
    }
}

#[test]
fn questions_are_read_and_not_learned() {
    let options = PackOptions {
        objective: Objective::Answers,
        ..options(BatchForm::Rows, BatchSize::Rows(1), 40)
    };
    let mut batches = Batches::new(Mixture::pass(20), options.clone(), read).unwrap();
    let mut count = 0;
    while let Some(batch) = batches.next_batch().unwrap() {
        let document = read(0, (batch.tokens[1] - 1000) as usize / 30).unwrap();
        let first = batch
            .weights
            .iter()
            .position(|weight| *weight > 0.0)
            .unwrap();
        assert_eq!(first + 1, document.question);
        assert_eq!(
            batch.learned() as usize,
            document.ids.len() - document.question
        );
        count += 1;
    }
    assert_eq!(count, 20);
    let silent = |_: usize, _: usize| {
        Ok(EncodedDocument {
            ids: vec![EOS, 5, EOS],
            question: 3,
            pictures: Vec::new(),
        })
    };
    let mixture = Mixture::new(&[(1.0, 3)], 0).unwrap();
    let error = Batches::new(mixture, options.clone(), silent)
        .unwrap()
        .next_batch()
        .unwrap_err();
    assert!(
        error.message.contains("nothing to learn") || error.message.contains("anything to learn"),
        "{error}"
    );
    let empty = |_: usize, _: usize| Ok(EncodedDocument::default());
    let mixture = Mixture::new(&[(1.0, 3)], 0).unwrap();
    assert!(
        Batches::new(mixture, options, empty)
            .unwrap()
            .next_batch()
            .is_err()
    );
}

#[test]
fn long_documents_are_cut_before_pictures() {
    let pictured = |length: usize, pictures: Vec<(usize, usize)>| EncodedDocument {
        ids: vec![0; length],
        question: 1,
        pictures,
    };
    // A picture at 8..12, its break at 7.
    let document = pictured(20, vec![(8, 12)]);
    assert_eq!(cuts(&document, 10), [(0, 7), (7, 17), (17, 19)]);
    assert_eq!(
        cuts(&document, 11),
        [(0, 11), (11, 19)],
        "the picture ends with the row"
    );
    assert_eq!(cuts(&document, 19), [(0, 19)]);
    assert_eq!(
        cuts(&document, 3),
        [
            (0, 3),
            (3, 6),
            (6, 7),
            (7, 10),
            (10, 13),
            (13, 16),
            (16, 19)
        ]
    );
    assert_eq!(
        cuts(&pictured(6, vec![(1, 5)]), 2),
        [(0, 2), (2, 4), (4, 5)]
    );
}

#[test]
fn states_of_other_streams_are_refused() {
    let options = options(BatchForm::Rows, BatchSize::Rows(3), 16);
    let state = |batch, done, sets| StreamState {
        mixture: MixtureState {
            drawn: 0,
            taken: vec![0; sets],
        },
        done,
        batch,
    };
    assert!(stream(&options).resume(&state(1000, 0, 2)).is_err());
    assert!(stream(&options).resume(&state(0, 0, 3)).is_err());
    let packed = PackOptions {
        form: BatchForm::Packed,
        ..options.clone()
    };
    assert!(stream(&packed).resume(&state(0, 1000, 2)).is_err());
    for wrong in [
        PackOptions {
            length: 0,
            ..options.clone()
        },
        PackOptions {
            size: BatchSize::Rows(0),
            ..options.clone()
        },
        PackOptions {
            multiple: 0,
            ..options
        },
    ] {
        assert!(Batches::new(Mixture::pass(1), wrong, read).is_err());
    }
}
