//! The text corpus: descriptions, stories, riddles, instructions, questions with answers, facts.

use jam_data::random::Random;
use serde::{Deserialize, Serialize};

use super::captions::plain_list;
use super::facts::{facts, hint, parts};
use super::questions::{any_scene_question, fact_question, next_to, riddle, telling};
use super::scene::{Kind, Scene, Thing};
use super::splits::{SceneSampler, Split, Variety, below, chance, pick};
use super::words::{NAMES, NUMBERS, a, a_thing, and_list, at, named, relation_between, the_kind};

/// One document of the corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// The document.
    pub text: String,
    /// `description`, `story`, `riddle`, `instruction`, `questions` or `facts`.
    pub kind: String,
    /// The scene that it tells of; several riddles tell of several.
    pub scenes: Vec<Scene>,
}

/// One document of a part (training or validation).
pub fn text(rng: &mut Random, sampler: &SceneSampler, split: Split) -> TextRecord {
    match below(rng, 100) {
        0..22 => description(rng, sampler),
        22..34 => story(rng, sampler),
        34..46 => riddles(rng, sampler),
        46..58 => instruction(rng, sampler),
        58..82 => questions(rng, sampler, split),
        _ => facts_told(rng, split),
    }
}

fn record(kind: &str, text: String, scenes: impl IntoIterator<Item = Vec<Thing>>) -> TextRecord {
    let scenes = scenes
        .into_iter()
        .filter_map(|things| Scene::new(things).ok())
        .collect();
    TextRecord {
        text,
        kind: kind.to_owned(),
        scenes,
    }
}

/// A true sentence about how two of the things stand to one another.
pub(crate) fn relation_sentence(rng: &mut Random, things: &[Thing]) -> Option<String> {
    let one = *pick(rng, things);
    let others: Vec<Thing> = things
        .iter()
        .filter(|thing| thing.figure.kind() != one.figure.kind())
        .copied()
        .collect();
    if others.is_empty() {
        return None;
    }
    let other = *pick(rng, &others);
    let relation = relation_between(rng, &one, &other)?;
    let verb = pick(rng, &["is", "is", "stands"]);
    let (one, other) = (the_kind(one.figure.kind()), the_kind(other.figure.kind()));
    Some(format!("{one} {verb} {} {other}.", relation.name()))
}

fn description(rng: &mut Random, sampler: &SceneSampler) -> TextRecord {
    let count = 1 + below(rng, 4);
    let things = sampler.things(rng, count, Variety::KindsAndColours);
    let mut sentences = Vec::new();
    if chance(rng, 40) {
        let noun = if things.len() == 1 { "thing" } else { "things" };
        let number = NUMBERS[things.len() - 1];
        sentences.push(match below(rng, 3) {
            0 => format!("this picture shows {number} {noun}."),
            1 => format!("we see {number} {noun}."),
            _ => format!("the picture has {number} {noun}."),
        });
    }
    for thing in &things {
        let (a_thing, place) = (a_thing(thing), at(thing.place));
        let small = if thing.figure.is_small() {
            "small and "
        } else {
            ""
        };
        let kind = thing.figure.kind().name();
        sentences.push(match below(rng, 6) {
            0 => format!("{a_thing} is {place}."),
            1 => format!("{a_thing} stands {place}."),
            2 => format!("{place} there is {a_thing}."),
            3 => format!("{place} we see {a_thing}."),
            4 => format!("there is {a_thing}. it is {place}."),
            _ => format!(
                "the {kind} is {small}{}. it stands {place}.",
                thing.colour.name()
            ),
        });
    }
    for _ in 0..below(rng, 3) {
        let sentence = relation_sentence(rng, &things);
        sentences.extend(sentence.filter(|sentence| !sentences.contains(sentence)));
    }
    record("description", sentences.join(" "), [things])
}

fn story(rng: &mut Random, sampler: &SceneSampler) -> TextRecord {
    let things = sampler.things(rng, 2, Variety::KindsAndColours);
    let [one, two] = things[..] else {
        return description(rng, sampler);
    };
    let (kind_one, kind_two) = (one.figure.kind().name(), two.figure.kind().name());
    let (a_one, a_two) = (a_thing(&one), a_thing(&two));
    let (at_one, at_two) = (at(one.place), at(two.place));
    let name = pick(rng, &NAMES);
    let text = match below(rng, 5) {
        0 => format!(
            "once there was {a_one}. it stood {at_one} and was alone. then {name} came and drew {a_two} {at_two}. \
             now the {kind_one} and the {kind_two} are friends."
        ),
        1 => format!(
            "{name} has {} pen and {} pen. first {name} draws {a_one} {at_one}. then {name} takes the {} pen and \
             draws {a_two} {at_two}. the picture is done.",
            a(one.colour.name()),
            a(two.colour.name()),
            two.colour.name()
        ),
        2 => format!(
            "one day {name} looked for {a_one}. where was it? it was {at_one}. then {name} found {a_two} {at_two}. \
             it was a good day."
        ),
        3 => format!(
            "{name} and a friend draw a picture. {name} wants {a_one} {at_one}. the friend wants {a_two} {at_two}. \
             they draw the {kind_one} and the {kind_two} and are happy."
        ),
        _ => format!(
            "it was night. {a_one} {at_one} could not sleep. it looked at {a_two} {at_two}. good night, {kind_two}. \
             good night, {kind_one}."
        ),
    };
    let relation = if chance(rng, 30) {
        relation_sentence(rng, &things)
    } else {
        None
    };
    let text = relation
        .into_iter()
        .fold(text, |text, sentence| format!("{text} {sentence}"));
    record("story", text, [things])
}

fn riddles(rng: &mut Random, sampler: &SceneSampler) -> TextRecord {
    let count = 1 + below(rng, 2);
    let things = sampler.things(rng, count, Variety::Kinds);
    let mut sentences = Vec::new();
    for thing in &things {
        let (question, answer) = riddle(rng, thing);
        sentences.push(format!("{question} {answer}."));
    }
    record(
        "riddle",
        sentences.join(" "),
        things.into_iter().map(|thing| vec![thing]),
    )
}

/// How one thing is drawn, part by part where it has parts.
pub(crate) fn how_to_draw(rng: &mut Random, thing: &Thing) -> String {
    let (colour, place) = (thing.colour.name(), at(thing.place));
    match parts(thing.figure.kind()) {
        Some(parts) => {
            let small = if thing.figure.is_small() {
                "small "
            } else {
                ""
            };
            match below(rng, 2) {
                0 => format!(
                    "draw the {small}{} {place}. put the {} above. paint the {} {colour}.",
                    parts.lower, parts.upper, parts.coloured
                ),
                _ => format!(
                    "begin {place} with the {small}{}. above comes the {}. make the {} {colour}.",
                    parts.lower, parts.upper, parts.coloured
                ),
            }
        }
        None => match below(rng, 3) {
            0 => format!(
                "take {} pen. draw {} {place}.",
                a(colour),
                outline(thing.figure.kind())
            ),
            1 => format!(
                "draw a {} {place}. paint it {colour}.",
                thing.figure.kind().name()
            ),
            _ => format!("begin {place}. draw {}.", a_thing(thing)),
        },
    }
}

/// What one draws for a thing that is not composed of cells.
fn outline(kind: Kind) -> &'static str {
    match kind {
        Kind::Circle => "a round form",
        Kind::Ring => "a round form with a hole",
        Kind::Heart => "a heart",
        Kind::Diamond => "a square that stands on one corner",
        Kind::Sun => "a round form with rays",
        Kind::Face => "a round form with two eyes and a mouth",
        kind => hint(kind),
    }
}

fn instruction(rng: &mut Random, sampler: &SceneSampler) -> TextRecord {
    let count = 1 + below(rng, 2);
    let things = sampler.things(rng, count, Variety::KindsAndColours);
    let list = plain_list(rng, &things);
    let opening = match below(rng, 3) {
        0 => format!("how do i draw {list}?"),
        1 => format!("to draw {list}, do this."),
        _ => format!("how can i draw {list}?"),
    };
    let mut sentences = vec![opening];
    for (index, thing) in things.iter().enumerate() {
        if things.len() > 1 {
            sentences.push(format!(
                "the {} is the {} thing.",
                named(thing),
                ["first", "second"][index.min(1)]
            ));
        }
        sentences.push(how_to_draw(rng, thing));
    }
    if chance(rng, 50) {
        sentences.push(
            (*pick(
                rng,
                &["now it is done.", "the picture is done.", "well done."],
            ))
            .to_owned(),
        );
    }
    record("instruction", sentences.join(" "), [things])
}

fn questions(rng: &mut Random, sampler: &SceneSampler, split: Split) -> TextRecord {
    if chance(rng, 15)
        && let Some(next) = next_to(rng, sampler)
    {
        let text = format!("{} {} {}.", next.text, next.ask, next.answer);
        return record("questions", text, [next.things.to_vec()]);
    }
    let count = pick(rng, &[1, 2, 2, 2, 3, 3, 4]);
    let things = sampler.things(rng, *count, Variety::KindsAndColours);
    let mut sentences = vec![telling(rng, &things)];
    let wanted = 1 + below(rng, 3);
    let mut topics = Vec::new();
    for _ in 0..10 {
        if topics.len() == wanted {
            break;
        }
        if let Some(question) = any_scene_question(rng, &things, split)
            && !topics.contains(&question.topic)
        {
            topics.push(question.topic);
            sentences.push(format!("{} {}.", question.ask, question.answer));
        }
    }
    record("questions", sentences.join(" "), [things])
}

fn facts_told(rng: &mut Random, split: Split) -> TextRecord {
    let mut sentences: Vec<String> = Vec::new();
    for _ in 0..3 + below(rng, 4) {
        let asked = if chance(rng, 50) {
            fact_question(rng, split)
        } else {
            None
        };
        sentences.push(match asked {
            Some((fact, ask)) => format!("{ask} {}.", fact.answer),
            None => {
                let fact = pick(rng, facts());
                pick(rng, &fact.says).clone()
            }
        });
    }
    sentences.dedup();
    record("facts", sentences.join(" "), [])
}

/// The names of things as a list: `a red house and a yellow sun`.
pub(crate) fn list_without_places(things: &[Thing]) -> String {
    and_list(&things.iter().map(a_thing).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Colour, Place};
    use std::collections::BTreeSet;

    fn texts(split: Split, count: usize) -> Vec<TextRecord> {
        let mut rng = Random::seeded(21, 0);
        let sampler = SceneSampler::new(split);
        (0..count)
            .map(|_| text(&mut rng, &sampler, split))
            .collect()
    }

    #[test]
    fn texts_are_plain_small_worded_and_short() {
        let (mut words, mut lengths, mut kinds) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for record in texts(Split::Train, 6000) {
            assert!(
                record
                    .text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || b" .,:?".contains(&byte)),
                "{}",
                record.text
            );
            for wrong in [" a orange", " an red", "  ", "..", "?."] {
                assert!(!record.text.contains(wrong), "{}", record.text);
            }
            let count = record.text.split_whitespace().count();
            lengths.push(count);
            words.extend(
                record
                    .text
                    .split([' ', '.', ',', ':', '?'])
                    .map(str::to_owned),
            );
            kinds.insert(record.kind);
        }
        assert!(words.len() < 340, "{}", words.len());
        assert_eq!(kinds.len(), 6);
        lengths.sort_unstable();
        assert!(
            lengths[lengths.len() - 1] < 130,
            "{}",
            lengths[lengths.len() - 1]
        );
    }

    #[test]
    fn what_a_text_says_of_things_and_places_is_in_its_scenes() {
        for split in [Split::Train, Split::Val] {
            for record in texts(split, 4000) {
                let things: Vec<Thing> = record
                    .scenes
                    .iter()
                    .flat_map(|scene| scene.things())
                    .copied()
                    .collect();
                assert!(things.iter().all(|thing| Split::of(thing) == split));
                if record.kind == "facts" {
                    continue;
                }
                for (colour, kind) in Colour::ALL
                    .into_iter()
                    .flat_map(|c| Kind::ALL.map(|k| (c, k)))
                {
                    let said = record
                        .text
                        .contains(&format!("{} {}", colour.name(), kind.name()));
                    let known = things
                        .iter()
                        .any(|thing| thing.colour == colour && thing.figure.kind() == kind);
                    assert!(!said || known, "{record:?}");
                }
                for place in Place::all() {
                    let said = record.text.contains(&format!(" {}", place.name()));
                    assert!(
                        !said || things.iter().any(|thing| thing.place == place),
                        "{record:?}"
                    );
                }
            }
        }
    }
}
