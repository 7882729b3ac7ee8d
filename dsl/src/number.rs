//! Exact numbers: what a written number means, and arithmetic without rounding.

use num_bigint::{BigInt, Sign};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// An exact number: a fraction of two whole numbers.
pub(crate) type Exact = BigRational;

/// The units that may stand on a number, with what they multiply it by.
const UNITS: [(&str, u64, u64); 5] = [
    ("%", 1, 100),
    ("k", 1_000, 1),
    ("Ki", 1 << 10, 1),
    ("M", 1_000_000, 1),
    ("Mi", 1 << 20, 1),
];

/// The longest written number, in characters.
const MAX_WRITTEN: usize = 100;
/// The greatest power of ten that a number is written with.
const MAX_EXPONENT: u32 = 400;
/// Numbers are kept below this many bits, above and below the fraction line together.
const MAX_BITS: u64 = 1 << 12;

/// Why a run of characters is no number, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NotANumber {
    /// What is wrong.
    pub(crate) message: String,
    /// The way out.
    pub(crate) help: Option<String>,
}

impl NotANumber {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

/// Reads a number as the grammar finds it: digits, `_`, one point, `e` and a power, a unit.
pub(crate) fn read(written: &str) -> Result<Exact, NotANumber> {
    if written.len() > MAX_WRITTEN {
        return Err(NotANumber::new(
            format!("a number of {} characters is too long", written.len()),
            format!("numbers have at most {MAX_WRITTEN} characters; large ones take a unit or `e`"),
        ));
    }
    let bytes = written.as_bytes();
    let mut at = 0;
    let mut digits = Vec::with_capacity(bytes.len());
    let mut take_digits = |at: &mut usize| {
        let start = *at;
        while let Some(byte @ (b'0'..=b'9' | b'_')) = bytes.get(*at) {
            if *byte != b'_' {
                digits.push(byte - b'0');
            }
            *at += 1;
        }
        bytes[start..*at]
            .iter()
            .filter(|byte| **byte != b'_')
            .count()
    };
    take_digits(&mut at);
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        fraction = take_digits(&mut at);
    }
    let mut power: i64 = 0;
    let has_power = matches!(bytes.get(at), Some(b'e' | b'E'))
        && matches!(bytes.get(at + 1), Some(b'0'..=b'9' | b'+' | b'-'));
    if has_power {
        at += 1;
        let negative = bytes.get(at) == Some(&b'-');
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let end = written[at..].find(|next: char| !next.is_ascii_digit());
        let end = end.map_or(written.len(), |length| at + length);
        power = match written[at..end].parse::<u32>() {
            Ok(power) if power <= MAX_EXPONENT => i64::from(power),
            _ => {
                return Err(NotANumber::new(
                    format!("`{written}` is beyond what can be computed with"),
                    format!("powers of ten go up to {MAX_EXPONENT}"),
                ));
            }
        };
        if negative {
            power = -power;
        }
        at = end;
    }
    let unit = &written[at..];
    let value = BigInt::from_radix_be(Sign::Plus, &digits, 10).unwrap_or_default();
    let mut value = Exact::from_integer(value);
    let scale = power - fraction as i64;
    let ten = BigInt::from(10u8).pow(scale.unsigned_abs() as u32);
    if scale < 0 {
        value /= ten;
    } else {
        value *= ten;
    }
    if unit.is_empty() {
        return Ok(value);
    }
    match UNITS.iter().find(|(name, _, _)| *name == unit) {
        Some((_, up, down)) => Ok(value * BigInt::from(*up) / BigInt::from(*down)),
        None => Err(wrong_unit(written, unit)),
    }
}

fn wrong_unit(written: &str, unit: &str) -> NotANumber {
    let number = &written[..written.len() - unit.len()];
    if unit.starts_with('.') || unit.starts_with(|first: char| first.is_ascii_digit()) {
        return NotANumber {
            message: format!("`{written}` is not a number"),
            help: Some("a number has one point at most: `0.5`".to_owned()),
        };
    }
    if number == "0" && unit.starts_with(['x', 'b', 'o']) {
        return NotANumber::new(
            format!("`{written}` is not a number"),
            "numbers are decimal; `Ki` and `Mi` stand for 1024 and 1024 · 1024",
        );
    }
    let help = match unit {
        "K" => format!("write `{number}k` for thousands, `{number}Ki` for 1024 of them"),
        "m" => format!("write `{number}M` for millions, `{number}Mi` for 1024 · 1024 of them"),
        "ki" | "KiB" | "kib" | "KI" | "KB" | "kB" | "kb" => {
            format!("did you mean `{number}Ki` (1024) or `{number}k` (1000)?")
        }
        "mi" | "MiB" | "mib" | "MI" | "MB" | "mb" => {
            format!("did you mean `{number}Mi` (1024 · 1024) or `{number}M` (a million)?")
        }
        "G" | "B" | "Gi" | "g" | "b" | "GB" | "GiB" => {
            format!("write `{number}e9`, or `{number} * 1024Mi`")
        }
        _ => "units are `k` and `M` (thousands, millions), `Ki` and `Mi` (1024, 1024 · 1024), `%`"
            .to_owned(),
    };
    NotANumber::new(format!("`{unit}` is not a unit"), help)
}

/// A number that is too large to compute with.
pub(crate) fn is_too_large(value: &Exact) -> bool {
    value.numer().bits() + value.denom().bits() > MAX_BITS
}

/// The whole number, where the value is one from 0 to 2^64 - 1.
pub(crate) fn whole(value: &Exact) -> Option<u64> {
    if value.is_integer() {
        value.numer().to_u64()
    } else {
        None
    }
}

/// The least multiple of `step` that is not below `value`; `None` when `step` is not positive.
pub(crate) fn round_up(value: &Exact, step: &Exact) -> Option<Exact> {
    step.is_positive().then(|| (value / step).ceil() * step)
}

/// The greatest multiple of `step` that is not above `value`; `None` when `step` is not positive.
pub(crate) fn round_down(value: &Exact, step: &Exact) -> Option<Exact> {
    step.is_positive().then(|| (value / step).floor() * step)
}

/// The nearest f64; `None` beyond its range.
pub(crate) fn float(value: &Exact) -> Option<f64> {
    // A decimal text of enough digits is read exactly; fractions are rounded once, here.
    let value = value.to_f64()?;
    value.is_finite().then_some(value)
}

/// As people read it: whole numbers as they are, others as decimals or fractions.
pub(crate) fn shown(value: &Exact) -> String {
    if value.is_integer() {
        let text = value.numer().to_string();
        return if text.len() <= 40 {
            text
        } else {
            format!("{}… ({} digits)", &text[..8], text.len())
        };
    }
    let mut down = value.denom().clone();
    for prime in [2u8, 5] {
        let prime = BigInt::from(prime);
        while (&down % &prime).is_zero() {
            down /= &prime;
        }
    }
    match value.to_f64() {
        Some(float) if down.is_one() => float.to_string(),
        Some(float) if value.denom().bits() < 64 && value.numer().bits() < 64 => {
            format!("{}/{} (about {float:.4})", value.numer(), value.denom())
        }
        Some(float) => float.to_string(),
        None => "a very large number".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(written: &str) -> Exact {
        read(written).unwrap()
    }

    #[test]
    fn units_points_and_powers() {
        assert_eq!(whole(&number("56_320")), Some(56_320));
        assert_eq!(whole(&number("8Mi")), Some(8 << 20));
        assert_eq!(whole(&number("1.5k")), Some(1500));
        assert_eq!(whole(&number("2e3")), Some(2000));
        assert_eq!(number("20%"), number("0.2"));
        assert_eq!(number("3e-5"), number("0.00003"));
        assert_eq!(whole(&number("0.5")), None);
        assert_eq!(whole(&number("18446744073709551615")), Some(u64::MAX));
        assert_eq!(whole(&number("18446744073709551616")), None);
    }

    #[test]
    fn what_is_no_number_says_why() {
        let help = |written| read(written).unwrap_err().help.unwrap();
        assert!(help("8K").contains("`8k`"), "{}", help("8K"));
        assert!(help("8MB").contains("`8Mi`"));
        assert!(help("7B").contains("7e9"));
        assert!(help("1.2.3").contains("one point"));
        assert!(help("0x10").contains("decimal"));
        assert!(help("1e999999999").contains("400"));
        assert!(help(&"9".repeat(1000)).contains("characters"));
    }

    #[test]
    fn rounding_to_multiples() {
        let width = number("8") / number("3") * number("4096");
        assert_eq!(
            whole(&round_up(&width, &number("256")).unwrap()),
            Some(11008)
        );
        assert_eq!(
            whole(&round_down(&width, &number("256")).unwrap()),
            Some(10752)
        );
        assert_eq!(round_up(&width, &number("0")), None);
        assert_eq!(shown(&width), "32768/3 (about 10922.6667)");
        assert_eq!(shown(&number("0.125")), "0.125");
    }

    proptest! {
        #[test]
        fn decimals_become_the_float_that_rust_reads(mantissa in 0u64..1_000_000_000_000, power in -30i32..30) {
            let written = format!("{mantissa}e{power}");
            prop_assert_eq!(float(&number(&written)), written.parse::<f64>().ok());
        }
    }
}
