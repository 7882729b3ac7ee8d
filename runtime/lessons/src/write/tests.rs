//! What is written is what was promised: same bytes, nothing held out in training, pictures that show their records.

use super::*;
use crate::analyse::analyse;
use crate::questions::ChoiceItem;
use crate::scene::{Colour, Kind, Place, Thing};
use crate::texts::TextRecord;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

fn lessons(settings: &LessonsSettings) -> (tempfile::TempDir, LessonsFolder) {
    let home = tempfile::tempdir().unwrap();
    let folder = write(settings, &home.path().join("lessons"), &mut |_, _| {}).unwrap();
    (home, folder)
}

fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every file of a folder by its path within it.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

/// Caption, record and picture of every pair.
fn pairs(folder: &Path) -> Vec<(String, PairRecord, Picture)> {
    let mut members: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (_, bytes) in files(folder) {
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let (key, ending) = name.split_once('.').unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            members
                .entry(key.to_owned())
                .or_default()
                .insert(ending.to_owned(), bytes);
        }
    }
    members
        .into_values()
        .map(|member| {
            let picture = Picture::decode(&member["png"]).unwrap();
            let record = serde_json::from_slice(&member["json"]).unwrap();
            (
                String::from_utf8(member["txt"].clone()).unwrap(),
                record,
                picture,
            )
        })
        .collect()
}

/// Every thing that could be meant by a text: colours next to kinds, with all its places.
fn things_said(text: &str, places_of: &str) -> Vec<Thing> {
    let small = |thing: &Thing| {
        if thing.figure.is_small() {
            "small "
        } else {
            ""
        }
    };
    Thing::all()
        .filter(|thing| places_of.contains(&thing.place.name()))
        .filter(|thing| {
            let name = format!("{} {}", thing.colour.name(), thing.figure.kind().name());
            let said = format!("{}{name}", small(thing));
            text.match_indices(&said)
                .any(|(at, _)| thing.figure.is_small() || !text[..at].ends_with("small "))
        })
        .collect()
}

#[test]
fn the_same_settings_give_the_same_bytes_and_others_do_not() {
    let settings = LessonsSettings::smoke();
    let (_one, first) = lessons(&settings);
    let (_two, second) = lessons(&settings);
    let (one, two) = (files(&first.folder), files(&second.folder));
    assert_eq!(
        one.keys().collect::<Vec<_>>(),
        two.keys().collect::<Vec<_>>()
    );
    for (path, bytes) in &one {
        assert!(two[path] == *bytes, "{}", path.display());
    }
    let (_three, third) = lessons(&LessonsSettings {
        seed: 2,
        ..settings
    });
    assert!(
        files(&third.folder)[Path::new("text/train.jsonl")] != one[Path::new("text/train.jsonl")]
    );
}

#[test]
fn no_held_out_thing_is_in_any_training_record() {
    let (_home, folder) = lessons(&LessonsSettings {
        texts: 4000,
        pairs: 3000,
        articles: 300,
        ..LessonsSettings::smoke()
    });
    let train = |scene: &Scene| {
        scene
            .things()
            .iter()
            .all(|thing| Split::of(thing) == Split::Train)
    };
    let no_stranger = |text: &str, things: &[Thing]| {
        // Said somewhere in the text, in any combination of names and places: then either the
        // record's own thing, or nothing that is held out and named in one breath.
        for sentence in text.split_inclusive(['.', '?', ',']) {
            let said = things_said(sentence, sentence);
            if said.len() == 1 {
                assert!(things.contains(&said[0]), "`{sentence}` of `{text}`");
                assert_eq!(Split::of(&said[0]), Split::Train, "`{sentence}`");
            }
        }
    };
    for record in json_lines::<TextRecord>(&folder.text(Split::Train)) {
        assert!(record.scenes.iter().all(train), "{record:?}");
        let things: Vec<Thing> = record
            .scenes
            .iter()
            .flat_map(|scene| scene.things())
            .copied()
            .collect();
        no_stranger(&record.text, &things);
    }
    for (caption, record, picture) in pairs(&folder.pairs(Split::Train)) {
        assert!(train(&record.scene), "{caption}");
        no_stranger(&caption, record.scene.things());
        // What the caption names is what the record holds, and the picture shows it.
        for thing in record.scene.things() {
            assert!(
                things_said(&caption.replace("big ", ""), &caption).contains(thing),
                "{caption}"
            );
        }
        assert_eq!(analyse(&picture).unwrap().scene, record.scene);
    }
    for record in json_lines::<ArticleRecord>(&folder.articles(Split::Train)) {
        assert!(train(&record.asked) && record.scenes.iter().all(train));
        no_stranger(&record.prompt, record.asked.things());
        for segment in &record.segments {
            match segment {
                Segment::Text { text } => no_stranger(text, record.asked.things()),
                Segment::Image { image, .. } => {
                    let path = folder.folder.join("articles").join(image);
                    let shown = analyse(&Picture::read(&path).unwrap()).unwrap().scene;
                    assert!(train(&shown));
                }
            }
        }
    }
}

#[test]
fn held_out_records_hold_only_held_out_things_and_no_training_text_has_their_questions() {
    let (_home, folder) = lessons(&LessonsSettings {
        texts: 3000,
        ..LessonsSettings::smoke()
    });
    for split in [Split::Val, Split::Test] {
        let pairs = pairs(&folder.pairs(split));
        let scenes: BTreeSet<&Scene> = pairs.iter().map(|(_, record, _)| &record.scene).collect();
        assert_eq!(scenes.len(), pairs.len(), "no scene comes twice");
        assert!(
            scenes
                .iter()
                .all(|scene| Split::of_scene(scene) == Some(split))
        );
        for record in json_lines::<ArticleRecord>(&folder.articles(split)) {
            assert!(record.placed && Split::of_scene(&record.asked) == Some(split));
            assert_eq!(record.scenes.last(), Some(&record.asked));
        }
        let train = fs::read_to_string(folder.text(Split::Train)).unwrap();
        for item in json_lines::<ChoiceItem>(&folder.choice(split)) {
            assert!(!train.contains(&item.question), "{}", item.question);
        }
    }
}

#[test]
fn article_pictures_show_every_step() {
    let (_home, folder) = lessons(&LessonsSettings::smoke());
    for record in json_lines::<ArticleRecord>(&folder.articles(Split::Test)) {
        assert!((2..=6).contains(&record.n_images) && record.scenes.len() == record.n_images);
        let mut scenes = record.scenes.iter();
        let mut previous_was_text = false;
        for segment in &record.segments {
            if let Segment::Image {
                image,
                width,
                height,
            } = segment
            {
                let picture = Picture::read(&folder.folder.join("articles").join(image)).unwrap();
                assert_eq!((picture.width(), picture.height()), (*width, *height));
                assert_eq!(analyse(&picture).unwrap().scene, *scenes.next().unwrap());
                assert!(previous_was_text);
            }
            previous_was_text = matches!(segment, Segment::Text { .. });
        }
    }
}

#[test]
fn all_words_of_the_world_are_in_training() {
    let (_home, folder) = lessons(&LessonsSettings {
        pairs: 3000,
        ..LessonsSettings::smoke()
    });
    let mut names = BTreeSet::new();
    for (_, record, _) in pairs(&folder.pairs(Split::Train)) {
        for thing in record.scene.things() {
            names.extend([
                thing.colour.name().to_owned(),
                thing.figure.name(),
                thing.place.name(),
            ]);
        }
    }
    assert_eq!(
        names.len(),
        Colour::ALL.len() + Kind::ALL.len() + 4 + Place::all().count()
    );
}

#[test]
fn progress_ends_at_the_total_and_a_finished_folder_opens() {
    let home = tempfile::tempdir().unwrap();
    let (path, settings) = (home.path().join("deep/lessons"), LessonsSettings::smoke());
    let mut last = (0, 0);
    let mut calls = 0;
    let folder = write(&settings, &path, &mut |done, total| {
        assert!(done == last.0 + 1 && done <= total);
        last = (done, total);
        calls += 1;
    })
    .unwrap();
    assert_eq!((last.0, calls), (settings.records(), settings.records()));
    assert_eq!(LessonsFolder::open(&path).unwrap(), folder);
    assert_eq!(
        fs::read_dir(home.path().join("deep")).unwrap().count(),
        1,
        "nothing is left behind"
    );
}

#[test]
fn other_files_are_not_overwritten_and_bad_settings_are_told() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("letter.txt"), "dear").unwrap();
    let settings = LessonsSettings::smoke();
    let error = write(&settings, home.path(), &mut |_, _| {}).unwrap_err();
    assert!(error.message.contains("holds files"), "{error}");
    assert_eq!(
        fs::read_to_string(home.path().join("letter.txt")).unwrap(),
        "dear"
    );
    let path = home.path().join("lessons");
    for wrong in [
        LessonsSettings {
            most_things: 0,
            ..settings.clone()
        },
        LessonsSettings {
            most_steps: 7,
            ..settings.clone()
        },
    ] {
        let error = write(&wrong, &path, &mut |_, _| {}).unwrap_err();
        assert!(error.message.starts_with("most_"), "{error}");
        assert!(!path.exists());
    }
    assert!(LessonsFolder::open(&path).is_err());
    // What was made is not written over, by lessons either.
    write(&settings, &path, &mut |_, _| {}).unwrap();
    let other = LessonsSettings {
        seed: 9,
        ..settings.clone()
    };
    assert!(write(&other, &path, &mut |_, _| {}).is_err());
    let folder = LessonsFolder::open(&path).unwrap();
    assert_eq!(folder.settings.seed, settings.seed);
}
