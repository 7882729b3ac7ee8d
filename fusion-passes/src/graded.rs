//! Numbers that differ by layer and by part of a model: `ramp(0.2, 0.8)`, `parts(mlp: 0.2)`.

use jam_ir::{Part, SettingValue};

/// Where in its model a weight stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// What it belongs to, where that has a name.
    pub(crate) part: Option<Part>,
    /// The number of its layer and that of all layers; `None` outside of layers.
    pub(crate) layer: Option<(usize, usize)>,
}

/// A number for every weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Graded {
    /// One for all.
    Number(f64),
    /// Values at even distances from the first layer to the last, straight lines between them.
    Ramp(Vec<f64>),
    /// By part; the last is for all other parts.
    Parts(Vec<(Part, Graded)>, Box<Graded>),
}

impl Graded {
    /// A setting's value; `None` where it is no such number.
    pub(crate) fn of(value: &SettingValue) -> Option<Graded> {
        Some(match value {
            SettingValue::Number(number) => Graded::Number(*number),
            SettingValue::Count(count) => Graded::Number(*count as f64),
            SettingValue::Ramp(values) if values.len() > 1 => Graded::Ramp(values.clone()),
            SettingValue::Parts(parts, rest) => {
                let parts = parts.iter();
                let parts = parts.map(|(part, value)| Some((*part, Graded::of(value)?)));
                Graded::Parts(parts.collect::<Option<_>>()?, Box::new(Graded::of(rest)?))
            }
            _ => return None,
        })
    }

    /// Whether every number in it is between two bounds.
    pub(crate) fn within(&self, min: f64, max: f64) -> bool {
        let fits = |number: &f64| *number >= min && *number <= max;
        match self {
            Graded::Number(number) => fits(number),
            Graded::Ramp(values) => values.iter().all(fits),
            Graded::Parts(parts, rest) => {
                rest.within(min, max) && parts.iter().all(|(_, value)| value.within(min, max))
            }
        }
    }

    /// Whether it changes from layer to layer.
    pub(crate) fn is_by_layer(&self) -> bool {
        match self {
            Graded::Number(_) => false,
            Graded::Ramp(_) => true,
            Graded::Parts(parts, rest) => {
                rest.is_by_layer() || parts.iter().any(|(_, value)| value.is_by_layer())
            }
        }
    }

    /// The number for a weight. Outside of layers a ramp has its first value, and a single layer has
    /// its last, as in mergekit.
    pub(crate) fn at(&self, spot: Spot) -> f64 {
        match self {
            Graded::Number(number) => *number,
            Graded::Ramp(values) => {
                let way = match spot.layer {
                    None => 0.0,
                    Some((_, 0 | 1)) => 1.0,
                    Some((layer, layers)) => layer as f64 / (layers - 1) as f64,
                };
                let steps = values.len() - 1;
                let from = ((way * steps as f64) as usize).min(steps);
                let to = (from + 1).min(steps);
                let rest = way * steps as f64 - from as f64;
                (1.0 - rest) * values[from] + rest * values[to]
            }
            Graded::Parts(parts, rest) => {
                let own = parts.iter().find(|(part, _)| Some(*part) == spot.part);
                own.map_or(&**rest, |(_, value)| value).at(spot)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(part: Part, layer: Option<(usize, usize)>) -> Spot {
        Spot {
            part: Some(part),
            layer,
        }
    }

    #[test]
    fn ramps_go_straight_from_value_to_value() {
        let ramp = Graded::Ramp(vec![0.0, 0.5, 0.9]);
        let at = |layer| ramp.at(spot(Part::Mlp, layer));
        let found: Vec<f64> = (0..5).map(|layer| at(Some((layer, 5)))).collect();
        for (found, expected) in found.iter().zip([0.0, 0.25, 0.5, 0.7, 0.9]) {
            assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
        }
        assert_eq!(at(None), 0.0);
        assert_eq!(at(Some((0, 1))), 0.9);
        assert_eq!(at(Some((2, 3))), 0.9);
        assert!(ramp.is_by_layer());
    }

    #[test]
    fn parts_have_numbers_of_their_own() {
        let value = SettingValue::Parts(
            vec![
                (Part::Attention, SettingValue::Ramp(vec![0.0, 1.0])),
                (Part::Head, SettingValue::Number(0.3)),
            ],
            Box::new(SettingValue::Number(0.5)),
        );
        let graded = Graded::of(&value).unwrap();
        assert_eq!(graded.at(spot(Part::Attention, Some((1, 3)))), 0.5);
        assert_eq!(graded.at(spot(Part::Attention, Some((2, 3)))), 1.0);
        assert_eq!(graded.at(spot(Part::Mlp, Some((2, 3)))), 0.5);
        assert_eq!(graded.at(spot(Part::Head, None)), 0.3);
        assert!(graded.is_by_layer() && graded.within(0.0, 1.0) && !graded.within(0.0, 0.9));
        assert_eq!(Graded::of(&SettingValue::Flag(true)), None);
        assert_eq!(Graded::of(&SettingValue::Ramp(vec![1.0])), None);
    }
}
