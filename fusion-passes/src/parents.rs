//! What is settled between parents before they are fused: vocabulary, element type, context.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jam_ir::{Block, DType, Diagnostic, ImageTokens, Model, Op, TextTokens};

use crate::Parent;
use crate::passes::fold_identities;
use crate::reports::{Errors, Place, error, note};

/// Exactly two parents; [`fuse`](crate::fuse) checks their number before.
pub(crate) fn two<'a, 'm>(
    parents: &'a [Parent<'m>],
) -> Result<[&'a Parent<'m>; 2], Vec<Diagnostic>> {
    match parents {
        [first, second] => Ok([first, second]),
        _ => Err(vec![error("two parents are fused", &[])]),
    }
}

/// Whether both parents give the same meaning to every token id.
pub(crate) fn check_layouts(first: &Parent<'_>, second: &Parent<'_>, errors: &mut Errors) {
    let (a, b) = (&first.model.tokens, &second.model.tokens);
    let mut differ = |what: String, left: String, right: String| {
        let message = format!(
            "`{}` and `{}` do not read the same tokens: {what}",
            first.source, second.source
        );
        let places = [Place::new(first, left), Place::new(second, right)];
        errors.add(error(message, &places).help(
            "give both parents one vocabulary (`tokens`), or text tokenizers in files that are \
             there: their tokens are told apart by their spelling",
        ));
    };
    let name = |model: &Model| match model.tokens.name.is_empty() {
        true => "a bare vocabulary".to_owned(),
        false => format!("`{}`", model.tokens.name),
    };
    let (left, right) = (name(first.model), name(second.model));
    if a.size != b.size {
        differ(
            format!("their vocabularies have {} and {} ids", a.size, b.size),
            format!("{left}, {} ids", a.size),
            format!("{right}, {} ids", b.size),
        );
    } else if a.ranges != b.ranges {
        differ(
            "ids of text, images and marks lie elsewhere".to_owned(),
            left,
            right,
        );
    } else if a.marks != b.marks {
        differ("their marks have other ids".to_owned(), left, right);
    } else if a.grid != b.grid {
        differ(
            format!(
                "a picture is {0} x {0} tokens and {1} x {1}",
                a.grid, b.grid
            ),
            left,
            right,
        );
    } else if !same_text(&a.text, &b.text) || !same_image(&a.image, &b.image) {
        differ("their tokenizers differ".to_owned(), left, right);
    }
}

/// Whether two sources of text tokens may be one: files cannot be compared here, and bare ids
/// claim nothing.
fn same_text(a: &TextTokens, b: &TextTokens) -> bool {
    use TextTokens::{Files, Ids};
    a == b || matches!((a, b), (Ids, _) | (_, Ids) | (Files(_), Files(_)))
}

/// Whether two sources of image tokens may be one.
pub(crate) fn same_image(a: &ImageTokens, b: &ImageTokens) -> bool {
    use ImageTokens::{Files, Ids};
    a == b || matches!((a, b), (Ids, _) | (_, Ids) | (Files(_), Files(_)))
}

/// Makes the graphs of all parents f32, with a note, where they store different element types.
pub(crate) fn common_element_type(
    parents: &[Parent<'_>],
    models: &mut [Cow<'_, Model>],
) -> Option<Diagnostic> {
    let types = models.first().map(|model| float_types(model));
    if models.iter().all(|model| Some(float_types(model)) == types) {
        return None;
    }
    for model in models {
        let model = model.to_mut();
        to_f32(model);
        // A cast to f32 has nothing left to do, and the other parent may have none.
        fold_identities::run(model);
    }
    Some(stored_as_f32(parents))
}

fn stored_as_f32(parents: &[Parent<'_>]) -> Diagnostic {
    let types = parents.iter().map(|parent| {
        let uses = parent.model.weight_uses().into_values();
        let types: BTreeSet<DType> = uses.map(|param| param.ty.dtype).collect();
        let words: Vec<&str> = types.into_iter().map(DType::word).collect();
        Place::new(parent, words.join(" and "))
    });
    let message = format!(
        "{} store different element types; the fused model stores f32",
        listed(parents)
    );
    let places: Vec<_> = types.collect();
    note(message, &places).help("for another type, give all of them one `precision`")
}

/// `a`, `b` and `c`, in quotes.
pub(crate) fn listed(parents: &[Parent<'_>]) -> String {
    let names: Vec<String> = parents.iter().map(|p| format!("`{}`", p.source)).collect();
    match names.as_slice() {
        [names @ .., last] if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        _ => names.concat(),
    }
}

/// The float types of a model's weights and values, ascending.
fn float_types(model: &Model) -> Vec<DType> {
    let mut found = Vec::new();
    for block in std::iter::once(&model.main).chain(model.blocks.values()) {
        let values = block.values.iter().map(|value| value.ty.dtype);
        found.extend(values.chain(block.params.iter().map(|param| param.ty.dtype)));
    }
    found.retain(|dtype| dtype.is_float());
    found.sort_unstable();
    found.dedup();
    found
}

/// Makes every float of a model f32.
fn to_f32(model: &mut Model) {
    block_to_f32(&mut model.main);
    model.blocks.values_mut().for_each(block_to_f32);
}

fn block_to_f32(block: &mut Block) {
    let values = block.values.iter_mut().map(|value| &mut value.ty.dtype);
    let params = block.params.iter_mut().map(|param| &mut param.ty.dtype);
    for dtype in values.chain(params).filter(|dtype| dtype.is_float()) {
        *dtype = DType::F32;
    }
    for statement in &mut block.body {
        if let Op::Cast { dtype, .. } = &mut statement.op {
            *dtype = DType::F32;
        }
    }
}

/// The longest sequence that both parents take, with a note where they differ.
pub(crate) fn shorter_context(
    first: &Parent<'_>,
    second: &Parent<'_>,
    notes: &mut Vec<Diagnostic>,
) -> Option<u64> {
    shortest_context(&[first, second], notes)
}

/// The longest sequence that all parents take, with a note where they differ.
pub(crate) fn shortest_context(
    parents: &[&Parent<'_>],
    notes: &mut Vec<Diagnostic>,
) -> Option<u64> {
    let contexts: Vec<Option<u64>> = parents.iter().map(|parent| parent.model.context).collect();
    if contexts.windows(2).any(|pair| pair[0] != pair[1]) {
        let text = |context: Option<u64>| match context {
            Some(tokens) => format!("a context of {tokens} tokens"),
            None => "no bound on its context".to_owned(),
        };
        let told = parents.iter().enumerate().map(|(index, parent)| {
            let has = if index == 0 { " has" } else { "" };
            format!("`{}`{has} {}", parent.source, text(parent.model.context))
        });
        let told: Vec<String> = told.collect();
        let message = format!(
            "the fused model takes the {} context: {}",
            if parents.len() > 2 {
                "shortest"
            } else {
                "shorter"
            },
            told.join(", ")
        );
        let places = parents.iter();
        let places = places.map(|parent| Place::new(parent, text(parent.model.context)));
        notes.push(note(message, &places.collect::<Vec<_>>()));
    }
    contexts.into_iter().flatten().min()
}
