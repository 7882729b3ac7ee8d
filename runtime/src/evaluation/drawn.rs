//! Things drawn right: pictures are drawn from captions, read back by the analyser of the drawing
//! lessons, and compared with the scene that was asked for.

use jam_backends::Executable;
use jam_ir::recipe::{DataRef, DecodeRecipe};
use jam_ir::{Called, Holds, SettingKind, SettingSignature, Signature};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measure::{Cell, Measure, Subject, finite, found, kept, percent};
use crate::decoding::{Limits, Request, generate};
use crate::{Error, Result};
use jam_data::images::Picture;
use jam_data::sources::Document;
use jam_data::tokens::Codec;
use jam_data::tokens::Piece;
use jam_lessons::{PairRecord, Scene, analyse, judge};
use jam_weights::progress::{Bar, Silent, Stop};

/// The measure.
#[derive(Debug)]
pub(super) struct Drawn;

/// What it finds.
#[derive(Serialize, Deserialize)]
struct Found {
    /// The data.
    data: String,
    /// Things drawn right.
    score: DrawnScore,
}

impl Measure for Drawn {
    fn signature(&self) -> Signature {
        let data = "captions of drawing lessons; each data set is a column";
        let decode = "how pictures are sampled";
        Signature::new(
            "drawn",
            "share of the things in captions that pictures drawn from them show, by the analyser of \
             the drawing lessons",
        )
        .of_each(SettingSignature::data("data", Holds::Scenes, false, data))
        .with([
            SettingSignature::new("decode", SettingKind::Decode, None, decode),
            SettingSignature::count("pictures", (1, 10_000_000), 200, "pictures drawn at most"),
        ])
    }

    fn measure(&self, called: &Called, subject: &Subject<'_>) -> Result<Value> {
        let data = called.split("data")?;
        let documents = subject.inputs.documents(data)?;
        let asked = asked_pictures(&documents, data, called.count("pictures")?)?;
        let score = score_drawn(
            subject.executable,
            subject.codec,
            subject.inputs.decoding(called.decode("decode")?)?,
            &asked,
            subject.context,
            &mut Silent,
            subject.stop,
        )?;
        kept(&Found {
            data: data.to_string(),
            score,
        })
    }

    fn cells(&self, kept: &Value) -> Result<Vec<Cell>> {
        let Found { data, score } = found(kept)?;
        Ok(vec![Cell {
            head: format!("{data} things drawn right"),
            text: percent(finite("share", &data, score.share())?),
        }])
    }
}

/// A caption and what a picture of it must show.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedPicture {
    /// The caption.
    pub caption: String,
    /// What is asked for.
    pub scene: Scene,
}

/// Captions whose scenes are known; the first `limit`, 0 for all.
///
/// # Errors
/// When a record has no scene.
pub fn asked_pictures(
    documents: &[Document],
    data: &DataRef,
    limit: u64,
) -> Result<Vec<AskedPicture>> {
    let mut asked = Vec::new();
    for document in documents {
        if limit > 0 && asked.len() as u64 == limit {
            break;
        }
        let record: PairRecord =
            serde_json::from_value(document.meta.clone()).map_err(|error| {
                let message = format!("record `{}` of `{data}` has no scene: {error}", document.id);
                Error::new(message).with_help("`drawn` needs drawing lessons")
            })?;
        asked.extend(document.texts().next().map(|caption| AskedPicture {
            caption: caption.to_owned(),
            scene: record.scene,
        }));
    }
    Ok(asked)
}

/// How much of what was asked for is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnScore {
    /// Pictures.
    pub pictures: u64,
    /// Pictures that show all that was asked for and nothing else.
    pub perfect: u64,
    /// Things asked for.
    pub asked: u64,
    /// Things shown with the right colour at the right place.
    pub right: u64,
    /// Things shown that nobody asked for.
    pub surplus: u64,
}

impl DrawnScore {
    /// Share of things drawn right.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.asked as f64
    }

    /// Adds what one picture shows.
    ///
    /// # Errors
    /// When the picture is empty.
    pub fn add(&mut self, asked: &Scene, picture: &Picture) -> Result<()> {
        let reading = analyse(picture).map_err(|error| Error::new(error.to_string()))?;
        let judgement = judge(asked, &reading.scene);
        self.pictures += 1;
        self.perfect += u64::from(judgement.is_perfect());
        self.asked += judgement.asked as u64;
        self.right += judgement.right as u64;
        self.surplus += judgement.surplus as u64;
        Ok(())
    }
}

/// Pictures drawn at once.
const ROWS: usize = 64;

/// Draws every caption and counts what the pictures show.
///
/// # Errors
/// When the vocabulary lacks a tokenizer or a mark, or decoding fails.
pub fn score_drawn(
    model: &Executable,
    codec: &Codec,
    recipe: &DecodeRecipe,
    asked: &[AskedPicture],
    context: u64,
    bar: &mut dyn Bar,
    stop: &Stop,
) -> Result<DrawnScore> {
    let limits = Limits {
        context,
        max_tokens: 0,
        max_pictures: 1,
        end_with_picture: true,
    };
    let mut score = DrawnScore::default();
    for (chunk, group) in asked.chunks(ROWS).enumerate() {
        let mut requests = Vec::new();
        for (index, asked) in group.iter().enumerate() {
            let prompt = codec.caption(&asked.caption)?;
            requests.push(Request {
                prompt,
                picture_next: true,
                seed: (chunk * ROWS + index) as u64,
            });
        }
        let answers = generate(
            model,
            codec.producible(),
            recipe,
            limits,
            &requests,
            &mut |_, _| {},
            stop,
        )?;
        if stop.asked() {
            break;
        }
        for (asked, tokens) in group.iter().zip(answers) {
            let drawn = codec
                .pieces(&tokens)?
                .into_iter()
                .find_map(|piece| match piece {
                    Piece::Picture(picture) => Some(picture),
                    Piece::Text(_) => None,
                });
            let drawn = drawn
                .ok_or_else(|| Error::new("a caption was not drawn: no room in the context"))?;
            score.add(&asked.scene, &drawn)?;
        }
        bar.at(score.pictures, "");
    }
    Ok(score)
}
