//! Splits of a program's data sets: which files and records are in each, and what is left out.
//!
//! - A file of `val` or `test` is never in `train`.
//! - Where the program gives no `val`, a share of the training records is, by a hash of each one's id.
//! - A record whose text is empty has nothing to learn and is left out; so are articles with more pictures than
//!   the program wants.
//!
//! What is left out unasked is told, as a sentence each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jam_ir::recipe::{DataRecipe, DataRef, DataSource};

use super::set::unfolded;
use super::{DataSet, Document, Segment, is_held_out};
use crate::{Error, ErrorKind, Result};

/// The documents of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitDocuments {
    /// In the order of files and records.
    pub documents: Vec<Document>,
    /// What was left out, a sentence each; empty where nothing was.
    pub notes: Vec<String>,
}

/// Where the files of a source lie.
type Find<'f> = &'f dyn Fn(&DataSource) -> Result<Vec<PathBuf>>;

/// The files of a split, folders unfolded, and what is told of them. `find` knows where a source lies.
///
/// # Errors
/// When the data set has no such split, a file is not there, or no file is left for it.
pub fn split_files(
    recipe: &DataRecipe,
    reference: &DataRef,
    find: Find<'_>,
) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let split = &reference.split;
    let given = recipe.splits.get_key_value(split);
    // What is held out comes from the training files.
    let given = given.or_else(|| {
        recipe
            .splits
            .get_key_value("train")
            .filter(|_| split == "val")
    });
    let (from, source) = given
        .ok_or_else(|| Error::new(format!("data `{}` has no split `{split}`", reference.name)))?;
    let files = unfolded(&recipe.format, &find(source)?)?;
    if from != "train" || !matches!(source, DataSource::Files(_)) {
        return Ok((files, Vec::new()));
    }
    let mut others = BTreeSet::new();
    for (_, source) in recipe.splits.iter().filter(|(name, _)| *name != "train") {
        let files = unfolded(&recipe.format, &find(source)?)?;
        others.extend(files.iter().map(|file| true_path(file)));
    }
    let (apart, kept): (Vec<PathBuf>, Vec<PathBuf>) = files
        .into_iter()
        .partition(|file| others.contains(&true_path(file)));
    let Some(first) = apart.first() else {
        return Ok((kept, Vec::new()));
    };
    if kept.is_empty() {
        return Err(Error::new(format!(
            "data `{}` has no file to train on: each is one of `val` or `test` too",
            reference.name
        ))
        .with_help("a file of `val` or `test` is never trained on"));
    }
    let note = match apart.len() {
        1 => format!("`{}` is", first.display()),
        count => format!(
            "{count} files, the first of them `{}`, are",
            first.display()
        ),
    };
    let note = format!(
        "data `{}`: {note} of `val` or `test`, and left out of `train`",
        reference.name
    );
    Ok((kept, vec![note]))
}

/// Where a file lies, whatever it is called.
fn true_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Every document of a split. `find` knows where a source lies.
///
/// # Errors
/// When a file or record cannot be read, or no document is left; the message says why none is.
pub fn split_documents(
    recipe: &DataRecipe,
    reference: &DataRef,
    find: Find<'_>,
) -> Result<SplitDocuments> {
    let mut draw = holds_out(recipe, &reference.split).then(Draw::default);
    let mut documents = Vec::new();
    let records = Records::read(recipe, reference, find, &mut |document| {
        let taken = draw.as_mut().map(|draw| draw.holds_out(recipe, &document));
        if taken.is_none_or(|held_out| held_out == (reference.split == "val")) {
            documents.push(document);
        }
    })?;
    records.split(recipe, reference, documents, draw.as_ref())
}

/// Every document of `train` and of the `val` that is held out of it, from one reading, where a program gives no `val`
/// ([`holds_out`]).
///
/// # Errors
/// When a file or record cannot be read; of each split, when no document is left for it.
pub fn divided_documents(
    recipe: &DataRecipe,
    name: &str,
    find: Find<'_>,
) -> Result<[Result<SplitDocuments>; 2]> {
    let [train, val] = ["train", "val"].map(|split| DataRef {
        name: name.to_owned(),
        split: split.to_owned(),
    });
    let mut draw = Draw::default();
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    let records = Records::read(recipe, &train, find, &mut |document| match draw
        .holds_out(recipe, &document)
    {
        true => held_out.push(document),
        false => kept.push(document),
    })?;
    Ok([
        records.split(recipe, &train, kept, Some(&draw)),
        records.split(recipe, &val, held_out, Some(&draw)),
    ])
}

/// Whether a split is the records of `train` but for a share, or that share.
pub fn holds_out(recipe: &DataRecipe, split: &str) -> bool {
    split != "test" && !recipe.splits.contains_key("val") && recipe.held_out > 0.0
}

/// What a draw of the records that are held out has seen of them.
#[derive(Debug, Default)]
struct Draw {
    records: u64,
    /// The id of the first, and whether all others have the same.
    id: Option<(String, bool)>,
}

impl Draw {
    /// Whether a record is held out.
    fn holds_out(&mut self, recipe: &DataRecipe, document: &Document) -> bool {
        self.records += 1;
        match &mut self.id {
            Some((first, same)) => *same &= *first == document.id,
            None => self.id = Some((document.id.clone(), true)),
        }
        is_held_out(&document.id, recipe.held_out)
    }
}

/// What was found in the files of a split.
#[derive(Debug)]
struct Records {
    count: usize,
    /// Those that have more pictures than the program wants.
    too_many: u64,
    /// Those whose text is empty.
    blank: u64,
    notes: Vec<String>,
}

impl Records {
    /// Reads every record of the files of a split, and hands on those that are not left out.
    fn read(
        recipe: &DataRecipe,
        reference: &DataRef,
        find: Find<'_>,
        take: &mut dyn FnMut(Document),
    ) -> Result<Records> {
        let (files, mut notes) = split_files(recipe, reference, find)?;
        let set = DataSet::open(&recipe.format, &files)?;
        let told = set.notes().iter();
        notes.extend(told.map(|note| format!("data `{}`: {note}", reference.name)));
        let (mut too_many, mut first_blank, mut blank) = (0, None, 0);
        for index in 0..set.len() {
            let document = set.document(index)?;
            if !set.keeps(&document) {
                too_many += 1;
            } else if set.is_blank(&document) {
                blank += 1;
                first_blank.get_or_insert(document.id);
            } else {
                take(document);
            }
        }
        let count = set.len();
        if let Some(first) = first_blank {
            notes.push(format!(
                "data `{}`: {blank} of {count} records are left out, for their text is empty; the first is `{first}`",
                reference.name,
            ));
        }
        Ok(Records {
            count,
            too_many,
            blank,
            notes,
        })
    }

    /// A split with the documents that are left for it.
    fn split(
        &self,
        recipe: &DataRecipe,
        reference: &DataRef,
        documents: Vec<Document>,
        draw: Option<&Draw>,
    ) -> Result<SplitDocuments> {
        if !documents.is_empty() {
            let notes = self.notes.clone();
            return Ok(SplitDocuments { documents, notes });
        }
        if let Some(draw) = draw
            && let Some((_, same)) = draw.id
        {
            return Err(nothing_drawn(recipe, reference, draw.records, same));
        }
        let mut why = Vec::new();
        if self.too_many > 0 {
            let most = recipe.format.count("max_pictures").unwrap_or(0);
            why.push(format!("{} have more than {most} pictures", self.too_many));
        }
        if self.blank > 0 {
            why.push(format!("{} have an empty text", self.blank));
        }
        let why = match why.is_empty() {
            true => "its files have no records".to_owned(),
            false => format!("of {} records, {}", self.count, why.join(" and ")),
        };
        Err(Error::new(format!(
            "data `{reference}` has no documents: {why}"
        )))
    }
}

/// The draw of a share left a split without records.
fn nothing_drawn(recipe: &DataRecipe, reference: &DataRef, drawn: u64, same: bool) -> Error {
    let percent = recipe.held_out * 100.0;
    let message = format!("data `{reference}` has no documents");
    if same && drawn > 1 {
        return Error::new(format!(
            "{message}: all {drawn} records have one `id`, and the draw of the {percent}% that are held out \
             is by id"
        ))
        .with_help("give every record an `id` of its own, or none; or name the files of `val:`");
    }
    let records = if drawn == 1 { "record" } else { "records" };
    let taken = match reference.split.as_str() {
        "val" => format!("took none of {drawn} {records}"),
        _ if drawn == 1 => "took the only record".to_owned(),
        _ => format!("took all of {drawn} records"),
    };
    Error::new(format!(
        "{message}: the draw of the {percent}% that are held out {taken}"
    ))
    .with_help(match reference.split.as_str() {
        "val" => "write a larger share, as `held_out: 20%`, or name the files of `val:`; the draw is by the records' ids",
        _ => "write a smaller share, as `held_out: 1%`, or name the files of `val:`; the draw is by the records' ids",
    })
}

/// What is wrong where documents name pictures that are not there; only names are looked at.
///
/// # Errors
/// When a picture is not there: how many are not, and the first.
pub fn absent_pictures(reference: &DataRef, documents: &[Document]) -> Result<()> {
    let mut absent = 0;
    let mut first = None;
    for document in documents {
        for segment in &document.segments {
            if let Segment::Picture(picture) = segment
                && !picture.path().is_file()
            {
                absent += 1;
                first.get_or_insert((document, picture.path()));
            }
        }
    }
    let Some((document, path)) = first else {
        return Ok(());
    };
    let message = match absent {
        1 => format!(
            "data `{reference}`: a picture is not there; the record `{}` names it",
            document.id
        ),
        _ => format!(
            "data `{reference}`: {absent} pictures are not there; this is the first, which the record `{}` \
             names",
            document.id
        ),
    };
    Err(Error::of(ErrorKind::Absent, message)
        .with_path(path)
        .with_help("the names of pictures start in the folder of the file that names them"))
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
