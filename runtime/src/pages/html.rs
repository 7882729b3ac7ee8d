//! A page as HTML: one file without scripts, pictures beside it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Answer, Page, PictureFiles, Piece, Question, Reconstructions, Table};
use crate::Result;

/// The page; its pictures are written as they come.
///
/// # Errors
/// When a picture cannot be written.
pub fn render_html(page: &Page, pictures: &mut PictureFiles<'_>) -> Result<String> {
    let questions = each(&page.questions, |question| {
        show_question(question, pictures)
    })?;
    let reconstructions = each(&page.reconstructions, |item| {
        show_reconstructions(item, pictures)
    })?;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (page.title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    h1 { (page.title) }
                    @if !page.lead.is_empty() { p.lead { (page.lead) } }
                    @for question in &questions { (question) }
                    @for table in &page.tables { (show_table(table)) }
                    @if !reconstructions.is_empty() { h2 { "Pictures and their reconstructions" } }
                    @for item in &reconstructions { (item) }
                    @for chart in &page.charts {
                        h2 { (chart.title) }
                        (PreEscaped(chart.svg()))
                    }
                }
            }
        }
    };
    Ok(markup.into_string())
}

fn each<T>(items: &[T], mut show: impl FnMut(&T) -> Result<Markup>) -> Result<Vec<Markup>> {
    items.iter().map(&mut show).collect()
}

fn show_question(question: &Question, pictures: &mut PictureFiles<'_>) -> Result<Markup> {
    let answers = each(&question.answers, |answer| show_answer(answer, pictures))?;
    Ok(html! {
        section.question {
            h3 { (question.prompt) }
            div.answers { @for answer in &answers { (answer) } }
        }
    })
}

fn show_answer(answer: &Answer, pictures: &mut PictureFiles<'_>) -> Result<Markup> {
    let pieces = each(&answer.pieces, |piece| {
        Ok(match piece {
            Piece::Text(text) => html! {
                @for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) { p { (line) } }
            },
            Piece::Picture(picture) => {
                let path = pictures.add(picture)?;
                html! { img src=(path) alt="drawn by the model"; }
            }
        })
    })?;
    Ok(html! {
        div.answer {
            p.model { (answer.model) }
            @for piece in &pieces { (piece) }
        }
    })
}

fn show_table(table: &Table) -> Markup {
    html! {
        h2 { (table.title) }
        div.scroll {
            table {
                thead { tr { @for cell in &table.head { th { (cell) } } } }
                tbody {
                    @for row in &table.rows { tr { @for cell in row { td { (cell) } } } }
                }
            }
        }
        @for note in &table.notes { p.note { (note) } }
    }
}

fn show_reconstructions(item: &Reconstructions, pictures: &mut PictureFiles<'_>) -> Result<Markup> {
    let mut pairs = Vec::new();
    for (original, reconstruction) in item.originals.iter().zip(&item.reconstructions) {
        pairs.push((pictures.add(original)?, pictures.add(reconstruction)?));
    }
    Ok(html! {
        figure {
            figcaption { (item.caption) }
            div.pairs {
                @for (original, reconstruction) in &pairs {
                    div.pair {
                        img src=(original) alt="original";
                        img src=(reconstruction) alt="reconstruction";
                    }
                }
            }
        }
    })
}
