//! Captions: short phrasings of a scene.

use jam_data::random::Random;

use super::scene::Thing;
use super::splits::{below, pick};
use super::words::{a_thing_or_big, and_list, at, at_or_in, big_is_said, named};

/// Openings that may stand before a list of things.
const OPENINGS: [&str; 16] = [
    "",
    "",
    "",
    "",
    "",
    "draw ",
    "draw ",
    "see ",
    "",
    "a picture of ",
    "a drawing of ",
    "please draw ",
    "there is ",
    "here is ",
    "we see ",
    "show me ",
];

/// One of many phrasings of the things, in the order in which they are given.
///
/// Every phrasing names colour, figure and place of every thing, each place right before or
/// right after its thing. Longer scenes are put more tersely.
pub fn caption(rng: &mut Random, things: &[Thing]) -> String {
    let long = things.len() > 2;
    match below(rng, 20) {
        0 | 1 => list(rng, things, ", ", |rng, thing| {
            format!(
                "{} {}",
                at_or_in(rng, thing.place),
                a_thing_or_big(rng, thing)
            )
        }),
        2 => list(rng, things, ", ", |rng, thing| {
            format!("{}: {}", thing.place.name(), big_or_named(rng, thing))
        }),
        frame if frame < if long { 13 } else { 7 } => {
            let opening = if long {
                ""
            } else {
                *pick(rng, &["", "", "", "draw: ", "picture: "])
            };
            let terse = list(rng, things, ", ", |rng, thing| {
                format!("{} {}", big_or_named(rng, thing), thing.place.name())
            });
            format!("{opening}{terse}")
        }
        _ => {
            let opening = pick(rng, if long { &OPENINGS[..8] } else { &OPENINGS });
            let items: Vec<String> = things
                .iter()
                .map(|thing| {
                    format!(
                        "{} {}",
                        a_thing_or_big(rng, thing),
                        at_or_in(rng, thing.place)
                    )
                })
                .collect();
            format!("{opening}{}", and_list(&items))
        }
    }
}

/// `a red house at the bottom left and a yellow sun at the top right`: the plainest phrasing.
pub fn plain_list(rng: &mut Random, things: &[Thing]) -> String {
    let items: Vec<String> = things
        .iter()
        .map(|thing| format!("{} {}", a_thing_or_big(rng, thing), at(thing.place)))
        .collect();
    and_list(&items)
}

fn big_or_named(rng: &mut Random, thing: &Thing) -> String {
    if big_is_said(rng, thing) {
        format!("big {}", named(thing))
    } else {
        named(thing)
    }
}

fn list(
    rng: &mut Random,
    things: &[Thing],
    between: &str,
    phrase: impl Fn(&mut Random, &Thing) -> String,
) -> String {
    things
        .iter()
        .map(|thing| phrase(rng, thing))
        .collect::<Vec<_>>()
        .join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splits::{SceneSampler, Split, Variety};
    use std::collections::BTreeSet;

    #[test]
    fn captions_are_short_varied_and_name_everything() {
        let mut rng = Random::seeded(4, 0);
        let sampler = SceneSampler::new(Split::Train);
        let (mut shapes, mut words, mut count) = (BTreeSet::new(), Vec::new(), 0);
        for index in 0..3000 {
            let things = sampler.things(&mut rng, 1 + index % 3, Variety::Named);
            let caption = caption(&mut rng, &things);
            let mut frame = caption.clone();
            for thing in &things {
                assert!(
                    caption.contains(&named(thing)) && caption.contains(&thing.place.name()),
                    "{caption}"
                );
                frame = frame
                    .replacen(&named(thing), "N", 1)
                    .replacen(&thing.place.name(), "P", 1);
            }
            shapes.insert(frame);
            words.push(caption.replace([',', ':'], " ,").split_whitespace().count());
            count += 1;
        }
        words.sort_unstable();
        assert!(
            words[count * 9 / 10] <= 25,
            "nine in ten captions have at most 25 words and commas"
        );
        assert!(words[count / 2] <= 17, "{}", words[count / 2]);
        assert!(shapes.len() > 60, "{}", shapes.len());
    }
}
