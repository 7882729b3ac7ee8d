//! A page, or one document, as Markdown with pictures beside it.

use std::fmt::Write;

use super::{Page, PictureFiles, Piece, Table};
use crate::Result;

/// One interleaved document; its pictures are written as they come.
///
/// # Errors
/// When a picture cannot be written.
pub fn document_markdown(pieces: &[Piece], pictures: &mut PictureFiles<'_>) -> Result<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece.trim()),
            Piece::Picture(picture) => {
                let _ = write!(text, "![drawn by the model]({})", pictures.add(picture)?);
            }
        }
        text.push_str("\n\n");
    }
    Ok(text)
}

/// The page; its pictures are numbered as in the HTML.
///
/// # Errors
/// When a picture cannot be written.
pub fn render_markdown(page: &Page, pictures: &mut PictureFiles<'_>) -> Result<String> {
    let mut text = format!("# {}\n\n{}\n\n", page.title, page.lead);
    for question in &page.questions {
        let _ = write!(text, "## {}\n\n", question.prompt);
        for answer in &question.answers {
            let _ = write!(text, "### {}\n\n", answer.model);
            text.push_str(&document_markdown(&answer.pieces, pictures)?);
        }
    }
    for table in &page.tables {
        let _ = write!(text, "## {}\n\n{}\n", table.title, table.markdown());
    }
    for item in &page.reconstructions {
        let _ = write!(text, "## {}\n\n", item.caption);
        for (original, reconstruction) in item.originals.iter().zip(&item.reconstructions) {
            let (original, reconstruction) =
                (pictures.add(original)?, pictures.add(reconstruction)?);
            let _ = writeln!(
                text,
                "![original]({original}) ![reconstruction]({reconstruction})"
            );
        }
        text.push('\n');
    }
    Ok(text)
}

impl Table {
    /// The table in Markdown, with its notes.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.head);
        text.push_str(&format!("|{}\n", "---|".repeat(self.head.len())));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }
}
