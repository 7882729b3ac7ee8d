//! Decoding with a cache against the full pass, and greedy sequences against transformers'.

mod support;
#[path = "support/towers.rs"]
mod towers;

use jam_backends::{ExecOptions, Executable, Tokens};
use support::{Golden, PARENTS, distance, fresh, some_ids};
use towers::{TowerHead, towers};

/// The golden parents and the towers, each with the number of its ids.
fn executables() -> Vec<(String, Executable)> {
    let golden = PARENTS.map(|name| (name.to_owned(), Golden::open(name).executable()));
    let heads = [TowerHead::Joint, TowerHead::ChosenRows, TowerHead::Odd];
    let towers = heads.map(|head| {
        (
            format!("{head:?}"),
            fresh(&towers(head), ExecOptions::default()),
        )
    });
    golden.into_iter().chain(towers).collect()
}

#[test]
fn steps_give_the_logits_of_the_full_pass() {
    for (name, executable) in executables() {
        let (rows, length, first) = (3, 14, 5);
        let vocab = executable.vocabulary();
        let ids = some_ids(rows * length, 50, 3);
        let full = executable.forward(Tokens::new(&ids, rows)).expect("logits");
        let row = |r: usize, t: usize| &full[(r * length + t) * vocab..][..vocab];

        let mut decoder = executable.decoder(rows, length).expect("a decoder");
        let prompt: Vec<u32> = ids
            .chunks(length)
            .flat_map(|r| r[..first].to_vec())
            .collect();
        let mut logits = decoder.prefill(Tokens::new(&prompt, rows)).expect("logits");
        for t in first - 1..length {
            if t >= first {
                let next: Vec<u32> = (0..rows).map(|r| ids[r * length + t]).collect();
                logits = decoder.step(&next).expect("logits");
            }
            for r in 0..rows {
                let off = distance(&logits[r * vocab..][..vocab], row(r, t), |_| true);
                assert!(off < 1e-4, "{name} row {r} at {t}: differs by {off}");
            }
        }
        assert_eq!((decoder.free(), decoder.length(1)), (0, length));
        assert!(decoder.step(&[1, 1, 1]).is_err(), "no place is left");
        assert!(executable.decoder(0, 1).is_err());
        assert!(executable.decoder(usize::MAX, usize::MAX).is_err());
    }
}

/// Rows of different lengths, padded on either side, some of them still while others go on, dropped
/// and repeated on the way: each gives the logits of its own full pass.
#[test]
fn padded_dropped_and_repeated_rows() {
    for (name, executable) in executables() {
        for left in [true, false] {
            let vocab = executable.vocabulary();
            let sequences: Vec<Vec<u32>> = [9usize, 4, 6]
                .iter()
                .map(|&n| some_ids(n + 6, 50, n as u32))
                .collect();
            let prompts = [9usize, 4, 6];
            let longest = 9;
            let mut ids = Vec::new();
            let mut mask = Vec::new();
            for (sequence, &n) in sequences.iter().zip(&prompts) {
                let padding = longest - n;
                let (real, pad) = (vec![true; n], vec![false; padding]);
                let filler = vec![7u32; padding];
                match left {
                    true => {
                        ids.extend([filler, sequence[..n].to_vec()].concat());
                        mask.extend([pad, real].concat());
                    }
                    false => {
                        ids.extend([sequence[..n].to_vec(), filler].concat());
                        mask.extend([real, pad].concat());
                    }
                }
            }
            let mut decoder = executable.decoder(3, 20).expect("a decoder");
            let mut logits = decoder
                .prefill(Tokens::masked(&ids, 3, &mask))
                .expect("logits");
            let mut lengths = prompts.to_vec();
            let mut order = vec![0, 1, 2];
            for turn in 0..5 {
                for (place, &row) in order.iter().enumerate() {
                    let sequence = &sequences[row][..lengths[place]];
                    let full = executable
                        .forward(Tokens::new(sequence, 1))
                        .expect("logits");
                    let last = &full[full.len() - vocab..];
                    let off = distance(&logits[place * vocab..][..vocab], last, |_| true);
                    assert!(
                        off < 1e-4,
                        "{name} left {left} turn {turn} row {row}: {off}"
                    );
                    assert_eq!(decoder.length(place), lengths[place]);
                }
                if turn == 2 {
                    decoder.select(&[2, 0, 2]).expect("rows");
                    order = vec![2, 0, 2];
                    lengths = vec![lengths[2], lengths[0], lengths[2]];
                }
                let next: Vec<u32> = order
                    .iter()
                    .zip(&lengths)
                    .map(|(&row, &n)| sequences[row][n])
                    .collect();
                // The first row stands still once, and its logits are not looked at then.
                if turn == 3 {
                    decoder
                        .step_some(&next, &[false, true, true])
                        .expect("logits");
                    lengths[1] += 1;
                    lengths[2] += 1;
                    let next: Vec<u32> = order
                        .iter()
                        .zip(&lengths)
                        .map(|(&row, &n)| sequences[row][n])
                        .collect();
                    logits = decoder.step(&next).expect("logits");
                } else {
                    logits = decoder.step(&next).expect("logits");
                }
                lengths.iter_mut().for_each(|n| *n += 1);
            }
            assert!(decoder.select(&[3]).is_err());
            assert!(decoder.select(&[]).is_err());
        }
    }
}

#[test]
fn greedy_sequences_of_golden_parents() {
    for parent in PARENTS {
        let golden = Golden::open(parent);
        let executable = golden.executable();
        for set in ["gen", "gen_leftpad"] {
            let ids = golden.inputs.ids(&format!("{set}.input_ids"));
            let rows = golden.inputs.shape(&format!("{set}.input_ids"))[0];
            let expected = golden.expected.ids(&format!("{set}.output_ids"));
            let length = expected.len() / rows;
            let mask_name = format!("{set}.attention_mask");
            let mask: Vec<bool> = match golden.inputs.has(&mask_name) {
                true => golden
                    .inputs
                    .ids(&mask_name)
                    .iter()
                    .map(|&m| m != 0)
                    .collect(),
                false => vec![true; ids.len()],
            };
            let mut found: Vec<Vec<u32>> =
                ids.chunks(ids.len() / rows).map(<[_]>::to_vec).collect();
            let mut decoder = executable.decoder(rows, length).expect("a decoder");
            let mut logits = decoder
                .prefill(Tokens::masked(&ids, rows, &mask))
                .expect("logits");
            while found[0].len() < length {
                let next: Vec<u32> = logits
                    .chunks(executable.vocabulary())
                    .map(|row| jam_backends::kernels::sampling::likeliest(row).expect("one") as u32)
                    .collect();
                found
                    .iter_mut()
                    .zip(&next)
                    .for_each(|(row, &id)| row.push(id));
                if found[0].len() < length {
                    logits = decoder.step(&next).expect("logits");
                }
            }
            assert_eq!(found.concat(), expected, "{parent} {set}");
        }
    }
}
