//! The small world of the drawing lessons: colours, figures, places, things and scenes.
//!
//! A picture is a grid of [`GRID`] × [`GRID`] cells. A [`Thing`] is one figure of one colour at
//! one place, and a [`Scene`] is a plain background with things on it. The world is finite
//! (2,272 different things), so a scene can be compared exactly with another.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Cells along one side of a picture.
pub const GRID: usize = 4;

/// The most things that one scene may hold (an article draws up to six).
pub const MAX_THINGS: usize = 6;

/// The colour of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Black,
}

impl Colour {
    /// Every colour.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Purple,
        Self::Pink,
        Self::Black,
    ];

    /// The word for the colour.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Pink => "pink",
            Self::Black => "black",
        }
    }
}

/// What a figure is, whatever its size: eight simple shapes, then seven composed things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Square,
    Circle,
    Triangle,
    Diamond,
    Cross,
    Star,
    Ring,
    Heart,
    Sun,
    Face,
    House,
    Tree,
    Boat,
    Flower,
    Robot,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Square,
        Self::Circle,
        Self::Triangle,
        Self::Diamond,
        Self::Cross,
        Self::Star,
        Self::Ring,
        Self::Heart,
        Self::Sun,
        Self::Face,
        Self::House,
        Self::Tree,
        Self::Boat,
        Self::Flower,
        Self::Robot,
    ];

    /// The word for the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Square => "square",
            Self::Circle => "circle",
            Self::Triangle => "triangle",
            Self::Diamond => "diamond",
            Self::Cross => "cross",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Heart => "heart",
            Self::Sun => "sun",
            Self::Face => "face",
            Self::House => "house",
            Self::Tree => "tree",
            Self::Boat => "boat",
            Self::Flower => "flower",
            Self::Robot => "robot",
        }
    }

    /// Whether the kind fills two cells, one above the other, at its full size.
    pub fn is_tall(self) -> bool {
        matches!(
            self,
            Self::House | Self::Tree | Self::Boat | Self::Flower | Self::Robot
        )
    }

    /// Whether the kind also comes small, in one cell.
    pub fn comes_small(self) -> bool {
        matches!(self, Self::House | Self::Tree | Self::Boat | Self::Flower)
    }
}

/// A kind at one of its sizes: what a thing is, apart from its colour and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Figure {
    kind: Kind,
    small: bool,
}

impl Figure {
    /// Every figure: each kind at full size, then the small ones.
    pub const ALL: [Self; 19] = {
        let mut all = [Self {
            kind: Kind::Square,
            small: false,
        }; 19];
        let mut index = 0;
        while index < Kind::ALL.len() {
            all[index].kind = Kind::ALL[index];
            index += 1;
        }
        all[15] = Self {
            kind: Kind::House,
            small: true,
        };
        all[16] = Self {
            kind: Kind::Tree,
            small: true,
        };
        all[17] = Self {
            kind: Kind::Boat,
            small: true,
        };
        all[18] = Self {
            kind: Kind::Flower,
            small: true,
        };
        all
    };

    /// The figure of a kind at full size.
    pub fn full(kind: Kind) -> Self {
        Self { kind, small: false }
    }

    /// The small figure of a kind; nothing where the kind does not come small.
    pub fn small(kind: Kind) -> Option<Self> {
        kind.comes_small().then_some(Self { kind, small: true })
    }

    /// What it is, whatever the size.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Whether it is the small version of its kind.
    pub fn is_small(self) -> bool {
        self.small
    }

    /// Whether it fills two cells, its place and the cell above.
    pub fn is_tall(self) -> bool {
        self.kind.is_tall() && !self.small
    }

    /// `house`, `small house`, …
    pub fn name(self) -> String {
        if self.small {
            format!("small {}", self.kind.name())
        } else {
            self.kind.name().to_owned()
        }
    }
}

impl From<Figure> for String {
    fn from(figure: Figure) -> Self {
        figure.name()
    }
}

impl TryFrom<String> for Figure {
    type Error = SceneError;

    fn try_from(name: String) -> Result<Self, SceneError> {
        Self::ALL
            .into_iter()
            .find(|figure| figure.name() == name)
            .ok_or(SceneError::UnknownFigure(name))
    }
}

/// One cell of the grid: a row counted from the top and a column counted from the left.
///
/// A figure of two cells stands with its foot on its place and reaches into the cell above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    row: u8,
    column: u8,
}

/// The words for the rows, from the top.
pub const ROW_NAMES: [&str; GRID] = ["top", "upper", "lower", "bottom"];

/// The words for the columns, from the left.
pub const COLUMN_NAMES: [&str; GRID] = ["far left", "left", "right", "far right"];

impl Place {
    /// The place in this row and column; nothing outside the grid.
    pub fn new(row: usize, column: usize) -> Option<Self> {
        (row < GRID && column < GRID).then_some(Self {
            row: row as u8,
            column: column as u8,
        })
    }

    /// Every place, row by row from the top left.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..GRID).flat_map(|row| (0..GRID).filter_map(move |column| Self::new(row, column)))
    }

    /// The row, 0 at the top.
    pub fn row(self) -> usize {
        usize::from(self.row)
    }

    /// The column, 0 at the far left.
    pub fn column(self) -> usize {
        usize::from(self.column)
    }

    /// The number of the cell, row by row from the top left.
    pub fn index(self) -> usize {
        self.row() * GRID + self.column()
    }

    /// `top far left`, `lower right`, …
    pub fn name(self) -> String {
        format!("{} {}", ROW_NAMES[self.row()], COLUMN_NAMES[self.column()])
    }

    /// The place one row up; nothing in the top row.
    pub fn above(self) -> Option<Self> {
        self.row()
            .checked_sub(1)
            .and_then(|row| Self::new(row, self.column()))
    }

    /// The place one row down; nothing in the bottom row.
    pub fn below(self) -> Option<Self> {
        Self::new(self.row() + 1, self.column())
    }

    /// The place one column to the left; nothing in the first column.
    pub fn left(self) -> Option<Self> {
        self.column()
            .checked_sub(1)
            .and_then(|column| Self::new(self.row(), column))
    }

    /// The place one column to the right; nothing in the last column.
    pub fn right(self) -> Option<Self> {
        Self::new(self.row(), self.column() + 1)
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.name()
    }
}

impl TryFrom<String> for Place {
    type Error = SceneError;

    fn try_from(name: String) -> Result<Self, SceneError> {
        Self::all()
            .find(|place| place.name() == name)
            .ok_or(SceneError::UnknownPlace(name))
    }
}

/// One figure of one colour at one place: the combination that the splits hold out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// The cell it stands on.
    pub place: Place,
    /// What it is.
    pub figure: Figure,
    /// Its colour.
    pub colour: Colour,
}

impl Thing {
    /// Every thing that can be drawn, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        Figure::ALL.into_iter().flat_map(|figure| {
            Colour::ALL.into_iter().flat_map(move |colour| {
                Place::all()
                    .map(move |place| Self {
                        place,
                        figure,
                        colour,
                    })
                    .filter(|thing| thing.fits())
            })
        })
    }

    /// Whether all of it lies within the picture (a tall figure cannot stand in the top row).
    pub fn fits(&self) -> bool {
        !self.figure.is_tall() || self.place.row() > 0
    }

    /// The cells it covers: its place and, for a tall figure, the cell above.
    pub fn cells(&self) -> impl Iterator<Item = Place> {
        let above = if self.figure.is_tall() {
            self.place.above()
        } else {
            None
        };
        std::iter::once(self.place).chain(above)
    }

    /// The uppermost row it reaches.
    pub fn top_row(&self) -> usize {
        self.cells().map(Place::row).min().unwrap_or(0)
    }
}

/// Things on a plain background. Two scenes are equal when they show the same things; the
/// order in which the things were given does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SceneRecord", into = "SceneRecord")]
pub struct Scene {
    things: Vec<Thing>,
}

impl Scene {
    /// A scene of these things.
    ///
    /// # Errors
    /// When there are more than a picture may hold, when one does not fit into the picture, or
    /// when two cover the same cell.
    pub fn new(things: impl IntoIterator<Item = Thing>) -> Result<Self, SceneError> {
        let mut things: Vec<Thing> = things.into_iter().collect();
        if things.len() > GRID * GRID {
            return Err(SceneError::TooMany(things.len()));
        }
        let mut covered = BTreeSet::new();
        for thing in &things {
            if !thing.fits() {
                return Err(SceneError::Outside(*thing));
            }
            if let Some(cell) = thing.cells().find(|cell| !covered.insert(*cell)) {
                return Err(SceneError::Overlap(cell));
            }
        }
        things.sort();
        Ok(Self { things })
    }

    /// The things, ordered by place.
    pub fn things(&self) -> &[Thing] {
        &self.things
    }
}

/// The JSON form of a scene.
#[derive(Serialize, Deserialize)]
struct SceneRecord {
    things: Vec<Thing>,
}

impl From<Scene> for SceneRecord {
    fn from(scene: Scene) -> Self {
        Self {
            things: scene.things,
        }
    }
}

impl TryFrom<SceneRecord> for Scene {
    type Error = SceneError;

    fn try_from(record: SceneRecord) -> Result<Self, SceneError> {
        Self::new(record.things)
    }
}

/// Why something is not a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SceneError {
    /// No figure has this name.
    UnknownFigure(String),
    /// No place has this name.
    UnknownPlace(String),
    /// More things than cells.
    TooMany(usize),
    /// A tall figure in the top row.
    Outside(Thing),
    /// Two things cover this cell.
    Overlap(Place),
}

impl fmt::Display for SceneError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFigure(name) => write!(out, "no figure is called `{name}`"),
            Self::UnknownPlace(name) => write!(out, "no place is called `{name}`"),
            Self::TooMany(count) => {
                write!(out, "{count} things do not fit into {} cells", GRID * GRID)
            }
            Self::Outside(thing) => write!(
                out,
                "a {} fills two cells and cannot stand at the {}",
                thing.figure.name(),
                thing.place.name()
            ),
            Self::Overlap(place) => {
                write!(out, "two things cover the cell at the {}", place.name())
            }
        }
    }
}

impl std::error::Error for SceneError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(figure: &str, colour: Colour, place: &str) -> Thing {
        Thing {
            place: Place::try_from(place.to_owned()).unwrap(),
            figure: Figure::try_from(figure.to_owned()).unwrap(),
            colour,
        }
    }

    #[test]
    fn the_world_has_the_size_that_the_documentation_says() {
        assert_eq!(Thing::all().count(), 14 * 8 * 16 + 5 * 8 * 12);
        assert_eq!(Thing::all().collect::<BTreeSet<_>>().len(), 2272);
        for figure in Figure::ALL {
            assert_eq!(
                figure.is_small(),
                Figure::small(figure.kind()) == Some(figure)
            );
        }
    }

    #[test]
    fn order_does_not_matter_and_overlap_is_an_error() {
        let house = thing("house", Colour::Red, "bottom left");
        let sun = thing("sun", Colour::Yellow, "top far right");
        assert_eq!(Scene::new([house, sun]), Scene::new([sun, house]));
        let star = thing("star", Colour::Blue, "lower left");
        assert_eq!(
            Scene::new([house, star]),
            Err(SceneError::Overlap(star.place))
        );
        let high = thing("house", Colour::Red, "top left");
        assert_eq!(Scene::new([high]), Err(SceneError::Outside(high)));
        assert!(Scene::new([thing("small house", Colour::Red, "top left")]).is_ok());
    }

    #[test]
    fn scenes_survive_json_and_damaged_ones_are_refused() {
        let scene = Scene::new([
            thing("small tree", Colour::Green, "lower far left"),
            thing("robot", Colour::Pink, "bottom right"),
        ])
        .unwrap();
        let json = serde_json::to_string(&scene).unwrap();
        assert_eq!(serde_json::from_str::<Scene>(&json).unwrap(), scene);
        assert!(serde_json::from_str::<Scene>(&json.replace("lower far left", "middle")).is_err());
        assert!(serde_json::from_str::<Scene>(&json.replace("bottom right", "top right")).is_err());
        assert!(serde_json::from_str::<Scene>(&json.replace("robot", "dragon")).is_err());
    }
}
