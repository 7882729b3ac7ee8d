//! Chameleon's names of image codes in its vocabulary.
//!
//! A code is spelled in letters, a digit each (`A` is 0, `J` is 9), between `IMGIMG` and `Z`: code 10 is
//! `IMGIMGBAZ` (`ChameleonImageVocabularyMapping` of transformers).

use crate::{Error, Result};

/// What the names of image codes begin and end with.
const AROUND: (&str, &str) = ("IMGIMG", "Z");

/// The image code that a name of the vocabulary stands for; none where it is another token.
pub fn code_of(name: &str) -> Option<usize> {
    let letters = name.strip_prefix(AROUND.0)?.strip_suffix(AROUND.1)?;
    let digit = |letter: u8| {
        (b'A'..=b'J')
            .contains(&letter)
            .then(|| usize::from(letter - b'A'))
    };
    if letters.is_empty() {
        return None;
    }
    letters.bytes().try_fold(0usize, |code, letter| {
        code.checked_mul(10)?.checked_add(digit(letter)?)
    })
}

/// The ids of image codes, by code, from the names and ids of a vocabulary.
///
/// # Errors
/// When a code below `codes` has no id or several, or there are names of codes beyond.
pub fn ids_of_codes<'a>(
    vocabulary: impl IntoIterator<Item = (&'a str, u64)>,
    codes: usize,
) -> Result<Vec<u32>> {
    let mut ids: Vec<Option<u32>> = vec![None; codes];
    for (name, id) in vocabulary {
        let Some(code) = code_of(name) else {
            continue;
        };
        let place = ids.get_mut(code).ok_or_else(|| {
            Error::new(format!(
                "the vocabulary has `{name}` for image code {code}; the image tokenizer has {codes} codes"
            ))
        })?;
        let id = u32::try_from(id)
            .map_err(|_| Error::new(format!("`{name}` has the id {id}, which is none")))?;
        if place.replace(id).is_some_and(|other| other != id) {
            return Err(Error::new(format!(
                "`{name}` has two ids in the vocabulary"
            )));
        }
    }
    let known = ids.iter().enumerate().map(|(code, id)| {
        id.ok_or_else(|| Error::new(format!("the vocabulary has no name of image code {code}")))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_digits() {
        for (name, code) in [
            ("IMGIMGAZ", Some(0)),
            ("IMGIMGJZ", Some(9)),
            ("IMGIMGBAZ", Some(10)),
            ("IMGIMGIBJBZ", Some(8191)),
            ("IMGIMGABZ", Some(1)),
            ("IMGIMGZ", None),
            ("IMGIMGKZ", None),
            ("IMGIMGJJJJJJJJJJJJJJJJJJJJJJJJJZ", None),
            ("IMGIMGé", None),
            ("cat", None),
        ] {
            assert_eq!(code_of(name), code, "{name}");
        }
    }

    #[test]
    fn every_code_has_one_id() {
        let some = [("IMGIMGBZ", 7), ("cat", 1), ("IMGIMGAZ", 9)];
        assert_eq!(ids_of_codes(some, 2).unwrap(), [9, 7]);
        let message = |words: &[(&'static str, u64)], codes| {
            ids_of_codes(words.iter().copied(), codes)
                .unwrap_err()
                .message
        };
        assert!(message(&some, 3).contains("image code 2"));
        assert!(message(&some, 1).contains("1 codes"));
        assert!(message(&[("IMGIMGAZ", 1), ("IMGIMGAZ", 2)], 1).contains("two ids"));
        assert!(message(&[("IMGIMGAZ", 1 << 40)], 1).contains("1099511627776"));
    }
}
