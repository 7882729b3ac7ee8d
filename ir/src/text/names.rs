//! Which names the form writes without quotes.

/// Whether a name stands without quotes: words of letters, digits and `_`, joined by single dots,
/// the first not begun by a digit.
pub(super) fn is_bare(name: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    name != "_" && !name.starts_with(|c: char| c.is_ascii_digit()) && name.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::is_bare;

    #[test]
    fn names_stand_bare_only_where_that_is_plain() {
        for name in ["a", "layers.0.attn.q", "_a", "A_1.0"] {
            assert!(is_bare(name), "{name}");
        }
        for name in [
            "", "_", "0.a", "a.", ".a", "a..b", "a b", "é", "mask:0", "a\"b",
        ] {
            assert!(!is_bare(name), "{name}");
        }
    }
}
