//! How-to articles: a prompt, then step after step, each with a picture of all drawn so far.

use jam_data::random::Random;

use super::captions::plain_list;
use super::scene::{MAX_THINGS, Scene, Thing};
use super::splits::{SceneSampler, Variety, chance, pick};
use super::texts::{list_without_places, relation_sentence};
use super::words::{NUMBERS, a_thing, at};

/// The fewest pictures of an article.
pub const FEWEST_STEPS: usize = 2;

/// An article, before its pictures are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// `how do i draw a red house at the bottom left and a yellow sun at the top right?`
    pub prompt: String,
    /// Whether the prompt names the places.
    pub placed: bool,
    /// Each step's text and the scene after it; every scene adds one thing to the one before.
    pub steps: Vec<(String, Scene)>,
    /// A last sentence after the last picture, in some articles.
    pub closing: Option<String>,
}

impl Article {
    /// Everything that the prompt asks for.
    pub fn asked(&self) -> Scene {
        self.steps
            .last()
            .map(|(_, scene)| scene.clone())
            .unwrap_or_default()
    }
}

/// One article with `steps` pictures (cut to 2 … [`MAX_THINGS`]). Where places may be left out
/// (`always_placed` false), a quarter of the prompts for two or three things name none.
pub fn article(
    rng: &mut Random,
    sampler: &SceneSampler,
    steps: usize,
    always_placed: bool,
) -> Article {
    let things = sampler.things(rng, steps.clamp(FEWEST_STEPS, MAX_THINGS), Variety::Kinds);
    let placed = always_placed || things.len() > 3 || !chance(rng, 25);
    let list = if placed {
        plain_list(rng, &things)
    } else {
        list_without_places(&things)
    };
    let prompt = match *pick(rng, &[0, 0, 0, 1, 2, 3, 4]) {
        0 => format!("how do i draw {list}?"),
        1 => format!("how can i draw {list}?"),
        2 => format!("how do you draw {list}?"),
        3 => format!("show me how to draw {list}."),
        _ => format!("please draw {list}, step by step."),
    };
    let numbered = chance(rng, 40);
    let mut steps = Vec::new();
    for (index, thing) in things.iter().enumerate() {
        let mut text = step(rng, thing, index, things.len(), numbered);
        if index > 0 && chance(rng, 25) {
            text.extend(
                relation_sentence(rng, &things[..=index]).map(|sentence| format!(" {sentence}")),
            );
        }
        // The things were placed apart, so every beginning of the list is a scene.
        steps.push((
            text,
            Scene::new(things[..=index].iter().copied()).unwrap_or_default(),
        ));
    }
    let closing = chance(rng, 40).then(|| {
        (*pick(
            rng,
            &[
                "now the picture is done.",
                "well done.",
                "that is all.",
                "the picture is done.",
            ],
        ))
        .to_owned()
    });
    Article {
        prompt,
        placed,
        steps,
        closing,
    }
}

fn step(rng: &mut Random, thing: &Thing, index: usize, count: usize, numbered: bool) -> String {
    let what = format!("{} {}", a_thing(thing), at(thing.place));
    if numbered {
        let verb = pick(rng, &["draw", "draw", "add", "put"]);
        return format!(
            "step {}: {verb} {what}.",
            NUMBERS[index.min(MAX_THINGS - 1)]
        );
    }
    let opening: &[&str] = if index == 0 {
        &["first draw", "begin with", "first we draw", "draw"]
    } else if index + 1 == count {
        &["last, draw", "then add", "at the end draw", "now add"]
    } else {
        &["then draw", "next draw", "then add", "now put"]
    };
    format!("{} {what}.", pick(rng, opening))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splits::Split;
    use crate::words::named;

    #[test]
    fn every_step_adds_what_its_text_says() {
        let mut rng = Random::seeded(31, 0);
        let mut unplaced = 0;
        for split in Split::ALL {
            let sampler = SceneSampler::new(split);
            for index in 0..600 {
                let article = article(&mut rng, &sampler, 2 + index % 5, split != Split::Train);
                assert_eq!(article.steps.len(), 2 + index % 5);
                assert!(article.placed || split == Split::Train);
                unplaced += usize::from(!article.placed);
                let mut before = Scene::default();
                for (text, scene) in &article.steps {
                    let new: Vec<_> = scene
                        .things()
                        .iter()
                        .filter(|thing| !before.things().contains(thing))
                        .collect();
                    assert_eq!(
                        (new.len(), scene.things().len()),
                        (1, before.things().len() + 1)
                    );
                    let said = format!("{} at the {}", named(new[0]), new[0].place.name());
                    assert!(text.contains(&said), "{text}");
                    assert!(article.prompt.contains(new[0].figure.kind().name()));
                    assert!(!article.placed || article.prompt.contains(&new[0].place.name()));
                    before = scene.clone();
                }
                assert_eq!(Split::of_scene(&article.asked()), Some(split));
            }
        }
        assert!(unplaced > 30);
    }
}
