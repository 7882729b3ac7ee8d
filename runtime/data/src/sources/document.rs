//! One record of a data set: texts and pictures in their order.

use super::picture::PictureRef;

/// A run of a document: text, or one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text, without the white space at its ends in captions.
    Text(String),
    /// A picture in its file.
    Picture(PictureRef),
}

/// One record of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// A name that stays: the record's own `id`, or its file (with the folder it lies in) and its number or
    /// key there.
    pub id: String,
    /// The question that the segments answer, where the record has one.
    pub prompt: Option<String>,
    /// Texts and pictures in their order.
    pub segments: Vec<Segment>,
    /// Everything the record says, as JSON; `null` where it is no JSON.
    pub meta: serde_json::Value,
}

impl Document {
    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        let is_picture = |segment: &&Segment| matches!(segment, Segment::Picture(_));
        self.segments.iter().filter(is_picture).count()
    }

    /// The texts, without the prompt.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Text(text) => Some(text.as_str()),
            Segment::Picture(_) => None,
        })
    }
}
