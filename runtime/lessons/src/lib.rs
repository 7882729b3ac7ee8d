//! The drawing lessons: a small world of pictures and words whose answers can be judged exactly.
//!
//! Read in this order: [`scene`] is the world (figures, colours, places), [`splits`] holds out
//! combinations of the three, [`tiles`] and [`render`] draw, [`analyse`] reads a picture back
//! into a scene and [`judge`] compares it with what was asked for. [`words`], [`captions`],
//! [`facts`], [`questions`], [`texts`] and [`articles`] put the world into words, [`folder`] and
//! [`write`](mod@write) make the files, in the formats that the ordinary readers read.
//!
//! What every record asks for stands in the record itself, as a scene in JSON: no judge ever
//! parses language. The same settings give the same bytes.

pub mod analyse;
pub mod articles;
pub mod captions;
pub mod facts;
pub mod folder;
pub mod judge;
pub mod questions;
pub mod render;
pub mod scene;
pub mod splits;
pub mod texts;
pub mod tiles;
pub mod words;
pub mod write;

pub use analyse::{Reading, analyse};
pub use folder::{
    ArticleRecord, FORMAT, LessonsFolder, LessonsSettings, PairRecord, Segment, parts,
};
pub use judge::{Judgement, judge, judge_without_places};
pub use render::{SIDE, render};
pub use scene::{Colour, Figure, Kind, Place, Scene, Thing};
pub use splits::Split;
pub use write::write;

pub use jam_ir::error::{Error, ErrorKind, Result};
