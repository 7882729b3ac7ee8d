//! The order of layers and exchanges.

use super::settings::CrossSettings;

/// One step of the fused stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Layer `layer` of tower `tower`.
    Layer {
        /// 0 or 1.
        tower: usize,
        /// From 0 on.
        layer: usize,
    },
    /// Both towers exchange their states.
    Exchange,
}

/// The steps of two towers of these depths.
///
/// Exchanges are counted on the layers of the shallower tower; when it has done i of its n layers,
/// the deeper one has done ⌊i · deeper / n⌋.
pub(super) fn schedule(depths: [usize; 2], settings: &CrossSettings) -> Vec<Step> {
    let shallow = depths[0].min(depths[1]);
    let mut done = [0; 2];
    let mut steps = Vec::new();
    for layer in 0..shallow {
        for tower in 0..2 {
            let end = ((layer + 1) as u128 * depths[tower] as u128 / shallow as u128) as usize;
            let layers = done[tower]..end;
            steps.extend(layers.map(|layer| Step::Layer { tower, layer }));
            done[tower] = end;
        }
        if exchanges_after(layer as u64, settings) && (settings.after_last || layer + 1 < shallow) {
            steps.push(Step::Exchange);
        }
    }
    steps
}

/// Whether layers are followed by an exchange, but for the last.
fn exchanges_after(layer: u64, settings: &CrossSettings) -> bool {
    let Some(every) = settings.every else {
        return false;
    };
    match settings.at_last {
        true => layer % every == every - 1,
        false => layer.is_multiple_of(every),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Head, Rows};
    use super::*;

    fn settings(every: Option<u64>, at_last: bool, after_last: bool) -> CrossSettings {
        CrossSettings {
            every,
            at_last,
            after_last,
            positions: None,
            share_tokens: true,
            rows: Rows::Kinds,
            kv_norm: false,
            head: Head::Joint,
            start_parents: false,
        }
    }

    /// After which layers of the first tower exchanges stand.
    fn sites(depths: [usize; 2], settings: &CrossSettings) -> Vec<usize> {
        let mut last = 0;
        let mut sites = Vec::new();
        for step in schedule(depths, settings) {
            match step {
                Step::Layer { tower: 0, layer } => last = layer,
                Step::Layer { .. } => {}
                Step::Exchange => sites.push(last),
            }
        }
        sites
    }

    #[test]
    fn exchanges_stand_where_the_settings_say() {
        let four = [4, 4];
        assert_eq!(sites(four, &settings(Some(1), false, true)), [0, 1, 2, 3]);
        assert_eq!(sites(four, &settings(Some(2), false, true)), [0, 2]);
        assert_eq!(sites(four, &settings(Some(4), false, true)), [0]);
        assert_eq!(sites(four, &settings(Some(1), false, false)), [0, 1, 2]);
        assert_eq!(sites(four, &settings(Some(2), true, true)), [1, 3]);
        assert_eq!(sites(four, &settings(Some(2), true, false)), [1]);
        assert_eq!(sites(four, &settings(Some(8), true, true)), [0; 0]);
        assert_eq!(sites(four, &settings(None, false, true)), [0; 0]);
        assert_eq!(sites([32, 32], &settings(Some(2), false, true)).len(), 16);
    }

    #[test]
    fn the_deeper_tower_is_spread_evenly_over_the_other() {
        let steps = schedule([2, 5], &settings(Some(1), false, true));
        let layer = |tower, layer| Step::Layer { tower, layer };
        let expected = [
            layer(0, 0),
            layer(1, 0),
            layer(1, 1),
            Step::Exchange,
            layer(0, 1),
            layer(1, 2),
            layer(1, 3),
            layer(1, 4),
            Step::Exchange,
        ];
        assert_eq!(steps, expected);
    }
}
