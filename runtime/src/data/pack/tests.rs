//! Documents with pictures as ids, and the codes on the disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use indexmap::IndexMap;
use jam_ir::{ImageTokens, TextTokens, TokenKind, TokenLayout, TokenRange};

use super::*;
use crate::Result;
use crate::data::{Document, PictureRef, Segment};
use crate::images::Picture;
use crate::tokens::text::TextTokenizer;

/// Four codes a picture: its colour, and three that are fixed. Counts the pictures it sees.
#[derive(Default)]
struct Colours {
    seen: AtomicUsize,
}

impl PictureEncoder for Colours {
    fn content_hash(&self) -> String {
        "colours".to_owned()
    }

    fn codes_per_picture(&self) -> usize {
        4
    }

    fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        self.seen.fetch_add(pictures.len(), Ordering::Relaxed);
        Ok(pictures
            .iter()
            .map(|picture| vec![u32::from(picture.pixels()[0]), 1, 2, 3])
            .collect())
    }
}

/// Marks 0 to 3, 260 text tokens, 10 image tokens, break.
fn layout() -> TokenLayout {
    let range = |kind, start, len| TokenRange { kind, start, len };
    TokenLayout {
        name: "mixed".to_owned(),
        size: 275,
        ranges: vec![
            range(TokenKind::Mark, 0, 4),
            range(TokenKind::Text, 4, 260),
            range(TokenKind::Image, 264, 10),
            range(TokenKind::Mark, 274, 1),
        ],
        marks: IndexMap::from([("eos".to_owned(), 2), ("break".to_owned(), 274)]),
        text: TextTokens::Ids,
        image: ImageTokens::Ids,
        grid: 2,
    }
}

fn picture(folder: &Path, colour: u8) -> Segment {
    let path = folder.join(format!("{colour}.png"));
    Picture::new(2, 2, [colour, 0, 0])
        .unwrap()
        .write(&path)
        .unwrap();
    Segment::Picture(PictureRef::file(path))
}

fn text(text: &str) -> Segment {
    Segment::Text(text.to_owned())
}

fn document(prompt: Option<&str>, segments: Vec<Segment>) -> Document {
    Document {
        id: "d".to_owned(),
        prompt: prompt.map(str::to_owned),
        segments,
        meta: serde_json::Value::Null,
    }
}

#[test]
fn documents_stand_between_ends_and_pictures_between_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = TextTokenizer::train([].into_iter(), 256).unwrap();
    let encoder = Colours::default();
    let codes = CodeCache::open(&folder.path().join("cache"), &encoder).unwrap();
    let encoder = DocumentEncoder::new(&layout(), &tokenizer, Some(&codes)).unwrap();
    let word = |word: &str| -> Vec<u32> {
        tokenizer
            .encode(word)
            .unwrap()
            .into_iter()
            .map(|id| id + 4)
            .collect()
    };
    let (five, seven) = (picture(folder.path(), 5), picture(folder.path(), 7));
    let (open, close) = (vec![274], vec![274]);
    let image = |code: u32| vec![264 + code, 265, 266, 267];
    let end = vec![2];
    let ids = |segments: Vec<Segment>| encoder.encode(&document(None, segments)).unwrap().ids;
    assert_eq!(
        ids(vec![text("ab")]),
        [&end[..], &word("ab"), &end].concat()
    );
    assert_eq!(
        ids(vec![text("ab"), five.clone()]),
        [&end[..], &word("ab"), &open, &image(5), &end].concat()
    );
    assert_eq!(
        ids(vec![
            five.clone(),
            seven.clone(),
            text("a"),
            text("b"),
            five.clone(),
            text("c")
        ]),
        [
            &end[..],
            &open,
            &image(5),
            &close,
            &open,
            &image(7),
            &close,
            &word("a\nb"),
            &open,
            &image(5),
            &close,
            &word("c"),
            &end
        ]
        .concat()
    );
    let asked = encoder
        .encode(&document(Some("how? "), vec![five, text("so")]))
        .unwrap();
    let question = [&end[..], &word("how?\n")].concat();
    assert_eq!(asked.question, question.len());
    assert_eq!(asked.ids[..asked.question], question);
    assert_eq!(asked.pictures, [(question.len() + 1, question.len() + 5)]);

    let nine = picture(folder.path(), 11);
    let error = encoder.encode(&document(None, vec![nine])).unwrap_err();
    assert_eq!(error.message, "document `d`: code 11 of 10 image tokens");
    let blind = DocumentEncoder::new(&layout(), &tokenizer, None).unwrap();
    assert!(blind.encode(&document(None, vec![seven.clone()])).is_err());
    let mut broken = layout();
    broken.marks.shift_remove("break");
    let broken = DocumentEncoder::new(&broken, &tokenizer, Some(&codes)).unwrap();
    assert!(
        broken
            .encode(&document(None, vec![seven]))
            .unwrap_err()
            .message
            .contains("no `break`")
    );
    let large = TextTokenizer::train(
        ["a a a a b b b b ab ab ab bc bc abc abc".to_owned()].into_iter(),
        264,
    )
    .unwrap();
    assert!(large.size() > 260);
    assert!(DocumentEncoder::new(&layout(), &large, None).is_err());
    let mut wide = layout();
    wide.grid = 3;
    assert!(DocumentEncoder::new(&wide, &tokenizer, Some(&codes)).is_err());
}

#[test]
fn pictures_are_encoded_once_and_damage_costs_what_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let pictures: Vec<Segment> = (0..5)
        .map(|colour| picture(folder.path(), colour))
        .collect();
    let refs: Vec<PictureRef> = pictures
        .iter()
        .map(|segment| match segment {
            Segment::Picture(picture) => picture.clone(),
            Segment::Text(_) => panic!(),
        })
        .collect();
    let encoder = Colours::default();
    {
        let codes = CodeCache::open(&cache, &encoder).unwrap();
        let documents = [
            document(None, pictures.clone()),
            document(None, pictures.clone()),
        ];
        let mut told = Vec::new();
        codes
            .prepare(documents.into_iter().map(Ok), |count| {
                told.push(count);
                true
            })
            .unwrap();
        assert_eq!(
            (told, codes.len(), encoder.seen.load(Ordering::Relaxed)),
            (vec![5], 5, 5)
        );
    }
    let codes = CodeCache::open(&cache, &encoder).unwrap();
    for (colour, picture) in refs.iter().enumerate() {
        assert_eq!(codes.codes(picture).unwrap(), [colour as u32, 1, 2, 3]);
    }
    assert_eq!(encoder.seen.load(Ordering::Relaxed), 5);
    drop(codes);

    let file = fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = fs::read(&file).unwrap();
    let record = 32 + 16 + 8;
    assert_eq!(good.len(), 16 + 5 * record);
    for (damaged, kept) in [
        (good[..16 + 3 * record + 7].to_vec(), 3),
        (good[..9].to_vec(), 0),
        (
            [
                &good[..16 + 2 * record + 40],
                &[255],
                &good[16 + 2 * record + 41..],
            ]
            .concat(),
            2,
        ),
        (b"another file altogether".to_vec(), 0),
    ] {
        fs::write(&file, damaged).unwrap();
        let codes = CodeCache::open(&cache, &encoder).unwrap();
        assert_eq!(codes.len(), kept);
        for (colour, picture) in refs.iter().enumerate() {
            assert_eq!(codes.codes(picture).unwrap(), [colour as u32, 1, 2, 3]);
        }
        drop(codes);
        assert_eq!(fs::read(&file).unwrap(), good, "the file is whole again");
    }
}

/// Real captioned pictures through encoder and batches, where `JAM_DATA` names their folder.
#[test]
fn real_pairs_fill_rows_with_little_padding() {
    use jam_ir::recipe::{BatchForm, BatchSize, DataKind, Objective};
    let Some(data) = std::env::var_os("JAM_DATA") else {
        eprintln!("left out: JAM_DATA does not name a folder of real data");
        return;
    };
    let folder = Path::new(&data).join("captions/emoji_tiles_val");
    let set = crate::data::DataSet::open(&DataKind::ImageText, &[folder]).unwrap();
    let cache = tempfile::tempdir().unwrap();
    struct Ones;
    impl PictureEncoder for Ones {
        fn content_hash(&self) -> String {
            String::new()
        }
        fn codes_per_picture(&self) -> usize {
            4
        }
        fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
            Ok(vec![vec![1; 4]; pictures.len()])
        }
    }
    let codes = CodeCache::open(cache.path(), &Ones).unwrap();
    let tokenizer = TextTokenizer::train([].into_iter(), 256).unwrap();
    let encoder = DocumentEncoder::new(&layout(), &tokenizer, Some(&codes)).unwrap();
    let options = PackOptions {
        form: BatchForm::Rows,
        size: BatchSize::Rows(16),
        length: 128,
        objective: Objective::NextToken,
        multiple: 1,
        pad: 1,
        seed: 3,
    };
    let read = |_: usize, index: usize| encoder.encode(&set.document(index)?);
    let mut batches =
        Batches::new(Mixture::new(&[(1.0, set.len())], 3).unwrap(), options, read).unwrap();
    let (mut learned, mut room) = (0, 0);
    for _ in 0..64 {
        let batch = batches.next_batch().unwrap().unwrap();
        assert_eq!(batch.rows, 16);
        learned += batch.learned();
        room += (batch.rows * batch.length) as u64;
    }
    assert!(learned * 100 > room * 93, "{learned} of {room}");
}
