//! What is known about the world besides any scene: parts, corners, colours, opposites, rows.
//!
//! A fact is stated in several ways and asked for in several ways. The statements are all in
//! the training text; some *wordings of the question* are held out ([`Split::of_wording`]), so
//! that a test asks for known things in new words.

use std::sync::OnceLock;

use super::scene::{COLUMN_NAMES, Colour, Figure, Kind, ROW_NAMES};
use super::splits::Split;
use super::words::{NUMBERS, a};

/// One thing to know.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What it is about; facts of one topic are answered with words of one kind.
    pub topic: &'static str,
    /// Whole sentences that state it.
    pub says: Vec<String>,
    /// Questions whose answer is `answer`.
    pub asks: Vec<String>,
    /// The right answer.
    pub answer: String,
    /// Wrong answers of the same kind, which are right answers to other questions.
    pub wrong: Vec<String>,
}

impl Fact {
    /// The questions that belong to a part.
    pub fn asks_of(&self, split: Split) -> impl Iterator<Item = &String> {
        self.asks
            .iter()
            .filter(move |ask| Split::of_wording(ask) == split)
    }
}

/// The upper and the lower part of a composed thing, and which of them takes the colour.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The part on top, without article.
    pub upper: &'static str,
    /// The part below, without article.
    pub lower: &'static str,
    /// The part that has the colour of the thing.
    pub coloured: &'static str,
}

/// The two parts of a kind that is composed of cells.
pub fn parts(kind: Kind) -> Option<Parts> {
    let (upper, lower, coloured) = match kind {
        Kind::House => ("roof", "walls", "walls"),
        Kind::Tree => ("crown", "trunk", "crown"),
        Kind::Boat => ("sail", "hull", "hull"),
        Kind::Flower => ("blossom", "stem", "blossom"),
        Kind::Robot => ("head", "body", "body"),
        _ => return None,
    };
    Some(Parts {
        upper,
        lower,
        coloured,
    })
}

/// What a thing of this kind has, as a noun phrase: the hint of a riddle.
pub fn hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Square => "four equal sides",
        Kind::Circle => "no corners and no hole",
        Kind::Triangle => "three corners",
        Kind::Diamond => "four corners and stand on one",
        Kind::Cross => "four arms",
        Kind::Star => "five points",
        Kind::Ring => "a hole and no corners",
        Kind::Heart => "one corner and mean love",
        Kind::Sun => "rays",
        Kind::Face => "two eyes and a mouth",
        Kind::House => "a roof and walls",
        Kind::Tree => "a crown and a trunk",
        Kind::Boat => "a sail and a hull",
        Kind::Flower => "a blossom and a stem",
        Kind::Robot => "a head and a body",
    }
}

/// What the fruits, animals and other things of nature look like.
const COLOURS_OF_NATURE: [(&str, Colour); 20] = [
    ("the sky", Colour::Blue),
    ("the sea", Colour::Blue),
    ("the rain", Colour::Blue),
    ("the grass", Colour::Green),
    ("a leaf", Colour::Green),
    ("a frog", Colour::Green),
    ("a cherry", Colour::Red),
    ("a tomato", Colour::Red),
    ("fire", Colour::Red),
    ("a lemon", Colour::Yellow),
    ("a banana", Colour::Yellow),
    ("a carrot", Colour::Orange),
    ("a pumpkin", Colour::Orange),
    ("a fox", Colour::Orange),
    ("a plum", Colour::Purple),
    ("a grape", Colour::Purple),
    ("a pig", Colour::Pink),
    ("a peach", Colour::Pink),
    ("coal", Colour::Black),
    ("the night", Colour::Black),
];

const OPPOSITES: [(&str, &str); 8] = [
    ("top", "bottom"),
    ("upper", "lower"),
    ("left", "right"),
    ("above", "below"),
    ("small", "big"),
    ("first", "last"),
    ("day", "night"),
    ("up", "down"),
];

const HOMES: [(Kind, &str); 6] = [
    (Kind::Boat, "on the water"),
    (Kind::Tree, "in the forest"),
    (Kind::Flower, "in the garden"),
    (Kind::Sun, "in the sky"),
    (Kind::House, "in the town"),
    (Kind::Robot, "in the workshop"),
];

const DOINGS: [(Kind, &str); 6] = [
    (Kind::Boat, "sails"),
    (Kind::Tree, "grows"),
    (Kind::Flower, "smells"),
    (Kind::Sun, "shines"),
    (Kind::Face, "smiles"),
    (Kind::Robot, "works"),
];

const CORNERS: [(Kind, &str); 6] = [
    (Kind::Triangle, "three"),
    (Kind::Square, "four"),
    (Kind::Diamond, "four"),
    (Kind::Circle, "no"),
    (Kind::Ring, "no"),
    (Kind::Heart, "one"),
];

/// Every fact, in a fixed order.
pub fn facts() -> &'static [Fact] {
    static FACTS: OnceLock<Vec<Fact>> = OnceLock::new();
    FACTS.get_or_init(|| {
        let mut facts = Vec::new();
        about_parts(&mut facts);
        about_forms(&mut facts);
        about_colours(&mut facts);
        about_life(&mut facts);
        about_places(&mut facts);
        facts
    })
}

/// The names in `all` that differ from `answer`, each once.
fn others<S: AsRef<str>>(all: &[S], answer: &str) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for item in all.iter().map(AsRef::as_ref) {
        if item != answer && !others.iter().any(|other| other == item) {
            others.push(item.to_owned());
        }
    }
    others
}

fn about_parts(facts: &mut Vec<Fact>) {
    let composed: Vec<(Kind, Parts)> = Kind::ALL
        .into_iter()
        .filter_map(|kind| parts(kind).map(|parts| (kind, parts)))
        .collect();
    let hints: Vec<&str> = composed.iter().map(|(kind, _)| hint(*kind)).collect();
    let owners: Vec<String> = composed.iter().map(|(kind, _)| a(kind.name())).collect();
    for (
        kind,
        Parts {
            upper,
            lower,
            coloured,
        },
    ) in composed
    {
        let (kind, hint) = (kind.name(), hint(kind));
        facts.push(Fact {
            topic: "parts",
            says: vec![
                format!("a {kind} has {hint}."),
                format!("a {kind} is made of {hint}."),
                format!("to draw a {kind} you need {hint}."),
                format!("{hint} make a {kind}."),
            ],
            asks: vec![
                format!("what is a {kind} made of?"),
                format!("what do you need to draw a {kind}?"),
                format!("what does a {kind} have?"),
                format!("which parts make a {kind}?"),
            ],
            answer: hint.to_owned(),
            wrong: others(&hints, hint),
        });
        facts.push(Fact {
            topic: "top part",
            says: vec![
                format!("the {upper} of a {kind} is above the {lower}."),
                format!("the {upper} is the top part of a {kind}."),
                format!("put the {upper} of a {kind} on top."),
            ],
            asks: vec![
                format!("which part of a {kind} is on top?"),
                format!("what is the top part of a {kind}?"),
                format!("what do you put on top of a {kind}?"),
            ],
            answer: format!("the {upper}"),
            wrong: vec![format!("the {lower}")],
        });
        facts.push(Fact {
            topic: "lower part",
            says: vec![
                format!("put the {lower} of a {kind} below the {upper}."),
                format!("draw the {lower} of a {kind} first and then the {upper}."),
                format!("a {kind} stands with the {lower} below."),
            ],
            asks: vec![
                format!("which part of a {kind} is below?"),
                format!("what do you draw first for a {kind}?"),
                format!("what do you put below the {upper} of a {kind}?"),
            ],
            answer: format!("the {lower}"),
            wrong: vec![format!("the {upper}")],
        });
        let plain = if coloured == upper { lower } else { upper };
        facts.push(Fact {
            topic: "coloured part",
            says: vec![
                format!("paint the {coloured} of a {kind} in its colour."),
                format!("only the {coloured} of a {kind} may have any colour."),
                format!("the {coloured} of a red {kind} we paint red."),
            ],
            asks: vec![
                format!("which part of a red {kind} is red?"),
                format!("which part of a {kind} do you paint in its colour?"),
                format!("which part of a {kind} may have any colour?"),
            ],
            answer: format!("the {coloured}"),
            wrong: vec![format!("the {plain}")],
        });
        for part in [upper, lower] {
            facts.push(Fact {
                topic: "owner",
                says: vec![
                    format!("the {part} is a part of a {kind}."),
                    format!("look for the {part} on a {kind}."),
                    format!("if it has the {part}, it is a {kind}."),
                ],
                asks: vec![
                    format!("the {part} is a part of what?"),
                    format!("on what do you look for the {part}?"),
                    format!("it has the {part}. what is it?"),
                ],
                answer: format!("a {kind}"),
                wrong: others(&owners, &a(kind)),
            });
        }
    }
}

fn about_forms(facts: &mut Vec<Fact>) {
    for (kind, count) in CORNERS {
        let (kind, corners) = (
            kind.name(),
            if count == "one" { "corner" } else { "corners" },
        );
        facts.push(Fact {
            topic: "corners",
            says: vec![
                format!("a {kind} has {count} {corners}."),
                format!("how many corners? a {kind} has {count}."),
                format!("on a {kind} you count {count} {corners}."),
            ],
            asks: vec![
                format!("how many corners does a {kind} have?"),
                format!("how many corners are on a {kind}?"),
                format!("how many corners do you count on a {kind}?"),
            ],
            answer: count.to_owned(),
            wrong: others(&["no", "one", "three", "four"], count),
        });
    }
    let round = ["circle", "ring", "sun", "face"];
    let angular = ["square", "triangle", "cross", "diamond"];
    for (group, rest, word, ask) in [
        (round, angular, "is round", "which one is round?"),
        (angular, round, "is not round", "which one is not round?"),
    ] {
        for kind in group {
            facts.push(Fact {
                topic: "round",
                says: vec![
                    format!("a {kind} {word}."),
                    format!("look, a {kind} {word}."),
                ],
                asks: vec![
                    ask.to_owned(),
                    format!("you see two forms. {ask}"),
                    format!("tell me, {ask}"),
                ],
                answer: a(kind),
                wrong: rest.iter().map(|kind| a(kind)).collect(),
            });
        }
    }
    for figure in Figure::ALL
        .into_iter()
        .filter(|figure| figure.kind().is_tall())
    {
        let (name, count) = (figure.name(), if figure.is_tall() { "two" } else { "one" });
        let cells = if figure.is_tall() { "cells" } else { "cell" };
        facts.push(Fact {
            topic: "cells",
            says: vec![
                format!("a {name} fills {count} {cells}."),
                format!("for a {name} you need {count} {cells}."),
            ],
            asks: vec![
                format!("how many cells does a {name} fill?"),
                format!("how many cells do you need for a {name}?"),
                format!("a {name} needs how many cells?"),
            ],
            answer: count.to_owned(),
            wrong: others(&NUMBERS[..2], count),
        });
    }
}

fn about_colours(facts: &mut Vec<Fact>) {
    let colours = Colour::ALL.map(Colour::name);
    for (what, colour) in COLOURS_OF_NATURE {
        let colour = colour.name();
        facts.push(Fact {
            topic: "colour",
            says: vec![
                format!("{what} is {colour}."),
                format!("{colour} is the colour of {what}."),
                format!("{what} looks {colour}."),
                format!("paint {what} {colour}."),
            ],
            asks: vec![
                format!("what colour is {what}?"),
                format!("what is the colour of {what}?"),
                format!("which colour do you need to paint {what}?"),
                format!("how does {what} look?"),
            ],
            answer: colour.to_owned(),
            wrong: others(&colours, colour),
        });
    }
    for (one, two, mixed) in [
        ("red", "yellow", "orange"),
        ("yellow", "blue", "green"),
        ("red", "blue", "purple"),
        ("red", "white", "pink"),
    ] {
        for (one, two) in [(one, two), (two, one)] {
            facts.push(Fact {
                topic: "mixing",
                says: vec![
                    format!("{one} and {two} make {mixed}."),
                    format!("mix {one} and {two} to get {mixed}."),
                ],
                asks: vec![
                    format!("what do {one} and {two} make?"),
                    format!("you mix {one} and {two}. what do you get?"),
                    format!("which colour do you get from {one} and {two}?"),
                ],
                answer: mixed.to_owned(),
                wrong: others(&["orange", "green", "purple", "pink"], mixed),
            });
        }
    }
}

fn about_life(facts: &mut Vec<Fact>) {
    let homes = HOMES.map(|(_, home)| home);
    for (kind, home) in HOMES {
        let kind = kind.name();
        facts.push(Fact {
            topic: "home",
            says: vec![
                format!("you find a {kind} {home}."),
                format!("a {kind} is at home {home}."),
                format!("{home} there is often a {kind}."),
            ],
            asks: vec![
                format!("where do you find a {kind}?"),
                format!("where is a {kind} at home?"),
                format!("where do you look for a {kind}?"),
            ],
            answer: home.to_owned(),
            wrong: others(&homes, home),
        });
    }
    let doings = DOINGS.map(|(_, doing)| format!("it {doing}"));
    for (kind, doing) in DOINGS {
        let kind = kind.name();
        facts.push(Fact {
            topic: "doing",
            says: vec![
                format!("a {kind} {doing}."),
                format!("look at the {kind}: it {doing}."),
                format!("it {doing} because it is a {kind}."),
            ],
            asks: vec![
                format!("what does a {kind} do?"),
                format!("you look at a {kind}. what does it do?"),
                format!("what is a {kind} doing?"),
            ],
            answer: format!("it {doing}"),
            wrong: others(&doings, &format!("it {doing}")),
        });
    }
    let words: Vec<&str> = OPPOSITES
        .iter()
        .flat_map(|(one, other)| [*one, *other])
        .collect();
    for (one, other) in OPPOSITES
        .into_iter()
        .flat_map(|(one, other)| [(one, other), (other, one)])
    {
        let wrong = others(&words, other)
            .into_iter()
            .filter(|word| word != one)
            .collect();
        facts.push(Fact {
            topic: "opposite",
            says: vec![
                format!("the opposite of {one} is {other}."),
                format!("{one} and {other} are opposites."),
                format!("not {one} but {other}."),
            ],
            asks: vec![
                format!("what is the opposite of {one}?"),
                format!("which word is the opposite of {one}?"),
                format!("if it is not {one}, what is it?"),
            ],
            answer: other.to_owned(),
            wrong,
        });
    }
}

fn about_places(facts: &mut Vec<Fact>) {
    let lines = [
        ("row", ROW_NAMES, "above", "below"),
        ("column", COLUMN_NAMES, "left of", "right of"),
    ];
    for (line, names, before, after) in lines {
        for (index, pair) in names.windows(2).enumerate() {
            for (one, relation, other) in [(pair[0], before, pair[1]), (pair[1], after, pair[0])] {
                facts.push(Fact {
                    topic: line,
                    says: vec![
                        format!("the {one} {line} is just {relation} the {other} {line}."),
                        format!("just {relation} the {other} {line} comes the {one} {line}."),
                    ],
                    asks: vec![
                        format!("which {line} is just {relation} the {other} {line}?"),
                        format!("which {line} comes just {relation} the {other} {line}?"),
                        format!("what do you find just {relation} the {other} {line}?"),
                    ],
                    answer: format!("the {one} {line}"),
                    wrong: names
                        .iter()
                        .filter(|name| **name != one && **name != other)
                        .map(|name| format!("the {name} {line}"))
                        .collect(),
                });
            }
            let place = ["first", "second", "third"][index];
            facts.push(Fact {
                topic: line,
                says: vec![format!("the {place} {line} is the {} {line}.", pair[0])],
                asks: vec![
                    format!("which {line} is the {place} one?"),
                    format!("what is the {place} {line}?"),
                ],
                answer: format!("the {} {line}", pair[0]),
                wrong: others(
                    &names.map(|name| format!("the {name} {line}")),
                    &format!("the {} {line}", pair[0]),
                ),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_well_formed() {
        assert!(facts().len() > 100);
        for fact in facts() {
            assert!(
                !fact.says.is_empty() && fact.asks.len() >= 2 && !fact.wrong.is_empty(),
                "{fact:?}"
            );
            assert!(!fact.wrong.contains(&fact.answer), "{fact:?}");
            for text in fact.says.iter().chain(&fact.asks) {
                assert!(
                    text.ends_with(['.', '?']) && *text == text.to_ascii_lowercase(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn no_question_has_two_answers_within_its_choices() {
        for fact in facts() {
            for ask in &fact.asks {
                let right = facts()
                    .iter()
                    .filter(|other| other.asks.contains(ask))
                    .map(|other| &other.answer);
                assert!(
                    right.into_iter().all(|answer| !fact.wrong.contains(answer)),
                    "{ask}"
                );
            }
        }
    }

    #[test]
    fn the_parts_of_wordings_are_not_empty() {
        for split in Split::ALL {
            let topics: std::collections::BTreeSet<_> = facts()
                .iter()
                .filter(|fact| fact.asks_of(split).next().is_some())
                .map(|fact| fact.topic)
                .collect();
            assert!(topics.len() >= 9, "{split:?}: {topics:?}");
        }
        let lost = facts()
            .iter()
            .filter(|fact| fact.asks_of(Split::Train).next().is_none())
            .count();
        assert!(
            lost * 20 < facts().len(),
            "nearly every fact is also asked for in training: {lost}"
        );
    }
}
