//! Tables that both towers read: tokens, positions, and the output matrix of untied parents.

use jam_ir::{Op, Param, ParamId, Plan, TokenKind, TokenLayout, join_path};

use super::fusion::Fusion;
use super::settings::Rows;
use super::tower::is_vocab;

impl Fusion<'_> {
    /// Puts shared tables in the place of both parents' own, where the settings ask for it and
    /// the tables have one shape.
    pub(super) fn share_tables(&mut self) {
        if self.settings.share_tokens {
            self.share_tokens();
            self.share_output();
        }
        if let Some(source) = self.settings.positions {
            self.share_positions(source);
        }
    }

    /// One token table: image rows from the second parent and all others from the first, unless
    /// `rows` says otherwise.
    fn share_tokens(&mut self) {
        let tables = [0, 1].map(|index| {
            let tower = &self.towers[index];
            tower.anatomy.table(tower.model).unwrap_or(ParamId(0))
        });
        let rows = self.settings.rows;
        if self.share("shared.embed", tables, rows) {
            if rows == Rows::Kinds && self.model.tokens.rows(TokenKind::Image).is_empty() {
                let [a, b] = [0, 1].map(|index| &self.towers[index].parent.source);
                let message = format!(
                    "the vocabulary has no image tokens: the shared token table takes every row \
                     from `{a}` and none from `{b}`"
                );
                self.note(message, ["all rows", "no rows"]);
            }
            return;
        }
        let message = "the parents' token tables have different widths: each tower keeps its own";
        self.note(message.to_owned(), ["its own table", "its own table"]);
    }

    /// One output matrix for parents whose heads are both untied.
    fn share_output(&mut self) {
        let readouts = [0, 1].map(|index| {
            let tower = &self.towers[index];
            let table = tower.anatomy.table(tower.model);
            match &tower.model.main.body[tower.anatomy.readout].op {
                Op::Unembed { table: read, .. } if Some(*read) != table => Some((*read, None)),
                Op::Linear { weight, bias, .. } => Some((*weight, *bias)),
                _ => None,
            }
        });
        let [Some((a, bias_a)), Some((b, bias_b))] = readouts else {
            return; // Tied heads read the shared table; unlike heads are read by rows.
        };
        let rows = self.settings.rows;
        if bias_a.is_some() == bias_b.is_some()
            && self.share("shared.unembed", [a, b], rows)
            && let (Some(a), Some(b)) = (bias_a, bias_b)
        {
            self.share("shared.unembed_bias", [a, b], rows);
        }
    }

    /// One table of learned positions, the first or the second parent's.
    fn share_positions(&mut self, source: usize) {
        let tables = [0, 1].map(|index| {
            let tower = &self.towers[index];
            let found = tower.anatomy.positions.iter();
            let found = found.filter_map(|index| match &tower.model.main.body[*index].op {
                Op::Positions { table, offset, .. } => Some((*table, *offset)),
                _ => None,
            });
            found.collect::<Vec<_>>()
        });
        match [tables[0].as_slice(), tables[1].as_slice()] {
            [[], []] => {}
            [[(a, from_a)], [(b, from_b)]]
                if from_a == from_b
                    && self.share("shared.positions", [*a, *b], Rows::Of(source)) => {}
            _ => {
                let message = "the parents' learned positions do not fit one table: each tower \
                               keeps its own";
                self.note(
                    message.to_owned(),
                    ["its own positions", "its own positions"],
                );
            }
        }
    }

    /// Puts one parameter in the place of both parents'. `false` when their types differ, or there is
    /// no vocabulary to choose rows by.
    fn share(&mut self, name: &str, ids: [ParamId; 2], rows: Rows) -> bool {
        let typed = |index: usize| {
            let tower = &self.towers[index];
            let mut param: Param = tower.model.main.param_of(ids[index]).clone();
            for axis in param.ty.input.iter_mut().chain(&mut param.ty.output) {
                *axis = tower.axes[axis.0 as usize];
            }
            param
        };
        let (mut first, second) = (typed(0), typed(1));
        if first.ty != second.ty {
            return false;
        }
        let load = |index: usize, param: &Param| {
            Plan::load(self.towers[index].parent.source.clone(), param.name.clone())
        };
        let (a, b) = (load(0, &first), load(1, &second));
        let vocab = first.ty.axes().position(|axis| is_vocab(&self.model, axis));
        let plan = match (rows, vocab) {
            (Rows::Of(0), _) => a,
            (Rows::Of(_), _) => b,
            (Rows::Mean, _) => Plan::Sum(vec![(0.5, a), (0.5, b)]),
            (Rows::Kinds, Some(axis)) => choose_rows(axis, &self.model.tokens, a, b),
            (Rows::Kinds, None) => return false,
        };
        for (index, param) in [&first, &second].into_iter().enumerate() {
            let tower = &self.towers[index];
            self.plans
                .swap_remove(&join_path(&tower.prefix, &param.name));
        }
        first.name = name.to_owned();
        self.plans.insert(first.name.clone(), plan);
        self.model.main.params.push(first);
        let fused = ParamId(self.model.main.params.len() as u32 - 1);
        for (tower, id) in self.towers.iter_mut().zip(ids) {
            tower.params.insert(id, fused);
        }
        true
    }
}

/// Entries along a vocabulary axis: those of image tokens from `b`, all others from `a`.
pub(super) fn choose_rows(axis: usize, tokens: &TokenLayout, a: Plan, b: Plan) -> Plan {
    let mut runs: Vec<(u64, u64, usize)> = Vec::new();
    let mut next = 0;
    for (start, end) in tokens.rows(TokenKind::Image) {
        if start > next {
            runs.push((next, start - next, 0));
        }
        match runs.last_mut() {
            Some((_, len, 1)) if start == next => *len += end - start,
            _ => runs.push((start, end - start, 1)),
        }
        next = end;
    }
    if next < tokens.size {
        runs.push((next, tokens.size - next, 0));
    }
    match runs.as_slice() {
        [] | [(_, _, 0)] => a,
        [_] => b,
        _ if axis == 0 => Plan::Rows {
            runs: runs
                .iter()
                .map(|(_, len, source)| (*len, *source))
                .collect(),
            sources: vec![a, b],
        },
        _ => {
            let slice = |(start, len, source): &(u64, u64, usize)| Plan::Slice {
                axis,
                start: *start,
                len: *len,
                of: Box::new(if *source == 0 { a.clone() } else { b.clone() }),
            };
            Plan::Concat {
                axis,
                parts: runs.iter().map(slice).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(kinds: &[(TokenKind, u64)]) -> TokenLayout {
        let mut layout = TokenLayout::empty("");
        kinds.iter().for_each(|(kind, len)| layout.add(*kind, *len));
        layout
    }

    #[test]
    fn image_rows_come_from_the_second_and_all_others_from_the_first() {
        use TokenKind::{Image, Mark, Reserved, Text};
        let (a, b) = (Plan::load("a", "t"), Plan::load("b", "t"));
        let paper = layout(&[(Mark, 4), (Text, 10), (Image, 6), (Reserved, 2), (Mark, 3)]);
        let Plan::Rows { runs, .. } = choose_rows(0, &paper, a.clone(), b.clone()) else {
            panic!("rows are chosen");
        };
        assert_eq!(runs, [(14, 0), (6, 1), (5, 0)]);
        let Plan::Concat { axis: 1, parts } = choose_rows(1, &paper, a.clone(), b.clone()) else {
            panic!("columns are cut and put side by side");
        };
        let Plan::Slice {
            start: 14,
            len: 6,
            of,
            ..
        } = &parts[1]
        else {
            panic!("the image's columns");
        };
        assert_eq!(**of, b);
        let text = layout(&[(Mark, 4), (Text, 10)]);
        assert_eq!(choose_rows(0, &text, a.clone(), b.clone()), a);
        let image = layout(&[(Image, 4), (Image, 2)]);
        assert_eq!(choose_rows(0, &image, a, b.clone()), b);
    }
}
