//! Did you mean …?

/// Most candidates that are compared; a program that defines more was not written by hand.
const MAX_CANDIDATES: usize = 300;

/// The candidate that is most likely meant by a word that is not one, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let mut best: Option<(usize, &str)> = None;
    // A long word is not compared: the distance takes its length squared.
    if word.len() > 64 {
        return None;
    }
    for candidate in candidates.into_iter().take(MAX_CANDIDATES) {
        if candidate == word {
            continue;
        }
        let allowed = match word.len().max(candidate.len()) {
            0..=2 => 0,
            3..=4 => 1,
            5..=8 => 2,
            _ => 3,
        };
        let lower_candidate = candidate.to_ascii_lowercase();
        // Half of a word is a likely slip too: `temp` for `temperature`.
        let part = lower.len() >= 3 && lower_candidate.starts_with(&lower);
        if !part && word.len().abs_diff(candidate.len()) > allowed {
            continue;
        }
        let distance = match part {
            true => allowed.min(1),
            false => strsim::damerau_levenshtein(&lower, &lower_candidate),
        };
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or the whole list when nothing is near and the list is short.
pub(crate) fn help<'a>(
    word: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(candidate) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    candidates.dedup();
    match candidates.len() {
        0 => None,
        1..=24 => Some(format!("{what}: {}", listed(&candidates))),
        _ => None,
    }
}

/// `a`, `b` and `c`, in quotation marks for code.
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["width", "context", "temperature", "tokens", "top_p"];
        assert_eq!(nearest("wdith", words), Some("width"));
        assert_eq!(nearest("Context", words), Some("context"));
        assert_eq!(nearest("temp", words), Some("temperature"));
        assert_eq!(nearest("token", words), Some("tokens"));
        assert_eq!(nearest("heads", words), None);
        assert_eq!(nearest(&"w".repeat(1 << 16), words), None);
    }
}
