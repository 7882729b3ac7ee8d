//! JAM-Cross (eqs. 4, 5): both parents as towers that exchange their states.
//!
//! ```text
//!   shared embedding ─┬─ llm.layers.0 ─┬─ cross.0 ─┬─ llm.layers.1 ─ … ─┐
//!                     └─ img.layers.0 ─┴─ cross.0 ─┴─ img.layers.1 ─ … ─┴─ join ─ norm ─ logits
//! ```
//!
//! An exchange is two cross blocks, one in each direction, which both read the states from before
//! it. A cross block is a whole block of the receiving parent, fresh, whose keys and values read
//! the other tower's state (`exchange`). Parents may differ in width, depth and kind: keys and values
//! read whatever width the giver has, and layers of the deeper parent are spread evenly over those
//! of the other.
//!
//! With `start: parents` the fused model begins as its parents: each tower reads its own tables,
//! cross blocks add nothing to the states at first (`identity`), and text rows of the logits come
//! from the first tower, image rows from the second.
//!
//! # Names of weights
//!
//! | | |
//! |---|---|
//! | `PARENT.layers.3.attn.q` | a weight of a parent, under its own name there |
//! | `shared.embed`, `shared.positions` | tables that both towers read |
//! | `shared.unembed`, `shared.unembed_bias` | the output matrix, where the parents' are untied |
//! | `cross.K.GIVER_to_RECEIVER.attn.q` | the receiver's block in exchange K, from 0 on |
//! | `cross.K.GIVER_to_RECEIVER.kv_norm.gain` | the norm of the giver's state, with `kv_norm: yes` |
//! | `join.weight`, `join.PARENT.weight` | the matrix from both states to one, `[joined -> width]` |
//! | `join.norm.gain`, `join.norm.bias` | the norm after it |
//!
//! `PARENT` is the name of the parent in the program without `.best`; two parents of one name are
//! `NAME_1` and `NAME_2`.

use jam_ir::{
    Diagnostic, SettingKind, SettingSignature, SettingValue, Settings, Signature, StrategySignature,
};

use crate::anatomy::dissect;
use crate::parents::{check_layouts, shorter_context, two};
use crate::reports::Errors;
use crate::settings::{flag, start, word};
use crate::{Fused, Parent, Strategy};

mod exchange;
mod fusion;
mod head;
mod identity;
mod schedule;
mod settings;
mod tables;
mod tower;

use fusion::Fusion;
use settings::CrossSettings;
use tower::Tower;

/// The strategy.
pub(crate) struct Cross;

impl Strategy for Cross {
    fn signature(&self) -> StrategySignature {
        let every = SettingSignature::new(
            "every",
            SettingKind::Count {
                min: 1,
                max: u64::MAX,
                words: vec!["never".to_owned()],
            },
            Some(SettingValue::Count(2)),
            "layers from one exchange to the next",
        );
        let word_of = |text: &str| SettingValue::Word(text.to_owned());
        StrategySignature {
            signature: Signature::new(
                "cross",
                "both parents side by side, exchanging their states every few layers",
            )
            .with([
                every,
                word(
                    "at",
                    &["first", "last"],
                    "exchange after layers 0, N, 2N, … or after layers N-1, 2N-1, …",
                ),
                flag(
                    "after_last",
                    true,
                    "whether an exchange may follow the last layer",
                ),
                word(
                    "positions",
                    &["second", "first", "own"],
                    "whose table of learned positions both towers read, or each its own",
                ),
                word(
                    "tokens",
                    &["shared", "own"],
                    "one token table, or one for each tower",
                ),
                word(
                    "rows",
                    &["kinds", "first", "second", "mean"],
                    "rows of a shared token table that both parents have: image rows from the \
                     second and all others from the first, all from one, or their mean",
                ),
                flag(
                    "kv_norm",
                    false,
                    "whether the state that keys and values read is normalised",
                ),
                word(
                    "head",
                    &["joint", "towers", "rows"],
                    "join the states, then normalise; normalise each, then join; or read text \
                     rows from the first tower and image rows from the second",
                ),
                start(&[
                    ("tokens", word_of("own")),
                    ("positions", word_of("own")),
                    ("head", word_of("rows")),
                ]),
            ]),
            min_parents: 2,
            max_parents: 2,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        let [first, second] = two(parents)?;
        let settings = CrossSettings::read(settings)?;
        let mut errors = Errors::default();
        check_layouts(first, second, &mut errors);
        let (left, right) = (errors.take(dissect(first)), errors.take(dissect(second)));
        let (Some(left), Some(right)) = (left, right) else {
            return errors.check().and(Err(Vec::new()));
        };
        errors.check()?;
        let mut notes = Vec::new();
        let context = shorter_context(first, second, &mut notes);

        let towers = Tower::pair([first, second], [&left, &right]);
        let mut fusion = Fusion::new(name, context, towers, settings, notes);
        fusion.share_tables();
        let states = fusion.embed();
        let states = fusion.run_layers(states)?;
        fusion.read_out(states)?;
        fusion.finish()
    }
}
