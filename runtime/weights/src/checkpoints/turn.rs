//! Matrices turned as they are stored: lines of a file become columns of a weight.

/// Bytes of lines that are turned together: they stay in the cache of a core.
pub(crate) const TOGETHER: u64 = 1 << 20;

/// Lines of `line` bytes that are turned together; at least one.
pub(super) fn lines_together(line: u64) -> u64 {
    // Whole groups of four, which is how short elements are turned.
    match TOGETHER / line.max(1) / 4 * 4 {
        0 => (TOGETHER / line.max(1)).max(1),
        lines => lines,
    }
}

/// Puts `lines`, each of `columns` elements of `size` bytes, into `out` as the columns from `at` on; a row
/// of `out` has `stride` elements, and there is a row for each element of a line.
pub(super) fn turn(
    size: u64,
    lines: &[u8],
    columns: usize,
    out: &mut [u8],
    stride: usize,
    at: usize,
) {
    let all = (0..lines.len() / size as usize / columns.max(1), 0..columns);
    match size {
        2 => turn_halves(lines, columns, out, stride, at),
        4 => turn_block::<4>(lines, columns, all, out, stride, at),
        8 => turn_block::<8>(lines, columns, all, out, stride, at),
        _ => turn_block::<1>(lines, columns, all, out, stride, at),
    }
}

/// Elements of two bytes: four by four of them as four words.
fn turn_halves(lines: &[u8], columns: usize, out: &mut [u8], stride: usize, at: usize) {
    let count = lines.len() / 2 / columns.max(1);
    let (even, high) = (columns / 4 * 4, count / 4 * 4);
    for column in (0..even).step_by(4) {
        for line in (0..high).step_by(4) {
            let word = |i: usize| {
                let bytes = &lines[((line + i) * columns + column) * 2..];
                bytes
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            let turned = turn_words([word(0), word(1), word(2), word(3)]);
            for (i, word) in turned.into_iter().enumerate() {
                let place = &mut out[((column + i) * stride + at + line) * 2..];
                if let Some(place) = place.first_chunk_mut() {
                    *place = word.to_le_bytes();
                }
            }
        }
    }
    // What is left: the last columns of every line, and the last lines of the others.
    turn_block::<2>(lines, columns, (0..count, even..columns), out, stride, at);
    turn_block::<2>(lines, columns, (high..count, 0..even), out, stride, at);
}

/// Four words of four elements of 16 bits, the first of each in the first word, and so on.
fn turn_words(words: [u64; 4]) -> [u64; 4] {
    const EVEN: u64 = 0x0000_ffff_0000_ffff;
    const LOW: u64 = 0xffff_ffff;
    let [a, b, c, d] = words;
    let pair = |x: u64, y: u64| {
        (
            (x & EVEN) | ((y & EVEN) << 16),
            ((x & !EVEN) >> 16) | (y & !EVEN),
        )
    };
    let ((first, second), (third, fourth)) = (pair(a, b), pair(c, d));
    [
        (first & LOW) | (third << 32),
        (second & LOW) | (fourth << 32),
        (first >> 32) | (third & !LOW),
        (second >> 32) | (fourth & !LOW),
    ]
}

/// Some columns of some lines, one element after the other.
fn turn_block<const N: usize>(
    lines: &[u8],
    columns: usize,
    (some, wanted): (std::ops::Range<usize>, std::ops::Range<usize>),
    out: &mut [u8],
    stride: usize,
    at: usize,
) {
    let (elements, _) = lines.as_chunks::<N>();
    let (places, _) = out.as_chunks_mut::<N>();
    for column in wanted {
        for line in some.clone() {
            places[column * stride + at + line] = elements[line * columns + column];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_of_every_size_finds_its_place() {
        for (size, columns, count) in [
            (2u64, 33usize, 70usize),
            (2, 4, 4),
            (2, 3, 9),
            (2, 8, 3),
            (4, 17, 5),
            (8, 5, 6),
            (1, 7, 3),
        ] {
            let width = size as usize;
            let number = |index: usize, byte: usize| (index * 31 + byte * 7 + index / 256) as u8;
            let lines: Vec<u8> = (0..count * columns * width)
                .map(|i| number(i / width, i % width))
                .collect();
            let (stride, at) = (count + 5, 3);
            let mut out = vec![0xee; columns * stride * width];
            turn(size, &lines, columns, &mut out, stride, at);
            for column in 0..columns {
                for place in 0..stride {
                    let found = &out[(column * stride + place) * width..][..width];
                    let line = place.checked_sub(at).filter(|line| *line < count);
                    for (byte, found) in found.iter().enumerate() {
                        let wanted =
                            line.map_or(0xee, |line| number(line * columns + column, byte));
                        assert_eq!(*found, wanted, "{size} {column} {place}");
                    }
                }
            }
        }
        assert_eq!(lines_together(8192), 128);
        assert_eq!(lines_together(22_016), 44);
        assert_eq!(lines_together(600_000), 1);
        assert_eq!(lines_together(1 << 40), 1);
        assert_eq!(lines_together(0), 1 << 20);
    }
}
