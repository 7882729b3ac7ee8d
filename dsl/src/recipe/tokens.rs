//! Tokenizers that a program trains, and joint vocabularies.

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::signature::Makes;
use jam_ir::span::Span;
use jam_ir::{END_MARK, FIRST_MARKS, ImageTokens, LAST_MARKS, TextTokens, TokenKind, TokenLayout};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_call, as_count, as_list, as_text, as_word, twice};
use crate::suggest;
use crate::syntax::{Name, Statement, dotted};
use crate::value::{Spanned, Value};
use crate::world::{World, folder_of, join};

/// Token ids fit 32 bits.
const MOST_TOKENS: u64 = u32::MAX as u64;

impl<'a> Checker<'a> {
    pub(crate) fn tokenizer(&mut self, name: &'a Name, statement: &'a Statement) {
        let Some(value) = self.value(statement) else {
            return;
        };
        let tokenizers = &self.options.words.tokenizers;
        let signatures = tokenizers.iter().map(|tokenizer| &tokenizer.signature);
        let Some((signature, mut given)) = self.call_of("tokenizer", signatures, value) else {
            return;
        };
        self.set(name, &mut given);
        let recipe = self.use_of(signature, &mut given);
        given.finish(&mut self.diagnostics);
        self.program.tokenizers.insert(name.text.clone(), recipe);
    }

    /// What a tokenizer of the program makes tokens of.
    pub(crate) fn makes(&self, tokenizer: &str) -> Option<&'a Makes> {
        let word = &self.program.tokenizers.get(tokenizer)?.name;
        let mut all = self.options.words.tokenizers.iter();
        let found = all.find(|found| found.signature.word == *word)?;
        Some(&found.makes)
    }

    /// The words that read a tokenizer of files.
    fn readers(&self, fits: impl Fn(&Makes) -> bool) -> Vec<&'a str> {
        let all = self.options.words.tokenizers.iter();
        all.filter(|tokenizer| fits(&tokenizer.makes))
            .map(|tokenizer| tokenizer.signature.word.as_str())
            .collect()
    }

    pub(crate) fn tokens(&mut self, name: &'a Name, world: &dyn World) {
        let mut given = self.given(Kind::Tokens, name);
        let text = given.take("text");
        let image = given.take("image");
        let given_sources = usize::from(text.is_some()) + usize::from(image.is_some());
        let text = text.and_then(|value| self.text_tokens(value, world));
        let image_place = image.as_ref().map_or(name.span, |value| value.span);
        let image = image.and_then(|value| self.image_tokens(value, world));
        let known_sources = usize::from(text.is_some()) + usize::from(image.is_some());
        let diagnostics = &mut self.diagnostics;
        let reserved = given.count("reserved", Some(0), 0, diagnostics);
        let pad_to = given.count("pad_to", Some(1), 1, diagnostics);
        let marks = given.take("marks").map(as_list).unwrap_or_default();
        let begin = given.take("begin");
        let begin_place = begin.as_ref().map_or(name.span, |value| value.span);
        let begin = begin.and_then(|value| as_word("begin", &value, &["eos", "bos"], diagnostics));
        given.finish(diagnostics);

        let marks = self.marks(marks);
        if known_sources < given_sources {
            // A source with a mistake in it has no size, and so has the vocabulary.
            return;
        }
        let mut layout = TokenLayout::empty(&name.text);
        for mark in FIRST_MARKS {
            if matches!(marks.get(mark), Some(Mark::Own)) {
                layout.add_mark(mark);
            }
        }
        if let Some((source, size)) = text {
            layout.add(TokenKind::Text, size);
            layout.text = source;
        }
        let mut inside = None;
        if let Some((source, size, grid, from)) = image {
            match from {
                Some(from) => inside = Some((from, size)),
                None => layout.add(TokenKind::Image, size),
            }
            layout.image = source;
            layout.grid = grid;
        }
        layout.add(TokenKind::Reserved, reserved);
        for mark in LAST_MARKS {
            match marks.get(mark) {
                Some(Mark::Copies(count)) => {
                    (0..*count).for_each(|number| layout.add_mark(&format!("{mark}:{number}")));
                }
                Some(Mark::Own) => layout.add_mark(mark),
                Some(Mark::Ids(..)) | None => {}
            }
        }
        let not_there = |place, what: String| {
            Diagnostic::error(place, what).code("size").label(
                place,
                "ids of the text tokenizer, which pictures and marks share among them",
            )
        };
        let text_at = layout.first(TokenKind::Text);
        if let Some((from, len)) = inside
            && !layout.take_images(text_at.saturating_add(from), len)
        {
            let what = format!("the text tokenizer has no {len} tokens from {from} on");
            self.diagnostics.push(not_there(image_place, what));
            return;
        }
        for (mark, value) in &marks {
            let Mark::Ids(ids, place) = value else {
                continue;
            };
            for id in ids {
                let token = text_at.saturating_add(*id);
                let taken = layout.tokenizer_has(token)
                    && match *mark {
                        // Another of them would be an end already.
                        END_MARK if layout.marks.contains_key(END_MARK) => layout.add_end(token),
                        mark => layout.take_mark(mark, token),
                    };
                if !taken {
                    let what = format!("the text tokenizer has no token {id} that is not taken");
                    self.diagnostics.push(not_there(*place, what));
                    return;
                }
            }
        }
        if let Some(mark) = begin {
            if !layout.marks.contains_key(mark) {
                self.diagnostics.push(
                    Diagnostic::error(
                        begin_place,
                        format!(
                            "documents cannot begin with `{mark}`: `{}` has no such mark",
                            name.text
                        ),
                    )
                    .code("missing")
                    .label(begin_place, "not among its `marks`")
                    .help(format!("add `{mark}` to `marks`")),
                );
                return;
            }
            layout.begin = mark.to_owned();
        }
        let size = layout.size.checked_next_multiple_of(pad_to);
        match size.filter(|size| *size <= MOST_TOKENS) {
            Some(0) => self.diagnostics.push(
                Diagnostic::error(
                    name.span,
                    format!("the vocabulary `{}` is empty", name.text),
                )
                .code("missing")
                .label(name.span, "neither text nor pictures nor marks")
                .help("add `text = bpe(\"tokenizers/…\", size: …)`"),
            ),
            Some(size) => {
                layout.add(TokenKind::Filler, size - layout.size);
                self.program.tokens.insert(name.text.clone(), layout);
            }
            None => self.diagnostics.push(
                Diagnostic::error(
                    name.span,
                    format!("the vocabulary `{}` is too large", name.text),
                )
                .code("size")
                .label(name.span, format!("more than {MOST_TOKENS} tokens")),
            ),
        }
    }

    /// Marks by name.
    fn marks(&mut self, values: Vec<Spanned>) -> IndexMap<&'static str, Mark> {
        let mut marks: IndexMap<&'static str, Mark> = IndexMap::new();
        let mut places: Vec<(&str, Span)> = Vec::new();
        let all = || FIRST_MARKS.into_iter().chain(LAST_MARKS);
        for value in values {
            let (written, mut numbers) = match &value.value {
                Value::Word { word, .. } => (word.clone(), Vec::new()),
                Value::Named(path) => (dotted(path), Vec::new()),
                Value::Call(call) => {
                    let mut given = Given::call(call.clone(), &mut self.diagnostics);
                    let numbers = std::mem::take(&mut given.positional);
                    given.finish(&mut self.diagnostics);
                    (dotted(&call.name), numbers)
                }
                Value::Broken => continue,
                _ => {
                    let wanted = "names of marks";
                    self.diagnostics
                        .push(crate::given::wrong_kind("marks", &value, wanted));
                    continue;
                }
            };
            let Some(mark) = all().find(|mark| *mark == written) else {
                self.diagnostics.push(
                    Diagnostic::error(value.span, format!("`{written}` is not a mark"))
                        .code("unknown-word")
                        .label(value.span, "not known here")
                        .maybe_help(suggest::help(&written, "the marks are", all())),
                );
                continue;
            };
            let name = Name {
                text: written,
                span: value.span,
            };
            if let Some((_, first)) = places.iter().find(|(before, _)| *before == mark) {
                self.diagnostics.push(twice(&name, *first));
                continue;
            }
            places.push((mark, value.span));
            if let Some(second) = numbers.get(1).filter(|_| mark != END_MARK) {
                self.diagnostics.push(
                    Diagnostic::error(second.span, format!("`{mark}` takes one number"))
                        .code("shape")
                        .label(second.span, "one too many")
                        .help("texts alone may have several ends: `eos(2, 306)`"),
                );
                numbers.truncate(1);
            }
            let ends: Vec<Spanned> = numbers.drain(1.min(numbers.len())..).collect();
            let what = match (mark, numbers.pop()) {
                ("mask", None) => Mark::Copies(1),
                ("mask", Some(count)) => {
                    let copies = as_count("mask", &count, 1, &mut self.diagnostics);
                    match copies.filter(|copies| *copies > 1 << 16) {
                        Some(_) => {
                            self.diagnostics.push(
                                Diagnostic::error(value.span, "more than 65536 masks")
                                    .code("size")
                                    .label(value.span, "too many"),
                            );
                            Mark::Own
                        }
                        None => copies.map_or(Mark::Own, Mark::Copies),
                    }
                }
                (mark, Some(first)) => {
                    let all = [first].into_iter().chain(ends);
                    let ids = all.map(|id| as_count(mark, &id, 0, &mut self.diagnostics));
                    let ids: Option<Vec<u64>> = ids.collect();
                    ids.map_or(Mark::Own, |ids| Mark::Ids(ids, value.span))
                }
                (_, None) => Mark::Own,
            };
            marks.insert(mark, what);
        }
        marks
    }

    /// A tokenizer of the program, or `bpe("folder", size: …)`.
    fn text_tokens(&mut self, value: Spanned, world: &dyn World) -> Option<(TextTokens, u64)> {
        if let Value::Named(path) = &value.value {
            let head = path.first()?;
            self.defined(head, &[Kind::Tokenizer])?;
            let Makes::Texts { size } = self.makes(&head.text)? else {
                self.wrong_tokenizer(&value, head, "texts", "pictures");
                return None;
            };
            let size = self.program.tokenizers.get(&head.text)?.count(size).ok()?;
            return Some((TextTokens::Tokenizer(head.text.clone()), size));
        }
        if let Value::Number(_) = &value.value {
            let size = as_count("text", &value, 1, &mut self.diagnostics)?;
            return Some((TextTokens::Ids, size));
        }
        let words = self.readers(|makes| matches!(makes, Makes::Texts { .. }));
        let (word, mut given) = as_call("text", value, &words, &mut self.diagnostics)?;
        let path = self.outside(word, &mut given, world);
        let size = given.count("size", None, 1, &mut self.diagnostics);
        given.finish(&mut self.diagnostics);
        Some((TextTokens::Files(path?), size))
    }

    /// A tokenizer of the program, or `vq("weights", codes: …, grid: …)`: where its tokens come from, their
    /// number, the grid, and the text token that is the first of them.
    fn image_tokens(
        &mut self,
        value: Spanned,
        world: &dyn World,
    ) -> Option<(ImageTokens, u64, u64, Option<u64>)> {
        if let Value::Named(path) = &value.value {
            let head = path.first()?;
            self.defined(head, &[Kind::Tokenizer])?;
            let Makes::Pictures { codes, grid } = self.makes(&head.text)? else {
                self.wrong_tokenizer(&value, head, "pictures", "texts");
                return None;
            };
            let recipe = self.program.tokenizers.get(&head.text)?;
            let (codes, grid) = (recipe.count(codes).ok()?, recipe.count(grid).ok()?);
            let source = ImageTokens::Tokenizer(head.text.clone());
            return Some((source, codes, grid, None));
        }
        let words = self.readers(|makes| matches!(makes, Makes::Pictures { .. }));
        let (word, mut given) = as_call("image", value, &words, &mut self.diagnostics)?;
        let path = self.outside(word, &mut given, world);
        let codes = given.count("codes", None, 1, &mut self.diagnostics);
        let grid = given.count("grid", None, 1, &mut self.diagnostics);
        let from = given.take("from");
        let from = from.and_then(|value| as_count("from", &value, 0, &mut self.diagnostics));
        given.finish(&mut self.diagnostics);
        Some((ImageTokens::Files(path?), codes, grid, from))
    }

    fn wrong_tokenizer(&mut self, value: &Spanned, name: &Name, wanted: &str, found: &str) {
        let mut report = Diagnostic::error(
            value.span,
            format!("`{}` makes tokens of {found}", name.text),
        )
        .code("wrong-kind")
        .label(value.span, format!("expected a tokenizer of {wanted}"));
        if let Some(definition) = self.definitions.get(&name.text) {
            report = report.label(definition.name_span, "defined here");
        }
        self.diagnostics.push(report);
    }

    /// A path of the world; that nothing is there is noted.
    fn outside(&mut self, what: &str, given: &mut Given, world: &dyn World) -> Option<String> {
        let value = given.require_next("a path", &mut self.diagnostics)?;
        let text = as_text(what, &value, &mut self.diagnostics)?;
        let path = join(folder_of(&self.folders, value.span.file), &text);
        self.note_absent(&path, value.span, world);
        Some(path)
    }

    /// Notes that a file is absent; `path` starts in the folder of the main file.
    pub(crate) fn note_absent(&mut self, path: &str, span: Span, world: &dyn World) {
        let main = self.folders.first().map_or("", String::as_str);
        if !world.exists(&join(main, path)) {
            self.diagnostics.push(
                Diagnostic::note_at(span, format!("`{path}` is not there"))
                    .code("absent")
                    .label(span, "needed to build and run, not to check"),
            );
        }
    }
}

/// What is asked of a mark.
enum Mark {
    /// An id of its own.
    Own,
    /// Several ids of its own.
    Copies(u64),
    /// These ids of the text tokenizer; of ends there may be several.
    Ids(Vec<u64>, Span),
}
