//! The drawings: one 8×8 pixel picture for each part of a figure, and the closed list of tiles.
//!
//! Everything sits on the grid, so a picture is sixteen tiles out of [`tiles`]. Their number is
//! what an image tokenizer with one code per cell has to tell apart.

use std::sync::OnceLock;

use super::scene::{Colour, Figure, Kind};

/// Pixels along one side of a tile.
pub const TILE: usize = 8;

/// Bytes of a tile: [row, column, channel].
pub const TILE_BYTES: usize = TILE * TILE * 3;

/// The colour of the paper.
pub const PAPER: [u8; 3] = [250, 247, 238];

/// Which cell of its figure a tile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The figure fills one cell.
    Whole,
    /// The upper cell of a tall figure.
    Upper,
    /// The lower cell of a tall figure, on its place.
    Lower,
}

/// What a tile shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Nothing but paper.
    Blank,
    /// A part of a figure; the colour is absent where the part has none of its own (the roof of
    /// a house is the same for houses of every colour).
    Drawn {
        /// The figure.
        figure: Figure,
        /// Which of its cells.
        part: Part,
        /// Its colour, where this part shows it.
        colour: Option<Colour>,
    },
}

/// One tile.
#[derive(Clone, Debug)]
pub struct Tile {
    /// What it shows.
    pub mark: Mark,
    /// RGB, [row, column, channel].
    pub pixels: [u8; TILE_BYTES],
}

/// Every tile, the blank one first.
pub fn tiles() -> &'static [Tile] {
    static TILES: OnceLock<Vec<Tile>> = OnceLock::new();
    TILES.get_or_init(|| {
        let mut tiles = vec![Tile {
            mark: Mark::Blank,
            pixels: paint(&[BLANK_ROW; TILE], Colour::Red),
        }];
        for figure in Figure::ALL {
            for (part, art) in drawing(figure) {
                let colours: &[Colour] = if shows_colour(art) {
                    &Colour::ALL
                } else {
                    &Colour::ALL[..1]
                };
                for colour in colours {
                    let named = shows_colour(art).then_some(*colour);
                    tiles.push(Tile {
                        mark: Mark::Drawn {
                            figure,
                            part: *part,
                            colour: named,
                        },
                        pixels: paint(art, *colour),
                    });
                }
            }
        }
        tiles
    })
}

/// The pixels of one part of a figure of this colour; nothing for a part that it does not have.
pub fn tile_of(figure: Figure, part: Part, colour: Colour) -> Option<&'static Tile> {
    tiles().iter().find(|tile| match tile.mark {
        Mark::Blank => false,
        Mark::Drawn {
            figure: f,
            part: p,
            colour: c,
        } => f == figure && p == part && c.is_none_or(|c| c == colour),
    })
}

type Art = [&'static str; TILE];

const BLANK_ROW: &str = "........";

/// Whether any pixel takes the colour of the thing.
fn shows_colour(art: &Art) -> bool {
    art.iter().any(|row| row.contains(['c', 'd', 'l', 'e']))
}

fn paint(art: &Art, colour: Colour) -> [u8; TILE_BYTES] {
    let mut pixels = [0; TILE_BYTES];
    for (pixel, letter) in pixels
        .chunks_exact_mut(3)
        .zip(art.iter().flat_map(|row| row.bytes()))
    {
        pixel.copy_from_slice(&ink(letter, colour));
    }
    pixels
}

/// The colour of a letter in a drawing.
fn ink(letter: u8, colour: Colour) -> [u8; 3] {
    let base = base(colour);
    match letter {
        b'c' => base,
        b'd' => base.map(|channel| (u16::from(channel) * 3 / 4) as u8),
        b'l' => base.map(|channel| (u16::from(channel) + (255 - u16::from(channel)) * 2 / 5) as u8),
        b'e' => match colour {
            Colour::Red | Colour::Blue | Colour::Purple | Colour::Black => [250, 247, 238],
            _ => [48, 46, 56],
        },
        b'w' => [214, 236, 250],
        b'k' => [48, 46, 56],
        b's' => [138, 146, 160],
        b'n' => [104, 84, 84],
        b'b' => [128, 84, 48],
        b'g' => [72, 150, 64],
        b'u' => [120, 184, 224],
        b'v' => [196, 204, 214],
        b'y' => [252, 226, 120],
        _ => PAPER,
    }
}

fn base(colour: Colour) -> [u8; 3] {
    match colour {
        Colour::Red => [220, 48, 44],
        Colour::Orange => [246, 138, 24],
        Colour::Yellow => [246, 206, 30],
        Colour::Green => [52, 164, 72],
        Colour::Blue => [44, 104, 214],
        Colour::Purple => [134, 62, 178],
        Colour::Pink => [246, 134, 184],
        Colour::Black => [50, 48, 58],
    }
}

/// The drawing of a figure. Letters: `c` its colour, `d` darker, `l` lighter, `e` an ink that
/// stands out on it; `w` glass, `k` ink, `s` steel, `n` slate, `b` wood, `g` leaf, `u` water,
/// `v` cloth, `y` pollen; a dot is paper.
fn drawing(figure: Figure) -> &'static [(Part, Art)] {
    if figure.is_small() {
        return match figure.kind() {
            Kind::House => &[(Part::Whole, SMALL_HOUSE)],
            Kind::Tree => &[(Part::Whole, SMALL_TREE)],
            Kind::Boat => &[(Part::Whole, SMALL_BOAT)],
            _ => &[(Part::Whole, SMALL_FLOWER)],
        };
    }
    match figure.kind() {
        Kind::Square => &[(Part::Whole, SQUARE)],
        Kind::Circle => &[(Part::Whole, CIRCLE)],
        Kind::Triangle => &[(Part::Whole, TRIANGLE)],
        Kind::Diamond => &[(Part::Whole, DIAMOND)],
        Kind::Cross => &[(Part::Whole, CROSS)],
        Kind::Star => &[(Part::Whole, STAR)],
        Kind::Ring => &[(Part::Whole, RING)],
        Kind::Heart => &[(Part::Whole, HEART)],
        Kind::Sun => &[(Part::Whole, SUN)],
        Kind::Face => &[(Part::Whole, FACE)],
        Kind::House => &[(Part::Upper, ROOF), (Part::Lower, WALLS)],
        Kind::Tree => &[(Part::Upper, CROWN), (Part::Lower, TRUNK)],
        Kind::Boat => &[(Part::Upper, SAIL), (Part::Lower, HULL)],
        Kind::Flower => &[(Part::Upper, BLOSSOM), (Part::Lower, STEM)],
        Kind::Robot => &[(Part::Upper, HEAD), (Part::Lower, BODY)],
    }
}

const SQUARE: Art = [
    "........", ".cccccc.", ".clcccc.", ".cccccc.", ".cccccc.", ".cccccd.", ".cccddd.", "........",
];

const CIRCLE: Art = [
    "..cccc..", ".clcccc.", "clcccccc", "cccccccc", "cccccccc", "cccccccd", ".cccccd.", "..cddd..",
];

const TRIANGLE: Art = [
    "...cc...", "...cc...", "..cccc..", "..clcc..", ".clcccd.", ".cccccd.", "clcccccd", "cccccccd",
];

const DIAMOND: Art = [
    "...cc...", "..cccc..", ".clccdd.", "clccccdd", "ccccccdd", ".cccddd.", "..cddd..", "...dd...",
];

const CROSS: Art = [
    "...cc...", "...cc...", "...cc...", "cccccccc", "cccccccd", "...cd...", "...cd...", "...cd...",
];

const STAR: Art = [
    "...cc...", "...cc...", "cccccccc", ".clcccd.", "..cccc..", ".cccccd.", ".cc..dd.", "cc....dd",
];

const RING: Art = [
    "..cccc..", ".cccccc.", "ccc..ccc", "cc....cc", "cc....cd", "ccc..ccd", ".cccccd.", "..cddd..",
];

const HEART: Art = [
    ".cc..cc.", "clcccccc", "clcccccc", "cccccccd", ".cccccd.", "..cccd..", "...cd...", "........",
];

const SUN: Art = [
    "...cc...", ".c....c.", "..clcc..", "c.lccc.c", "c.cccc.c", "..cccc..", ".c....c.", "...cc...",
];

const FACE: Art = [
    "..cccc..", ".cccccc.", "cceccecc", "cceccecc", "cccccccc", "cceccecc", ".cceecd.", "..cccd..",
];

const ROOF: Art = [
    ".....s..", "...nns..", "...nns..", "..nnnn..", "..nnnn..", ".nnnnnn.", ".nnnnnn.", "nnnnnnnn",
];

const WALLS: Art = [
    ".cccccc.", ".cwwccc.", ".cwwccc.", ".cccccc.", ".cccbbc.", ".cccbbc.", ".cccbbd.", "gdddbbdg",
];

const CROWN: Art = [
    "..cccc..", ".cclccc.", "clccccc.", "ccccclcc", ".ccccccd", "clcccdcc", ".ccdbcd.", "...bb...",
];

const TRUNK: Art = [
    "...bb...", "...bb...", ".b.bb...", "..bbb...", "...bb...", "...bb...", "..bbbb..", "gggbbggg",
];

const SAIL: Art = [
    "...b....", "...bv...", "..vbvv..", "..vbvv..", ".vvbvvv.", ".vvbvvv.", "vvvbvvvv", "...b....",
];

const HULL: Art = [
    "...b....", "cccccccc", "clcccccd", ".cccccd.", "..cccd..", "uuuuuuuu", "uuuuuuuu", "........",
];

const BLOSSOM: Art = [
    "..cccc..", "cc.cc.cc", "cccyyccc", ".cyyyyc.", ".cyyyyc.", "cccyyccc", "cc.cc.cc", "..cggc..",
];

const STEM: Art = [
    "...gg...", "...gg...", ".g.gg...", ".gggg.g.", "..ggggg.", "...ggg..", "...gg...", "..bbbb..",
];

const HEAD: Art = [
    "...k....", "...s....", ".ssssss.", ".swssws.", ".skssks.", ".ssssss.", "..skks..", "...ss...",
];

const BODY: Art = [
    ".cccccc.", "cccccccc", "c.ceec.c", "c.ceec.c", "s.cccc.s", "..cddc..", "..s..s..", ".ss..ss.",
];

const SMALL_HOUSE: Art = [
    "...nn...", "..nnnn..", ".nnnnnn.", "nnnnnnnn", ".cccccc.", ".cwcbbc.", ".cccbbc.", ".cccbbd.",
];

const SMALL_TREE: Art = [
    "..cccc..", ".clcccc.", ".cccccc.", ".cccccd.", "..cccd..", "...bb...", "...bb...", "..gbbg..",
];

const SMALL_BOAT: Art = [
    "...b....", "...bvv..", "..vbvvv.", ".vvb....", "cccccccc", ".cccccd.", "..cccd..", "uuuuuuuu",
];

const SMALL_FLOWER: Art = [
    "..cccc..", ".ccyycc.", ".ccyycc.", "..cccc..", "...gg...", "gg.gg.gg", ".gggggg.", "...gg...",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tiles_fit_a_codebook_of_256() {
        let different: BTreeSet<&[u8]> = tiles().iter().map(|tile| &tile.pixels[..]).collect();
        assert_eq!(different.len(), tiles().len(), "no two tiles look the same");
        assert_eq!(tiles().len(), 1 + 10 * 8 + 4 * 9 + 9 + 4 * 8);
        assert!(tiles().len() < 220);
    }

    #[test]
    fn any_two_tiles_are_far_apart() {
        for (index, one) in tiles().iter().enumerate() {
            for other in &tiles()[..index] {
                let distance: f64 = one
                    .pixels
                    .iter()
                    .zip(&other.pixels)
                    .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
                    .sum();
                // Noise of 20/255 errs where half the distance is a rare draw: 6 deviations here.
                assert!(
                    distance.sqrt() > 240.0,
                    "{:?} {:?} {}",
                    one.mark,
                    other.mark,
                    distance.sqrt()
                );
            }
        }
    }

    #[test]
    fn every_part_of_every_figure_has_a_tile() {
        for figure in Figure::ALL {
            for colour in Colour::ALL {
                let parts = [Part::Whole, Part::Upper, Part::Lower]
                    .map(|part| tile_of(figure, part, colour).is_some());
                assert_eq!(
                    parts,
                    [!figure.is_tall(), figure.is_tall(), figure.is_tall()]
                );
            }
        }
    }
}
