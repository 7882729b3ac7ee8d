//! Marks and images that are tokens of text tokenizers, and tokenizers that treat texts in other ways.

use jam_fusion_passes::Pieces;
use jam_ir::origins::{cut, origins};
use jam_ir::plan_shape::plan_shape;
use jam_ir::{Model, TextTokens, TokenKind, TokenLayout};

use crate::parents::{Family, cm3leon, llama};
use crate::reference::plan;
use crate::reference::plan::slice;
use crate::vocabularies::{Spelled, family, fused, layout, sources, spelled_family};

/// Knows tokens that are found in texts in other ways, and mean the same or do not.
struct Unlike(Spelled, Result<(), String>);

impl Pieces for Unlike {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        self.0.pieces(text)
    }

    fn spelled_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        self.1.clone()
    }

    fn cut_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Err("one makes them small".to_owned())
    }

    fn union(&self, texts: &[&TextTokens]) -> Result<Vec<String>, String> {
        self.0.union(texts)
    }
}

/// Tokens that mean the same are paired, however they are found in texts; a union needs one way.
#[test]
fn tokenizers_that_treat_texts_in_other_ways_are_told() {
    let (parents, pieces) = spelled_family();
    let same = Unlike(pieces, Ok(()));
    let told = fused(&parents, "cross", &same).unwrap();
    assert_eq!(told.model.tokens, parents.models[1].tokens);
    let message = &told.notes[0].message;
    assert!(
        message.contains("(one makes them small): the fused model reads texts as `img` does"),
        "{message}"
    );
    let decoded = Unlike(same.0, Err("one has spaces".to_owned()));
    let errors = fused(&parents, "cross", &decoded).unwrap_err();
    assert!(errors[0].message.contains("one has spaces"), "{errors:?}");

    let (parents, mut pieces) = spelled_family();
    pieces.0[0].1[1] = "q";
    let errors = fused(&parents, "cross", &Unlike(pieces, Ok(()))).unwrap_err();
    assert!(
        errors[0].message.contains("one makes them small"),
        "{errors:?}"
    );

    // Equal vocabularies: nothing moves, and it is said all the same.
    let layouts = ["llm", "img"].map(|file| inside(file, 2, &[("eos", 1)]));
    let parents = family(llama, [8, 8], layouts);
    let pieces = Spelled(vec![("llm", vec!["a", "b"]), ("img", vec!["a", "b"])]);
    let told = fused(&parents, "uniform", &Unlike(pieces, Ok(()))).unwrap();
    assert_eq!(told.notes.len(), 1);
    made_of(
        &parents,
        &told.model,
        &[[Some(0), Some(0)], [Some(1), Some(1)]],
    );
}

/// A vocabulary whose ids are those of a text tokenizer of `size` tokens, some of them marks.
fn inside(file: &str, size: u64, marks: &[(&str, u64)]) -> TokenLayout {
    let mut layout = TokenLayout::empty(file);
    layout.add(TokenKind::Text, size);
    layout.text = TextTokens::Files(file.to_owned());
    for (mark, id) in marks {
        assert!(layout.take_mark(mark, *id), "{mark}");
    }
    layout
}

/// Which rows of both parents' tables make a row of the fused one, by id.
fn made_of(family: &Family, model: &Model, rows: &[[Option<usize>; 2]]) {
    assert_eq!(model.tokens.size, rows.len() as u64);
    let table = &plan::weights(model, &family.sources)["embed.table"];
    let row = |source: &str, id: usize| slice(&family.sources[source]["embed.table"], 0, id, 1);
    for (id, [llm, img]) in rows.iter().enumerate() {
        let expected = match (llm.map(|id| row("llm", id)), img.map(|id| row("img", id))) {
            (Some(a), Some(b)) => a.zip(&b, |a, b| 0.5 * (a + b)),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => continue,
        };
        assert!(slice(table, 0, id, 1).distance(&expected) < 1e-12, "{id}");
    }
}

/// Marks and images may be tokens of the text tokenizer, and stand among its ids.
#[test]
fn text_between_other_tokens_counts_from_its_tokenizers_first_id() {
    use TokenKind::{Mark, Text};
    let mut first = inside("inside", 10, &[("eos", 7)]);
    assert!(first.take_images(0, 4));
    first.grid = 2;
    let mut plain = layout(&[(Mark, 1), (Text, 3)], &[("eos", 0)]);
    plain.text = TextTokens::Files("plain".to_owned());
    let all = vec!["<0>", "<1>", "<2>", "<3>", "a", "b", "c", "</s>", "d", "e"];
    let pieces =
        |second: Vec<&'static str>| Spelled(vec![("inside", all.clone()), ("plain", second)]);
    let family = family(cm3leon, [8, 8], [first.clone(), plain]);
    let model = fused(&family, "uniform", &pieces(vec!["d", "a", "c"]))
        .unwrap()
        .model;
    assert_eq!(model.tokens, first);
    let second = [
        None,
        None,
        None,
        None,
        Some(2),
        None,
        Some(3),
        Some(0),
        Some(1),
        None,
    ];
    let own: Vec<_> = (0..).map(Some).zip(second).map(|(a, b)| [a, b]).collect();
    made_of(&family, &model, &own);
    // A token that only the other has: the union keeps images and marks where they are.
    let model = fused(&family, "uniform", &pieces(vec!["d", "a", "q"]))
        .unwrap()
        .model;
    let second = [
        None,
        None,
        None,
        None,
        Some(2),
        None,
        None,
        Some(0),
        Some(1),
        None,
        Some(3),
        None,
    ];
    let first = (0..10).map(Some).chain([None, None]);
    let own: Vec<_> = first.zip(second).map(|(a, b)| [a, b]).collect();
    made_of(&family, &model, &own);
    let kinds = [0, 3, 4, 7, 10, 11].map(|id| model.tokens.kind(id).unwrap());
    use TokenKind::{Filler, Image};
    assert_eq!(kinds, [Image, Image, Text, Mark, Text, Filler]);
    assert_eq!((model.tokens.marks["eos"], model.tokens.grid), (7, 2));
}

/// Images that are tokens of the second tokenizer get ids in the joint one that follow one another, or none.
#[test]
fn images_among_the_tokens_of_the_second_parent_are_moved() {
    let first = inside("llm", 3, &[("eos", 0)]);
    let mut second = inside("img", 6, &[("eos", 1)]);
    assert!(second.take_images(2, 3));
    second.grid = 1;
    let family = family(llama, [8, 8], [first, second]);
    let pieces = |llm: [&'static str; 3]| {
        let img = vec!["x", "</s>", "<0>", "<1>", "<2>", "y"];
        Spelled(vec![("llm", llm.to_vec()), ("img", img)])
    };
    let model = fused(&family, "uniform", &pieces(["</s>", "a", "y"]))
        .unwrap()
        .model;
    let (a, b) = (Some, Some);
    let own = [
        [a(0), b(1)],
        [a(1), None],
        [a(2), b(5)],
        [None, b(0)],
        [None, b(2)],
        [None, b(3)],
        [None, b(4)],
    ];
    made_of(&family, &model, &own);
    let tokens = &model.tokens;
    assert_eq!(tokens.rows(TokenKind::Image), [(4, 7)]);
    assert_eq!(tokens.marks["eos"], 0);
    // The first has one of their names.
    let errors = fused(&family, "uniform", &pieces(["</s>", "<1>", "q"])).unwrap_err();
    let message = &errors[0].message;
    assert!(message.contains("do not follow one another"), "{message}");
}

/// As the files of GPT-2 and OPT have them: one token for begin and end, marks that the other calls
/// otherwise, a mark that only one has.
#[test]
fn marks_of_tokenizers_are_told_by_their_spelling_and_else_by_their_name() {
    let one = [("bos", 3), ("eos", 3)];
    let first = inside("llm", 4, &one);
    let second = inside("img", 6, &[("bos", 2), ("pad", 0), ("eos", 2), ("unk", 5)]);
    let family = family(llama, [8, 8], [first, second]);
    let end = "<|end|>";
    let pieces = Spelled(vec![
        ("llm", vec!["a", "b", "c", end]),
        ("img", vec!["<pad>", "b", "</s>", "a", "d", "<unk>"]),
    ]);
    let model = fused(&family, "uniform", &pieces).unwrap().model;
    let (a, b) = (Some, Some);
    let own = [
        [a(0), b(3)],
        [a(1), b(1)],
        [a(2), None],
        // The second's end is spelled otherwise; its own token is there too.
        [a(3), b(2)],
        [None, b(0)],
        [None, b(2)],
        [None, b(4)],
        [None, b(5)],
    ];
    made_of(&family, &model, &own);
    let marks: Vec<_> = model.tokens.marks.iter().collect();
    let marks: Vec<_> = marks
        .iter()
        .map(|(name, id)| (name.as_str(), **id))
        .collect();
    // What ends the second parent's texts is no text of the fused model.
    let expected = [("bos", 3), ("eos", 3), ("pad", 4), ("unk", 7), ("bos:2", 5)];
    assert_eq!(marks, expected);
    assert_eq!(model.tokens.kind(5), Some(TokenKind::Mark));
}

/// Parents of one tokenizer of which one alone says which tokens are marks.
#[test]
fn marks_that_one_parent_names_are_those_of_both() {
    let first = inside("same", 4, &[]);
    let mut second = inside("same", 4, &[("unk", 0), ("bos", 1), ("eos", 2)]);
    second.begin = "bos".to_owned();
    for [first, second] in [[&first, &second], [&second, &first]] {
        let family = family(llama, [8, 8], [first.clone(), second.clone()]);
        let model = family.fuse("uniform", &[]).model;
        let own: Vec<_> = (0..4).map(|id| [Some(id), Some(id)]).collect();
        made_of(&family, &model, &own);
        let tokens = &model.tokens;
        assert_eq!(tokens.marks.get("eos"), Some(&2), "{tokens:?}");
        assert_eq!((tokens.marks["unk"], tokens.marks["bos"]), (0, 1));
        assert_eq!(tokens.rows(TokenKind::Text), [(3, 4)]);
        assert_eq!(tokens.begin, "bos");
    }
}

/// Begin and end are one token of the first and two of the second: neither is lost.
#[test]
fn tokens_that_one_parent_tells_apart_stay_apart() {
    let first = inside("llm", 3, &[("bos", 2), ("eos", 2)]);
    use TokenKind::{Mark, Text};
    let mut second = layout(&[(Mark, 2), (Text, 2)], &[("bos", 0), ("eos", 1)]);
    second.text = TextTokens::Files("img".to_owned());
    let family = family(llama, [8, 8], [first, second]);
    let pieces = Spelled(vec![
        ("llm", vec!["a", "b", "</s>"]),
        ("img", vec!["a", "b"]),
    ]);
    let model = fused(&family, "uniform", &pieces).unwrap().model;
    let table = &model.weights["embed.table"].plan;
    let shape = [model.tokens.size, 8];
    let shaped = plan_shape(table, &shape, &|_, _| None).unwrap();
    let told = origins(&shaped, 0).unwrap();
    let mut found = Vec::new();
    for id in 0..model.tokens.size {
        sources(&cut(&told, id, 1)[0].from, &mut found);
    }
    for source in ["llm", "img"] {
        let rows = family.sources[source]["embed.table"].shape[0] as u64;
        for row in 0..rows {
            assert!(
                found.contains(&(source.to_owned(), row)),
                "{source} {row}: {found:?}"
            );
        }
    }
}

/// A mark with an id of its own is every mark that the other parent's token is; the parents say by which they begin.
#[test]
fn a_mark_takes_the_names_that_another_parent_has_for_it() {
    use TokenKind::{Mark, Text};
    let mut first = layout(&[(Mark, 1), (Text, 2)], &[("pad", 0)]);
    first.text = TextTokens::Files("llm".to_owned());
    let mut second = inside("img", 3, &[("bos", 0), ("pad", 0)]);
    second.begin = "bos".to_owned();
    let parents = family(llama, [8, 8], [first, second.clone()]);
    let pieces = || {
        Spelled(vec![
            ("llm", vec!["a", "b"]),
            ("img", vec!["<p>", "a", "b"]),
        ])
    };
    let told = fused(&parents, "uniform", &pieces()).unwrap();
    let tokens = &told.model.tokens;
    assert_eq!((tokens.marks["pad"], tokens.marks["bos"]), (0, 0));
    assert_eq!(tokens.begin, "bos");
    assert!(!told.notes.iter().any(|note| note.message.contains("begin")));

    let mut first = layout(&[(Mark, 2), (Text, 2)], &[("bos", 0), ("eos", 1)]);
    first.text = TextTokens::Files("llm".to_owned());
    let parents = family(llama, [8, 8], [first, second]);
    let told = fused(&parents, "uniform", &pieces()).unwrap();
    assert_eq!(told.model.tokens.begin, "eos");
    let said = told.notes.iter().map(|note| note.message.as_str());
    let said: Vec<&str> = said
        .filter(|text| text.contains("begin with `eos`"))
        .collect();
    assert_eq!(said.len(), 1, "{:?}", told.notes);
}

/// Ids of the same kinds may be other tokens: a mark before the text is none of the tokenizer's.
#[test]
fn where_the_text_begins_tells_tokens_apart() {
    let first = inside("same", 3, &[("bos", 0), ("eos", 1)]);
    let mut second = TokenLayout::empty("same");
    second.add_mark("bos");
    second.add(TokenKind::Text, 2);
    second.text = TextTokens::Files("same".to_owned());
    assert!(second.take_mark("eos", 1));
    assert_eq!(first.ranges, second.ranges);
    let parents = family(llama, [8, 8], [first, second]);
    let model = parents.fuse("uniform", &[]).model;
    let table = &plan::weights(&model, &parents.sources)["embed.table"];
    let own = slice(&parents.sources["llm"]["embed.table"], 0, 2, 1);
    assert_eq!(slice(table, 0, 2, 1), own);
}

/// A chat model has ends of its own beside those of the model that it was made from: its row is its own.
#[test]
fn an_end_that_was_added_is_not_the_end_that_was_there() {
    let first = inside("llm", 3, &[("eos", 1)]);
    let second = inside("img", 4, &[("eos", 3)]);
    let parents = family(llama, [8, 8], [first, second]);
    let pieces = Spelled(vec![
        ("llm", vec!["a", "</s>", "b"]),
        ("img", vec!["a", "</s>", "b", "<|im_end|>"]),
    ]);
    let told = fused(&parents, "uniform", &pieces).unwrap();
    let both = |id| [Some(id), Some(id)];
    made_of(
        &parents,
        &told.model,
        &[both(0), both(1), both(2), [None, Some(3)]],
    );
    let tokens = &told.model.tokens;
    assert_eq!((tokens.marks["eos"], tokens.marks["eos:2"]), (3, 1));
}

/// Where nothing else differs, what documents begin with is still told.
#[test]
fn parents_that_begin_documents_otherwise_are_told() {
    let first = inside("same", 3, &[("bos", 0), ("eos", 1)]);
    let mut second = first.clone();
    second.begin = "bos".to_owned();
    let parents = family(llama, [8, 8], [first.clone(), second]);
    let told = parents.fuse("uniform", &[]);
    assert_eq!(told.model.tokens.begin, "eos");
    assert!(told.notes[0].message.contains("begin with `eos`"));
    // Other names of one token are one beginning.
    let first = inside("same", 3, &[("bos", 1), ("eos", 1)]);
    let mut second = inside("same", 3, &[("bos", 1), ("eos", 2)]);
    second.begin = "bos".to_owned();
    let parents = family(llama, [8, 8], [first, second]);
    let told = parents.fuse("uniform", &[]);
    assert!(!told.notes.iter().any(|note| note.message.contains("begin")));
}
