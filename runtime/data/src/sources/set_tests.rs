//! Small files made here, and the real ones where `JAM_DATA` names their folder.

use std::fs;

use super::*;
use crate::images::Picture;

/// The folder of real data; without it a test says so and passes over.
fn real() -> Option<PathBuf> {
    let folder = std::env::var_os("JAM_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: JAM_DATA does not name a folder of real data");
    }
    folder
}

fn open(kind: DataKind, folder: &Path, pattern: &str) -> DataSet {
    DataSet::open(
        &kind,
        &matching_files(folder, &[pattern.to_owned()]).unwrap(),
    )
    .unwrap()
}

fn text_kind() -> DataKind {
    DataKind::Text {
        field: "text".to_owned(),
    }
}

fn messages(set: &DataSet) -> Vec<String> {
    (0..set.len())
        .filter_map(|i| set.document(i).err())
        .map(|error| error.message)
        .collect()
}

#[test]
fn lines_of_json_become_texts_and_tell_their_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(
        &path,
        "{\"text\":\"one\",\"id\":\"x\"}\n\n{\"text\":\"two “curly” ™\"}\r\n{\"body\":1}\n{\"text\":2}\n{\"te",
    )
    .unwrap();
    let set = DataSet::open(&text_kind(), std::slice::from_ref(&path)).unwrap();
    assert_eq!(set.len(), 5);
    let first = set.document(0).unwrap();
    assert_eq!(
        (first.id.as_str(), first.segments),
        ("x", vec![Segment::Text("one".to_owned())])
    );
    let second = set.document(1).unwrap();
    assert!(second.id.ends_with("/a.jsonl:3"), "{}", second.id);
    assert_eq!(second.texts().collect::<Vec<_>>(), ["two “curly” ™"]);
    let told = messages(&set);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "line 4: the record has no `text`");
    assert_eq!(told[1], "line 5: `text` is not a string");
    assert!(told[2].starts_with("line 6: not JSON"), "{}", told[2]);
    assert!(set.document(5).is_err());
    let body = DataKind::Text {
        field: "body".to_owned(),
    };
    assert!(DataSet::open(&body, &[path]).unwrap().document(0).is_err());
}

#[test]
fn text_files_are_cut_at_empty_lines_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.txt");
    let paragraph = |n: usize| format!("paragraph {n} {}\n", "x".repeat(n % 90));
    let text: String = (0..200)
        .map(|n| paragraph(n) + if n % 3 == 0 { "\n" } else { "" })
        .collect();
    fs::write(&path, format!("\u{feff}\n{text}")).unwrap();
    let whole = ReadOptions { text_block: None };
    let set = DataSet::open_with(&text_kind(), std::slice::from_ref(&path), &whole).unwrap();
    assert_eq!(set.len(), 1);
    let blocks = ReadOptions {
        text_block: Some(500),
    };
    let set = DataSet::open_with(&text_kind(), std::slice::from_ref(&path), &blocks).unwrap();
    assert!((15..40).contains(&set.len()), "{}", set.len());
    let mut all = String::new();
    for index in 0..set.len() {
        let document = set.document(index).unwrap();
        assert!(document.id.ends_with(&format!("book.txt:{index}")));
        let text = document.texts().next().unwrap().to_owned();
        assert!(text.len() < 1100 && text.starts_with("paragraph"));
        all += &(text + "\n");
    }
    let lines = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(&all), lines(&text));
    // Lines without empty ones between them are cut as well.
    fs::write(&path, "word word word\n".repeat(1000)).unwrap();
    let set = DataSet::open_with(&text_kind(), std::slice::from_ref(&path), &blocks).unwrap();
    assert_eq!(set.len(), 15);
    fs::write(&path, b"good\xff").unwrap();
    let set = DataSet::open(&text_kind(), std::slice::from_ref(&path)).unwrap();
    assert_eq!(messages(&set), ["byte 4 is not UTF-8 text"]);
    fs::write(&path, "\n\n").unwrap();
    assert!(DataSet::open(&text_kind(), &[path]).unwrap().is_empty());
}

/// A tar file of these members.
fn shard(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    fs::write(path, tar.into_inner().unwrap()).unwrap();
}

#[test]
fn shards_give_pictures_with_captions() {
    let folder = tempfile::tempdir().unwrap();
    let png = Picture::new(3, 2, [9, 8, 7]).unwrap().to_png().unwrap();
    let path = folder.path().join("0.tar");
    shard(
        &path,
        &[
            ("b.png", &png),
            ("b.txt", b" a red\n house \n"),
            ("README", b"x"),
            ("dir/a.b.json", b"{\"caption\":\"no\"}"),
            ("a.json", br#"{"caption":"from json","scene":[1]}"#),
            ("a.PNG", &png),
            ("dir/a.jpg", b"no picture"),
            ("dir/a.txt", b"damaged"),
        ],
    );
    // `dir/a.b.json` has the ending `b.json`, which is no kind of member.
    let set = DataSet::open(&DataKind::ImageText, &[folder.path().to_owned()]).unwrap();
    assert_eq!(set.len(), 3);
    let first = set.document(0).unwrap();
    assert!(first.id.ends_with("/0.tar:b"), "{}", first.id);
    assert_eq!(first.texts().collect::<Vec<_>>(), ["a red house"]);
    let Segment::Picture(picture) = &first.segments[1] else {
        panic!("no picture")
    };
    assert_eq!(
        (
            picture.load().unwrap().width(),
            picture.load().unwrap().height()
        ),
        (3, 2)
    );
    assert_eq!(picture.bytes().unwrap(), png);
    let second = set.document(1).unwrap();
    assert_eq!(second.texts().collect::<Vec<_>>(), ["from json"]);
    assert_eq!(second.meta["scene"][0], 1);
    let Segment::Picture(same) = &second.segments[1] else {
        panic!("no picture")
    };
    assert_eq!(
        same.content_hash().unwrap(),
        picture.content_hash().unwrap()
    );
    let Segment::Picture(damaged) = &set.document(2).unwrap().segments[1] else {
        panic!()
    };
    let error = damaged.load().unwrap_err();
    assert!(
        error.message.starts_with("`dir/a.jpg`: ") && error.path.is_some(),
        "{error}"
    );

    let failing = |members: &[(&str, &[u8])]| {
        shard(&path, members);
        DataSet::open(&DataKind::ImageText, std::slice::from_ref(&path))
            .unwrap_err()
            .message
    };
    assert_eq!(failing(&[("a.txt", b"x")]), "the record `a` has no picture");
    assert_eq!(failing(&[("a.png", &png)]), "the record `a` has no caption");
    let twice: [(&str, &[u8]); 3] = [("a.png", &png), ("a.jpg", &png), ("a.txt", b"x")];
    assert!(failing(&twice).contains("has another of that kind"));
    shard(&path, &[("a.png", &png), ("a.txt", b"x")]);
    let bytes = fs::read(&path).unwrap();
    for length in [100, 600, 512 + png.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(
            DataSet::open(&DataKind::ImageText, std::slice::from_ref(&path)).is_err(),
            "{length}"
        );
    }
}

#[test]
fn records_cannot_name_pictures_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.jsonl");
    let outside = folder.path().join("x.png").display().to_string();
    fs::write(
        &path,
        format!(
            "{{\"image\":\"i/a.png\",\"captions\":[\" first \",\"second\"]}}\n\
             {{\"image\":\"../a.png\",\"caption\":\"x\"}}\n\
             {{\"image\":{outside:?},\"caption\":\"x\"}}\n\
             {{\"image\":\"a.png\",\"caption\":\" \\n\"}}\n\
             {{\"image\":\"a.png\"}}\n"
        ),
    )
    .unwrap();
    let set = DataSet::open(&DataKind::ImageText, &[folder.path().to_owned()]).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(first.texts().collect::<Vec<_>>(), ["first"]);
    let told = messages(&set);
    assert_eq!(told.len(), 4);
    assert!(
        told[0].contains("`../a.png` is not in the folder"),
        "{}",
        told[0]
    );
    assert!(told[1].contains("is not in the folder"), "{}", told[1]);
    assert!(told[2].contains("`caption` is empty"), "{}", told[2]);
}

#[test]
fn articles_and_answers_keep_their_question() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(
        &path,
        r#"{"id":7,"prompt":"How?","segments":[{"text":"So."},{"image":"a.png","width":1}],"response":"Thus."}
{"segments":[]}
{"segments":[{"text":"a","image":"b"}],"prompt":"x"}
{"prompt":3,"segments":[]}"#,
    )
    .unwrap();
    let set = DataSet::open(&DataKind::Interleaved, std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(
        (first.id.as_str(), first.prompt.as_deref(), first.pictures()),
        ("7", Some("How?"), 1)
    );
    assert_eq!(set.document(1).unwrap().prompt, None);
    assert_eq!(messages(&set).len(), 2);
    let set = DataSet::open(&DataKind::Instruct, std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(first.prompt.as_deref(), Some("How?"));
    assert_eq!(first.texts().collect::<Vec<_>>(), ["Thus."]);
    let kept = set.filtered(|document| document.prompt.as_deref() == Some("no"));
    assert!(kept.is_err(), "a damaged record is not passed over");
    let choice = DataKind::Choice {
        format: "jsonl".to_owned(),
    };
    assert!(DataSet::open(&choice, std::slice::from_ref(&path)).is_err());
    let text = folder.path().join("a.md");
    fs::write(&text, "x").unwrap();
    assert!(DataSet::open(&DataKind::Interleaved, std::slice::from_ref(&text)).is_err());
    assert!(DataSet::open(&DataKind::ImageText, &[text]).is_err());
}

#[test]
fn real_pairs_are_read() {
    let Some(data) = real() else { return };
    for (pattern, count) in [
        ("captions/emoji_tiles_train/*.tar", 1150 + 520 + 1400 + 874),
        ("captions/emoji_tiles_val", 130 + 130 + 130 + 99),
        ("captions/nlvr_val", 162),
        ("captions/photos_train/captions.jsonl", 375 + 87 + 200),
        ("captions/coco_images", 16),
    ] {
        let set = open(DataKind::ImageText, &data, pattern);
        assert_eq!(set.len(), count, "{pattern}");
        for index in 0..set.len() {
            let document = set.document(index).unwrap();
            let caption = document.texts().next().unwrap();
            assert!(!caption.is_empty() && caption.trim() == caption && !caption.contains('\n'));
            if index % 37 == 0 || pattern.contains("coco") {
                let Segment::Picture(picture) = &document.segments[1] else {
                    panic!()
                };
                assert!(picture.load().unwrap().width() >= 16);
            }
        }
    }
}

#[test]
fn real_articles_answers_and_texts_are_read() {
    let Some(data) = real() else { return };
    let articles = open(DataKind::Interleaved, &data, "interleaved/*.jsonl");
    assert_eq!(articles.len(), 82 + 57 + 14 + 272 + 14 + 15 + 8 + 33);
    let mut pictures = 0;
    for index in 0..articles.len() {
        let document = articles.document(index).unwrap();
        assert_eq!(
            document.pictures() as u64,
            document.meta["n_images"].as_u64().unwrap()
        );
        assert!(document.prompt.is_some());
        for segment in &document.segments {
            if let Segment::Picture(picture) = segment {
                assert!(picture.path().is_file(), "{}", picture.path().display());
                pictures += 1;
            }
        }
    }
    assert!(pictures > articles.len(), "{pictures}");
    let few = articles
        .filtered(|document| document.pictures() <= 3)
        .unwrap();
    assert!(few.len() > 300 && few.len() < 495, "{}", few.len());

    let answers = open(DataKind::Instruct, &data, "instruct/train.jsonl");
    assert_eq!(answers.len(), 354 + 193 + 742 + 126);
    for index in 0..answers.len() {
        assert!(answers.document(index).unwrap().prompt.is_some());
    }
    assert_eq!(
        open(text_kind(), &data, "text/openstax/train.jsonl").len(),
        228
    );
    let books = open(text_kind(), &data, "text/books/train/*.txt");
    assert!(books.len() > 500, "{}", books.len());
    let bytes: usize = (0..books.len())
        .map(|index| {
            books
                .document(index)
                .unwrap()
                .texts()
                .map(str::len)
                .sum::<usize>()
        })
        .sum();
    let files: u64 = books
        .files()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(bytes as u64 <= files && bytes as u64 > files - 4 * books.len() as u64 - 100_000);
    for pattern in [
        "text/tinyshakespeare/train.txt",
        "text/wikitext2/wiki.valid.tokens",
    ] {
        let set = open(text_kind(), &data, pattern);
        assert!(set.len() > 50, "{pattern} {}", set.len());
        assert!(messages(&set).is_empty());
    }
}
