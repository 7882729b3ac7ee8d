//! Byte-pair encoding learned from texts (Sennrich et al., 2016), on bytes as in GPT-2.
//!
//! The result depends on the texts alone: words are counted in any order and then sorted, the most frequent
//! pair is merged first, and of equally frequent pairs the one with the smaller ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use rayon::prelude::*;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::{Error, Result};

/// Number of texts whose words are counted at once.
const TEXTS_AT_ONCE: usize = 512;

/// What was learned: every token in the order of its id, and the merges in the order of their rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Learned {
    /// Tokens, in GPT-2's visible spelling of bytes.
    pub(super) tokens: Vec<String>,
    /// Pairs of tokens that become one, the first learned first.
    pub(super) merges: Vec<(u32, u32)>,
}

/// Two neighbouring tokens.
type Pair = (u32, u32);

/// A word as tokens, and how often it occurs.
struct Word {
    tokens: Vec<u32>,
    count: u64,
}

/// Counts the words of the texts. Words are those of GPT-2's pattern, in the visible spelling of bytes.
pub(super) fn count_words(texts: impl Iterator<Item = String>) -> Result<BTreeMap<String, u64>> {
    let splitter = ByteLevel::new(false, true, true);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut texts = texts;
    loop {
        let some: Vec<String> = texts.by_ref().take(TEXTS_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(counts);
        }
        let counted: Vec<BTreeMap<String, u64>> = some
            .par_iter()
            .map(|text| {
                let mut words = PreTokenizedString::from(text.as_str());
                splitter
                    .pre_tokenize(&mut words)
                    .map_err(|error| Error::new(format!("a text cannot be split: {error}")))?;
                let mut counts = BTreeMap::new();
                for (word, _, _) in words.get_splits(OffsetReferential::Original, OffsetType::Byte)
                {
                    match counts.get_mut(word) {
                        Some(count) => *count += 1,
                        None => {
                            counts.insert(word.to_owned(), 1);
                        }
                    }
                }
                Ok(counts)
            })
            .collect::<Result<_>>()?;
        for (word, count) in counted.into_iter().flatten() {
            *counts.entry(word).or_default() += count;
        }
    }
}

/// Learns merges until there are `size` tokens, or no pair occurs twice.
///
/// # Errors
/// When `size` has no room for the 256 bytes.
pub(super) fn learn(words: &BTreeMap<String, u64>, size: u64) -> Result<Learned> {
    let alphabet: BTreeMap<char, u32> = ByteLevel::alphabet()
        .into_iter()
        .collect::<std::collections::BTreeSet<char>>()
        .into_iter()
        .zip(0..)
        .collect();
    if size < alphabet.len() as u64 || size > 1 << 24 {
        return Err(Error::new(format!(
            "a vocabulary of {size} tokens; from 256 (one for each byte) to 16 Mi can be learned"
        )));
    }
    let mut tokens: Vec<String> = alphabet.keys().map(char::to_string).collect();
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut words: Vec<Word> = words
        .iter()
        .map(|(word, &count)| Word {
            // Every character of the visible spelling is in the alphabet.
            tokens: word
                .chars()
                .filter_map(|c| alphabet.get(&c).copied())
                .collect(),
            count,
        })
        .collect();

    let mut counts: HashMap<Pair, u64> = HashMap::new();
    let mut places: HashMap<Pair, Vec<u32>> = HashMap::new();
    for (index, word) in words.iter().enumerate() {
        for pair in pairs(&word.tokens) {
            *counts.entry(pair).or_default() += word.count;
            places.entry(pair).or_default().push(index as u32);
        }
    }
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> = counts
        .iter()
        .map(|(&pair, &count)| (count, Reverse(pair)))
        .collect();

    let mut merges = Vec::new();
    while (tokens.len() as u64) < size {
        let Some((count, Reverse(pair))) = queue.pop() else {
            break;
        };
        let current = counts.get(&pair).copied().unwrap_or(0);
        if current != count {
            // The count has changed since it was queued; its present value is queued as well.
            continue;
        }
        if count < 2 {
            break;
        }
        let spelled = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        let merged = *ids.entry(spelled).or_insert_with_key(|spelled| {
            tokens.push(spelled.clone());
            tokens.len() as u32 - 1
        });
        merges.push(pair);

        let mut changed: BTreeMap<Pair, ()> = BTreeMap::new();
        let mut at = places.remove(&pair).unwrap_or_default();
        at.dedup();
        for index in at {
            let word = &mut words[index as usize];
            let after = merge(&word.tokens, pair, merged);
            if after.len() == word.tokens.len() {
                continue;
            }
            for pair in pairs(&word.tokens) {
                if let Some(count) = counts.get_mut(&pair) {
                    *count -= word.count;
                }
                changed.insert(pair, ());
            }
            word.tokens = after;
            for pair in pairs(&word.tokens) {
                *counts.entry(pair).or_default() += word.count;
                changed.insert(pair, ());
                if pair.0 == merged || pair.1 == merged {
                    places.entry(pair).or_default().push(index);
                }
            }
        }
        for pair in changed.into_keys() {
            if let Some(&count) = counts.get(&pair).filter(|&&count| count > 0) {
                queue.push((count, Reverse(pair)));
            }
        }
    }
    Ok(Learned { tokens, merges })
}

/// Neighbouring tokens, in order.
fn pairs(tokens: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

/// The tokens with every occurrence of `pair` replaced, from the left.
fn merge(tokens: &[u32], pair: Pair, merged: u32) -> Vec<u32> {
    let mut after = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let [first, tail @ ..] = rest {
        if *first == pair.0 && tail.first() == Some(&pair.1) {
            after.push(merged);
            rest = &tail[1..];
        } else {
            after.push(*first);
            rest = tail;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by counting every pair anew before every merge.
    fn learn_slowly(words: &BTreeMap<String, u64>, size: usize) -> Learned {
        let Learned { mut tokens, .. } = learn(&BTreeMap::new(), 256).unwrap();
        let mut merges = Vec::new();
        let mut words: Vec<Word> = words
            .iter()
            .map(|(word, &count)| Word {
                tokens: word
                    .chars()
                    .map(|c| tokens.iter().position(|t| *t == c.to_string()).unwrap() as u32)
                    .collect(),
                count,
            })
            .collect();
        while tokens.len() < size {
            let mut counts: BTreeMap<Pair, u64> = BTreeMap::new();
            for word in &words {
                for pair in pairs(&word.tokens) {
                    *counts.entry(pair).or_default() += word.count;
                }
            }
            let best = counts
                .iter()
                .max_by_key(|(pair, count)| (**count, Reverse(**pair)));
            let Some((&pair, _)) = best.filter(|(_, count)| **count >= 2) else {
                break;
            };
            let spelled = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
            let merged = tokens
                .iter()
                .position(|t| *t == spelled)
                .unwrap_or_else(|| {
                    tokens.push(spelled);
                    tokens.len() - 1
                });
            merges.push(pair);
            for word in &mut words {
                word.tokens = merge(&word.tokens, pair, merged as u32);
            }
        }
        Learned { tokens, merges }
    }

    #[test]
    fn counting_as_one_goes_equals_counting_anew() {
        let texts = [
            "the cat sat on the mat, the cats sat on the mats; aaaa aaaaaaa aaa",
            "Hat on the cat: thethethe banana bananas ananas 11 111 1111 11111",
            "naïve café 豆沙包 🙂🙂🙂 naïve café   \n\n\n  x  x",
        ];
        let words = count_words(texts.iter().map(|text| text.to_string())).unwrap();
        for size in [256, 260, 280, 300, 400] {
            assert_eq!(
                learn(&words, size as u64).unwrap(),
                learn_slowly(&words, size),
                "{size}"
            );
        }
    }

    #[test]
    fn random_words_give_the_same_merges_both_ways() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for _ in 0..40 {
            let texts: Vec<String> = (0..20)
                .map(|_| {
                    let length = random.random_range(1..30);
                    (0..length)
                        .map(|_| random.random_range('a'..='d'))
                        .collect()
                })
                .collect();
            let words = count_words(texts.into_iter()).unwrap();
            assert_eq!(learn(&words, 300).unwrap(), learn_slowly(&words, 300));
        }
    }

    #[test]
    fn too_small_a_vocabulary_is_refused() {
        assert!(learn(&BTreeMap::new(), 255).is_err());
        assert_eq!(learn(&BTreeMap::new(), 256).unwrap().tokens.len(), 256);
    }

    /// The tokenizers library learns the same from the same texts.
    #[test]
    fn tokens_are_those_of_the_reference_implementation() {
        use tokenizers::models::TrainerWrapper;
        use tokenizers::models::bpe::{BPE, BpeTrainer};

        let text = include_str!("training.rs");
        let words = count_words(text.lines().map(str::to_owned)).unwrap();
        let learned = learn(&words, 700).unwrap();
        let mut reference = tokenizers::Tokenizer::new(BPE::default());
        reference.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        let trainer = BpeTrainer::builder()
            .vocab_size(700)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect());
        reference
            .train(&mut TrainerWrapper::from(trainer.build()), text.lines())
            .unwrap();
        assert_eq!(learned.tokens.len(), 700);
        for (id, token) in (0..).zip(&learned.tokens) {
            assert_eq!(reference.id_to_token(id).as_ref(), Some(token));
        }
    }
}
