//! The words of a Rust file: names, signs and `::`, without comments, literals and what only tests build.

/// Words in their order; a literal is `""`, and `::` and `->` are one word.
pub(crate) fn words(text: &str) -> Vec<String> {
    without_tests(&split(text))
}

fn split(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let at = |place: usize| letters.get(place).copied().unwrap_or('\0');
    let named = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut words = Vec::new();
    let mut place = 0;
    while place < letters.len() {
        let letter = letters[place];
        let start = place;
        match (letter, at(place + 1)) {
            ('/', '/') => {
                while place < letters.len() && letters[place] != '\n' {
                    place += 1;
                }
            }
            ('/', '*') => place = after_comment(&letters, place),
            ('r', '"' | '#')
                if at(place + 2) == '"' || at(place + 1) == '"' || at(place + 2) == '#' =>
            {
                place = after_raw(&letters, place + 1);
                words.push("\"\"".to_owned());
            }
            ('b', '"') => {
                place = after_quoted(&letters, place + 1, '"');
                words.push("\"\"".to_owned());
            }
            ('b', '\'') => {
                place = after_quoted(&letters, place + 1, '\'');
                words.push("\"\"".to_owned());
            }
            ('"', _) => {
                place = after_quoted(&letters, place, '"');
                words.push("\"\"".to_owned());
            }
            // A letter in quotes; else a lifetime.
            ('\'', next) if next == '\\' || at(place + 2) == '\'' => {
                place = after_quoted(&letters, place, '\'');
                words.push("\"\"".to_owned());
            }
            ('\'', _) => {
                place += 1;
                while named(at(place)) {
                    place += 1;
                }
            }
            (':', ':') | ('-', '>') => {
                place += 2;
                words.push(letters[start..place].iter().collect());
            }
            _ if named(letter) => {
                while named(at(place)) {
                    place += 1;
                }
                words.push(letters[start..place].iter().collect());
            }
            _ => {
                place += 1;
                if !letter.is_whitespace() {
                    words.push(letter.to_string());
                }
            }
        }
    }
    words
}

fn after_comment(letters: &[char], mut place: usize) -> usize {
    let mut depth = 0;
    loop {
        match letters.get(place..place + 2) {
            Some(['/', '*']) => (depth, place) = (depth + 1, place + 2),
            Some(['*', '/']) => (depth, place) = (depth - 1, place + 2),
            Some(_) => place += 1,
            None => return letters.len(),
        }
        if depth == 0 {
            return place;
        }
    }
}

/// Past a literal that opens at `place`.
fn after_quoted(letters: &[char], mut place: usize, quote: char) -> usize {
    place += 1;
    while place < letters.len() && letters[place] != quote {
        place += if letters[place] == '\\' { 2 } else { 1 };
    }
    place + 1
}

/// Past a raw string whose `#` or quote is at `place`.
fn after_raw(letters: &[char], mut place: usize) -> usize {
    let marks = letters[place..].iter().take_while(|&&l| l == '#').count();
    place += marks + 1;
    while place < letters.len() {
        let close = &letters[place + 1..letters.len().min(place + 1 + marks)];
        if letters[place] == '"' && close.len() == marks && close.iter().all(|&l| l == '#') {
            return place + 1 + marks;
        }
        place += 1;
    }
    place
}

/// Leaves out the items under `#[cfg(test)]`.
fn without_tests(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut place = 0;
    while place < words.len() {
        if words[place] != "#" {
            kept.push(words[place].clone());
            place += 1;
            continue;
        }
        let open = place + 1 + usize::from(words.get(place + 1).is_some_and(|word| word == "!"));
        let end = after_group(words, open);
        let attribute = &words[open..end];
        let has = |word: &str| attribute.iter().any(|other| other == word);
        if attribute.get(1).is_some_and(|word| word == "cfg") && has("test") && !has("not") {
            place = after_item(words, end);
        } else {
            kept.extend_from_slice(&words[place..end]);
            place = end;
        }
    }
    kept
}

/// Past the bracket that opens at `place`.
pub(crate) fn after_group(words: &[String], mut place: usize) -> usize {
    let mut depth = 0;
    while let Some(word) = words.get(place) {
        match word.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        place += 1;
        if depth == 0 {
            break;
        }
    }
    place
}

/// Past the item that begins at `place`.
fn after_item(words: &[String], mut place: usize) -> usize {
    while let Some(word) = words.get(place) {
        match word.as_str() {
            ";" => return place + 1,
            "{" => return after_group(words, place),
            "(" | "[" => place = after_group(words, place),
            _ => place += 1,
        }
    }
    place
}
