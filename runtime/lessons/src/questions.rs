//! Questions with known answers, about scenes and about the world.
//!
//! The training text asks and answers them; the multiple-choice items ask them of held-out
//! things and in held-out wordings. The choices of an item are of one kind and each of them is
//! the right one equally often, so that neither length nor position gives the answer away.

use jam_data::random::Random;
use serde::{Deserialize, Serialize};

use super::captions::plain_list;
use super::facts::{Fact, facts, hint};
use super::scene::{Colour, Figure, Place, Scene, Thing};
use super::splits::{SceneSampler, Split, Variety, below, chance, pick};
use super::words::{NUMBERS, Relation, a_thing, at, named, relation_between, the_kind};

/// A question and its possible answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceItem {
    /// What is told and asked. `question + " " + choice` is text as in the training corpus.
    pub question: String,
    /// Two to four answers, all different.
    pub choices: Vec<String>,
    /// The number of the right one, counted from 0.
    pub gold: usize,
    /// What kind of question it is.
    pub topic: String,
    /// The scene that is told of, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene: Option<Scene>,
}

/// A question about given things, without the telling of the scene.
#[derive(Clone, Debug)]
pub(crate) struct SceneQuestion {
    pub(crate) topic: &'static str,
    pub(crate) ask: String,
    pub(crate) answer: String,
    pub(crate) wrong: Vec<String>,
}

/// The kinds of question about a scene of several things.
const SCENE_TOPICS: [&str; 8] = [
    "what",
    "where",
    "colour of",
    "height",
    "side",
    "yes or no",
    "count",
    "next step",
];

/// One multiple-choice item of a part: about a scene, a riddle, or a fact.
pub fn choice_item(rng: &mut Random, sampler: &SceneSampler, split: Split) -> ChoiceItem {
    loop {
        let item = match below(rng, 12) {
            0..7 => scene_item(rng, sampler, split),
            7 => next_to_item(rng, sampler),
            8 => Some(riddle_item(rng, sampler)),
            _ => fact_item(rng, split),
        };
        if let Some(item) = item {
            return item;
        }
    }
}

/// The telling of a scene: `there is a red house at the bottom left and …`.
pub(crate) fn telling(rng: &mut Random, things: &[Thing]) -> String {
    let opening = pick(
        rng,
        &[
            "there is",
            "there is",
            "we see",
            "here is",
            "the picture shows",
            "i draw",
        ],
    );
    format!("{opening} {}.", plain_list(rng, things))
}

fn scene_item(rng: &mut Random, sampler: &SceneSampler, split: Split) -> Option<ChoiceItem> {
    let topic = *pick(rng, &SCENE_TOPICS);
    let count = if topic == "count" {
        1 + below(rng, 4)
    } else {
        2 + below(rng, 2)
    };
    let things = sampler.things(rng, count, Variety::KindsAndColours);
    let question = scene_question(rng, &things, topic, split)?;
    let text = format!("{} {}", telling(rng, &things), question.ask);
    let scene = Scene::new(things).ok()?;
    Some(item(
        rng,
        text,
        question.answer,
        question.wrong,
        topic,
        Some(scene),
    ))
}

/// A question of a random topic about these things (of different kinds and colours). A false
/// statement in it never names a combination that is held out from `split`.
pub(crate) fn any_scene_question(
    rng: &mut Random,
    things: &[Thing],
    split: Split,
) -> Option<SceneQuestion> {
    let topic = *pick(rng, &SCENE_TOPICS);
    scene_question(rng, things, topic, split)
}

fn scene_question(
    rng: &mut Random,
    things: &[Thing],
    topic: &'static str,
    split: Split,
) -> Option<SceneQuestion> {
    let asked = *pick(rng, things);
    let rest: Vec<Thing> = things
        .iter()
        .filter(|thing| **thing != asked)
        .copied()
        .collect();
    let kind = asked.figure.kind().name();
    let question = |ask: String, answer: String, wrong: Vec<String>| {
        Some(SceneQuestion {
            topic,
            ask,
            answer,
            wrong,
        })
    };
    if topic == "count" {
        let ask = pick(
            rng,
            &[
                "how many things are there?",
                "how many things do you count?",
                "how many things?",
            ],
        );
        let answer = NUMBERS[..4].get(things.len() - 1)?;
        let wrong = NUMBERS[..4].iter().filter(|number| *number != answer);
        return question(
            (*ask).to_owned(),
            (*answer).to_owned(),
            wrong.map(|word| (*word).to_owned()).collect(),
        );
    }
    let other = *rest.first()?;
    match topic {
        "what" => {
            let place = at(asked.place);
            let ask = match below(rng, 3) {
                0 => format!("what is {place}?"),
                1 => format!("what do you see {place}?"),
                _ => format!("what stands {place}?"),
            };
            // Half of the time the wrong answers mix the colours and kinds of what is there.
            let wrong = if chance(rng, 50) {
                rest.iter().map(a_thing).collect()
            } else {
                let mixed = Thing {
                    colour: other.colour,
                    ..asked
                };
                let mixed_too = Thing {
                    colour: asked.colour,
                    ..other
                };
                [mixed, mixed_too, other].iter().map(a_thing).collect()
            };
            question(ask, a_thing(&asked), wrong)
        }
        "where" => {
            let ask = match below(rng, 3) {
                0 => format!("where is the {}?", named(&asked)),
                1 => format!("where is the {kind}?"),
                _ => format!("where does the {kind} stand?"),
            };
            question(
                ask,
                at(asked.place),
                rest.iter().map(|thing| at(thing.place)).collect(),
            )
        }
        "colour of" => {
            let ask = match below(rng, 3) {
                0 => format!("what colour is the {kind}?"),
                1 => format!("what is the colour of the {kind}?"),
                _ => format!("which colour does the {kind} have?"),
            };
            let wrong = rest
                .iter()
                .map(|thing| thing.colour.name().to_owned())
                .collect();
            question(ask, asked.colour.name().to_owned(), wrong)
        }
        "height" | "side" => {
            let vertical = topic == "height";
            let (relation, ask) = *pick(
                rng,
                if vertical {
                    &[
                        (Relation::Above, "which one is higher?"),
                        (Relation::Below, "which one is lower?"),
                        (Relation::Above, "which one is above the other?"),
                        (Relation::Below, "which one is below the other?"),
                    ]
                } else {
                    &[
                        (Relation::LeftOf, "which one is left of the other?"),
                        (Relation::RightOf, "which one is right of the other?"),
                        (Relation::LeftOf, "which one is more to the left?"),
                        (Relation::RightOf, "which one is more to the right?"),
                    ]
                },
            );
            let (first, second) = if relation.holds(&asked, &other) {
                (asked, other)
            } else if relation.holds(&other, &asked) {
                (other, asked)
            } else {
                return None;
            };
            let (first, second) = (
                the_kind(first.figure.kind()),
                the_kind(second.figure.kind()),
            );
            let mut pair = [first.clone(), second.clone()];
            rng.shuffle(&mut pair);
            question(
                format!("look at {} and {}. {ask}", pair[0], pair[1]),
                first,
                vec![second],
            )
        }
        "yes or no" => {
            let truth = chance(rng, 50);
            let ask = if chance(rng, 50) {
                let relation = relation_between(rng, &asked, &other)?;
                let (one, two) = if truth {
                    (asked, other)
                } else {
                    (other, asked)
                };
                let (one, two) = (the_kind(one.figure.kind()), the_kind(two.figure.kind()));
                format!("is {one} {} {two}?", relation.name())
            } else if truth {
                format!("is the {kind} {}?", at(asked.place))
            } else {
                let wrong = Thing {
                    place: other.place,
                    ..asked
                };
                if !wrong.fits() || !may_be_said(&wrong, split) {
                    return None;
                }
                format!("is the {kind} {}?", at(wrong.place))
            };
            let (answer, wrong) = if truth { ("yes", "no") } else { ("no", "yes") };
            question(ask, answer.to_owned(), vec![wrong.to_owned()])
        }
        "next step" => {
            let ask = format!("first i draw the {}. what comes next?", named(&other));
            if rest.len() > 1 {
                return None;
            }
            question(
                ask,
                format!("the {}", named(&asked)),
                vec![format!("the {}", named(&other))],
            )
        }
        _ => None,
    }
}

/// Whether a combination may be named in texts of a part, be it in a false statement.
pub(crate) fn may_be_said(thing: &Thing, split: Split) -> bool {
    Split::of(thing) <= split
}

/// Two neighbours, of which only the first one's place is told.
#[derive(Clone, Debug)]
pub(crate) struct NextTo {
    pub(crate) things: [Thing; 2],
    pub(crate) text: String,
    pub(crate) ask: String,
    pub(crate) answer: String,
    pub(crate) wrong: Vec<String>,
}

/// `a blue star is at the lower left. just above it is a red heart. where is the heart?`
pub(crate) fn next_to(rng: &mut Random, sampler: &SceneSampler) -> Option<NextTo> {
    let anchor = sampler.thing(rng);
    if anchor.figure.is_tall() {
        return None;
    }
    let relation = *pick(rng, &Relation::ALL);
    let place = relation.next_to(anchor.place)?;
    let fitting: Vec<Thing> = sampler
        .all()
        .filter(|thing| thing.place == place && !thing.figure.is_tall())
        .filter(|thing| {
            thing.figure.kind() != anchor.figure.kind() && thing.colour != anchor.colour
        })
        .collect();
    if fitting.is_empty() {
        return None;
    }
    let target = *pick(rng, &fitting);
    let kind = target.figure.kind().name();
    let verb = pick(rng, &["is", "stands"]);
    let text = format!(
        "{} {verb} {}. just {} it {verb} {}.",
        a_thing(&anchor),
        at(anchor.place),
        relation.name(),
        a_thing(&target)
    );
    let wrong: Vec<Place> = Relation::ALL
        .into_iter()
        .filter_map(|r| r.next_to(anchor.place))
        .filter(|p| *p != place)
        .collect();
    Some(NextTo {
        things: [anchor, target],
        text,
        ask: format!("where is the {kind}?"),
        answer: at(place),
        wrong: wrong.into_iter().map(at).collect(),
    })
}

fn next_to_item(rng: &mut Random, sampler: &SceneSampler) -> Option<ChoiceItem> {
    let NextTo {
        things,
        text,
        ask,
        answer,
        wrong,
    } = next_to(rng, sampler)?;
    let scene = Scene::new(things).ok()?;
    Some(item(
        rng,
        format!("{text} {ask}"),
        answer,
        wrong,
        "next to",
        Some(scene),
    ))
}

/// A riddle about one thing: the question, and the answer.
pub(crate) fn riddle(rng: &mut Random, thing: &Thing) -> (String, String) {
    let (colour, hint) = (thing.colour.name(), hint(thing.figure.kind()));
    let small = if thing.figure.is_small() {
        "small and "
    } else {
        ""
    };
    let place = at(thing.place);
    let text = match below(rng, 4) {
        0 => format!("i am {small}{colour}. i have {hint}. i stand {place}."),
        1 => format!("i have {hint} and i am {small}{colour}. you find me {place}."),
        2 => format!("you find me {place}. i am {small}{colour} and have {hint}."),
        _ => format!("{place} i stand. i am {small}{colour}. i have {hint}."),
    };
    (
        format!(
            "{text} {}",
            pick(rng, &["what am i?", "who am i?", "guess what i am."])
        ),
        a_thing(thing),
    )
}

fn riddle_item(rng: &mut Random, sampler: &SceneSampler) -> ChoiceItem {
    let thing = sampler.thing(rng);
    let mut figures: Vec<Figure> = Figure::ALL
        .into_iter()
        .filter(|figure| figure.is_small() == thing.figure.is_small() && *figure != thing.figure)
        .collect();
    rng.shuffle(&mut figures);
    figures.truncate(1 + below(rng, 3));
    // One wrong answer may differ in colour only.
    let mut wrong: Vec<String> = figures
        .into_iter()
        .map(|figure| a_thing(&Thing { figure, ..thing }))
        .collect();
    if chance(rng, 30) {
        let colours: Vec<Colour> = Colour::ALL
            .into_iter()
            .filter(|colour| *colour != thing.colour)
            .collect();
        wrong[0] = a_thing(&Thing {
            colour: *pick(rng, &colours),
            ..thing
        });
    }
    let (question, answer) = riddle(rng, &thing);
    let scene = Scene::new([thing]).ok();
    item(rng, question, answer, wrong, "riddle", scene)
}

/// A fact, and a wording of its question that belongs to the part, where it has one.
pub(crate) fn fact_question(
    rng: &mut Random,
    split: Split,
) -> Option<(&'static Fact, &'static str)> {
    let fact = pick(rng, facts());
    let asks: Vec<&'static String> = fact.asks_of(split).collect();
    if asks.is_empty() {
        None
    } else {
        Some((fact, pick(rng, &asks).as_str()))
    }
}

fn fact_item(rng: &mut Random, split: Split) -> Option<ChoiceItem> {
    let (fact, ask) = fact_question(rng, split)?;
    Some(item(
        rng,
        ask.to_owned(),
        fact.answer.clone(),
        fact.wrong.clone(),
        fact.topic,
        None,
    ))
}

/// Puts the answers in random order; of the wrong ones at most three.
fn item(
    rng: &mut Random,
    question: String,
    answer: String,
    mut wrong: Vec<String>,
    topic: &str,
    scene: Option<Scene>,
) -> ChoiceItem {
    wrong.retain(|choice| *choice != answer);
    rng.shuffle(&mut wrong);
    wrong.truncate(3);
    let gold = below(rng, wrong.len() + 1);
    wrong.insert(gold, answer);
    ChoiceItem {
        question,
        choices: wrong,
        gold,
        topic: topic.to_owned(),
        scene,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Kind;
    use std::collections::{BTreeMap, BTreeSet};

    fn items(split: Split, count: usize) -> Vec<ChoiceItem> {
        let mut rng = Random::seeded(11, 0);
        let sampler = SceneSampler::new(split);
        (0..count)
            .map(|_| choice_item(&mut rng, &sampler, split))
            .collect()
    }

    #[test]
    fn items_are_well_formed_and_of_their_part() {
        let hints: BTreeSet<_> = Kind::ALL.into_iter().map(hint).collect();
        assert_eq!(hints.len(), Kind::ALL.len(), "every riddle has one answer");
        for split in Split::ALL {
            for item in items(split, 2000) {
                assert!(
                    (2..=4).contains(&item.choices.len()) && item.gold < item.choices.len(),
                    "{item:?}"
                );
                let mut choices = item.choices.clone();
                choices.sort();
                choices.dedup();
                assert_eq!(choices.len(), item.choices.len(), "{item:?}");
                match &item.scene {
                    Some(scene) => assert_eq!(Split::of_scene(scene), Some(split), "{item:?}"),
                    None => assert_eq!(Split::of_wording(&item.question), split, "{item:?}"),
                }
            }
        }
    }

    #[test]
    fn answers_cannot_be_guessed_by_position_length_or_word() {
        let items = items(Split::Test, 8000);
        let count = items.len() as f64;
        let chance: f64 = items
            .iter()
            .map(|item| 1.0 / item.choices.len() as f64)
            .sum::<f64>()
            / count;
        let mut right = BTreeMap::new();
        for item in &items {
            let by = |rule: &dyn Fn(&str) -> usize| {
                let best = (0..item.choices.len())
                    .max_by_key(|index| rule(&item.choices[*index]))
                    .unwrap();
                let ties = item
                    .choices
                    .iter()
                    .filter(|c| rule(c) == rule(&item.choices[best]))
                    .count();
                let hit = rule(&item.choices[item.gold]) == rule(&item.choices[best]);
                if hit { 1.0 / ties as f64 } else { 0.0 }
            };
            *right.entry("longest").or_insert(0.0) += by(&|choice| choice.len());
            *right.entry("shortest").or_insert(0.0) += by(&|choice| 100 - choice.len());
            *right.entry("most words").or_insert(0.0) += by(&|choice| choice.split(' ').count());
            *right.entry("first").or_insert(0.0) += f64::from(u8::from(item.gold == 0));
            *right.entry("last").or_insert(0.0) +=
                f64::from(u8::from(item.gold + 1 == item.choices.len()));
        }
        for (rule, right) in right {
            assert!(
                (right / count - chance).abs() < 0.03,
                "{rule}: {} against {chance}",
                right / count
            );
        }
    }

    #[test]
    fn no_topic_has_a_favourite_answer() {
        let mut answers: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut topics: BTreeMap<String, usize> = BTreeMap::new();
        for item in items(Split::Test, 8000)
            .into_iter()
            .filter(|item| item.scene.is_some())
        {
            *topics.entry(item.topic.clone()).or_default() += 1;
            *answers
                .entry((item.topic.clone(), item.choices[item.gold].clone()))
                .or_default() += 1;
        }
        assert!(topics.len() == SCENE_TOPICS.len() + 2, "{topics:?}");
        for ((topic, answer), count) in answers {
            let share = count as f64 / topics[&topic] as f64;
            let bound = if topic == "yes or no" { 0.56 } else { 0.32 };
            assert!(share < bound, "{topic}: `{answer}` is right in {share}");
        }
    }

    #[test]
    fn relations_and_neighbours_are_true() {
        let mut rng = Random::seeded(12, 0);
        for split in Split::ALL {
            let sampler = SceneSampler::new(split);
            let mut seen = 0;
            for _ in 0..500 {
                if let Some(next) = next_to(&mut rng, &sampler) {
                    assert_eq!(next.answer, at(next.things[1].place));
                    assert_eq!(
                        Split::of_scene(&Scene::new(next.things).unwrap()),
                        Some(split)
                    );
                    seen += 1;
                }
            }
            assert!(seen > 50, "{split:?}: {seen}");
        }
    }
}
