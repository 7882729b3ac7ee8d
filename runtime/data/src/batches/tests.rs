//! Streams of batches: what they hold, that they resume, that epochs cover everything.

use jam_ir::Called;
use jam_ir::recipe::{BatchForm, BatchSize};

use super::*;

/// Documents of lengths 2, 3, …, each token unlike all others.
fn set(documents: u32, first: u32) -> EncodedSet {
    let mut set = EncodedSet::default();
    let mut next = first;
    for index in 0..documents {
        let ids: Vec<u32> = (next..next + 2 + index % 7).collect();
        next += ids.len() as u32;
        set.push(&ids, 1);
    }
    set
}

fn options(form: BatchForm, size: BatchSize) -> BatchOptions {
    BatchOptions {
        form,
        size,
        length: 6,
        objective: &NextToken,
        seed: 3,
        pad: 0,
    }
}

fn learned(batch: &Batch) -> Vec<(u32, u32)> {
    let pairs = batch.tokens.iter().zip(&batch.targets).zip(&batch.weights);
    pairs
        .filter(|(_, weight)| **weight > 0.0)
        .map(|((a, b), _)| (*a, *b))
        .collect()
}

#[test]
fn rows_show_every_token_of_an_epoch_once() {
    let set = set(64, 1);
    let mut stream = BatchStream::new(
        vec![(1.0, &set)],
        options(BatchForm::Rows, BatchSize::Rows(4)),
    )
    .unwrap();
    // 64 documents, of which those of 8 tokens take two rows: (9 of them) 73 rows.
    let rows: u32 = (0..64).map(|i| if i % 7 == 6 { 2 } else { 1 }).sum();
    let mut seen = Vec::new();
    let mut count = 0;
    while count < rows.div_ceil(64) * 64 {
        let batch = stream.next_batch();
        assert_eq!(batch.rows, 4);
        assert!(batch.length <= 6);
        seen.extend(learned(&batch));
        count += 4;
    }
    seen.sort_unstable();
    seen.dedup();
    let mut expected = Vec::new();
    for document in 0..set.len() {
        expected.extend(
            set.document(document)
                .windows(2)
                .map(|pair| (pair[0], pair[1])),
        );
    }
    expected.sort_unstable();
    assert_eq!(seen, expected, "each pair of neighbours is learned");
}

/// Fixed for good: a run that goes on must see the order that it saw before.
#[test]
fn the_order_of_an_epoch_stays_what_it_was() {
    let mut set = EncodedSet::default();
    (0..8).for_each(|id| set.push(&[id, 100], 1));
    let options = options(BatchForm::Packed, BatchSize::Rows(1));
    let options = BatchOptions {
        length: 1,
        ..options
    };
    let mut stream = BatchStream::new(vec![(1.0, &set)], options).unwrap();
    let order: Vec<u32> = (0..8).map(|_| stream.next_batch().tokens[0]).collect();
    assert_eq!(order, [6, 5, 1, 2, 4, 0, 7, 3]);
}

/// How often each document is in a batch; every token of a document is its number.
fn counted(batch: &Batch) -> Vec<usize> {
    let mut counts = vec![0; 2000];
    let first = (0..batch.rows).map(|row| batch.tokens[row * batch.length] as usize);
    first.for_each(|document| counts[document] += 1);
    counts
}

/// Documents `first`, `first + 1`, … of lengths 2 to 6.
fn numbered(first: u32, documents: u32) -> EncodedSet {
    let mut set = EncodedSet::default();
    for number in first..first + documents {
        set.push(&vec![number; 2 + (number as usize * 7) % 5], 0);
    }
    set
}

#[test]
fn no_document_comes_twice_in_a_batch_of_fewer() {
    let rows = 8;
    for documents in [8, 9, 11, 15, 16, 17, 30, 64, 127, 129, 300] {
        let set = numbered(0, documents);
        let options = options(BatchForm::Rows, BatchSize::Rows(rows));
        let mut stream = BatchStream::new(vec![(1.0, &set)], options).unwrap();
        let mut all = vec![0; documents as usize];
        let batches = 16 * 12;
        for step in 0..batches {
            let counts = counted(&stream.next_batch());
            assert!(
                counts.iter().all(|count| *count < 2),
                "{documents} documents, step {step}: {counts:?}"
            );
            all.iter_mut()
                .zip(counts)
                .for_each(|(all, count)| *all += count);
        }
        // All of them are learned about equally often: none waits for long.
        let (least, most) = (*all.iter().min().unwrap(), *all.iter().max().unwrap());
        assert!(
            most - least <= 2,
            "{documents} documents: {least} to {most} times"
        );
    }
}

#[test]
fn a_set_smaller_than_the_batch_fills_it_evenly() {
    let set = numbered(0, 5);
    let options = options(BatchForm::Rows, BatchSize::Rows(8));
    let mut stream = BatchStream::new(vec![(1.0, &set)], options).unwrap();
    for _ in 0..40 {
        let counts = counted(&stream.next_batch());
        assert!(
            counts[..5].iter().all(|count| (1..=2).contains(count)),
            "{counts:?}"
        );
    }
}

#[test]
fn small_sets_of_a_mixture_are_spread_too() {
    let (small, large) = (numbered(0, 12), numbered(100, 900));
    let mixture = || vec![(0.5, &small), (0.5, &large)];
    let options = options(BatchForm::Rows, BatchSize::Rows(8));
    let mut stream = BatchStream::new(mixture(), options.clone()).unwrap();
    let batches: Vec<Batch> = (0..160).map(|_| stream.next_batch()).collect();
    for batch in &batches {
        assert!(counted(batch).iter().all(|count| *count < 2));
    }
    for step in [1, 15, 16, 100] {
        let mut rest = BatchStream::new(mixture(), options.clone()).unwrap();
        rest.skip_to(step);
        assert_eq!(rest.next_batch(), batches[step as usize], "{step}");
    }
}

/// The order of sets of many batches is what it always was, so that runs that were made can be made again:
/// sixteen batches drawn in the order of epochs, sorted by length, and shuffled.
#[test]
fn large_sets_are_drawn_as_they_always_were() {
    let (documents, rows) = (1100usize, 4usize);
    let set = numbered(0, documents as u32);
    let options = options(BatchForm::Rows, BatchSize::Rows(rows as u64));
    let orders: Vec<Vec<usize>> = (0..3)
        .map(|epoch| {
            let mut order: Vec<usize> = (0..documents).collect();
            stream::generator(3, 0, epoch).shuffle_by_remainders(&mut order);
            order
        })
        .collect();
    let orders = orders.concat();
    let mut stream = BatchStream::new(vec![(1.0, &set)], options).unwrap();
    for (pool, drawn) in orders.chunks_exact(16 * rows).enumerate() {
        let mut drawn = drawn.to_vec();
        drawn.sort_by_key(|document| set.document(*document).len());
        let mut batches: Vec<&[usize]> = drawn.chunks(rows).collect();
        let step = 16 * pool as u64 + 1;
        stream::generator(3, u64::MAX, step).shuffle_by_remainders(&mut batches);
        for expected in batches.iter().rev() {
            let batch = stream.next_batch();
            let first = (0..rows).map(|row| batch.tokens[row * batch.length] as usize);
            assert_eq!(first.collect::<Vec<_>>(), *expected);
        }
    }
}

#[test]
fn packed_rows_are_full_and_cover_the_epoch() {
    let set = set(40, 1);
    let mut stream = BatchStream::new(
        vec![(1.0, &set)],
        options(BatchForm::Packed, BatchSize::Tokens(18)),
    )
    .unwrap();
    assert_eq!(stream.rows(), 3);
    let rows = set.tokens() / 7;
    let mut tokens = Vec::new();
    for _ in 0..rows / 3 {
        let batch = stream.next_batch();
        assert_eq!((batch.rows, batch.length, batch.learned()), (3, 6, 18));
        tokens.extend(batch.tokens);
    }
    let count = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), count, "no token comes twice in an epoch");
}

#[test]
fn a_stream_goes_on_where_another_stopped() {
    let (a, b) = (set(50, 1), set(30, 1000));
    for form in [BatchForm::Rows, BatchForm::Packed] {
        let mixture = || vec![(0.3, &a), (0.7, &b)];
        let mut whole = BatchStream::new(mixture(), options(form, BatchSize::Rows(4))).unwrap();
        let batches: Vec<_> = (0..50).map(|_| whole.next_batch()).collect();
        for step in [1, 16, 17, 31] {
            let mut rest = BatchStream::new(mixture(), options(form, BatchSize::Rows(4))).unwrap();
            rest.skip_to(step);
            assert_eq!(rest.next_batch(), batches[step as usize], "{form:?} {step}");
        }
        let mut other = options(form, BatchSize::Rows(4));
        other.seed = 4;
        assert_ne!(
            BatchStream::new(mixture(), other).unwrap().next_batch(),
            batches[0]
        );
        let from_b: usize = batches
            .iter()
            .flat_map(|x| &x.tokens)
            .filter(|id| **id >= 1000)
            .count();
        let all: usize = batches
            .iter()
            .flat_map(|x| &x.tokens)
            .filter(|id| **id > 0)
            .count();
        let share = from_b as f64 / all as f64;
        assert!(
            (0.55..0.85).contains(&share),
            "{form:?}: {share} of the tokens come from the second"
        );
    }
}

#[test]
fn questions_are_read_and_not_learned() {
    let mut set = EncodedSet::default();
    set.push(&[9, 1, 2, 3, 4], 3);
    let mut options = options(BatchForm::Rows, BatchSize::Rows(1));
    let answers = Called {
        name: "answers".to_owned(),
        ..Called::default()
    };
    options.objective = objective_of(&answers).unwrap();
    let batch = BatchStream::new(vec![(1.0, &set)], options)
        .unwrap()
        .next_batch();
    assert_eq!(batch.weights, [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(batch.targets, [1, 2, 3, 4]);
}

#[test]
fn files_are_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tokens");
    let set = set(9, 1);
    set.save(&path).unwrap();
    assert_eq!(EncodedSet::load(&path).unwrap(), set);
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 10, 31, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(EncodedSet::load(&path).is_err(), "cut at {cut}");
    }
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    assert!(EncodedSet::load(&path).is_err());
}

#[test]
fn mixtures_without_documents_are_refused() {
    let empty = EncodedSet::default();
    let options = options(BatchForm::Rows, BatchSize::Rows(1));
    assert!(BatchStream::new(vec![(1.0, &empty)], options.clone()).is_err());
    assert!(BatchStream::new(vec![], options).is_err());
}
