//! Words of the text form, one at a time.

/// A word and the byte at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) start: usize,
    pub(super) kind: TokenKind,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A name that stands bare.
    Name(String),
    /// A name in quotes.
    Quoted(String),
    /// Digits, with what else belongs to a number; `_` between digits is left out.
    Number(String),
    /// A sign: one byte, or `->` or `..`.
    Sign(&'static str),
    /// The end of the text.
    End,
}

impl TokenKind {
    /// How an error names it.
    pub(super) fn text(&self) -> String {
        match self {
            TokenKind::Name(name) => format!("`{}`", shortened(name)),
            TokenKind::Quoted(name) => format!("\"{}\"", shortened(name)),
            TokenKind::Number(digits) => format!("`{}`", shortened(digits)),
            TokenKind::Sign(sign) => format!("`{sign}`"),
            TokenKind::End => "the end".to_owned(),
        }
    }
}

/// The first forty characters: hostile words are long.
pub(super) fn shortened(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

const SIGNS: [&str; 17] = [
    "->", "..", "{", "}", "(", ")", "[", "]", ":", ",", "=", "@", "*", "+", "%", "-", "_",
];

/// A place in a text and the words from there on.
pub(super) struct Lexer<'t> {
    pub(super) text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Lexer<'t> {
        Lexer { text, at: 0 }
    }

    /// The next word; `Err` gives the byte and what is wrong there.
    pub(super) fn next(&mut self) -> Result<Token, (usize, String)> {
        self.skip_blank();
        let start = self.at;
        let rest = &self.text[start..];
        let kind = match rest.chars().next() {
            None => TokenKind::End,
            Some('"') => self.quoted()?,
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.name(),
            Some(c) => {
                let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
                    return Err((start, format!("{c:?} has no meaning here")));
                };
                self.at += sign.len();
                TokenKind::Sign(sign)
            }
        };
        Ok(Token { start, kind })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Words of letters, digits and `_`, joined by single dots.
    fn name(&mut self) -> TokenKind {
        let start = self.at;
        let is_word =
            |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        while is_word(self.byte(0)) || (self.byte(0) == Some(b'.') && is_word(self.byte(1))) {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            "_" => TokenKind::Sign("_"),
            name => TokenKind::Name(name.to_owned()),
        }
    }

    /// Digits, a fraction, an exponent.
    fn number(&mut self) -> TokenKind {
        let start = self.at;
        let is_digit = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_digit());
        let digits = |lexer: &mut Self| {
            while is_digit(lexer.byte(0))
                || (lexer.byte(0) == Some(b'_') && is_digit(lexer.byte(1)))
            {
                lexer.at += 1;
            }
        };
        digits(self);
        if self.byte(0) == Some(b'.') && is_digit(self.byte(1)) {
            self.at += 1;
            digits(self);
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.byte(1), Some(b'-' | b'+')));
            if is_digit(self.byte(1 + signed)) {
                self.at += 1 + signed;
                digits(self);
            }
        }
        TokenKind::Number(self.text[start..self.at].replace('_', ""))
    }

    /// A name in quotes, with `\"`, `\\`, `\n` and `\u{…}` in it.
    fn quoted(&mut self) -> Result<TokenKind, (usize, String)> {
        let start = self.at;
        let mut name = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        let fail = |at: usize, message: &str| Err((start + 1 + at, message.to_owned()));
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + index + 1;
                    return Ok(TokenKind::Quoted(name));
                }
                '\n' => return fail(index, "a quoted name ends on its line"),
                '\\' => match chars.next() {
                    Some((_, 'n')) => name.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => name.push(c),
                    Some((_, 'u')) => {
                        let rest = chars.as_str();
                        let code = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                        let decoded = code
                            .filter(|(code, _)| code.len() <= 6)
                            .and_then(|(code, _)| u32::from_str_radix(code, 16).ok())
                            .and_then(char::from_u32);
                        let (Some((code, _)), Some(decoded)) = (code, decoded) else {
                            return fail(index, "`\\u` is followed by `{`, a code in hex, `}`");
                        };
                        name.push(decoded);
                        // The code is ASCII: as many characters as bytes.
                        for _ in 0..code.len() + 2 {
                            chars.next();
                        }
                    }
                    _ => return fail(index, "`\\` is followed by `\"`, `\\`, `n` or `u{…}`"),
                },
                c => name.push(c),
            }
        }
        Err((start, "a quoted name is never closed".to_owned()))
    }
}
