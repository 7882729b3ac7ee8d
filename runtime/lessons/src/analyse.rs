//! Pictures back to scenes: each cell is read as the tile that it looks most like, and parts of
//! tall figures are put together.

use std::sync::OnceLock;

use crate::Result;
use jam_data::images::{Picture, Resample};

use super::render::SIDE;
use super::scene::{GRID, Place, Scene, Thing};
use super::tiles::{Mark, Part, TILE, TILE_BYTES, Tile, tiles};

/// What the analyser sees in one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellReading {
    /// The tile it looks most like.
    pub mark: Mark,
    /// How sure that is, 0 to 1: one minus the distance to this tile over the distance to the
    /// next best one. An original is read with 1, a cell half-way between two tiles with 0.
    pub confidence: f32,
    /// Root mean square difference to the tile, in steps of 255.
    pub difference: f32,
}

/// What the analyser sees in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The things that are completely there.
    pub scene: Scene,
    /// Each cell, row by row from the top left.
    pub cells: [CellReading; GRID * GRID],
    /// Cells that show half of a tall figure whose other half is missing.
    pub fragments: usize,
}

impl Reading {
    /// The least confidence of any cell.
    pub fn confidence(&self) -> f32 {
        self.cells
            .iter()
            .map(|cell| cell.confidence)
            .fold(1.0, f32::min)
    }
}

/// Reads a picture. One that is not [`SIDE`] × [`SIDE`] is scaled to that size first.
///
/// # Errors
/// When it cannot be scaled.
pub fn analyse(picture: &Picture) -> Result<Reading> {
    if (picture.width(), picture.height()) == (SIDE, SIDE) {
        return Ok(read(picture));
    }
    Ok(read(&picture.resized(SIDE, SIDE, Resample::Box)?))
}

fn read(picture: &Picture) -> Reading {
    let cells: [CellReading; GRID * GRID] = std::array::from_fn(|index| {
        let mut pixels = [0; TILE_BYTES];
        for (row, line) in pixels.chunks_exact_mut(TILE * 3).enumerate() {
            let at = ((index / GRID * TILE + row) * SIDE + index % GRID * TILE) * 3;
            line.copy_from_slice(&picture.pixels()[at..at + TILE * 3]);
        }
        read_cell(&pixels)
    });
    let mut things = Vec::new();
    let mut fragments = 0;
    for place in Place::all() {
        let Mark::Drawn {
            figure,
            part,
            colour,
        } = cells[place.index()].mark
        else {
            continue;
        };
        match part {
            Part::Whole => things.extend(colour.map(|colour| Thing {
                place,
                figure,
                colour,
            })),
            Part::Lower => {
                let above = place.above().map(|above| cells[above.index()].mark);
                match above {
                    Some(Mark::Drawn {
                        figure: f,
                        part: Part::Upper,
                        colour: c,
                    }) if f == figure => {
                        things.extend(colour.or(c).map(|colour| Thing {
                            place,
                            figure,
                            colour,
                        }));
                    }
                    _ => fragments += 1,
                }
            }
            Part::Upper => {
                let below = place.below().map(|below| cells[below.index()].mark);
                let complete = matches!(
                    below,
                    Some(Mark::Drawn { figure: f, part: Part::Lower, .. }) if f == figure
                );
                fragments += usize::from(!complete);
            }
        }
    }
    // The cells of the things differ by construction, so this is a scene.
    Reading {
        scene: Scene::new(things).unwrap_or_default(),
        cells,
        fragments,
    }
}

fn read_cell(pixels: &[u8; TILE_BYTES]) -> CellReading {
    let (mut best, mut next, mut mark) = (u32::MAX, u32::MAX, Mark::Blank);
    for (tile, soft) in tiles().iter().zip(soft_tiles()) {
        let distance = distance(&tile.pixels, pixels).min(distance(soft, pixels));
        if distance < best {
            (next, best, mark) = (best, distance, tile.mark);
        } else {
            next = next.min(distance);
        }
    }
    let (best, next) = (f64::from(best).sqrt(), f64::from(next).sqrt());
    CellReading {
        mark,
        confidence: (1.0 - best / next.max(f64::MIN_POSITIVE)) as f32,
        difference: (best / (TILE_BYTES as f64).sqrt()) as f32,
    }
}

/// The sum of squared differences.
fn distance(one: &[u8; TILE_BYTES], other: &[u8; TILE_BYTES]) -> u32 {
    one.iter()
        .zip(other)
        .map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2))
        .sum()
}

/// Each tile as a soft reconstruction shows it: blurred, so that a pale sun is still read as a
/// sun of its colour and not as one of a paler colour.
fn soft_tiles() -> &'static [[u8; TILE_BYTES]] {
    static SOFT: OnceLock<Vec<[u8; TILE_BYTES]>> = OnceLock::new();
    SOFT.get_or_init(|| {
        // A Gaussian of 0.7 pixels, down the columns and along the rows; the edges repeat.
        let along = |pixels: &[u8; TILE_BYTES], step: usize, side: usize| {
            std::array::from_fn(|at| {
                let position = at / step % side;
                let before = if position == 0 { at } else { at - step };
                let after = if position + 1 == side { at } else { at + step };
                let around = f32::from(pixels[before]) + f32::from(pixels[after]);
                (0.582 * f32::from(pixels[at]) + 0.209 * around).round() as u8
            })
        };
        let soften = |tile: &Tile| along(&along(&tile.pixels, TILE * 3, TILE), 3, TILE);
        tiles().iter().map(soften).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::render;
    use crate::scene::{Colour, Figure, Kind, MAX_THINGS};
    use crate::splits::{SceneSampler, Split, Variety, below};
    use crate::tiles::PAPER;
    use jam_data::random::Random;

    fn random_scenes(seed: u64, count: usize) -> Vec<Scene> {
        let mut rng = Random::seeded(seed, 0);
        let samplers = Split::ALL.map(SceneSampler::new);
        (0..count)
            .map(|index| {
                let many = 1 + below(&mut rng, MAX_THINGS);
                Scene::new(samplers[index % 3].things(&mut rng, many, Variety::Named)).unwrap()
            })
            .collect()
    }

    /// Gaussian noise of this standard deviation, in steps of 255.
    fn noisy(picture: &Picture, deviation: f64, rng: &mut Random) -> Picture {
        let mut picture = picture.clone();
        for channel in picture.pixels_mut() {
            let (u, v) = (1.0 - rng.unit(), rng.unit());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            *channel = (f64::from(*channel) + deviation * normal)
                .round()
                .clamp(0.0, 255.0) as u8;
        }
        picture
    }

    /// Gaussian blur of 0.6 pixels.
    fn blurred(picture: &Picture) -> Picture {
        let side = SIDE as u32;
        let crisp = image::RgbImage::from_raw(side, side, picture.pixels().to_vec()).unwrap();
        Picture::from_pixels(SIDE, SIDE, image::imageops::blur(&crisp, 0.6).into_raw()).unwrap()
    }

    #[test]
    fn every_single_thing_is_read_right() {
        for thing in Thing::all() {
            let scene = Scene::new([thing]).unwrap();
            let reading = analyse(&render(&scene)).unwrap();
            assert_eq!((reading.scene.clone(), reading.fragments), (scene, 0));
            assert_eq!(reading.confidence(), 1.0);
        }
    }

    #[test]
    fn five_thousand_random_scenes_are_read_right() {
        for scene in random_scenes(7, 5000) {
            let reading = analyse(&render(&scene)).unwrap();
            assert_eq!((reading.scene, reading.fragments), (scene, 0));
        }
    }

    #[test]
    fn noise_and_blur_are_survived() {
        let mut rng = Random::seeded(8, 0);
        let scenes = random_scenes(9, 1500);
        let right = |spoil: &mut dyn FnMut(&Picture) -> Picture| {
            let right = scenes
                .iter()
                .filter(|scene| analyse(&spoil(&render(scene))).unwrap().scene == **scene);
            right.count() as f64 / scenes.len() as f64
        };
        let noise = right(&mut |picture| noisy(picture, 20.0, &mut rng));
        assert!(noise >= 0.999, "noise of 20/255: {noise}");
        let heavy = right(&mut |picture| noisy(picture, 40.0, &mut rng));
        assert!(heavy >= 0.99, "noise of 40/255: {heavy}");
        let blur = right(&mut |picture| blurred(picture));
        assert!(blur >= 0.99, "blur of 0.6 pixels: {blur}");
        let both = right(&mut |picture| noisy(&blurred(picture), 20.0, &mut rng));
        assert!(both >= 0.98, "blur and noise: {both}");
    }

    #[test]
    fn half_a_house_is_no_house() {
        let house = Thing {
            place: Place::new(2, 2).unwrap(),
            figure: Figure::full(Kind::House),
            colour: Colour::Blue,
        };
        let whole = render(&Scene::new([house]).unwrap());
        for cut in [8..16, 16..24] {
            let mut picture = whole.clone();
            for (x, y) in cut.flat_map(|y| (0..SIDE).map(move |x| (x, y))) {
                picture.set(x, y, PAPER);
            }
            let reading = analyse(&picture).unwrap();
            assert_eq!((reading.scene, reading.fragments), (Scene::default(), 1));
        }
    }

    #[test]
    fn pictures_of_other_sizes_are_scaled() {
        let scene = random_scenes(3, 1).remove(0);
        let large = render(&scene).enlarged(4).unwrap();
        assert_eq!(analyse(&large).unwrap().scene, scene);
        let dot = Picture::new(1, 1, PAPER).unwrap();
        assert_eq!(analyse(&dot).unwrap().scene, Scene::default());
    }
}
