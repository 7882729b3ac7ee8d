//! The model card: what a model is and where it comes from, as Markdown.

use std::fmt::Write;

use jam_ir::{Model, Plan, Role};

/// The card of a model: sizes, vocabulary, and how its weights were made, by kind of plan.
///
/// `made_by` says in a sentence what made it ("Fusion `cross` of `read` and `paint` …").
pub fn model_card(model: &Model, made_by: &str) -> String {
    let mut card = String::new();
    let uses = model.weight_uses();
    let parameters: u64 = uses
        .values()
        .filter_map(|param| model.weight_shape(&param.ty))
        .map(|shape| shape.iter().product::<u64>())
        .sum();
    let mut line = |text: String| {
        card.push_str(&text);
        card.push('\n');
    };
    line(format!("# {}\n", model.name));
    line(format!("{made_by}\n"));
    line("| | |".to_owned());
    line("|---|---|".to_owned());
    line(format!(
        "| parameters | {parameters} in {} weights |",
        uses.len()
    ));
    for axis in &model.axes {
        if let (Some(size), false) = (axis.size, axis.role == Role::Batch) {
            line(format!("| {} ({}) | {size} |", axis.name, axis.role.word()));
        }
    }
    if let Some(context) = model.context {
        line(format!("| context | {context} tokens |"));
    }
    let tokens = &model.tokens;
    if !tokens.name.is_empty() {
        line(format!(
            "| vocabulary | `{}`, {} ids |",
            tokens.name, tokens.size
        ));
    }
    line("\n## Where the weights come from\n".to_owned());
    line("| weight | plan |".to_owned());
    line("|---|---|".to_owned());
    for (name, weight) in &model.weights {
        line(format!("| `{name}` | {} |", describe(&weight.plan)));
    }
    card
}

/// A plan in a few words.
fn describe(plan: &Plan) -> String {
    match plan {
        Plan::Load { source, name } => format!("`{name}` of `{source}`"),
        Plan::Sum(terms) => {
            let terms: Vec<_> = terms
                .iter()
                .map(|(factor, term)| format!("{factor} × {}", describe(term)))
                .collect();
            terms.join(" + ")
        }
        Plan::Grid { rows, .. } => {
            let mut text = String::from("blocks");
            for row in rows {
                let row: Vec<_> = row.iter().map(describe).collect();
                let _ = write!(text, " [{}]", row.join(", "));
            }
            text
        }
        Plan::Concat { parts, .. } => {
            let parts: Vec<_> = parts.iter().map(describe).collect();
            format!("side by side: {}", parts.join(", "))
        }
        Plan::Slice { start, len, of, .. } => {
            format!("entries {start} to {} of {}", start + len, describe(of))
        }
        Plan::Take { runs, of, .. } => {
            let entries: u64 = runs.iter().map(|(_, len)| len).sum();
            format!(
                "{entries} entries by token, in {} runs, of {}",
                runs.len(),
                describe(of)
            )
        }
        Plan::Rows { sources, .. } => {
            let sources: Vec<_> = sources.iter().map(describe).collect();
            format!("rows chosen from {}", sources.join(" and "))
        }
        Plan::Permute { of, .. } => format!("permuted {}", describe(of)),
        Plan::Scale { by, of } => format!("{by} × {}", describe(of)),
        Plan::Cast { dtype, of } => format!("{} rounded to {}", describe(of), dtype.word()),
        Plan::Slerp { t, from, to, .. } => {
            format!("{t} of the arc from {} to {}", describe(from), describe(to))
        }
        Plan::Stock { base, of } => {
            let of: Vec<_> = of.iter().map(describe).collect();
            format!("model stock of {} on {}", of.join(", "), describe(base))
        }
        Plan::Trim { density, of, .. } => {
            format!("largest {}% of ({})", density * 100.0, describe(of))
        }
        Plan::Keep { mask, of, .. } => format!("({}) under ({})", describe(of), describe(mask)),
        Plan::Elect { terms, .. } => {
            let terms: Vec<_> = terms
                .iter()
                .map(|(factor, term)| format!("{factor} × {}", describe(term)))
                .collect();
            format!("by elected signs: {}", terms.join(" + "))
        }
        Plan::Bernoulli { p } => format!("new, ones with probability {p}"),
        Plan::Normal { sd } => format!("new, N(0, {sd}²)"),
        Plan::TruncatedNormal { sd, cut } => format!("new, N(0, {sd}²) cut at {cut} sd"),
        Plan::Zeros => "zeros".to_owned(),
        Plan::Ones => "ones".to_owned(),
        Plan::Identity => "identity".to_owned(),
    }
}
