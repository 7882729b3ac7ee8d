//! Training, validation and test parts that hold out combinations.
//!
//! A thing (figure, colour and place together) belongs to one part, by a stable hash of its
//! name: about 6% are for the test, 3% for validation, the rest for training. The parts are the
//! same for every seed, so models trained on different lessons can be compared. Every word and
//! every pair of words stays in training; only the threefold combination is new in a test.

use std::collections::BTreeSet;

use jam_data::random::Random;

use super::scene::{Figure, MAX_THINGS, Scene, Thing};

/// A part of the lessons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The name of the part in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The part that a thing belongs to.
    pub fn of(thing: &Thing) -> Self {
        Self::of_percent(
            stable_hash(&format!(
                "{}|{}|{}",
                thing.colour.name(),
                thing.figure.name(),
                thing.place.name()
            )) % 100,
            6,
            3,
        )
    }

    /// The part that a wording of a fact belongs to: 12% test, 8% validation. The fact itself
    /// stays in training in other wordings.
    pub fn of_wording(key: &str) -> Self {
        Self::of_percent(stable_hash(key) % 100, 12, 8)
    }

    /// The part of a scene: the one that all its things belong to; nothing where they differ.
    pub fn of_scene(scene: &Scene) -> Option<Self> {
        let (first, rest) = scene.things().split_first()?;
        let split = Self::of(first);
        rest.iter()
            .all(|thing| Self::of(thing) == split)
            .then_some(split)
    }

    fn of_percent(percent: u64, test: u64, val: u64) -> Self {
        if percent < test {
            Self::Test
        } else if percent < test + val {
            Self::Val
        } else {
            Self::Train
        }
    }
}

/// FNV-1a over the bytes, then the finalizer of MurmurHash3, so that the low digits are mixed.
fn stable_hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// How different the things of a sampled scene have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// No two with the same figure and colour.
    Named,
    /// No two of the same kind.
    Kinds,
    /// No two of the same kind, and no two of the same colour.
    KindsAndColours,
}

/// Draws scenes whose things all belong to one part.
#[derive(Clone, Debug)]
pub struct SceneSampler {
    /// The things of the part, grouped by figure, so that every figure is equally likely.
    by_figure: Vec<Vec<Thing>>,
}

impl SceneSampler {
    /// A sampler for a part.
    pub fn new(split: Split) -> Self {
        let mut by_figure = vec![Vec::new(); Figure::ALL.len()];
        for thing in Thing::all().filter(|thing| Split::of(thing) == split) {
            if let Some(index) = Figure::ALL
                .iter()
                .position(|figure| *figure == thing.figure)
            {
                by_figure[index].push(thing);
            }
        }
        by_figure.retain(|things| !things.is_empty());
        Self { by_figure }
    }

    /// Every thing of the part, in a fixed order.
    pub fn all(&self) -> impl Iterator<Item = Thing> {
        self.by_figure.iter().flatten().copied()
    }

    /// One thing of the part.
    pub fn thing(&self, rng: &mut Random) -> Thing {
        let things = pick(rng, &self.by_figure);
        *pick(rng, things)
    }

    /// Things for one scene, in random order. `count` is cut to [`MAX_THINGS`]; in the rare case
    /// that so many cannot be placed, fewer are given, but always one.
    pub fn things(&self, rng: &mut Random, count: usize, variety: Variety) -> Vec<Thing> {
        let count = count.clamp(1, MAX_THINGS);
        let mut best: Vec<Thing> = Vec::new();
        for _ in 0..50 {
            let mut things: Vec<Thing> = Vec::new();
            let mut covered = BTreeSet::new();
            for _ in 0..100 {
                if things.len() == count {
                    return things;
                }
                let thing = self.thing(rng);
                let new = things.iter().all(|other| variety.allows(other, &thing));
                if new && thing.cells().all(|cell| !covered.contains(&cell)) {
                    covered.extend(thing.cells());
                    things.push(thing);
                }
            }
            if things.len() > best.len() {
                best = things;
            }
        }
        best
    }
}

impl Variety {
    /// Whether two things may stand in one scene.
    fn allows(self, one: &Thing, other: &Thing) -> bool {
        match self {
            Self::Named => one.figure != other.figure || one.colour != other.colour,
            Self::Kinds => one.figure.kind() != other.figure.kind(),
            Self::KindsAndColours => {
                one.figure.kind() != other.figure.kind() && one.colour != other.colour
            }
        }
    }
}

/// One of a list that is not empty, each equally likely.
pub(crate) fn pick<'a, T>(rng: &mut Random, list: &'a [T]) -> &'a T {
    &list[below(rng, list.len())]
}

/// A number from 0 to `end - 1`.
pub(crate) fn below(rng: &mut Random, end: usize) -> usize {
    rng.below(end)
}

/// True in `percent` of 100 cases.
pub(crate) fn chance(rng: &mut Random, percent: u32) -> bool {
    rng.below(100) < percent as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_their_shares() {
        let all = Thing::all().count() as f64;
        let share = |split| {
            Thing::all()
                .filter(|thing| Split::of(thing) == split)
                .count() as f64
                / all
        };
        assert!(
            (0.05..0.07).contains(&share(Split::Test)),
            "{}",
            share(Split::Test)
        );
        assert!(
            (0.02..0.04).contains(&share(Split::Val)),
            "{}",
            share(Split::Val)
        );
    }

    #[test]
    fn every_pair_stays_in_training() {
        let pairs = |train_only: bool| {
            let mut pairs = BTreeSet::new();
            for thing in
                Thing::all().filter(|thing| !train_only || Split::of(thing) == Split::Train)
            {
                let (colour, figure, place) =
                    (thing.colour.name(), thing.figure.name(), thing.place.name());
                pairs.insert(format!("{colour} {figure}"));
                pairs.insert(format!("{figure} {place}"));
                pairs.insert(format!("{colour} {place}"));
            }
            pairs
        };
        assert_eq!(pairs(true), pairs(false));
        assert_eq!(pairs(false).len(), 8 * 19 + 14 * 16 + 5 * 12 + 8 * 16);
    }

    #[test]
    fn sampled_scenes_stay_in_their_part_and_are_as_many_as_asked() {
        let mut rng = Random::seeded(1, 0);
        for split in Split::ALL {
            let sampler = SceneSampler::new(split);
            for count in 1..=MAX_THINGS {
                for variety in [Variety::Named, Variety::Kinds, Variety::KindsAndColours] {
                    for _ in 0..50 {
                        let scene = Scene::new(sampler.things(&mut rng, count, variety)).unwrap();
                        assert_eq!(scene.things().len(), count);
                        assert_eq!(Split::of_scene(&scene), Some(split));
                    }
                }
            }
        }
    }
}
