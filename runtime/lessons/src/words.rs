//! Noun phrases: things, places, numbers and lists in lower-case English.

use jam_data::random::Random;

use super::scene::{Kind, Place, Thing};
use super::splits::{chance, pick};

/// `one` to `six`.
pub const NUMBERS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

/// First names in the stories.
pub const NAMES: [&str; 4] = ["mia", "tom", "anna", "ben"];

/// `a` or `an`, and the words: `an orange tree`.
pub fn a(words: &str) -> String {
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {words}")
}

/// `red house`, `small red house`.
pub fn named(thing: &Thing) -> String {
    let small = if thing.figure.is_small() {
        "small "
    } else {
        ""
    };
    format!(
        "{small}{} {}",
        thing.colour.name(),
        thing.figure.kind().name()
    )
}

/// `a red house`, `a small red house`.
pub fn a_thing(thing: &Thing) -> String {
    a(&named(thing))
}

/// As [`a_thing`], and now and then `a big red house` for a figure that also comes small.
pub fn a_thing_or_big(rng: &mut Random, thing: &Thing) -> String {
    if big_is_said(rng, thing) {
        a(&format!("big {}", named(thing)))
    } else {
        a_thing(thing)
    }
}

/// Whether the full size of a figure is worth a word here.
pub(crate) fn big_is_said(rng: &mut Random, thing: &Thing) -> bool {
    thing.figure.kind().comes_small() && !thing.figure.is_small() && chance(rng, 12)
}

/// `the house`, for where no other thing of the kind is near.
pub fn the_kind(kind: Kind) -> String {
    format!("the {}", kind.name())
}

/// `at the top far left`.
pub fn at(place: Place) -> String {
    format!("at the {}", place.name())
}

/// `at the top far left` or `in the top far left`.
pub fn at_or_in(rng: &mut Random, place: Place) -> String {
    format!("{} the {}", pick(rng, &["at", "at", "in"]), place.name())
}

/// `x`, `x and y`, `x, y and z`.
pub fn and_list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Where one thing stands as seen from another, where that can be said without doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    Above,
    Below,
    LeftOf,
    RightOf,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 4] = [Self::Above, Self::Below, Self::LeftOf, Self::RightOf];

    /// Whether `one` stands so to `other`. One thing is above another when its foot is above the
    /// other's top, and left of it when its column is.
    pub fn holds(self, one: &Thing, other: &Thing) -> bool {
        match self {
            Self::Above => one.place.row() < other.top_row(),
            Self::Below => Self::Above.holds(other, one),
            Self::LeftOf => one.place.column() < other.place.column(),
            Self::RightOf => Self::LeftOf.holds(other, one),
        }
    }

    /// `above`, `left of`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
        }
    }

    /// The place next to this one in the direction of the relation.
    pub fn next_to(self, place: Place) -> Option<Place> {
        match self {
            Self::Above => place.above(),
            Self::Below => place.below(),
            Self::LeftOf => place.left(),
            Self::RightOf => place.right(),
        }
    }
}

/// A true relation between two things, one of those that hold.
pub fn relation_between(rng: &mut Random, one: &Thing, other: &Thing) -> Option<Relation> {
    let holding: Vec<Relation> = Relation::ALL
        .into_iter()
        .filter(|relation| relation.holds(one, other))
        .collect();
    (!holding.is_empty()).then(|| *pick(rng, &holding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Colour, Figure};

    #[test]
    fn phrases_read_as_english() {
        let small = Thing {
            place: Place::new(0, 0).unwrap(),
            figure: Figure::small(Kind::Tree).unwrap(),
            colour: Colour::Orange,
        };
        let full = Thing {
            figure: Figure::full(Kind::Tree),
            place: Place::new(3, 2).unwrap(),
            ..small
        };
        assert_eq!(a_thing(&small), "a small orange tree");
        assert_eq!(a_thing(&full), "an orange tree");
        assert_eq!(at(small.place), "at the top far left");
        assert_eq!(
            and_list(&["x".into(), "y".into(), "z".into()]),
            "x, y and z"
        );
    }

    #[test]
    fn a_tall_thing_beside_a_small_one_is_neither_above_nor_below() {
        let house = Thing {
            place: Place::new(2, 0).unwrap(),
            figure: Figure::full(Kind::House),
            colour: Colour::Red,
        };
        let star = |row, column| Thing {
            place: Place::new(row, column).unwrap(),
            figure: Figure::full(Kind::Star),
            colour: Colour::Blue,
        };
        assert!(
            !Relation::Above.holds(&star(1, 1), &house)
                && !Relation::Below.holds(&star(1, 1), &house)
        );
        assert!(
            Relation::Above.holds(&star(0, 1), &house)
                && Relation::RightOf.holds(&star(0, 1), &house)
        );
        assert!(Relation::Below.holds(&star(3, 0), &house));
    }
}
