//! The table of strategies, and the one way to use them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jam_ir::diagnostic::Severity;
use jam_ir::verify::{Problem, verify};
use jam_ir::{
    Block, Diagnostic, Model, Op, SettingKind, SettingValue, Settings, StrategySignature, ValueId,
};

use crate::cross::Cross;
use crate::dare::{DARE_LINEAR, DARE_TIES};
use crate::linear::Linear;
use crate::model_stock::ModelStock;
use crate::nuslerp::NuSlerp;
use crate::parents::common_element_type;
use crate::passes::dead_code;
use crate::passthrough::Passthrough;
use crate::settings::complete;
use crate::slerp::Slerp;
use crate::strategy::{Fused, Parent, Strategy};
use crate::task_arithmetic::TaskArithmetic;
use crate::ties::Ties;
use crate::uniform::Uniform;
use crate::vocabulary::{NoPieces, Pieces, join};
use crate::width::Width;

/// Every strategy, in the order in which help lists them.
pub const STRATEGIES: [&dyn Strategy; 12] = [
    &Uniform,
    &Width,
    &Cross,
    &Linear,
    &Slerp,
    &NuSlerp,
    &TaskArithmetic,
    &Ties,
    &DARE_LINEAR,
    &DARE_TIES,
    &ModelStock,
    &Passthrough,
];

/// Signatures of every strategy, for the language.
pub fn signatures() -> Vec<StrategySignature> {
    STRATEGIES.iter().map(|s| s.signature()).collect()
}

/// Fuses parents by the strategy of this name into a model called `name`.
///
/// Settings that are not given take their defaults.
///
/// # Errors
/// An unknown strategy, a wrong number of parents, settings that are unknown or of a wrong kind,
/// parents that do not verify, or that do not fit one another: every reason found at once.
pub fn fuse(
    strategy: &str,
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
) -> Result<Fused, Vec<Diagnostic>> {
    fuse_by_tokens(strategy, name, parents, settings, &NoPieces)
}

/// [`fuse`] of parents whose text tokenizers may differ: `pieces` knows how they spell their tokens,
/// and rows of tables are paired by token.
///
/// # Errors
/// As [`fuse`], and when the vocabularies cannot be made one.
pub fn fuse_by_tokens(
    strategy: &str,
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
    pieces: &dyn Pieces,
) -> Result<Fused, Vec<Diagnostic>> {
    checked(strategy, name, parents, settings, pieces, verify)
}

/// [`fuse_by_tokens`] of parents that are known to verify: what the language and this function make
/// does. A program with many fusions verifies each parent once.
///
/// # Errors
/// As [`fuse_by_tokens`], but for parents that do not verify, which strategies must not be given.
pub fn fuse_verified(
    strategy: &str,
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
    pieces: &dyn Pieces,
) -> Result<Fused, Vec<Diagnostic>> {
    checked(strategy, name, parents, settings, pieces, |_| Ok(()))
}

fn checked(
    strategy: &str,
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
    pieces: &dyn Pieces,
    verify_parent: impl Fn(&Model) -> Result<(), Vec<Problem>>,
) -> Result<Fused, Vec<Diagnostic>> {
    let mut known = STRATEGIES.iter().map(|s| (s.signature(), s));
    let Some((signature, strategy)) = known.find(|(s, _)| s.signature.word == strategy) else {
        let names = signatures().into_iter().map(|s| s.signature.word);
        let names: Vec<String> = names.collect();
        let message = format!("there is no strategy `{strategy}`");
        return Err(vec![
            Diagnostic::placeless(Severity::Error, message)
                .help(format!("the strategies are {}", names.join(", "))),
        ]);
    };
    let mut problems = Vec::new();
    let labelled = settings
        .values()
        .filter(|value| matches!(value, SettingValue::Parent(_)));
    let plain = parents.len().saturating_sub(labelled.count());
    if plain < signature.min_parents || plain > signature.max_parents {
        let wanted = signature.parents_text();
        let word = &signature.signature.word;
        let message = format!("`{word}` fuses {wanted} models, not {plain}");
        problems.push(match parents.last().and_then(|parent| parent.span) {
            Some(span) => Diagnostic::error(span, message),
            None => Diagnostic::placeless(Severity::Error, message),
        });
    }
    let signature = signature.signature;
    for setting in &signature.settings {
        let problem = match (&setting.kind, settings.get(&setting.name)) {
            (SettingKind::Parent, None) if setting.is_required() => "is not given",
            (SettingKind::Parent, Some(SettingValue::Parent(index))) if *index >= parents.len() => {
                "is not among the parents"
            }
            _ => continue,
        };
        let message = format!("`{}` of `{}` {problem}", setting.name, signature.word);
        problems.push(Diagnostic::placeless(Severity::Error, message));
    }
    let settings = complete(&signature, settings).unwrap_or_else(|found| {
        problems.extend(found);
        Settings::new()
    });
    for parent in parents {
        if let Err(found) = verify_parent(parent.model) {
            let message = format!("`{}` is not a sound model", parent.source);
            let report = match parent.span {
                Some(span) => Diagnostic::error(span, message),
                None => Diagnostic::placeless(Severity::Error, message),
            };
            let notes = found.iter().take(MOST_NOTES).map(ToString::to_string);
            problems.push(notes.fold(report, Diagnostic::note));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Rows that a parent's head masks are that head's setting; the fused head has all rows.
    let unmasked = parents.iter().map(|parent| without_masks(parent.model));
    let mut unmasked: Vec<Cow<'_, Model>> = unmasked.collect();
    let stored = common_element_type(parents, &mut unmasked);
    let parents: Vec<Parent<'_>> = parents
        .iter()
        .zip(&unmasked)
        .map(|(parent, model)| Parent {
            model,
            source: parent.source.clone(),
            span: parent.span,
        })
        .collect();
    let mut fused = match join(&parents, pieces)? {
        None => strategy.fuse(name, &parents, &settings)?,
        Some(joint) => {
            let alike: Vec<Parent<'_>> = parents
                .iter()
                .zip(&joint.models)
                .map(|(parent, model)| Parent {
                    model,
                    ..parent.clone()
                })
                .collect();
            let mut fused = strategy.fuse(name, &alike, &settings)?;
            joint.complete(&mut fused);
            fused
        }
    };
    fused.notes.splice(..0, stored);
    if let Err(found) = verify(&fused.model) {
        let message = format!("`{}` made a model that is not sound", signature.word);
        let report = Diagnostic::placeless(Severity::Error, message)
            .help("this is a fault of the compiler; the parents may be written another way");
        let notes = found.iter().take(MOST_NOTES).map(ToString::to_string);
        return Err(vec![notes.fold(report, Diagnostic::note)]);
    }
    Ok(fused)
}

/// The model whose head gives the logits of every token.
fn without_masks(model: &Model) -> Cow<'_, Model> {
    let mut blocks = std::iter::once(&model.main).chain(model.blocks.values());
    let masks = |block: &Block| {
        let mut ops = block.body.iter().map(|statement| &statement.op);
        ops.any(|op| matches!(op, Op::MaskRows { .. }))
    };
    if !blocks.any(masks) {
        return Cow::Borrowed(model);
    }
    let mut model = model.clone();
    for block in std::iter::once(&mut model.main).chain(model.blocks.values_mut()) {
        let mut masked: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        block.body.retain_mut(|statement| {
            statement.op.for_each_operand(|value| {
                if let Some(whole) = masked.get(value) {
                    *value = *whole;
                }
            });
            let Op::MaskRows { x, .. } = statement.op else {
                return true;
            };
            masked.insert(statement.result, x);
            false
        });
        if let Some(whole) = masked.get(&block.result) {
            block.result = *whole;
        }
    }
    dead_code::run(&mut model);
    Cow::Owned(model)
}

/// Most problems of one model that are listed.
const MOST_NOTES: usize = 10;

#[cfg(test)]
mod tests {
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    use super::*;

    #[test]
    fn masks_of_a_parents_head_are_not_inherited() {
        let mut config = DecoderConfig::cm3leon(TokenLayout::bare(20), 16, 8, 2, 2, 12);
        let plain = decoder_only(&config);
        config.masked = vec![(3, 5), (9, 10)];
        let masked = decoder_only(&config);
        let parent = |model, source: &str| Parent {
            model,
            source: source.to_owned(),
            span: None,
        };
        for strategy in STRATEGIES {
            let signature = strategy.signature().signature;
            // A base stands last; two parents before it.
            let mut settings = signature.settings.iter();
            let base = settings.find(|of| of.kind == SettingKind::Parent && of.is_required());
            for (first, second) in [(&masked, &masked), (&masked, &plain), (&plain, &masked)] {
                let mut parents = vec![parent(first, "llm"), parent(second, "img")];
                let mut settings = Settings::new();
                if let Some(base) = base {
                    parents.push(parent(&masked, "base"));
                    settings.insert(base.name.clone(), SettingValue::Parent(2));
                }
                let fused = fuse(&signature.word, "fused", &parents, &settings);
                let model = fused.unwrap_or_else(|errors| panic!("{errors:#?}")).model;
                let blocks = std::iter::once(&model.main).chain(model.blocks.values());
                let mut ops = blocks.flat_map(|block| block.body.iter().map(|s| &s.op));
                let any = ops.any(|op| matches!(op, Op::MaskRows { .. }));
                assert!(!any, "{}", signature.word);
            }
        }
    }
}
