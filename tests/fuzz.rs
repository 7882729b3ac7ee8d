//! What the fuzz targets run (`fuzz/`), on their seeds and on thousands of changed ones, the same on every
//! run: so that targets cannot rot, and what they hold to is held to here.

#[path = "../fuzz/src"]
#[expect(unreachable_pub, reason = "the targets are a crate of their own too")]
mod targets {
    pub(super) mod config;
    pub(super) mod index;
    pub(super) mod ir_text;
    pub(super) mod jam;
    pub(super) mod pickle;
    pub(super) mod safetensors;
    pub(super) mod seeds;
}

use targets::{config, index, ir_text, jam, pickle, safetensors};

/// Words that are put into seeds, from the dictionaries of the targets.
fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let path = format!(
        "{}/fuzz/dictionaries/{dictionary}.dict",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let quoted = text
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescaped).collect()
}

/// The bytes of an entry of a dictionary: `\\`, `\"` and `\xAB` are escapes.
fn unescaped(entry: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entry.as_bytes();
    while let [first, after @ ..] = rest {
        (rest, _) = match after {
            [b'x', high, low, after @ ..] if *first == b'\\' => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).unwrap();
                (after, bytes.push(u8::from_str_radix(digits, 16).unwrap()))
            }
            [escaped, after @ ..] if *first == b'\\' => (after, bytes.push(*escaped)),
            _ => (after, bytes.push(*first)),
        };
    }
    bytes
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % count.max(1) as u64) as usize
    }
}

/// One of the seeds with a few changes.
fn changed(seeds: &[Vec<u8>], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(24)).min(bytes.len());
        let put = match random.below(6) {
            0 => Vec::new(),
            1 => bytes[at..end].repeat(2),
            2 => vec![random.below(256) as u8; end - at],
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                other[from..(from + 40).min(other.len())].to_vec()
            }
            _ => words[random.below(words.len())].clone(),
        };
        let end = if random.below(2) == 0 { at } else { end };
        bytes.splice(at..end, put);
    }
    bytes
}

/// Runs a target on its seeds and on changed ones.
fn exercise(run: fn(&[u8]), seeds: &[Vec<u8>], dictionary: &str, count: usize) {
    assert!(seeds.len() > 5, "{} seeds", seeds.len());
    for seed in seeds {
        run(seed);
    }
    let words = words(dictionary);
    assert!(words.len() > 20 && words.iter().all(|word| !word.is_empty()));
    let mut random = Random(1);
    for _ in 0..count {
        run(&changed(seeds, &words, &mut random));
    }
}

#[test]
fn programs() {
    exercise(jam::run, &jam::seeds(), "jam", 3000);
}

#[test]
fn models_as_text() {
    exercise(ir_text::run, &ir_text::seeds(), "ir_text", 5000);
}

#[test]
fn configurations() {
    exercise(config::run, &config::seeds(), "json", 5000);
}

#[test]
fn indices() {
    exercise(index::run, &index::seeds(), "json", 5000);
}

#[test]
fn pickles() {
    exercise(pickle::run, &pickle::seeds(), "pickle", 5000);
}

#[test]
fn headers() {
    exercise(safetensors::run, &safetensors::seeds(), "json", 5000);
}
