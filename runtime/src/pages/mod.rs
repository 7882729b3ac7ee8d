//! Pages: illustrated answers, pictures beside their reconstructions, tables and curves, as one
//! folder that a browser opens, with the same answers as Markdown.

mod chart;
mod html;
mod markdown;

use std::path::Path;

pub use chart::{Chart, Curve};
pub use html::render_html;
pub use markdown::{document_markdown, render_markdown};

use crate::Result;
use crate::folders::put;
use jam_data::images::Picture;
use jam_data::tokens::Piece;
use jam_weights::checkpoints::{AtomicFolder, write_file};

/// What one model answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Name of the model.
    pub model: String,
    /// Text and pictures in order.
    pub pieces: Vec<Piece>,
}

/// A question and its answers.
#[derive(Clone, Debug)]
pub struct Question {
    /// The prompt.
    pub prompt: String,
    /// One answer a model.
    pub answers: Vec<Answer>,
}

/// A table with a head; cells are plain text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Heading above it.
    pub title: String,
    /// Column heads.
    pub head: Vec<String>,
    /// Rows, as long as the head.
    pub rows: Vec<Vec<String>>,
    /// Sentences below it.
    pub notes: Vec<String>,
}

/// Pictures beside their reconstructions.
#[derive(Clone, Debug)]
pub struct Reconstructions {
    /// What is shown, in a sentence.
    pub caption: String,
    /// Originals.
    pub originals: Vec<Picture>,
    /// The same after encoding and decoding.
    pub reconstructions: Vec<Picture>,
}

/// A whole page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// A paragraph below it.
    pub lead: String,
    /// Questions with answers.
    pub questions: Vec<Question>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Pictures beside reconstructions.
    pub reconstructions: Vec<Reconstructions>,
    /// Curves.
    pub charts: Vec<Chart>,
}

/// Writes `index.html`, `index.md` and the pictures into a folder, atomically; what stands there then stays, unless it is
/// to be replaced. `finish` adds files of its own.
///
/// # Errors
/// When a picture cannot be encoded, a file not be written, or something stands there that is not to be replaced.
pub fn write_page(
    page: &Page,
    target: &Path,
    replace: bool,
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let folder = AtomicFolder::create(target)?;
    fill_page(page, folder.path())?;
    finish(folder.path())?;
    put(folder, replace)
}

/// Writes the files of a page into a folder that is there.
///
/// # Errors
/// When a picture cannot be encoded or a file not be written.
pub fn fill_page(page: &Page, folder: &Path) -> Result<()> {
    let html = render_html(page, &mut PictureFiles::new(folder))?;
    let markdown = render_markdown(page, &mut PictureFiles::new(folder))?;
    write_file(&folder.join("index.html"), html.as_bytes())?;
    write_file(&folder.join("index.md"), markdown.as_bytes())
}

/// Numbers the pictures of a page and writes each into its folder.
#[derive(Debug)]
pub struct PictureFiles<'a> {
    folder: &'a Path,
    count: usize,
}

impl<'a> PictureFiles<'a> {
    /// Pictures of a page that will stand in `folder`.
    pub fn new(folder: &'a Path) -> PictureFiles<'a> {
        PictureFiles { folder, count: 0 }
    }

    /// Writes the next picture and gives its path relative to the page.
    ///
    /// # Errors
    /// When it cannot be encoded or written.
    pub fn add(&mut self, picture: &Picture) -> Result<String> {
        self.count += 1;
        let name = format!("pictures/{:03}.png", self.count);
        let path = self.folder.join(&name);
        if !path.exists() {
            write_file(&path, &picture.to_png()?)?;
        }
        Ok(name)
    }
}
