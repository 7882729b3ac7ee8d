//! Scenes to pictures.

use jam_data::images::Picture;

use super::scene::{GRID, Place, Scene};
use super::tiles::{PAPER, Part, TILE, Tile, tile_of, tiles};

/// Pixels along one side of a picture.
pub const SIDE: usize = GRID * TILE;

/// The picture of a scene: [`SIDE`] × [`SIDE`] RGB, the same bytes for equal scenes.
pub fn render(scene: &Scene) -> Picture {
    let mut cells: [&Tile; GRID * GRID] = [&tiles()[0]; GRID * GRID];
    for thing in scene.things() {
        let mut set = |place: Place, part| {
            if let Some(tile) = tile_of(thing.figure, part, thing.colour) {
                cells[place.index()] = tile;
            }
        };
        match thing.place.above().filter(|_| thing.figure.is_tall()) {
            Some(above) => {
                set(above, Part::Upper);
                set(thing.place, Part::Lower);
            }
            None => set(thing.place, Part::Whole),
        }
    }
    let mut picture = blank();
    for (row, line) in picture.pixels_mut().chunks_exact_mut(SIDE * 3).enumerate() {
        for (column, part) in line.chunks_exact_mut(TILE * 3).enumerate() {
            let at = row % TILE * TILE * 3;
            part.copy_from_slice(&cells[row / TILE * GRID + column].pixels[at..at + TILE * 3]);
        }
    }
    picture
}

/// A blank picture of the size of the lessons' pictures.
pub fn blank() -> Picture {
    Picture::new(SIDE, SIDE, PAPER)
        .expect("the side of a lesson's picture is a constant within bounds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Colour, Figure, Kind, Thing};

    #[test]
    fn a_tall_figure_fills_its_place_and_the_cell_above_and_nothing_else() {
        let place = Place::new(3, 1).unwrap();
        let house = Thing {
            place,
            figure: Figure::full(Kind::House),
            colour: Colour::Red,
        };
        let picture = render(&Scene::new([house]).unwrap());
        for (x, y) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y))) {
            if !(8..16).contains(&x) || y < 16 {
                assert_eq!(picture.get(x, y), Some(PAPER));
            }
        }
        assert_ne!(picture.get(11, 20), Some(PAPER));
        assert_eq!(picture.get(9, 24), Some([220, 48, 44]));
    }

    #[test]
    fn an_empty_scene_is_blank_paper() {
        assert_eq!(render(&Scene::default()), blank());
    }
}
