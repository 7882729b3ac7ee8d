//! Whether a picture shows what was asked for.

use serde::{Deserialize, Serialize};

use super::scene::Scene;

/// How much of what was asked for is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Things asked for.
    pub asked: usize,
    /// Things asked for that are shown.
    pub right: usize,
    /// Things shown that were not asked for.
    pub surplus: usize,
}

impl Judgement {
    /// The share of asked-for things that are shown, 0 to 1; 1 where nothing was asked for.
    pub fn share(&self) -> f64 {
        if self.asked == 0 {
            1.0
        } else {
            self.right as f64 / self.asked as f64
        }
    }

    /// Whether exactly what was asked for is shown.
    pub fn is_perfect(&self) -> bool {
        self.right == self.asked && self.surplus == 0
    }
}

impl std::ops::AddAssign for Judgement {
    /// Counts of several pictures together.
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.right += other.right;
        self.surplus += other.surplus;
    }
}

/// Compares a drawn scene with the one asked for: a thing is right when figure, colour and place are.
pub fn judge(asked: &Scene, drawn: &Scene) -> Judgement {
    count(asked.things(), drawn.things())
}

/// Compares a drawn scene with one asked for without places: a thing is right when figure and colour are.
pub fn judge_without_places(asked: &Scene, drawn: &Scene) -> Judgement {
    let names = |scene: &Scene| -> Vec<_> {
        scene
            .things()
            .iter()
            .map(|thing| (thing.figure, thing.colour))
            .collect()
    };
    count(&names(asked), &names(drawn))
}

/// Matches each asked-for item with one drawn item at most.
fn count<T: PartialEq>(asked: &[T], drawn: &[T]) -> Judgement {
    let mut left: Vec<&T> = drawn.iter().collect();
    let mut right = 0;
    for item in asked {
        if let Some(index) = left.iter().position(|other| *other == item) {
            left.swap_remove(index);
            right += 1;
        }
    }
    Judgement {
        asked: asked.len(),
        right,
        surplus: left.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Colour, Figure, Kind, Place, Thing};

    fn thing(kind: Kind, colour: Colour, row: usize, column: usize) -> Thing {
        Thing {
            place: Place::new(row, column).unwrap(),
            figure: Figure::full(kind),
            colour,
        }
    }

    #[test]
    fn all_three_must_be_right() {
        let star = thing(Kind::Star, Colour::Red, 0, 0);
        let house = thing(Kind::House, Colour::Blue, 3, 2);
        let asked = Scene::new([star, house]).unwrap();
        for (wrong, loosely) in [
            (thing(Kind::Star, Colour::Red, 0, 1), 2),
            (thing(Kind::Star, Colour::Pink, 0, 0), 1),
            (thing(Kind::Heart, Colour::Red, 0, 0), 1),
        ] {
            let drawn = Scene::new([wrong, house]).unwrap();
            assert_eq!(
                judge(&asked, &drawn),
                Judgement {
                    asked: 2,
                    right: 1,
                    surplus: 1
                }
            );
            assert_eq!(judge_without_places(&asked, &drawn).right, loosely);
        }
        assert!(judge(&asked, &asked).is_perfect());
        assert_eq!(
            judge(&asked, &Scene::default()),
            Judgement {
                asked: 2,
                right: 0,
                surplus: 0
            }
        );
        assert_eq!(judge(&asked, &Scene::new([house]).unwrap()).share(), 0.5);
    }

    #[test]
    fn one_drawn_thing_answers_for_one_asked_thing() {
        let two = Scene::new([
            thing(Kind::Star, Colour::Red, 0, 0),
            thing(Kind::Star, Colour::Red, 1, 0),
        ]);
        let one = Scene::new([thing(Kind::Star, Colour::Red, 2, 2)]).unwrap();
        let judgement = judge_without_places(&two.unwrap(), &one);
        assert_eq!(
            judgement,
            Judgement {
                asked: 2,
                right: 1,
                surplus: 0
            }
        );
    }
}
