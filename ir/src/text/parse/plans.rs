//! Plans of weights.

use super::{Parsed, Parser, TokenKind, fault};
use crate::Plan;
use crate::plan_shape::MAX_PLAN_DEPTH;

impl Parser<'_> {
    /// A plan; `own` is the name under which `load(source)` loads.
    pub(super) fn plan(&mut self, own: Option<&str>, depth: usize) -> Parsed<Plan> {
        let at = self.at()?;
        if depth >= MAX_PLAN_DEPTH {
            let message = format!("plans are nested deeper than {MAX_PLAN_DEPTH}");
            return fault(at, message);
        }
        let word = match &self.peek()?.kind {
            TokenKind::Name(word) => word.clone(),
            _ => return self.unexpected("a plan"),
        };
        let depth = depth + 1;
        let bare = match word.as_str() {
            "zeros" => Some(Plan::Zeros),
            "ones" => Some(Plan::Ones),
            "identity" => Some(Plan::Identity),
            _ => None,
        };
        if let Some(plan) = bare {
            self.take()?;
            return Ok(plan);
        }
        if !WORDS.contains(&word.as_str()) {
            return self.unexpected("a plan");
        }
        self.take()?;
        self.sign("(")?;
        let plan = match word.as_str() {
            "load" => {
                let source = self.name("the name of a source")?;
                let name = match (self.skip(":")?, own) {
                    (true, _) => self.name("the name of a weight")?,
                    (false, Some(own)) => own.to_owned(),
                    (false, None) => return self.unexpected("`:` and the name of a weight"),
                };
                Plan::Load { source, name }
            }
            "normal" => Plan::Normal { sd: self.float()? },
            "truncated_normal" => {
                let sd = self.float()?;
                self.sign(",")?;
                let cut = self.float()?;
                Plan::TruncatedNormal { sd, cut }
            }
            "bernoulli" => Plan::Bernoulli { p: self.float()? },
            "sum" => return Ok(Plan::Sum(self.terms(own, depth)?)),
            "slerp" => {
                let t = self.float()?;
                self.sign(",")?;
                let straight = self.float()?;
                self.sign(",")?;
                let from = Box::new(self.plan(own, depth)?);
                self.sign(",")?;
                let to = Box::new(self.plan(own, depth)?);
                Plan::Slerp {
                    t,
                    straight,
                    from,
                    to,
                }
            }
            "stock" => {
                let base = Box::new(self.plan(own, depth)?);
                self.sign(":")?;
                let of = self.list(")", |parser| parser.plan(own, depth))?;
                return Ok(Plan::Stock { base, of });
            }
            "trim" => {
                let density = self.float()?;
                self.sign(",")?;
                let rescale = self.rescale()?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Trim {
                    density,
                    rescale,
                    of,
                }
            }
            "keep" => {
                let rescale = self.rescale()?;
                let mask = Box::new(self.plan(own, depth)?);
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Keep { rescale, mask, of }
            }
            "elect" => {
                let mean = match self.name("`sum` or `mean`")?.as_str() {
                    "mean" => true,
                    "sum" => false,
                    other => {
                        return fault(at, format!("`elect` gives a sum or a mean, not `{other}`"));
                    }
                };
                self.sign(":")?;
                let terms = self.terms(own, depth)?;
                return Ok(Plan::Elect { mean, terms });
            }
            "grid" => {
                let row_axis = self.small("an axis")?;
                self.sign(",")?;
                let column_axis = self.small("an axis")?;
                let mut rows = Vec::new();
                while self.skip(",")? {
                    self.sign("[")?;
                    rows.push(self.list("]", |parser| parser.plan(own, depth))?);
                }
                Plan::Grid {
                    row_axis,
                    column_axis,
                    rows,
                }
            }
            "concat" => {
                let axis = self.small("an axis")?;
                self.sign(":")?;
                let parts = self.list(")", |parser| parser.plan(own, depth))?;
                return Ok(Plan::Concat { axis, parts });
            }
            "slice" => {
                let axis = self.small("an axis")?;
                self.sign(":")?;
                let start = self.whole()?;
                self.sign("+")?;
                let len = self.whole()?;
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Slice {
                    axis,
                    start,
                    len,
                    of,
                }
            }
            "take" => {
                let axis = self.small("an axis")?;
                self.sign(":")?;
                self.sign("[")?;
                let runs = self.list("]", |parser| {
                    let start = parser.whole()?;
                    parser.sign("+")?;
                    Ok((start, parser.whole()?))
                })?;
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Take { axis, runs, of }
            }
            "rows" => {
                self.sign("[")?;
                let runs = self.list("]", |parser| {
                    let len = parser.whole()?;
                    parser.sign(":")?;
                    Ok((len, parser.small("the number of a source")?))
                })?;
                self.sign(":")?;
                let sources = self.list(")", |parser| parser.plan(own, depth))?;
                return Ok(Plan::Rows { runs, sources });
            }
            "permute" => {
                self.sign("[")?;
                let order = self.list("]", |parser| parser.small("an axis"))?;
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Permute { order, of }
            }
            "scale" => {
                let by = self.float()?;
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Scale { by, of }
            }
            // The list of words leaves only `cast`.
            _ => {
                let dtype = self.dtype()?;
                self.sign(",")?;
                let of = Box::new(self.plan(own, depth)?);
                Plan::Cast { dtype, of }
            }
        };
        self.sign(")")?;
        Ok(plan)
    }

    /// `0.5 * load(a), 0.5 * load(b))`
    fn terms(&mut self, own: Option<&str>, depth: usize) -> Parsed<Vec<(f64, Plan)>> {
        self.list(")", |parser| {
            let weight = parser.float()?;
            parser.sign("*")?;
            Ok((weight, parser.plan(own, depth)?))
        })
    }

    /// `norm,`, or nothing.
    fn rescale(&mut self) -> Parsed<bool> {
        let is_there = matches!(&self.peek()?.kind, TokenKind::Name(word) if word == "norm");
        if is_there {
            self.take()?;
            self.sign(",")?;
        }
        Ok(is_there)
    }
}

/// Plans with operands or settings.
const WORDS: [&str; 18] = [
    "load",
    "slerp",
    "stock",
    "trim",
    "keep",
    "elect",
    "bernoulli",
    "normal",
    "truncated_normal",
    "sum",
    "grid",
    "concat",
    "slice",
    "take",
    "rows",
    "permute",
    "scale",
    "cast",
];
