//! The graph of a model as a drawing (SVG): a panel for each block, its values from top to bottom.
//!
//! Every panel is a layered drawing (Sugiyama, Tagawa and Toda, *Methods for Visual Understanding of
//! Hierarchical System Structures*, 1981): a value stands one layer below the lowest of its operands,
//! lines that skip layers get a place in each of them, places are ordered by the mean of their
//! neighbours' and moved towards it. A call links to the panel of its block; calls of one block that
//! follow one another, each reading nothing but the one before it, are one box.

use std::collections::BTreeMap;
use std::fmt::Write;

use jam_ir::{Block, Model, Op, ValueId};

use super::dot::{op_text, value_text};

/// Most values of a block that are drawn; nobody could follow more.
const MOST: usize = 2000;
/// Width of a character of the labels, in pixels.
const CHARACTER: f64 = 6.1;
/// Height of a box, and between layers.
const BOX: f64 = 34.0;
const GAP: f64 = 26.0;
/// Between places of a layer, and around panels.
const BESIDE: f64 = 18.0;
const MARGIN: f64 = 24.0;
/// Height of a panel's title.
const TITLE: f64 = 26.0;

/// The graph as SVG. A model that the verifier does not accept is drawn as far as it goes.
pub(crate) fn svg(model: &Model) -> String {
    let blocks = std::iter::once(&model.main).chain(model.blocks.values());
    let panels: Vec<Panel> = blocks.map(|block| Panel::of(model, block)).collect();
    let width: f64 = panels.iter().map(|panel| panel.width + MARGIN).sum();
    let height = panels.iter().map(|panel| panel.height).fold(0.0, f64::max);
    let (width, height) = (width + MARGIN, height + 2.0 * MARGIN);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"10\">"
    );
    let _ = writeln!(out, "<title>{}</title>", escaped(&model.name));
    out.push_str(STYLE);
    let mut left = MARGIN;
    for (panel, name) in panels.iter().zip(names(model)) {
        panel.draw(&mut out, name, left);
        left += panel.width + MARGIN;
    }
    out.push_str("</svg>\n");
    out
}

const STYLE: &str = "<style>\
.panel{fill:#f6f7f9;stroke:#c9ced6}\
.op{fill:#fff;stroke:#5b6675}\
.input{fill:#e7f0e4;stroke:#5b7553}\
.call{fill:#e3ecf7;stroke:#3f6ea5}\
.result{stroke-width:2.5}\
.line{fill:none;stroke:#5b6675}\
text{fill:#1d232b}\
.type{fill:#5b6675}\
.name{font-weight:bold;font-size:12px}\
</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";

/// Names of the panels.
fn names(model: &Model) -> impl Iterator<Item = &str> {
    let called = model.blocks.values().map(|block| block.name.as_str());
    std::iter::once(model.main.name.as_str()).chain(called)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters, not even escaped.
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// A box of the drawing.
struct Node {
    /// What is done, and what comes of it.
    lines: [String; 2],
    kind: Kind,
    /// Whether it is the block's result.
    result: bool,
}

enum Kind {
    Input,
    Op,
    /// A call of the block of this name.
    Call(String),
}

/// A box, or where a line passes through a layer.
struct Place {
    node: Option<usize>,
    layer: usize,
    width: f64,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// The drawing of one block.
struct Panel {
    nodes: Vec<Node>,
    places: Vec<Place>,
    /// Places that each line goes through, boxes at both ends.
    lines: Vec<Vec<usize>>,
    width: f64,
    height: f64,
    /// What stands in the place of a block that is too large to draw.
    note: Option<String>,
}

impl Panel {
    fn of(model: &Model, block: &Block) -> Panel {
        if block.body.len() > MOST {
            let note = format!("{} values: too many to draw", block.values.len());
            return Panel {
                nodes: Vec::new(),
                places: Vec::new(),
                lines: Vec::new(),
                width: note.len() as f64 * CHARACTER + 2.0 * BESIDE,
                height: TITLE + BOX,
                note: Some(note),
            };
        }
        let (nodes, edges) = boxes(model, block);
        let mut panel = Panel::layered(nodes, &edges);
        let mut layers = panel.layers();
        panel.order(&mut layers);
        panel.straighten(&layers);
        let title = block.name.len() as f64 * 7.4 + 2.0 * BESIDE;
        let edge = |place: &Place, side: f64| place.x + side * place.width / 2.0;
        let left = panel.places.iter().map(|place| edge(place, -1.0));
        let left = left.fold(f64::INFINITY, f64::min);
        let left = if left.is_finite() { left } else { 0.0 };
        for place in &mut panel.places {
            place.x += BESIDE - left;
        }
        let right = panel.places.iter().map(|place| edge(place, 1.0));
        panel.width = right.fold(title, f64::max) + BESIDE;
        panel.height = TITLE + layers.len() as f64 * (BOX + GAP) + BESIDE - GAP;
        panel
    }

    /// Boxes and lines in layers, not yet ordered.
    fn layered(nodes: Vec<Node>, edges: &[(usize, usize)]) -> Panel {
        let mut depth = vec![0; nodes.len()];
        for (from, to) in edges {
            // Operands come first, so their own layers are known.
            depth[*to] = depth[*to].max(depth[*from] + 1);
        }
        let boxed = nodes.iter().enumerate().map(|(index, node)| {
            let longest = node.lines.iter().map(|line| line.chars().count()).max();
            Place {
                node: Some(index),
                layer: depth[index],
                width: longest.unwrap_or(0) as f64 * CHARACTER + 16.0,
                x: 0.0,
                above: Vec::new(),
                below: Vec::new(),
            }
        });
        let mut places: Vec<Place> = boxed.collect();
        let mut lines = Vec::new();
        for (from, to) in edges {
            let mut line = vec![*from];
            for layer in depth[*from] + 1..depth[*to] {
                line.push(places.len());
                places.push(Place {
                    node: None,
                    layer,
                    width: 2.0,
                    x: 0.0,
                    above: Vec::new(),
                    below: Vec::new(),
                });
            }
            line.push(*to);
            for step in line.windows(2) {
                places[step[0]].below.push(step[1]);
                places[step[1]].above.push(step[0]);
            }
            lines.push(line);
        }
        Panel {
            nodes,
            places,
            lines,
            width: 0.0,
            height: 0.0,
            note: None,
        }
    }

    /// Places by layer.
    fn layers(&self) -> Vec<Vec<usize>> {
        let count = self.places.iter().map(|place| place.layer + 1).max();
        let mut layers = vec![Vec::new(); count.unwrap_or(0)];
        for (index, place) in self.places.iter().enumerate() {
            layers[place.layer].push(index);
        }
        layers
    }

    /// Orders every layer by the mean place of its neighbours, downwards and upwards in turn.
    fn order(&self, layers: &mut [Vec<usize>]) {
        let mut rank = vec![0.0; self.places.len()];
        let renumber = |layer: &[usize], rank: &mut [f64]| {
            for (position, place) in layer.iter().enumerate() {
                rank[*place] = position as f64;
            }
        };
        layers.iter().for_each(|layer| renumber(layer, &mut rank));
        for sweep in 0..6 {
            let down = sweep % 2 == 0;
            for step in 0..layers.len() {
                let index = if down { step } else { layers.len() - 1 - step };
                let layer = &mut layers[index];
                let mean = |place: &usize| {
                    let place_of = &self.places[*place];
                    let near = if down {
                        &place_of.above
                    } else {
                        &place_of.below
                    };
                    match near.is_empty() {
                        true => rank[*place],
                        false => near.iter().map(|n| rank[*n]).sum::<f64>() / near.len() as f64,
                    }
                };
                let mut keyed: Vec<(f64, usize)> =
                    layer.iter().map(|place| (mean(place), *place)).collect();
                // A stable sort: places of one mean keep their order.
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                *layer = keyed.into_iter().map(|(_, place)| place).collect();
                renumber(layer, &mut rank);
            }
        }
    }

    /// Moves places towards the mean of their neighbours, without changing their order.
    fn straighten(&mut self, layers: &[Vec<usize>]) {
        for layer in layers {
            let wanted = vec![0.0; layer.len()];
            self.spread(layer, &wanted);
        }
        for _ in 0..12 {
            for layer in layers.iter().chain(layers.iter().rev()) {
                let wanted: Vec<f64> = layer
                    .iter()
                    .map(|place| {
                        let place = &self.places[*place];
                        let near = || place.above.iter().chain(&place.below);
                        match near().count() {
                            0 => place.x,
                            count => near().map(|n| self.places[*n].x).sum::<f64>() / count as f64,
                        }
                    })
                    .collect();
                self.spread(layer, &wanted);
            }
        }
    }

    /// Puts the places of a layer where they are wanted, as far as there is room: what would
    /// overlap moves to the right, and then all of the layer back by the mean of the moves.
    fn spread(&mut self, layer: &[usize], wanted: &[f64]) {
        let mut end = f64::NEG_INFINITY;
        let mut moved = 0.0;
        for (place, wanted) in layer.iter().zip(wanted) {
            let place = &mut self.places[*place];
            place.x = wanted.max(end + place.width / 2.0);
            end = place.x + place.width / 2.0 + BESIDE;
            moved += place.x - wanted;
        }
        let back = moved / layer.len().max(1) as f64;
        for place in layer {
            self.places[*place].x -= back;
        }
    }

    fn draw(&self, out: &mut String, name: &str, left: f64) {
        let (width, height) = (self.width, self.height);
        let name = escaped(name);
        let _ = writeln!(
            out,
            "<g id=\"{name}\" transform=\"translate({left:.1} {MARGIN:.1})\">\n\
             <rect class=\"panel\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>\n\
             <text class=\"name\" x=\"{BESIDE}\" y=\"17\">{name}</text>"
        );
        if let Some(note) = &self.note {
            let y = TITLE + 14.0;
            let _ = writeln!(
                out,
                "<text x=\"{BESIDE}\" y=\"{y}\">{}</text>",
                escaped(note)
            );
        }
        for line in &self.lines {
            self.draw_line(out, line);
        }
        for place in &self.places {
            if let Some(node) = place.node {
                draw_box(out, place, &self.nodes[node]);
            }
        }
        out.push_str("</g>\n");
    }

    /// A curve that leaves and enters boxes upright.
    fn draw_line(&self, out: &mut String, line: &[usize]) {
        let mut path = String::new();
        for step in line.windows(2) {
            let [from, to] = [&self.places[step[0]], &self.places[step[1]]];
            let (begin, end) = (top(from.layer) + BOX, top(to.layer));
            let half = (begin + end) / 2.0;
            if path.is_empty() {
                let _ = write!(path, "M{:.1} {begin:.1}", from.x);
            }
            let (a, b) = (from.x, to.x);
            let _ = write!(path, "C{a:.1} {half:.1} {b:.1} {half:.1} {b:.1} {end:.1}");
            if to.node.is_none() {
                // Through the layer, so that the next step begins below it.
                let _ = write!(path, "V{:.1}", end + BOX);
            }
        }
        let _ = writeln!(out, "<path class=\"line\" d=\"{path}\"/>");
    }
}

/// Where a layer begins.
fn top(layer: usize) -> f64 {
    TITLE + layer as f64 * (BOX + GAP)
}

fn draw_box(out: &mut String, place: &Place, node: &Node) {
    let (x, y, width) = (place.x - place.width / 2.0, top(place.layer), place.width);
    let class = match &node.kind {
        Kind::Input => "input",
        Kind::Op => "op",
        Kind::Call(_) => "call",
    };
    let result = if node.result { " result" } else { "" };
    let round = if node.result { 12 } else { 4 };
    if let Kind::Call(block) = &node.kind {
        let _ = write!(out, "<a href=\"#{}\">", escaped(block));
    }
    let _ = write!(
        out,
        "<rect class=\"{class}{result}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{BOX}\" rx=\"{round}\"/>"
    );
    let [first, second] = &node.lines;
    for (line, class, down) in [(first, "", 14.0), (second, " class=\"type\"", 27.0)] {
        let down = if first.is_empty() { 20.0 } else { down };
        if !line.is_empty() {
            let (x, y, line) = (place.x, y + down, escaped(line));
            let _ = write!(
                out,
                "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{line}</text>"
            );
        }
    }
    if matches!(node.kind, Kind::Call(_)) {
        out.push_str("</a>");
    }
    out.push('\n');
}

/// Boxes of a block in the order of its statements, and lines from operands to results.
fn boxes(model: &Model, block: &Block) -> (Vec<Node>, Vec<(usize, usize)>) {
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    let mut known: BTreeMap<ValueId, usize> = BTreeMap::new();
    for input in &block.inputs {
        known.insert(*input, nodes.len());
        nodes.push(Node {
            lines: [String::new(), value_text(model, block, *input)],
            kind: Kind::Input,
            result: *input == block.result,
        });
    }
    let mut index = 0;
    while index < block.body.len() {
        let run = run_of_calls(block, index);
        let (first, last) = (&block.body[index], &block.body[index + run - 1]);
        let mut text = op_text(block, &first.op);
        if let (Op::Call { block, .. }, Op::Call { at, .. }, true) = (&first.op, &last.op, run > 1)
        {
            text = format!("{run} × {block}, to {at}");
        }
        for operand in first.op.operands() {
            let edge = known.get(&operand).map(|from| (*from, nodes.len()));
            edges.extend(edge.filter(|edge| !edges.contains(edge)));
        }
        known.insert(last.result, nodes.len());
        nodes.push(Node {
            lines: [text, value_text(model, block, last.result)],
            kind: match &first.op {
                Op::Call { block, .. } => Kind::Call(block.clone()),
                _ => Kind::Op,
            },
            result: last.result == block.result,
        });
        index += run;
    }
    (nodes, edges)
}

/// How many statements from `first` on call one block, each on the result of the one before it,
/// which nothing else reads; at least 1.
fn run_of_calls(block: &Block, first: usize) -> usize {
    let call = |index: usize| match &block.body.get(index)?.op {
        Op::Call { block, args, .. } => Some((block, args.as_slice())),
        _ => None,
    };
    let mut run = 1;
    while let (Some((name, args)), Some((next, [operand]))) = (call(first), call(first + run))
        && args.len() == 1
        && name == next
    {
        let before = block.body[first + run - 1].result;
        let readers = block
            .body
            .iter()
            .filter(|s| s.op.operands().contains(&before));
        if *operand != before || readers.count() != 1 || before == block.result {
            break;
        }
        run += 1;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    /// Numbers of an attribute in the boxes of a drawing.
    fn numbers(line: &str, name: &str) -> f64 {
        let begin = format!(" {name}=\"");
        let rest = line.split(&begin).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn boxes_do_not_overlap_and_lines_go_down() {
        let config = DecoderConfig::llama(TokenLayout::bare(9), 8, 8, 3, 2, 8);
        let mut model = decoder_only(&config);
        model.name = "a <b> & \"c\"".to_owned();
        let text = svg(&model);
        assert!(text.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"));
        assert!(roughly_xml(&text), "{text}");
        for panel in text.split("<g id=").skip(1) {
            let rects: Vec<&str> = panel
                .lines()
                .filter(|line| line.contains("<rect class=") && !line.contains("\"panel\""))
                .collect();
            assert!(!rects.is_empty());
            for (index, a) in rects.iter().enumerate() {
                for b in &rects[..index] {
                    let same_row = numbers(a, "y") == numbers(b, "y");
                    let (ax, bx) = (numbers(a, "x"), numbers(b, "x"));
                    let beside = ax + numbers(a, "width") <= bx + 0.1
                        || bx + numbers(b, "width") <= ax + 0.1;
                    assert!(!same_row || beside, "{a}\n{b}");
                }
            }
            let width: f64 = numbers(panel.lines().nth(1).unwrap(), "width");
            for rect in rects {
                let right = numbers(rect, "x") + numbers(rect, "width");
                assert!(numbers(rect, "x") >= 0.0 && right <= width, "{rect}");
            }
        }
    }

    #[test]
    fn layers_one_after_the_other_are_one_box() {
        let config = DecoderConfig::llama(TokenLayout::bare(9), 8, 8, 3, 2, 8);
        let text = svg(&decoder_only(&config));
        assert!(text.contains("3 × "), "{text}");
        assert_eq!(text.matches("<a href=").count(), 1);
    }

    #[test]
    fn blocks_that_are_too_large_and_broken_models_are_no_trouble() {
        let config = DecoderConfig::llama(TokenLayout::bare(9), 8, 8, 3, 2, 8);
        let mut model = decoder_only(&config);
        let statement = model.main.body[0].clone();
        model.main.body.resize(MOST + 1, statement);
        assert!(svg(&model).contains("too many to draw"));
        let mut model = decoder_only(&config);
        model.main.result = ValueId(999);
        model.main.inputs.clear();
        model.blocks.clear();
        assert!(roughly_xml(&svg(&model)));
    }

    /// Every element that begins ends.
    fn roughly_xml(text: &str) -> bool {
        ["svg", "g", "a", "text", "title", "style"]
            .iter()
            .all(|name| {
                let begins = text.matches(&format!("<{name}>")).count()
                    + text.matches(&format!("<{name} ")).count();
                begins == text.matches(&format!("</{name}>")).count()
            })
    }
}
