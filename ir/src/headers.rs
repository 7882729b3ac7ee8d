//! A model against the tensors of a checkpoint, by names, shapes and element types alone: what is
//! missing, surplus or of another shape is said before a byte of weights is read.
//!
//! Whoever reads the headers has already given every tensor the name that it has in JAM; the name
//! that it has in its file is kept for the reports.

mod faults;

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use self::faults::{Difference, Fault, Faults, differences};
use crate::diagnostic::{Diagnostics, Severity};
use crate::{DType, Diagnostic, Model, Param, Role, Span};

/// A tensor that a checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTensor {
    /// Its name in JAM: `layers.0.attn.q`.
    pub name: String,
    /// Its name in the file: `model.layers.0.self_attn.q_proj.weight`; may be the same.
    pub stored: String,
    /// Sizes of its axes in the JAM layout (input side, then output side); the axes of a side may
    /// be folded into one.
    pub shape: Vec<u64>,
    /// Its element type as the file names it: `BF16`, `f32`.
    pub dtype: String,
}

/// What the headers of a checkpoint tell before a tensor is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Its tensors under JAM's names.
    pub tensors: Vec<FoundTensor>,
    /// The shapes that its own configuration gives its weights, by JAM's names; empty where it has none.
    pub shapes: IndexMap<String, Vec<u64>>,
    /// What stands before every name in its files, and is read past: what a training program wrapped the model in.
    pub wrapper: Option<String>,
}

/// The code of the note about [`Headers::wrapper`].
pub const WRAPPED: &str = "wrapped-names";

/// Compares what a model asks for with what the checkpoint `source` has: the one comparison that every command
/// makes before it reads weights of others.
///
/// `at` is the place in the program that names the checkpoint, and `stored_name` gives the name that a
/// weight which is not there would have in the file, where its file has names of its own. The same thing
/// found in many layers is one report. Missing, surplus, doubled and mis-shaped tensors and element types that cannot be
/// read are errors, and so is another division of the same numbers by the checkpoint's own configuration (so many
/// heads of such a size), which folded tensors cannot show. A float type other than the model's is a note, for it
/// is converted.
pub fn compare(
    model: &Model,
    source: &str,
    at: Option<Span>,
    found: &Headers,
    stored_name: &dyn Fn(&str) -> Option<String>,
) -> Diagnostics {
    let uses = model.weight_uses();
    let mut comparison = Comparison {
        model,
        source,
        at,
        missing: IndexMap::new(),
        faults: Faults::default(),
        converted: IndexMap::new(),
    };
    let mut seen: HashSet<String> = HashSet::new();
    let mut surplus: Vec<FoundTensor> = Vec::new();
    for tensor in found.tensors.iter().cloned() {
        match uses.get(&tensor.name) {
            _ if !seen.insert(tensor.name.clone()) => {
                let message = format!("`{source}` has {} twice", tensor.shown());
                let place = uses.get(&tensor.name).and_then(|param| param.span);
                comparison.fault(message, place.or(at), &tensor);
            }
            Some(param) => comparison.check(param, &tensor),
            None => surplus.push(tensor),
        }
    }
    for (name, param) in &uses {
        if !seen.contains(name) {
            let missing = &mut comparison.missing;
            let group = missing.entry(pattern(name)).or_default();
            group.push((name.clone(), param));
        }
    }
    let mut list = comparison.report(surplus, stored_name);
    for report in compare_shapes(model, source, at, &found.shapes) {
        list.push(report);
    }
    if let Some(wrapper) = &found.wrapper {
        let message =
            format!("every tensor of `{source}` has the prefix `{wrapper}`, which is read past");
        let note = match at {
            Some(at) => Diagnostic::new(Severity::Note, at, message),
            None => Diagnostic::placeless(Severity::Note, message),
        };
        list.push(note.code(WRAPPED));
    }
    list
}

impl FoundTensor {
    /// Its name as reports show it.
    fn shown(&self) -> String {
        match self.name == self.stored {
            true => format!("`{}`", self.name),
            false => format!("`{}` (stored as `{}`)", self.name, self.stored),
        }
    }
}

/// A name with `*` for every number in its path: what the layers of a model share.
fn pattern(name: &str) -> String {
    let word = |word: &str| match word.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "*".to_owned(),
        false => word.to_owned(),
    };
    name.split('.').map(word).collect::<Vec<_>>().join(".")
}

/// `, and 31 more like it`
fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!(", and {} more like it", count - 1),
    }
}

struct Comparison<'m> {
    model: &'m Model,
    source: &'m str,
    at: Option<Span>,
    /// Weights that are not there, by pattern.
    missing: IndexMap<String, Vec<(String, &'m Param)>>,
    /// Faults of tensors that are there, by pattern and kind.
    faults: Faults,
    /// Tensors of another float type: the model's, the file's, how many.
    converted: IndexMap<(DType, DType), usize>,
}

impl<'m> Comparison<'m> {
    fn fault(&mut self, message: String, span: Option<Span>, tensor: &FoundTensor) {
        self.misfit(message, span, tensor, Vec::new());
    }

    fn misfit(
        &mut self,
        message: String,
        span: Option<Span>,
        tensor: &FoundTensor,
        differs: Vec<Difference>,
    ) {
        let key = format!(
            "{} {:?} {}",
            pattern(&tensor.name),
            tensor.shape,
            tensor.dtype
        );
        self.faults.add(key, message, span, differs);
    }

    /// Shape and type of a tensor that is asked for.
    fn check(&mut self, param: &Param, tensor: &FoundTensor) {
        let span = param.span.or(self.at);
        let (shown, source) = (tensor.shown(), self.source);
        if let Some(wanted) = self.model.weight_shape(&param.ty) {
            let (input, output) = wanted.split_at(param.ty.input.len().min(wanted.len()));
            let differs = || differences(self.model, param, &wanted, &tensor.shape);
            if let Some(message) = self.vocabulary(param, &wanted, tensor) {
                let differs = differs();
                self.misfit(message, span, tensor, differs);
                return;
            }
            if !folds_to(input, output, &tensor.shape) {
                let axes = crate::infer::axes_text;
                let mut sides = axes(self.model, &param.ty.output);
                if !input.is_empty() {
                    sides = format!("{} -> {sides}", axes(self.model, &param.ty.input));
                }
                let message = format!(
                    "{shown} is {:?} in `{source}`, but the model asks for [{sides}], which is \
                     {wanted:?}",
                    tensor.shape
                );
                let differs = differs();
                self.misfit(message, span, tensor, differs);
                return;
            }
        }
        // A double is read like any other float.
        let stored = match tensor.dtype.as_str() {
            "F64" => "F32",
            stored => stored,
        };
        match DType::from_word(&stored.to_lowercase()) {
            Some(dtype) if dtype == param.ty.dtype => {}
            Some(dtype) if dtype.is_float() && param.ty.dtype.is_float() => {
                let key = (param.ty.dtype, dtype);
                *self.converted.entry(key).or_default() += 1;
            }
            _ => {
                let message = format!(
                    "{shown} is of type {} in `{source}`, where a weight is f32, f16 or bf16",
                    tensor.dtype
                );
                self.fault(message, span, tensor);
            }
        }
    }

    /// The report for a tensor that differs in the size of the vocabulary alone.
    fn vocabulary(&self, param: &Param, wanted: &[u64], tensor: &FoundTensor) -> Option<String> {
        let is_vocabulary = |axis| self.model.axis(axis).role == Role::Vocab;
        let place = param.ty.axes().position(is_vocabulary)?;
        if tensor.shape.len() != wanted.len() || tensor.shape[place] == wanted[place] {
            return None;
        }
        let mut otherwise = tensor.shape.clone();
        otherwise[place] = wanted[place];
        if otherwise != wanted {
            return None;
        }
        let tokens = &self.model.tokens;
        let vocabulary = match tokens.name.as_str() {
            "" => "the model's vocabulary".to_owned(),
            name => format!("`{name}`"),
        };
        Some(format!(
            "{} has rows for {} tokens in `{}`, and {vocabulary} has {} ids",
            tensor.shown(),
            tensor.shape[place],
            self.source,
            wanted[place]
        ))
    }

    fn diagnostic(&self, severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        Self::placed(self.at, severity, span, message)
    }

    fn placed(
        at: Option<Span>,
        severity: Severity,
        span: Option<Span>,
        message: String,
    ) -> Diagnostic {
        let Some(span) = span.or(at) else {
            return Diagnostic::placeless(severity, message);
        };
        let diagnostic = Diagnostic::new(severity, span, message);
        match at.filter(|at| *at != span) {
            Some(at) => diagnostic.label(at, "the weights are named here"),
            None => diagnostic,
        }
    }

    fn report(
        self,
        surplus: Vec<FoundTensor>,
        stored_name: &dyn Fn(&str) -> Option<String>,
    ) -> Diagnostics {
        let mut list = Diagnostics::new();
        let source = self.source;
        // Patterns of what is left over on one side explain what is missing on the other.
        let mut left_over: IndexMap<String, Vec<&FoundTensor>> = IndexMap::new();
        for tensor in &surplus {
            let group = left_over.entry(pattern(&tensor.name)).or_default();
            group.push(tensor);
        }
        let missing_patterns: Vec<&String> = self.missing.keys().collect();
        let left_over_patterns: Vec<&String> = left_over.keys().collect();
        let mut shown: HashMap<&str, &str> = HashMap::new();
        for (pattern, group) in &left_over {
            shown.insert(pattern, &group[0].name);
        }
        for (pattern, group) in &self.missing {
            let (name, param) = &group[0];
            let more = and_more(group.len());
            let stored = stored_name(name).map_or(String::new(), |stored| {
                format!(" (it would be stored as `{stored}`)")
            });
            let message = format!("`{source}` has no `{name}`{stored}{more}");
            let mut diagnostic = self
                .diagnostic(Severity::Error, param.span, message)
                .code("missing-weight");
            if let Some(near) = nearest(pattern, &left_over_patterns) {
                let near = shown.get(near).copied().unwrap_or(near);
                diagnostic = diagnostic.note(format!("it has `{near}`: was that meant?"));
            }
            list.push(diagnostic);
        }
        for (pattern, group) in &left_over {
            let more = and_more(group.len());
            let message = format!(
                "`{source}` has {}{more}, which the model does not ask for",
                group[0].shown()
            );
            let mut diagnostic = self
                .diagnostic(Severity::Error, None, message)
                .code("surplus-weight");
            if let Some(near) = nearest(pattern, &missing_patterns) {
                let name = &self.missing[near][0].0;
                diagnostic = diagnostic.note(format!("the model asks for `{name}`"));
            }
            list.push(diagnostic);
        }
        for ((wanted, dtype), count) in &self.converted {
            let message = format!(
                "{count} tensors of `{source}` are {}, the model's are {}; they are converted",
                dtype.word(),
                wanted.word()
            );
            list.push(self.diagnostic(Severity::Note, None, message));
        }
        let diagnostic = |fault: &Fault| {
            let message = format!("{}{}", fault.first, and_more(fault.count));
            let diagnostic = Self::placed(self.at, Severity::Error, fault.span, message);
            fault.explained(diagnostic.code("misfit-weight"), source)
        };
        for fault in self.faults.kinds() {
            list.push(diagnostic(&fault));
        }
        list
    }
}

/// The shapes of a model's weights against those that a checkpoint's own configuration gives them. Shapes that
/// are of other sizes altogether are left to the comparison of tensors.
fn compare_shapes(
    model: &Model,
    source: &str,
    at: Option<Span>,
    told: &IndexMap<String, Vec<u64>>,
) -> Diagnostics {
    let mut faults = Faults::default();
    for (name, param) in model.weight_uses() {
        let (Some(wanted), Some(found)) = (model.weight_shape(&param.ty), told.get(&name)) else {
            continue;
        };
        let entries = |shape: &[u64]| {
            shape
                .iter()
                .try_fold(1u64, |product, size| product.checked_mul(*size))
        };
        if wanted == *found || entries(&wanted) != entries(found) {
            continue;
        }
        let axes = crate::infer::axes_text;
        let sides = axes(model, &param.ty.axes().collect::<Vec<_>>());
        let message = format!(
            "`{name}` is {found:?} by the configuration of `{source}`, but the model asks for \
             [{sides}], which is {wanted:?}"
        );
        // Which heads are meant is no matter: the sizes differ alike.
        let mut differs: Vec<Difference> = Vec::new();
        for (wanted, found) in wanted
            .iter()
            .zip(found)
            .filter(|(wanted, found)| wanted != found)
        {
            differs.push(Difference {
                is_width: false,
                wanted: *wanted,
                found: *found,
            });
        }
        faults.add(pattern(&name), message, param.span.or(at), differs);
    }
    let mut list = Diagnostics::new();
    for fault in faults.kinds() {
        let message = format!("{}{}", fault.first, and_more(fault.count));
        let diagnostic = match fault.span {
            Some(span) => Diagnostic::error(span, message),
            None => Diagnostic::placeless(Severity::Error, message),
        };
        let diagnostic = match at.filter(|at| Some(*at) != fault.span) {
            Some(at) => diagnostic.label(at, "the weights are named here"),
            None => diagnostic,
        };
        list.push(diagnostic.code("misfit-weight"));
    }
    list
}

/// Whether a shape is `input` then `output`, with the axes of a side folded into one or not.
fn folds_to(input: &[u64], output: &[u64], found: &[u64]) -> bool {
    let fold = |side: &[u64]| -> Option<Vec<u64>> {
        if side.is_empty() {
            return Some(Vec::new());
        }
        let product = side
            .iter()
            .try_fold(1u64, |product, size| product.checked_mul(*size))?;
        Some(vec![product])
    };
    let folded = |side: &[u64]| [Some(side.to_vec()), fold(side)];
    folded(input).into_iter().flatten().any(|input| {
        let outputs = folded(output).into_iter().flatten();
        let mut whole = outputs.map(|output| [input.as_slice(), &output].concat());
        whole.any(|shape| shape == found)
    })
}

/// The pattern that is most like `wanted`, if one is like enough to be what was meant.
fn nearest<'p>(wanted: &str, patterns: &[&'p String]) -> Option<&'p str> {
    let scored = patterns.iter().map(|pattern| {
        (
            strsim::normalized_damerau_levenshtein(wanted, pattern),
            *pattern,
        )
    });
    // Of equals the first: `max_by` would take the last.
    let best = scored.fold(None, |best: Option<(f64, &String)>, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    });
    best.filter(|(score, _)| *score >= 0.6)
        .map(|(_, pattern)| pattern.as_str())
}
