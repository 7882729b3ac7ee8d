//! Small files made here, and the real ones where `JAM_DATA` names their folder.

use std::fs;

use jam_ir::SettingValue;

use super::*;
use crate::images::Picture;
use crate::sources::formats::plain;

/// The folder of real data; without it a test says so and passes over.
fn real() -> Option<PathBuf> {
    let folder = std::env::var_os("JAM_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: JAM_DATA does not name a folder of real data");
    }
    folder
}

fn open(format: Called, folder: &Path, pattern: &str) -> DataSet {
    DataSet::open(
        &format,
        &matching_files(folder, &[pattern.to_owned()]).unwrap(),
    )
    .unwrap()
}

fn text_kind() -> Called {
    plain("text")
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
    let mut body = plain("text");
    let field = SettingValue::Text("body".to_owned());
    body.settings.insert("field".to_owned(), field);
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
    // `dir/a.b.json` is one more member of `dir/a`.
    let set = DataSet::open(&plain("image_text"), &[folder.path().to_owned()]).unwrap();
    assert_eq!(set.len(), 3);
    let note = set.notes().join("; ");
    assert!(
        note.ends_with("0.tar`: 2 members are of no record and left out, the first is `README`"),
        "{note}"
    );
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
        DataSet::open(&plain("image_text"), std::slice::from_ref(&path))
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
            DataSet::open(&plain("image_text"), std::slice::from_ref(&path)).is_err(),
            "{length}"
        );
    }
}

/// `img_7.3.png` and `img_7.3.txt` are one record, and none is lost.
#[test]
fn keys_of_shards_may_have_dots() {
    let folder = tempfile::tempdir().unwrap();
    let png = Picture::new(2, 2, [9, 8, 7]).unwrap().to_png().unwrap();
    let path = folder.path().join("0.tar");
    let names: Vec<[String; 2]> = (0..40)
        .map(|n| ["png", "txt"].map(|end| format!("img_{}.{}.{end}", n / 2, n % 2)))
        .collect();
    let members: Vec<(&str, &[u8])> = names
        .iter()
        .flat_map(|[picture, caption]| [(picture.as_str(), png.as_slice()), (caption, b"a house")])
        .collect();
    shard(&path, &members);
    let open = || DataSet::open(&plain("image_text"), std::slice::from_ref(&path));
    let set = open().unwrap();
    assert_eq!((set.len(), set.notes().len()), (40, 0));
    let id = set.document(7).unwrap().id;
    assert!(id.ends_with("/0.tar:img_3.1"), "{id}");
    // What is read of no record is counted, and the first is named.
    let more: [(&str, &[u8]); 4] = [
        ("img_1.0.mask.png", &png),
        ("img_1.0.cls", b"7"),
        ("._img_1.0.png", b"x"),
        ("x.npy", b"x"),
    ];
    shard(&path, &[members.as_slice(), &more].concat());
    let set = open().unwrap();
    assert_eq!(set.len(), 40);
    assert!(
        set.notes()[0]
            .contains("4 members are of no record and left out, the first is `img_1.0.cls`")
    );
    // A record that lacks something is not taken for a further member.
    shard(
        &path,
        &[("a.1.png", &png), ("a.1.txt", b"x"), ("a.2.png", &png)],
    );
    assert_eq!(
        open().unwrap_err().message,
        "the record `a.2` has no caption"
    );
}

/// The same three records in every form.
#[test]
fn records_are_read_from_lists_tables_and_packed_files() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\":\"one\",\"id\":\"a\"}\n{\"text\":\"two, \\\"2\\\"\",\"id\":\"b\"}\n{\"text\":\"drei \u{fc}\",\"id\":\"c\"}\n";
    let list = format!("[{}]", lines.trim().replace('\n', ",\n  "));
    let table = "id,text\na,one\nb,\"two, \"\"2\"\"\"\nc,drei \u{fc}\n";
    let gzip = |text: &str| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
        writer.finish().unwrap()
    };
    // A gzip file may be several, one after the other.
    let (first, rest) = lines.split_at(lines.find('\n').unwrap() + 1);
    let files: [(&str, Vec<u8>); 9] = [
        ("a.jsonl", lines.into()),
        ("b.json", lines.into()),
        ("c.json", list.clone().into()),
        ("d.json", format!("\u{feff}{list}").into()),
        ("e.csv", format!("\u{feff}{table}").into()),
        (
            "f.tsv",
            table
                .replace("\"two, \"\"2\"\"\"", "'two, 2'")
                .replace(',', "\t")
                .replace("'two\t 2'", "\"two, \"\"2\"\"\"")
                .into(),
        ),
        ("g.jsonl.gz", [gzip(first), gzip(rest)].concat()),
        ("h.csv.zst", zstd::encode_all(table.as_bytes(), 1).unwrap()),
        ("i.jsonl", format!("\u{feff}{lines}").into()),
    ];
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let set = DataSet::open(&text_kind(), &[path]).unwrap();
        let read: Vec<(String, String)> = (0..set.len())
            .map(|index| {
                let document = set.document(index).unwrap();
                let text = document.texts().next().unwrap().to_owned();
                (document.id, text)
            })
            .collect();
        let expected = [("a", "one"), ("b", "two, \"2\""), ("c", "drei \u{fc}")];
        let expected = expected.map(|(id, text)| (id.to_owned(), text.to_owned()));
        assert_eq!(read, expected, "{name}");
    }
    let text = folder.path().join("t.txt.gz");
    fs::write(&text, gzip("plain")).unwrap();
    let set = DataSet::open(&text_kind(), &[text]).unwrap();
    assert_eq!(set.document(0).unwrap().texts().next(), Some("plain"));
    let cut = folder.path().join("cut.jsonl.gz");
    let packed = gzip(lines);
    fs::write(&cut, &packed[..packed.len() - 9]).unwrap();
    assert!(DataSet::open(&text_kind(), &[cut]).is_err());
    let wrong = folder.path().join("wrong.csv");
    fs::write(&wrong, "title,body\na,b\n").unwrap();
    let set = DataSet::open(&text_kind(), &[wrong]).unwrap();
    let error = set.document(0).unwrap_err();
    assert_eq!(error.message, "record 1: the record has no `text`");
    assert!(error.help.unwrap().contains("field:"));
}

#[test]
fn what_is_not_read_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, name, bytes, told, help) in [
        (
            text_kind(),
            "a.parquet",
            b"PAR1" as &[u8],
            "another kind",
            "read_parquet",
        ),
        (
            text_kind(),
            "a.tar",
            b"",
            "another kind",
            "`image_text` reads this file",
        ),
        (
            plain("interleaved"),
            "a.csv",
            b"",
            "another kind",
            "`text` or `instruct`",
        ),
        (text_kind(), "a.jsonl", b"\xff\xfe{\0", "UTF-16", "iconv"),
        (text_kind(), "a.txt", b"\xfe\xff\0a", "UTF-16", "iconv"),
        (text_kind(), "b.json", b"[{}", "middle of its JSON", ""),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = DataSet::open(&kind, &[path]).unwrap_err();
        assert!(error.message.contains(told), "{name}: {error}");
        assert!(error.help.unwrap_or_default().contains(help), "{name}");
    }
}

/// Neither is ever opened for reading: that would wait for ever, or read for ever.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_files_of_records() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let endless = folder.path().join("zero.txt");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    let told = |error: Error| error.message;
    for path in [&pipe, &endless] {
        let opened = DataSet::open(&text_kind(), std::slice::from_ref(path));
        assert_eq!(told(opened.unwrap_err()), "it is no regular file");
        let picture = PictureRef::file(path.as_path());
        assert_eq!(told(picture.bytes().unwrap_err()), "it is no regular file");
    }
    let items = super::super::choices("jsonl", &[pipe]);
    assert_eq!(told(items.unwrap_err()), "it is no regular file");
}

/// `null` is as absent, and an empty text as none.
#[test]
fn null_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.jsonl");
    fs::write(
        &path,
        "{\"id\":null,\"image\":\"a.png\",\"caption\":null,\"captions\":[null,\"a house\"],\"prompt\":\"\",\"segments\":[{\"text\":\"So.\",\"image\":null},{\"text\":null,\"image\":\"a.png\"},{\"text\":\" \"}]}\n\
         {\"image\":\"a.png\",\"caption\":null,\"segments\":[{\"text\":null,\"image\":null}]}\n",
    )
    .unwrap();
    let set = DataSet::open(&plain("image_text"), std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(first.texts().collect::<Vec<_>>(), ["a house"]);
    assert!(first.id.ends_with("captions.jsonl:1"), "{}", first.id);
    assert_eq!(messages(&set), ["line 2: the record has no `caption`"]);
    let set = DataSet::open(&plain("interleaved"), std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(
        (first.segments.len(), first.pictures(), first.prompt),
        (2, 1, None)
    );
    assert_eq!(messages(&set).len(), 1);
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
    let set = DataSet::open(&plain("image_text"), &[folder.path().to_owned()]).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(first.texts().collect::<Vec<_>>(), ["first"]);
    let told = messages(&set);
    assert_eq!(told.len(), 3);
    assert!(set.is_blank(&set.document(3).unwrap()), "an empty caption");
    assert!(
        told[0].contains("`../a.png` is not in the folder"),
        "{}",
        told[0]
    );
    assert!(told[1].contains("is not in the folder"), "{}", told[1]);
    assert!(
        told[2].contains("the record has no `caption`"),
        "{}",
        told[2]
    );
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
    let set = DataSet::open(&plain("interleaved"), std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(
        (first.id.as_str(), first.prompt.as_deref(), first.pictures()),
        ("7", Some("How?"), 1)
    );
    assert_eq!(set.document(1).unwrap().prompt, None);
    assert_eq!(messages(&set).len(), 2);
    let set = DataSet::open(&plain("instruct"), std::slice::from_ref(&path)).unwrap();
    let first = set.document(0).unwrap();
    assert_eq!(first.prompt.as_deref(), Some("How?"));
    assert_eq!(first.texts().collect::<Vec<_>>(), ["Thus."]);
    assert!(
        set.document(3).is_err(),
        "a damaged record is not passed over"
    );
    let choice = plain("choice");
    assert!(DataSet::open(&choice, std::slice::from_ref(&path)).is_err());
    let text = folder.path().join("a.md");
    fs::write(&text, "x").unwrap();
    assert!(DataSet::open(&plain("interleaved"), std::slice::from_ref(&text)).is_err());
    assert!(DataSet::open(&plain("image_text"), &[text]).is_err());
}

/// One file of a set is open, that which was read last: its records cost no opening each.
#[cfg(unix)]
#[test]
fn the_file_that_was_read_last_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name));
    for file in &files {
        fs::write(file, "{\"text\": \"one\"}\n{\"text\": \"two\"}\n").unwrap();
    }
    let set = DataSet::open(&text_kind(), &files).unwrap();
    for index in [0, 2] {
        set.document(index).unwrap();
    }
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(set.document(3).unwrap().texts().next(), Some("two"));
    assert!(set.document(1).is_err(), "another file is opened");
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
        let set = open(plain("image_text"), &data, pattern);
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
    let articles = open(plain("interleaved"), &data, "interleaved/*.jsonl");
    assert_eq!(articles.len(), 82 + 57 + 14 + 272 + 14 + 15 + 8 + 33);
    let (mut pictures, mut few) = (0, 0);
    for index in 0..articles.len() {
        let document = articles.document(index).unwrap();
        assert_eq!(
            document.pictures() as u64,
            document.meta["n_images"].as_u64().unwrap()
        );
        assert!(document.prompt.is_some());
        few += usize::from(document.pictures() <= 3);
        for segment in &document.segments {
            if let Segment::Picture(picture) = segment {
                assert!(picture.path().is_file(), "{}", picture.path().display());
                pictures += 1;
            }
        }
    }
    assert!(pictures > articles.len(), "{pictures}");
    assert!(few > 300 && few < 495, "{few}");

    let answers = open(plain("instruct"), &data, "instruct/train.jsonl");
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
