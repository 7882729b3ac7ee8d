//! The image tokenizer as a whole: it learns, keeps to the bit, and refuses what it should.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;

use super::*;
use crate::{Error, Result};
use jam_data::images::{Picture, Rgb, Sheet};
use jam_data::tokens::image::{SETTINGS_FILE, WEIGHTS_FILE};

/// A small world: pictures of 16×16 pixels, in each quarter nothing or one of four shapes in one of
/// four colours.
fn world(number: usize) -> Picture {
    const COLOURS: [Rgb; 4] = [[220, 30, 30], [30, 170, 60], [40, 70, 230], [240, 200, 30]];
    let mut picture = Picture::new(16, 16, [235, 235, 228]).unwrap();
    let mut dice = number as u64 * 0x9e37_79b9 + 12_345;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % sides
    };
    for quarter in 0..4 {
        let (thing, colour) = (roll(5), COLOURS[roll(4) as usize]);
        for i in 0..64i32 {
            let (x, y) = (2 * (i % 8) - 7, 2 * (i / 8) - 7);
            let inside = match thing {
                0 => x * x + y * y <= 45,
                1 => x.abs() <= 5 && y.abs() <= 5,
                2 => x.abs() <= 1 || y.abs() <= 1,
                3 => x.abs() <= (y + 7) / 2,
                _ => false,
            };
            if inside {
                let (left, top) = (quarter % 2 * 8, quarter / 2 * 8);
                picture.set(left + i as usize % 8, top + i as usize / 8, colour);
            }
        }
    }
    picture
}

fn pictures(first: usize, count: usize) -> Vec<Picture> {
    (first..first + count).map(world).collect()
}

fn small() -> VqSettings {
    VqSettings {
        picture: 16,
        grid: 2,
        codes: 32,
        width: 24,
        latent: 8,
        depth: 1,
        batch: 16,
        steps: 60,
        seed: 3,
        ..VqSettings::default()
    }
}

/// The pictures of a step, made when they are asked for.
fn batch(step: usize, count: usize) -> Result<Vec<Picture>> {
    Ok(pictures(step * count, count))
}

fn learn(settings: &VqSettings) -> VqTokenizer {
    let run = train(
        settings,
        &mut batch,
        &Device::flex(),
        &mut |_| (),
        &AtomicBool::new(false),
        None,
    );
    let VqRun::Finished(tokenizer) = run.unwrap() else {
        panic!("nobody stopped it")
    };
    *tokenizer
}

fn saved(tokenizer: &VqTokenizer) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path()).unwrap();
    std::fs::read(folder.path().join(WEIGHTS_FILE)).unwrap()
}

#[test]
fn a_small_world_comes_back_from_its_codes() {
    let tokenizer = learn(&VqSettings {
        width: 32,
        latent: 16,
        batch: 32,
        steps: 800,
        ..small()
    });
    let unseen = pictures(1_000_000, 64);
    let measure = tokenizer.measure(&unseen).unwrap();
    assert!(measure.psnr > 38.0, "{measure:?}");
    // Sixteen things and the empty quarter; a thing is a code, wherever it stands.
    assert!((17..=32).contains(&measure.used_codes), "{measure:?}");
    assert!(measure.perplexity <= measure.used_codes as f64);
    let back = tokenizer.reconstruct(&unseen).unwrap();
    for (original, back) in std::iter::zip(&unseen, &back) {
        let worst = std::iter::zip(original.pixels(), back.pixels()).map(|(a, b)| a.abs_diff(*b));
        assert!(
            worst.max() < Some(64),
            "every pixel is nearest to its own colour"
        );
    }
    // Equal quarters have equal codes, different ones different codes.
    let codes = tokenizer.encode(&unseen).unwrap();
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for (picture, codes) in std::iter::zip(&unseen, &codes) {
        for (quarter, code) in codes.iter().enumerate() {
            let cut = picture
                .crop(quarter % 2 * 8, quarter / 2 * 8, 8, 8)
                .unwrap();
            assert_eq!(seen.entry(cut.pixels().to_vec()).or_insert(*code), code);
        }
    }
    let mut different: Vec<u32> = seen.values().copied().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), seen.len());
    let sheet = tokenizer.sheet(&unseen[..4], Sheet::default()).unwrap();
    assert_eq!(
        (sheet.width(), sheet.height()),
        (8 * (16 * 3 + 4) + 4, 16 * 3 + 8)
    );
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    // Large enough for matrix products to be shared among threads.
    let settings = VqSettings {
        width: 96,
        batch: 128,
        steps: 25,
        ..small()
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| saved(&learn(&settings)))
    };
    let one = on(1);
    assert_eq!(one, on(1));
    assert_eq!(one, on(3));
    let other = saved(&learn(&VqSettings {
        seed: 4,
        ..settings
    }));
    assert_ne!(one, other);
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let settings = VqSettings {
        restart_after: 5,
        ..small()
    };
    let device = Device::flex();
    let whole = saved(&learn(&settings));
    // Before there are codes, in the middle, and twice.
    for stops in [vec![1], vec![30], vec![17, 55]] {
        let folder = tempfile::tempdir().unwrap();
        let run = |stop_at: usize| {
            let stop = AtomicBool::new(false);
            let mut first = None;
            let run = train(
                &settings,
                &mut batch,
                &device,
                &mut |step| {
                    first.get_or_insert(step.step);
                    stop.store(step.step == stop_at, Ordering::Relaxed);
                },
                &stop,
                Some(Checkpoints {
                    folder: folder.path(),
                    every: 7,
                    record: b"",
                    note: &|text| panic!("{text}"),
                }),
            );
            (run.unwrap(), first)
        };
        let mut done = 0;
        for stop_at in stops {
            let (end, first) = run(stop_at);
            assert!(matches!(end, VqRun::Stopped(step) if step == stop_at));
            assert_eq!(first, Some(done + 1));
            done = stop_at;
        }
        let (end, first) = run(usize::MAX);
        assert_eq!(first, Some(done + 1), "it goes on and does not begin again");
        let VqRun::Finished(tokenizer) = end else {
            panic!("nobody stopped it")
        };
        assert_eq!(saved(&tokenizer), whole);
        // A finished run has nothing left to do.
        let (end, first) = run(usize::MAX);
        assert_eq!(first, None);
        assert!(matches!(end, VqRun::Finished(again) if saved(&again) == whole));
    }
}

#[test]
fn every_shape_of_network_learns() {
    for settings in [
        VqSettings {
            kernel: 3,
            grid: 4,
            ..small()
        },
        VqSettings { grid: 1, ..small() },
        VqSettings {
            stem: 2,
            grid: 4,
            ..small()
        },
        VqSettings {
            channels: 1,
            ..small()
        },
        VqSettings {
            depth: 0,
            codes: 2,
            ..small()
        },
    ] {
        let mut steps = Vec::new();
        let run = train(
            &settings,
            &mut batch,
            &Device::flex(),
            &mut |step| steps.push(step),
            &AtomicBool::new(false),
            None,
        );
        assert_eq!(steps.len(), 60);
        assert!(
            steps[59].loss < 0.7 * steps[0].loss,
            "{settings:?} {:?}",
            steps[59]
        );
        assert_eq!((steps[0].used_codes, steps[59].step), (0, 60));
        assert!(steps[59].used_codes > 1);
        let VqRun::Finished(tokenizer) = run.unwrap() else {
            panic!("nobody stopped it")
        };
        let codes = tokenizer.encode(&pictures(7, 3)).unwrap();
        assert!(
            codes
                .iter()
                .all(|codes| codes.len() == tokenizer.tokens_per_picture())
        );
    }
}

#[test]
fn a_picture_has_the_same_codes_alone_and_among_others() {
    let tokenizer = learn(&small());
    let some = pictures(500, TOGETHER + 5);
    let together = tokenizer.encode(&some).unwrap();
    assert_eq!(together.len(), some.len());
    for (picture, codes) in std::iter::zip(&some, &together) {
        let alone = tokenizer.encode(std::slice::from_ref(picture)).unwrap();
        assert_eq!(alone, std::slice::from_ref(codes));
    }
    let slices: Vec<&[u32]> = together.iter().map(Vec::as_slice).collect();
    let decoded = tokenizer.decode(&slices).unwrap();
    assert_eq!(decoded.len(), some.len());
    assert_eq!(tokenizer.decode(&slices[3..4]).unwrap(), decoded[3..4]);
    assert!(tokenizer.encode(&[]).unwrap().is_empty() && tokenizer.decode(&[]).unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let tokenizer = learn(&VqSettings {
        steps: 3,
        ..small()
    });
    let message = |result: Result<Vec<Picture>>| result.unwrap_err().message;
    assert!(message(tokenizer.decode(&[&[0, 1, 2]])).contains("has 4 codes, not 3"));
    assert!(message(tokenizer.decode(&[&[0, 1, 32, 2]])).contains("code 32"));
    assert!(message(tokenizer.decode(&[&[0, 1, u32::MAX, 2]])).contains("beyond the codebook"));
    let wide = Picture::new(32, 16, [0; 3]).unwrap();
    let error = tokenizer.encode(&[wide]).unwrap_err();
    assert_eq!(
        error.message,
        "the image tokenizer takes 16×16 pictures, not 32×16"
    );
    assert!(tokenizer.measure(&[]).is_err());
    assert!(PictureSet::new(Vec::new(), 0).is_err());
}

#[test]
fn training_tells_what_is_wrong() {
    let run = |settings: &VqSettings, source: &mut dyn PictureSource, folder: Option<&Path>| {
        let checkpoints = folder.map(|folder| Checkpoints {
            folder,
            every: 1,
            record: b"",
            note: &|_| (),
        });
        let stop = AtomicBool::new(false);
        train(
            settings,
            source,
            &Device::flex(),
            &mut |_| (),
            &stop,
            checkpoints,
        )
        .unwrap_err()
    };
    let short = VqSettings {
        steps: 2,
        ..small()
    };
    let error = run(&VqSettings { grid: 3, ..small() }, &mut batch, None);
    assert!(error.message.contains("grid of 3"));
    let error = run(&short, &mut |_, _| Ok(pictures(0, 2)), None);
    assert!(error.message.contains("got 2 pictures and not 16"));
    let error = run(
        &short,
        &mut |_, _| Err(Error::new("the disk is gone")),
        None,
    );
    assert_eq!(error.message, "the disk is gone");

    // It stops before there are codes; its checkpoint is of one step.
    let short = VqSettings {
        steps: 40,
        ..small()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut fails_later = |step: usize, count: usize| match step {
        0 => batch(0, count),
        _ => Err(Error::new("the disk is gone")),
    };
    run(&short, &mut fails_later, Some(folder.path()));
    let file = folder.path().join("00000001").join(TRAINING_FILE);
    let error = run(
        &VqSettings {
            steps: 3,
            ..short.clone()
        },
        &mut batch,
        Some(folder.path()),
    );
    assert!(error.message.contains("other settings"), "{error}");
    assert_eq!(error.path.as_deref(), Some(file.as_path()));
    let bytes = std::fs::read(&file).unwrap();
    for end in [0, 5, 100, bytes.len() - 4] {
        std::fs::write(&file, &bytes[..end]).unwrap();
        let error = run(&short, &mut batch, Some(folder.path()));
        assert_eq!(
            error.path.as_deref(),
            Some(file.as_path()),
            "cut at {end}: {error}"
        );
    }
}

#[test]
fn a_folder_keeps_a_tokenizer_and_damage_is_told() {
    let tokenizer = learn(&VqSettings {
        steps: 5,
        ..small()
    });
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deep/vq");
    tokenizer.save(&place).unwrap();
    let loaded = VqTokenizer::load(&place, &device).unwrap();
    assert_eq!(loaded.settings(), tokenizer.settings());
    let some = pictures(0, 5);
    assert_eq!(
        loaded.encode(&some).unwrap(),
        tokenizer.encode(&some).unwrap()
    );
    assert_eq!(saved(&loaded), saved(&tokenizer));

    let refused = |word: &str| {
        let error = VqTokenizer::load(&place, &device).unwrap_err();
        assert!(error.message.contains(word), "{error}");
        assert!(error.path.is_some());
    };
    let (weights, json) = (place.join(WEIGHTS_FILE), place.join(SETTINGS_FILE));
    let (bytes, text) = (
        std::fs::read(&weights).unwrap(),
        std::fs::read_to_string(&json).unwrap(),
    );
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&weights, &flipped).unwrap();
    refused("damaged");
    std::fs::write(&weights, &bytes).unwrap();
    std::fs::write(&json, text.replace("\"width\": 24", "\"width\": 25")).unwrap();
    refused("settings ask for F32");
    std::fs::write(&json, text.replace("\"depth\": 1", "\"depth\": 2")).unwrap();
    refused("encoder.block.1.read.weight` is missing");
    std::fs::write(&json, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    refused("format 9");
    std::fs::write(&json, text.replace("\"grid\": 2", "\"grid\": 0")).unwrap();
    refused("`grid`");
    std::fs::write(&json, &text[..40]).unwrap();
    refused("not the description");
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(&json, &text).unwrap();
    refused("cannot read");
}

#[test]
fn a_set_of_pictures_is_seen_whole_before_it_is_seen_again() {
    let shades: Vec<Picture> = (0..10)
        .map(|i| Picture::new(1, 1, [i as u8; 3]).unwrap())
        .collect();
    let mut set = PictureSet::new(shades, 11).unwrap();
    let mut order = |steps: std::ops::Range<usize>| -> Vec<u8> {
        let batches = steps.map(|step| set.batch(step, 4).unwrap());
        batches
            .flatten()
            .map(|picture| picture.pixels()[0])
            .collect()
    };
    let seen = order(0..5);
    for round in seen.chunks(10) {
        let mut round = round.to_vec();
        round.sort_unstable();
        assert_eq!(round, (0..10).collect::<Vec<u8>>());
    }
    assert_ne!(seen[..10], seen[10..]);
    // A step's pictures do not depend on what was asked before.
    assert_eq!(order(2..5), seen[8..]);
    assert_eq!(order(0..5), seen);
}
