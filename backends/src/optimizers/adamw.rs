//! AdamW (Loshchilov and Hutter, 2019), with the arithmetic of `torch.optim.AdamW`.

use jam_ir::recipe::WeightKind;
use jam_ir::{Called, SettingKind, SettingSignature, SettingValue, Signature};

use super::rule::{Improved, Rule, Update, clip, lr};
use crate::error::ExecError;
use crate::kernels::optimizer::{AdamW as Constants, Slot, adamw_step};

/// The rule.
#[derive(Debug)]
pub(super) struct Adam;

/// The settings of AdamW.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// Kinds of weights that do not decay.
    pub no_decay: Vec<WeightKind>,
    /// Greatest L2 norm of all gradients together; 0 sets no bound.
    pub clip: f64,
}

/// Two numbers as a setting holds them.
fn pair((first, second): (f64, f64)) -> SettingValue {
    SettingValue::List([first, second].map(SettingValue::Number).to_vec())
}

impl AdamW {
    /// As a recipe calls it.
    pub fn called(&self) -> Called {
        let spared = self.no_decay.iter();
        let spared = spared.map(|kind| SettingValue::Word(kind.word().to_owned()));
        Adam.signature().called([
            ("lr", SettingValue::Number(self.lr)),
            ("betas", pair(self.betas)),
            ("eps", SettingValue::Number(self.eps)),
            ("decay", SettingValue::Number(self.decay)),
            ("no_decay", SettingValue::List(spared.collect())),
            ("clip", SettingValue::Number(self.clip)),
        ])
    }

    /// What a recipe calls.
    fn read(called: &Called) -> jam_ir::Result<AdamW> {
        Ok(AdamW {
            lr: called.number("lr")?,
            betas: called.pair("betas")?,
            eps: called.number("eps")?,
            decay: called.number("decay")?,
            no_decay: called
                .words("no_decay")?
                .into_iter()
                .filter_map(WeightKind::from_word)
                .collect(),
            clip: called.number("clip")?,
        })
    }
}

impl Rule for Adam {
    fn signature(&self) -> Signature {
        let kinds = WeightKind::ALL.map(WeightKind::word);
        let bounds = (0.0, 0.999_999_999);
        let betas = SettingKind::Pair {
            min: bounds.0,
            max: bounds.1,
        };
        Signature::new(
            "adamw",
            "Adam with decoupled decay (Loshchilov and Hutter, 2019), as torch.optim.AdamW computes it",
        )
        .with([
            lr(),
            SettingSignature::new(
                "betas",
                betas,
                Some(pair((0.9, 0.999))),
                "how much of the two moments, of gradients and of their squares, a step keeps",
            ),
            SettingSignature::number(
                "eps",
                (0.0, 1.0),
                1e-8,
                "added to the root of the second moment",
            ),
            SettingSignature::number("decay", (0.0, 10.0), 0.0, "decay of weights, times the rate"),
            SettingSignature::new(
                "no_decay",
                SettingKind::Words(kinds.map(str::to_owned).to_vec()),
                Some(SettingValue::List(Vec::new())),
                "kinds of weights that do not decay",
            ),
            clip(),
        ])
    }

    fn update(&self, called: &Called) -> Result<Box<dyn Update>, ExecError> {
        let settings = AdamW::read(called).map_err(|error| ExecError::input(error.to_string()))?;
        Ok(Box::new(settings))
    }
}

impl Update for AdamW {
    fn keeps(&self) -> &'static [&'static str] {
        &["first", "second"]
    }

    fn step(&self, weights: Vec<Improved>, step: u64, lr: f64, scale: f64) -> Vec<Improved> {
        let constants = Constants {
            beta1: self.betas.0,
            beta2: self.betas.1,
            eps: self.eps,
        };
        let kinds: Vec<_> = weights.iter().map(|weight| weight.kind).collect();
        let slots = weights.into_iter().map(|weight| {
            let [first, second]: [_; 2] = weight.kept.try_into().expect("two moments are kept");
            Slot {
                param: weight.param,
                grad: weight.grad,
                first,
                second,
                decay: match weight.kind {
                    Some(kind) if self.no_decay.contains(&kind) => 0.0,
                    _ => self.decay,
                },
                rate: 1.0,
            }
        });
        let slots = adamw_step(slots.collect(), &constants, step, lr, scale);
        let improved = slots.into_iter().zip(kinds).map(|(slot, kind)| Improved {
            kind,
            param: slot.param,
            grad: slot.grad,
            kept: vec![slot.first, slot.second],
        });
        improved.collect()
    }
}
