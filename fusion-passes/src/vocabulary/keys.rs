//! What the ids of vocabularies are, and which id of one is which of another.

use std::collections::{HashMap, HashSet};

use jam_ir::{TextTokens, TokenKind, TokenLayout};

use super::Pieces;
use super::marks::is_another;
use crate::parents::same_image;

/// What a token is, whatever its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A mark by its name.
    Mark(String),
    /// A text token by its place in the tokenizer that all parents have.
    Text(u64),
    /// A text token by its spelling.
    Piece(String),
    /// A code of the image tokenizer.
    Image(u64),
    /// A row that is kept free, by its place among those.
    Reserved(u64),
}

impl Key {
    /// Whether it tells a token of a text tokenizer.
    fn is_spelled(&self) -> bool {
        matches!(self, Key::Piece(_) | Key::Text(_))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Mark(name) => write!(f, "<{name}>"),
            Key::Text(place) => write!(f, "text token {place}"),
            Key::Piece(piece) => write!(f, "{piece:?}"),
            Key::Image(code) => write!(f, "image token {code}"),
            Key::Reserved(place) => write!(f, "reserved row {place}"),
        }
    }
}

/// What the ids of a vocabulary are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// What tells a token first, by id; `None` for rows without a meaning.
    pub(super) main: Vec<Option<Key>>,
    /// What else tells a token: the mark or the image that one of the text tokenizer is.
    more: HashMap<u64, Vec<Key>>,
}

impl Keys {
    /// All that tells the token of an id, what tells it best first.
    fn of(&self, id: u64) -> impl Iterator<Item = &Key> {
        let main = self.main.get(id as usize).and_then(Option::as_ref);
        let more = self.more.get(&id).into_iter().flatten();
        main.into_iter().chain(more)
    }

    /// The id of everything that tells one.
    fn ids(&self) -> HashMap<&Key, u64> {
        let known = self.main.iter().zip(0..);
        let mut ids: HashMap<&Key, u64> = known
            .filter_map(|(key, id)| Some((key.as_ref()?, id)))
            .collect();
        // In the order of ids: two tokens may be one mark.
        let mut more: Vec<(u64, &Key)> = (self.more.iter())
            .flat_map(|(id, keys)| keys.iter().map(|key| (*id, key)))
            .collect();
        more.sort_by_key(|(id, _)| *id);
        for (id, key) in more {
            ids.entry(key).or_insert(id);
        }
        ids
    }

    /// For every id, the one that another vocabulary has for the token. A token of a tokenizer is another's mark of
    /// its name only where that is no token of both: the ends of two tokenizers are one, and an end that was
    /// added to a tokenizer is not the end that it had.
    pub(super) fn known_to(&self, other: &Known<'_>) -> Vec<Option<u64>> {
        let id = |id| {
            let mut told = self.of(id);
            let main = told.next()?;
            let apart = |id: &u64| !(main.is_spelled() && other.shared[*id as usize]);
            let found = other.ids.get(main).copied();
            found.or_else(|| told.find_map(|key| other.ids.get(key).copied().filter(apart)))
        };
        (0..self.main.len() as u64).map(id).collect()
    }

    /// For every id, itself; `None` for rows without a meaning.
    pub(super) fn known_to_itself(&self) -> Vec<Option<u64>> {
        let ids = self.main.iter().zip(0..);
        ids.map(|(key, id)| key.is_some().then_some(id)).collect()
    }

    /// The tokens that a vocabulary lacks which has these ids for them. Nobody misses a row that is kept free.
    pub(super) fn missing(&self, known: &[Option<u64>]) -> Vec<Key> {
        let tokens = self.main.iter().zip(known);
        let missing = tokens.filter(|(_, known)| known.is_none());
        let missing = missing.filter_map(|(key, _)| key.as_ref());
        let missing = missing.filter(|key| !matches!(key, Key::Reserved(_)));
        missing.cloned().collect()
    }
}

/// A vocabulary beside others.
pub(super) struct Known<'a> {
    /// The id of everything that tells one.
    ids: HashMap<&'a Key, u64>,
    /// By id, whether another vocabulary's tokenizer has the same token.
    shared: Vec<bool>,
}

impl<'a> Known<'a> {
    /// Every vocabulary beside the others.
    pub(super) fn all(keys: &'a [Keys]) -> Vec<Known<'a>> {
        let ids: Vec<HashMap<&Key, u64>> = keys.iter().map(Keys::ids).collect();
        let shared = |of: usize, key: &Option<Key>| {
            let mut others = ids.iter().enumerate().filter(|(other, _)| *other != of);
            let spelled = key.as_ref().filter(|key| key.is_spelled());
            spelled.is_some_and(|key| others.any(|(_, ids)| ids.contains_key(key)))
        };
        let shared: Vec<Vec<bool>> = (keys.iter().enumerate())
            .map(|(of, keys)| keys.main.iter().map(|key| shared(of, key)).collect())
            .collect();
        let all = ids.into_iter().zip(shared);
        all.map(|(ids, shared)| Known { ids, shared }).collect()
    }
}

/// What every id of every layout is; `None` where tokens of different parents cannot be compared.
pub(super) fn keys_of(layouts: &[&TokenLayout], pieces: &dyn Pieces) -> Option<Vec<Keys>> {
    let first = layouts.first()?;
    let alike = |other: &&TokenLayout| {
        other.size == first.size
            && other.ranges == first.ranges
            && other.text_ids == first.text_ids
            && other.begin == first.begin
            && other.marks == first.marks
            && other.grid == first.grid
            && other.text == first.text
            && other.image == first.image
    };
    // Marks without a name are told by nothing.
    let named = |layout: &&TokenLayout| {
        let ids: HashSet<&u64> = layout.marks.values().collect();
        layout.count(TokenKind::Mark) == ids.len() as u64
    };
    if layouts.iter().all(alike) || !layouts.iter().all(named) {
        return None;
    }
    let with = |kind| -> Vec<&TokenLayout> {
        let found = layouts.iter().filter(|layout| layout.room(kind) > 0);
        found.copied().collect()
    };
    let (texts, images) = (with(TokenKind::Text), with(TokenKind::Image));
    let same = |layouts: &[&TokenLayout], kind| {
        let mut rooms = layouts.iter().map(|layout| layout.room(kind));
        let first = rooms.next();
        rooms.all(|other| Some(other) == first)
    };
    let one_image = images
        .windows(2)
        .all(|pair| pair[0].grid == pair[1].grid && same_image(&pair[0].image, &pair[1].image));
    if !one_image || !same(&images, TokenKind::Image) {
        return None;
    }
    let one_text = texts.windows(2).all(|pair| pair[0].text == pair[1].text);
    let bare = texts.iter().any(|layout| layout.text == TextTokens::Ids);
    let spelled: Option<Vec<Vec<String>>> = match one_text || bare {
        true => None,
        false => texts
            .iter()
            .map(|layout| pieces.pieces(&layout.text))
            .collect(),
    };
    let files = |layout: &&TokenLayout| matches!(layout.text, TextTokens::Files(_));
    let by_place = match (one_text, bare) {
        (true, false) => true,
        (_, true) => same(&texts, TokenKind::Text),
        (false, false) => texts.iter().all(files) && same(&texts, TokenKind::Text),
    };
    if spelled.is_none() && !by_place {
        return None;
    }
    let mut spelled = spelled.map(|all| all.into_iter());
    let keys = layouts.iter().map(|layout| {
        let has_text = layout.room(TokenKind::Text) > 0;
        let own = match (&mut spelled, has_text) {
            (Some(spelled), true) => spelled.next(),
            _ => None,
        };
        keys_of_one(layout, own)
    });
    Some(keys.collect())
}

/// What every id of a layout is.
pub(super) fn keys_of_one(layout: &TokenLayout, pieces: Option<Vec<String>>) -> Keys {
    let size = usize::try_from(layout.size).unwrap_or(0);
    let mut keys = Keys {
        main: vec![None; size],
        more: HashMap::new(),
    };
    let mut tell = |id: u64, key: Key| match keys.main.get_mut(id as usize) {
        Some(slot @ None) => *slot = Some(key),
        Some(Some(_)) => keys.more.entry(id).or_default().push(key),
        None => {}
    };
    let (start, end) = layout.text_ids;
    match pieces {
        None => (start..end).for_each(|id| tell(id, Key::Text(id - start))),
        Some(pieces) => {
            let spelled = (start..end).zip(pieces);
            let spelled = spelled.filter(|(_, piece)| !piece.is_empty());
            spelled.for_each(|(id, piece)| tell(id, Key::Piece(piece)));
        }
    }
    let mut reserved = 0..;
    let image = layout.first(TokenKind::Image);
    for range in &layout.ranges {
        for id in range.start..range.start + range.len {
            match range.kind {
                TokenKind::Image => tell(id, Key::Image(id - image)),
                TokenKind::Reserved => tell(id, Key::Reserved(reserved.next().unwrap_or(id))),
                TokenKind::Text | TokenKind::Mark | TokenKind::Filler => {}
            }
        }
    }
    for (name, id) in &layout.marks {
        // Other marks of a name tell nothing: their spelling does.
        if !is_another(name) {
            tell(*id, Key::Mark(name.clone()));
        }
    }
    keys
}
