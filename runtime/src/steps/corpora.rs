//! Data sets of a program as the steps need them: documents, token ids, pictures, questions.

use std::path::PathBuf;

use jam_ir::recipe::{DataRef, DataSource, DecodeRecipe, Step};

use super::Runner;
use crate::inputs::Inputs;
use crate::{Error, ErrorKind, Result};
use jam_data::batches::EncodedSet;
use jam_data::images::Picture;
use jam_data::sources::{self, ChoiceItem, Document, Segment};
use jam_data::tokens::{Codec, Part};
use jam_lessons::{LessonsFolder, Split};

/// Pictures encoded at once.
const PICTURES: usize = 256;

impl Runner<'_> {
    /// Files of one split of a data set.
    fn files(&self, source: &DataSource) -> Result<Vec<PathBuf>> {
        match source {
            DataSource::Files(patterns) => sources::matching_files(&self.work.folder, patterns),
            DataSource::Lessons {
                lessons,
                part,
                split,
            } => {
                let folder = self.work.result(&Step::Lessons(lessons.clone()));
                let folder =
                    LessonsFolder::open(&folder).map_err(|error| Error::new(error.to_string()))?;
                let split = match split.as_str() {
                    "train" => Split::Train,
                    "val" => Split::Val,
                    _ => Split::Test,
                };
                let path = folder
                    .part(part, split)
                    .ok_or_else(|| Error::new(format!("drawing lessons have no part `{part}`")))?;
                if path.is_dir() {
                    return sources::matching_files(&path, &["*.tar".to_owned()]);
                }
                Ok(vec![path])
            }
        }
    }

    /// Tells what is worth knowing of data, the first time that it is found.
    fn tell_once(&self, note: String) {
        let mut told = self.told.borrow_mut();
        if !told.contains(&note) {
            self.progress.note(&note);
            told.insert(note);
        }
    }

    /// Looks whether the pictures are there that lists of the steps' data name. The keys of the steps say of which
    /// lists one is not.
    ///
    /// # Errors
    /// When one is not there, and a record that is used names it.
    pub(super) fn check_pictures(&self) -> Result<()> {
        for reference in self.graph().without_pictures() {
            sources::absent_pictures(&reference, &self.documents(&reference)?)?;
        }
        Ok(())
    }
}

impl Inputs for Runner<'_> {
    /// Every document of a split, as [`sources::split_documents`] has it; what is left out is told.
    fn documents(&self, reference: &DataRef) -> Result<Vec<Document>> {
        let recipe = self.work.data(&reference.name)?;
        let find = |source: &DataSource| self.files(source);
        let split = sources::split_documents(recipe, reference, &find)?;
        for note in split.notes {
            self.tell_once(note);
        }
        Ok(split.documents)
    }

    /// A split as token ids; encoded once and kept.
    fn encoded(&self, reference: &DataRef, codec: &Codec) -> Result<EncodedSet> {
        let key = self.graph().encoded_key(reference, codec.layout())?;
        let cache = self.work.out.join("cache");
        let path = cache.join(format!("{key}.tokens"));
        match EncodedSet::load(&path) {
            Ok(set) => return Ok(set),
            Err(error) if error.kind == ErrorKind::Absent => {}
            Err(error) if error.kind == ErrorKind::Damaged => {
                self.progress.note(&format!("{error}: encoded again"));
            }
            Err(error) => return Err(error),
        }
        let documents = self.documents(reference)?;
        let mut bar = self
            .progress
            .begin(&format!("encode {reference}"), documents.len() as u64);
        let mut set = EncodedSet::default();
        let mut start = 0;
        while start < documents.len() {
            // A group of documents with about a batch of pictures among them.
            let (mut end, mut count) = (start, 0);
            while end < documents.len() && (count < PICTURES && end - start < 4 * PICTURES) {
                count += documents[end]
                    .segments
                    .iter()
                    .filter(|s| matches!(s, Segment::Picture(_)))
                    .count();
                end += 1;
            }
            encode_group(codec, &documents[start..end], &mut set)?;
            start = end;
            bar.at(start as u64, "");
            if self.stop.asked() {
                return Err(Error::new(format!("stopped while encoding {reference}")));
            }
        }
        // What is kept under a key is made from what the key is of.
        self.look_again();
        if self.graph().encoded_key(reference, codec.layout())? != key {
            let message = format!("what `{reference}` is read from changed while it was encoded");
            return Err(Error::new(message).with_help("the same command reads what is there now"));
        }
        set.save(&path)?;
        Ok(set)
    }

    /// Every text of a split, questions and captions too.
    fn texts(&self, reference: &DataRef) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for document in self.documents(reference)? {
            texts.extend(document.prompt);
            texts.extend(
                document
                    .segments
                    .into_iter()
                    .filter_map(|segment| match segment {
                        Segment::Text(text) => Some(text),
                        Segment::Picture(_) => None,
                    }),
            );
        }
        Ok(texts)
    }

    /// Every picture of a split, cropped to a square of `side` pixels; at most `limit`, 0 for all.
    fn pictures(&self, reference: &DataRef, side: usize, limit: usize) -> Result<Vec<Picture>> {
        let mut pictures = Vec::new();
        for document in self.documents(reference)? {
            for segment in document.segments {
                if limit > 0 && pictures.len() == limit {
                    return Ok(pictures);
                }
                if let Segment::Picture(picture) = segment {
                    pictures.push(jam_data::tokens::fitted(&picture.load()?, side)?);
                }
            }
        }
        Ok(pictures)
    }

    /// Multiple-choice items; the first `limit`, 0 for all.
    fn choices(&self, reference: &DataRef, limit: u64) -> Result<Vec<ChoiceItem>> {
        let recipe = self.work.data(&reference.name)?;
        let find = |source: &DataSource| self.files(source);
        let (files, notes) = sources::split_files(recipe, reference, &find)?;
        notes.into_iter().for_each(|note| self.tell_once(note));
        let format = sources::format_of(&recipe.format)?;
        let mut items = format.items(&recipe.format, &files)?;
        if limit > 0 {
            items.truncate(limit as usize);
        }
        Ok(items)
    }

    fn decoding(&self, name: &str) -> Result<&DecodeRecipe> {
        self.work.decoding(name)
    }
}

/// Encodes documents whose pictures go through the image tokenizer together.
fn encode_group(codec: &Codec, documents: &[Document], set: &mut EncodedSet) -> Result<()> {
    let mut pictures = Vec::new();
    for document in documents {
        for segment in &document.segments {
            if let Segment::Picture(picture) = segment {
                pictures.push(picture.load()?);
            }
        }
    }
    let codes = if pictures.is_empty() {
        Vec::new()
    } else {
        codec.picture_ids(&pictures)?
    };
    let mut codes = codes.iter();
    for document in documents {
        let parts = document.segments.iter().map(|segment| match segment {
            Segment::Text(text) => Ok(Part::Text(text)),
            Segment::Picture(_) => {
                let codes = codes
                    .next()
                    .ok_or_else(|| Error::new("a picture was not encoded"))?;
                Ok(Part::Picture(codes))
            }
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let encoded = codec.document(document.prompt.as_deref(), &parts);
        let (ids, question) = encoded.map_err(|error| Error {
            message: format!("record `{}`: {}", document.id, error.message),
            ..error
        })?;
        set.push(&ids, question);
    }
    Ok(())
}
