//! The files of the lessons, in standard formats, the same bytes for the same settings.
//!
//! ```text
//! lessons.json                        the settings; written last
//! text/{train,val}.jsonl              {"text", "kind", "scenes"}
//! pairs/{train,val,test}/00000.tar    WebDataset: 000012.png, .txt (caption), .json (scene)
//! articles/{train,val,test}.jsonl     {"id", "kind", "prompt", "segments", "n_images", …, "scenes"}
//! articles/images/*.png               named in the segments, relative to the .jsonl
//! choice/{val,test}.jsonl             {"question", "choices", "gold", "topic", "scene"}
//! ```
//!
//! The folder is built under a temporary name beside its own and renamed when it is complete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use jam_data::random::Random;
use serde::Serialize;

use crate::{Error, ErrorKind, Result};
use jam_data::images::Picture;

use super::articles::{FEWEST_STEPS, article};
use super::captions::caption;
use super::folder::{
    ArticleRecord, FORMAT, LessonsFolder, LessonsSettings, MANIFEST, Manifest, PairRecord, Segment,
};
use super::questions::choice_item;
use super::render::{SIDE, render};
use super::scene::{MAX_THINGS, Scene};
use super::splits::{SceneSampler, Split, Variety, below};
use super::texts::text;

/// Draws before a held-out record may repeat one that is there already.
const TRIES: usize = 50;

/// Pairs in one tar file.
const PAIRS_PER_SHARD: usize = 10_000;

/// Writes the lessons into `folder`, which is made if it is not there and else must be empty but for hidden files;
/// the manifest comes last. `progress` is told the records done and the records in all.
///
/// # Errors
/// When a setting is out of range, the folder holds something, or a file cannot be written.
pub fn write(
    settings: &LessonsSettings,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LessonsFolder> {
    check(settings)?;
    let occupied = || -> io::Result<bool> {
        if !folder.try_exists()? {
            return Ok(false);
        }
        for entry in fs::read_dir(folder)? {
            if !entry?.file_name().to_string_lossy().starts_with('.') {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if occupied().map_err(|error| Error::io("write", folder, error))? {
        let message = "the folder holds files; nothing was written";
        return Err(Error::of(ErrorKind::Exists, message)
            .with_path(folder)
            .with_help("name another folder, or empty this one"));
    }
    let total = settings.records();
    let mut done = 0;
    let mut writer = Writer {
        settings,
        root: folder,
        tick: &mut || {
            done += 1;
            progress(done, total);
        },
    };
    writer.texts()?;
    writer.pairs()?;
    writer.articles()?;
    writer.choices()?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        settings: settings.clone(),
    };
    let path = folder.join(MANIFEST);
    let mut file = create(&path)?;
    serde_json::to_writer_pretty(&mut file, &manifest)
        .map_err(|error| Error::io("write", &path, error.into()))?;
    finish(file, &path)?;
    Ok(LessonsFolder {
        folder: folder.to_owned(),
        settings: settings.clone(),
    })
}

fn check(settings: &LessonsSettings) -> Result<()> {
    if !(1..=MAX_THINGS).contains(&settings.most_things) {
        let given = settings.most_things;
        return Err(Error::new(format!(
            "most_things is {given}, and a picture holds 1 to {MAX_THINGS}"
        )));
    }
    if !(FEWEST_STEPS..=MAX_THINGS).contains(&settings.most_steps) {
        let given = settings.most_steps;
        return Err(Error::new(format!(
            "most_steps is {given}, and an article has {FEWEST_STEPS} to {MAX_THINGS} pictures"
        )));
    }
    Ok(())
}

struct Writer<'a> {
    settings: &'a LessonsSettings,
    root: &'a Path,
    /// Called after each record.
    tick: &'a mut dyn FnMut(),
}

/// A kind of file has its own random stream per part, so that more of one leaves the others as they were.
#[derive(Clone, Copy)]
enum Section {
    Text,
    Pairs,
    Articles,
    Choice,
}

impl Writer<'_> {
    fn rng(&self, section: Section, split: Split) -> Random {
        let stream = section as u64 * 3 + split as u64 + 1;
        Random::seeded(self.settings.seed, stream)
    }

    fn texts(&mut self) -> Result<()> {
        for (split, count) in [
            (Split::Train, self.settings.texts),
            (Split::Val, self.settings.val_texts),
        ] {
            let (mut rng, sampler) = (self.rng(Section::Text, split), SceneSampler::new(split));
            self.lines(&format!("text/{}.jsonl", split.name()), count, |_, _| {
                Ok(text(&mut rng, &sampler, split))
            })?;
        }
        Ok(())
    }

    fn choices(&mut self) -> Result<()> {
        for (split, count) in [
            (Split::Val, self.settings.val_choices),
            (Split::Test, self.settings.choices),
        ] {
            let (mut rng, sampler) = (self.rng(Section::Choice, split), SceneSampler::new(split));
            let mut seen = BTreeSet::new();
            self.lines(&format!("choice/{}.jsonl", split.name()), count, |_, _| {
                let mut item = choice_item(&mut rng, &sampler, split);
                for _ in 0..TRIES {
                    let choices: BTreeSet<String> = item.choices.iter().cloned().collect();
                    if seen.insert((item.question.clone(), choices)) {
                        break;
                    }
                    item = choice_item(&mut rng, &sampler, split);
                }
                Ok(item)
            })?;
        }
        Ok(())
    }

    fn pairs(&mut self) -> Result<()> {
        for split in Split::ALL {
            let (mut rng, sampler) = (self.rng(Section::Pairs, split), SceneSampler::new(split));
            let count = self.settings.pairs_of(split);
            let mut seen = BTreeSet::new();
            for shard in 0..count.div_ceil(PAIRS_PER_SHARD).max(1) {
                let path = self
                    .root
                    .join(format!("pairs/{}/{shard:05}.tar", split.name()));
                let mut tar = tar::Builder::new(create(&path)?);
                for index in shard * PAIRS_PER_SHARD..count.min((shard + 1) * PAIRS_PER_SHARD) {
                    let (caption, scene) = captioned_scene(
                        &mut rng,
                        &sampler,
                        self.settings.most_things,
                        split,
                        &mut seen,
                    );
                    let picture =
                        png(&render(&scene)).map_err(|error| Error::io("write", &path, error))?;
                    let json = serde_json::to_vec(&PairRecord { scene })
                        .map_err(|error| Error::io("write", &path, error.into()))?;
                    for (ending, bytes) in [
                        ("png", &picture[..]),
                        ("txt", caption.as_bytes()),
                        ("json", &json[..]),
                    ] {
                        append(&mut tar, &format!("{index:06}.{ending}"), bytes)
                            .map_err(|error| Error::io("write", &path, error))?;
                    }
                    (self.tick)();
                }
                let file = tar
                    .into_inner()
                    .map_err(|error| Error::io("write", &path, error))?;
                finish(file, &path)?;
            }
        }
        Ok(())
    }

    fn articles(&mut self) -> Result<()> {
        for split in Split::ALL {
            let (mut rng, sampler) = (self.rng(Section::Articles, split), SceneSampler::new(split));
            let most = self.settings.most_steps;
            let name = format!("articles/{}.jsonl", split.name());
            self.lines(&name, self.settings.articles_of(split), |index, root| {
                let steps = FEWEST_STEPS + below(&mut rng, most - FEWEST_STEPS + 1);
                let article = article(&mut rng, &sampler, steps, split != Split::Train);
                let (asked, id) = (
                    article.asked(),
                    format!("drawing_{}_{index:06}", split.name()),
                );
                let (mut segments, mut scenes) = (Vec::new(), Vec::new());
                for (step, (text, scene)) in (1..).zip(article.steps) {
                    let image = format!("images/{id}_{step}.png");
                    let path = root.join("articles").join(&image);
                    let mut file = create(&path)?;
                    png(&render(&scene))
                        .and_then(|bytes| file.write_all(&bytes))
                        .and_then(|()| file.flush())
                        .map_err(|error| Error::io("write", &path, error))?;
                    segments.push(Segment::Text { text });
                    segments.push(Segment::Image {
                        image,
                        width: SIDE,
                        height: SIDE,
                    });
                    scenes.push(scene);
                }
                segments.extend(article.closing.map(|text| Segment::Text { text }));
                let n_chars =
                    segments
                        .iter()
                        .fold(article.prompt.len(), |sum, segment| match segment {
                            Segment::Text { text } => sum + text.len(),
                            Segment::Image { .. } => sum,
                        });
                Ok(ArticleRecord {
                    id,
                    kind: "drawing".to_owned(),
                    prompt: article.prompt,
                    segments,
                    n_images: scenes.len(),
                    n_chars,
                    placed: article.placed,
                    asked,
                    scenes,
                })
            })?;
        }
        Ok(())
    }

    /// A file of `count` JSON lines; `make` gets the number of the line and the root folder.
    fn lines<T: Serialize>(
        &mut self,
        name: &str,
        count: usize,
        mut make: impl FnMut(usize, &Path) -> Result<T>,
    ) -> Result<()> {
        let path = self.root.join(name);
        let mut file = create(&path)?;
        for index in 0..count {
            let record = make(index, self.root)?;
            serde_json::to_writer(&mut file, &record)
                .map_err(|error| Error::io("write", &path, error.into()))?;
            file.write_all(b"\n")
                .map_err(|error| Error::io("write", &path, error))?;
            (self.tick)();
        }
        finish(file, &path)
    }
}

/// A caption and its scene. Held-out scenes differ from one another as long as there are enough.
fn captioned_scene(
    rng: &mut Random,
    sampler: &SceneSampler,
    most: usize,
    split: Split,
    seen: &mut BTreeSet<Scene>,
) -> (String, Scene) {
    let mut tries = 0;
    loop {
        let count = 1 + below(rng, most);
        let things = sampler.things(rng, count, Variety::Named);
        let caption = caption(rng, &things);
        let scene = Scene::new(things).unwrap_or_default();
        tries += 1;
        if split == Split::Train || tries > TRIES || seen.insert(scene.clone()) {
            return (caption, scene);
        }
    }
}

fn png(picture: &Picture) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Paeth)
        .write_image(
            picture.pixels(),
            SIDE as u32,
            SIDE as u32,
            ExtendedColorType::Rgb8,
        )
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// Appends a file with fixed owner, mode and time, so that equal contents are equal bytes.
fn append(tar: &mut tar::Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, bytes)
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io("write", parent, error))?;
    }
    File::create(path)
        .map(BufWriter::new)
        .map_err(|error| Error::io("write", path, error))
}

/// Flushes. Lessons can be made again, so they are not worth waiting for the disk.
fn finish(mut file: BufWriter<File>, path: &Path) -> Result<()> {
    file.flush()
        .map_err(|error| Error::io("write", path, error))
}

#[cfg(test)]
mod tests;
