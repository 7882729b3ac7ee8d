//! Operations: their values, weights and attributes.

use super::{Names, Parsed, Parser, TokenKind, fault, shortened};
use crate::{
    Activation, AxisId, DType, Mask, Norm, Op, ParamId, RotaryLayout, RotaryScaling, ValueId,
};

/// Attributes of an operation, `{eps = 1e-5, parts = [4, 4]}`, each with the byte it begins at.
#[derive(Default)]
struct Attributes {
    eps: Option<f64>,
    parts: Vec<u64>,
    base: Option<f64>,
    layout: Option<RotaryLayout>,
    scaling: RotaryScaling,
    mask: Option<Mask>,
    scale: Option<f64>,
    by: Option<f64>,
    offset: Option<u64>,
    start: Option<u64>,
    axis: Option<AxisId>,
    ranges: Option<Vec<(u64, u64)>>,
    dtype: Option<DType>,
}

/// Attributes that an operation has; the last ones may be left out.
fn attribute_words(op: &str) -> &'static [&'static str] {
    match op {
        "positions" => &["offset"],
        "layer_norm" | "rms_norm" => &["eps", "parts"],
        "rotary" => &["base", "layout", "scaling"],
        "attention" => &["mask", "scale"],
        "scale" => &["by"],
        "concat" => &["axis"],
        "slice" => &["start", "axis"],
        "choose_rows" => &["second"],
        "mask_rows" => &["rows"],
        "cast" => &["dtype"],
        _ => &[],
    }
}

/// The attribute, or that it is missing.
fn given<T>(at: usize, word: &str, attribute: Option<T>) -> Parsed<T> {
    match attribute {
        Some(attribute) => Ok(attribute),
        None => fault(at, format!("`{word}` is not given")),
    }
}

impl Parser<'_> {
    pub(super) fn op(&mut self, names: &Names) -> Parsed<Op> {
        let at = self.at()?;
        let word = match &self.peek()?.kind {
            TokenKind::Name(word) => word.clone(),
            _ => return self.unexpected("an operation"),
        };
        if word == "call" {
            self.take()?;
            return self.call(names);
        }
        let Some((values, params)) = operand_counts(&word) else {
            return self.unexpected("an operation");
        };
        self.take()?;
        let mut operands = vec![self.value(names)?];
        while operands.len() < values {
            if values == usize::MAX && !self.is_sign(",")? {
                break;
            }
            self.sign(",")?;
            operands.push(self.value(names)?);
        }
        let mut weights: Vec<Option<ParamId>> = Vec::new();
        while weights.len() < params && self.skip(",")? {
            let weight = self.weight(names)?;
            weights.push(weight);
        }
        let attributes = self.attributes(&word)?;
        finish(at, &word, &operands, &weights, attributes)
    }

    /// `decoder(h0) at layers.0`
    fn call(&mut self, names: &Names) -> Parsed<Op> {
        let block = self.name("the name of a block")?;
        self.sign("(")?;
        let args = self.list(")", |parser| parser.value(names))?;
        self.word("at")?;
        let at = self.name("the path of the call")?;
        Ok(Op::Call { block, args, at })
    }

    /// A parameter, or `_` in place of one.
    fn weight(&mut self, names: &Names) -> Parsed<Option<ParamId>> {
        if self.skip("_")? {
            return Ok(None);
        }
        let at = self.at()?;
        let name = self.name("a parameter")?;
        match names.params.get(&name) {
            Some(id) => Ok(Some(*id)),
            None => fault(at, format!("there is no parameter `{}`", shortened(&name))),
        }
    }

    fn attributes(&mut self, op: &str) -> Parsed<Attributes> {
        let mut found = Attributes::default();
        let words = attribute_words(op);
        if words.is_empty() || !self.skip("{")? {
            return Ok(found);
        }
        let mut seen: Vec<String> = Vec::new();
        while !self.skip("}")? {
            if !seen.is_empty() {
                self.sign(",")?;
            }
            let at = self.at()?;
            let wanted = words.join("` or `");
            let word = self.name(&format!("`{wanted}`"))?;
            if !words.contains(&word.as_str()) || seen.contains(&word) {
                let word = shortened(&word);
                return fault(at, format!("expected `{wanted}` once, found `{word}`"));
            }
            self.sign("=")?;
            match word.as_str() {
                "eps" => found.eps = Some(self.float()?),
                "parts" => {
                    self.sign("[")?;
                    found.parts = self.list("]", Self::whole)?;
                }
                "base" => found.base = Some(self.float()?),
                "layout" => {
                    let layout = self.known("`halves` or `pairs`", RotaryLayout::from_word)?;
                    found.layout = Some(layout);
                }
                "scaling" => {
                    let at = self.at()?;
                    let word = self.name("a scaling of rotary positions")?;
                    self.sign("(")?;
                    let settings = self.list(")", Self::float)?;
                    let Some(scaling) = RotaryScaling::of(&word, &settings) else {
                        let word = shortened(&word);
                        return fault(at, format!("`{word}` is no scaling with these settings"));
                    };
                    found.scaling = scaling;
                }
                "mask" => {
                    found.mask = Some(self.known("`causal` or `full`", Mask::from_word)?);
                }
                "scale" => found.scale = Some(self.float()?),
                "by" => found.by = Some(self.float()?),
                "offset" => found.offset = Some(self.whole()?),
                "start" => found.start = Some(self.whole()?),
                "axis" => found.axis = Some(self.axis()?),
                "dtype" => found.dtype = Some(self.dtype()?),
                // `second` and `rows`
                _ => {
                    self.sign("[")?;
                    let ranges = self.list("]", |parser| {
                        let start = parser.whole()?;
                        parser.sign("..")?;
                        Ok((start, parser.whole()?))
                    })?;
                    found.ranges = Some(ranges);
                }
            }
            seen.push(word);
        }
        Ok(found)
    }
}

/// Most values (exactly as many, unless any number will do) and most weights of an operation.
fn operand_counts(word: &str) -> Option<(usize, usize)> {
    Some(match word {
        "embed" | "positions" | "unembed" | "rms_norm" => (1, 1),
        "linear" | "layer_norm" => (1, 2),
        "rotary" | "scale" | "slice" | "mask_rows" | "cast" => (1, 0),
        "attention" => (3, 0),
        "add" | "mul" | "choose_rows" => (2, 0),
        "concat" => (usize::MAX, 0),
        _ if Activation::from_word(word).is_some() => (1, 0),
        _ => return None,
    })
}

fn finish(
    at: usize,
    word: &str,
    operands: &[ValueId],
    weights: &[Option<ParamId>],
    attributes: Attributes,
) -> Parsed<Op> {
    // `op` takes at least one operand, and as many as the operation has.
    let x = operands[0];
    let operand = |index: usize| operands.get(index).copied().unwrap_or(x);
    let weight = |index: usize| weights.get(index).copied().flatten();
    let needed = || given(at, "a parameter", weight(0));
    let norm = |eps: Option<f64>, parts: Vec<u64>| {
        let eps = given(at, "eps", eps)?;
        Ok(Norm { eps, parts })
    };
    Ok(match word {
        "embed" => Op::Embed {
            tokens: x,
            table: needed()?,
        },
        "positions" => Op::Positions {
            tokens: x,
            table: needed()?,
            offset: given(at, "offset", attributes.offset)?,
        },
        "unembed" => Op::Unembed {
            x,
            table: needed()?,
        },
        "linear" => Op::Linear {
            x,
            weight: needed()?,
            bias: weight(1),
        },
        "layer_norm" => Op::LayerNorm {
            x,
            gain: weight(0),
            bias: weight(1),
            norm: norm(attributes.eps, attributes.parts)?,
        },
        "rms_norm" => Op::RmsNorm {
            x,
            gain: weight(0),
            norm: norm(attributes.eps, attributes.parts)?,
        },
        "rotary" => Op::Rotary {
            x,
            base: given(at, "base", attributes.base)?,
            layout: given(at, "layout", attributes.layout)?,
            scaling: attributes.scaling,
        },
        "attention" => Op::Attention {
            q: x,
            k: operand(1),
            v: operand(2),
            mask: given(at, "mask", attributes.mask)?,
            scale: given(at, "scale", attributes.scale)?,
        },
        "add" => Op::Add {
            a: x,
            b: operand(1),
        },
        "mul" => Op::Mul {
            a: x,
            b: operand(1),
        },
        "scale" => Op::Scale {
            x,
            by: given(at, "by", attributes.by)?,
        },
        "concat" => Op::Concat {
            parts: operands.to_vec(),
            axis: given(at, "axis", attributes.axis)?,
        },
        "slice" => Op::Slice {
            x,
            start: given(at, "start", attributes.start)?,
            axis: given(at, "axis", attributes.axis)?,
        },
        "choose_rows" => Op::ChooseRows {
            a: x,
            b: operand(1),
            second: given(at, "second", attributes.ranges)?,
        },
        "mask_rows" => Op::MaskRows {
            x,
            rows: given(at, "rows", attributes.ranges)?,
        },
        "cast" => Op::Cast {
            x,
            dtype: given(at, "dtype", attributes.dtype)?,
        },
        _ => match Activation::from_word(word) {
            Some(kind) => Op::Activation { x, kind },
            None => return fault(at, format!("`{word}` is no operation")),
        },
    })
}
