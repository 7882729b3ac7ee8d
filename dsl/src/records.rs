//! Records: their fields, after those of the record that they update and before those of the command line.

use indexmap::IndexMap;
use jam_ir::Span;
use jam_ir::diagnostic::Diagnostic;

use crate::checker::{Checker, Kind, Record, not_plain};
use crate::evaluate::Global;
use crate::given::{Given, twice};
use crate::syntax::{Body, Expression, ExpressionKind, Name, Statement};
use crate::value::{CallArgument, Spanned, Value};

impl<'a> Checker<'a> {
    /// Reads the fields of a record, after those it updates.
    pub(crate) fn record(&mut self, kind: Kind, name: &'a Name, statement: &'a Statement) {
        let mut record = Record::default();
        match (&statement.value, &statement.body) {
            (Some(value), _) => {
                let (base, bodies): (&Expression, &[Body]) = match &value.kind {
                    ExpressionKind::Update(base, bodies) => (base, bodies),
                    _ => (value, &[]),
                };
                match self.base(kind, base) {
                    Some(base) => record = base,
                    None => record.partial = true,
                }
                for body in bodies {
                    self.fields(&mut record, body);
                }
            }
            (None, Some(body)) => self.fields(&mut record, body),
            (None, None) => {
                let word = kind.word();
                let place = statement.span;
                self.diagnostics.push(
                    Diagnostic::error(place, format!("`{word} {}` is empty", name.text))
                        .code("missing")
                        .label(place, "no `{ … }` follows")
                        .help(format!("write `{word} {} {{ … }}`", name.text)),
                );
            }
        }
        record.set.extend(self.set_of(name));
        self.records.insert(&name.text, record);
    }

    /// What the command line gives a definition.
    fn set_of(&self, name: &Name) -> Vec<(&'a Name, &'a Expression)> {
        let own = self.overrides.iter();
        let own = own.filter(|set| set.target.text == name.text);
        let given = own.filter_map(|set| Some((set.key.as_ref()?, set.value.as_ref().ok()?)));
        given.collect()
    }

    /// Where everything that has a name is defined, and where the settings of records are given.
    pub(crate) fn places(&self) -> IndexMap<String, Span> {
        let mut places = IndexMap::new();
        for (name, definition) in &self.definitions {
            let path = format!("{} {name}", definition.kind.word());
            if let Some(record) = self.records.get(name.as_str()) {
                let fields = record.fields.iter();
                let fields = fields.map(|(key, (written, _))| (*key, written.span));
                let set = record
                    .set
                    .iter()
                    .map(|(key, _)| (key.text.as_str(), key.span));
                for (key, span) in fields.chain(set) {
                    places.insert(format!("{path}.{key}"), span);
                }
            }
            places.insert(path, definition.name_span);
        }
        places
    }

    /// The fields of the record that another one updates.
    fn base(&mut self, kind: Kind, base: &Expression) -> Option<Record<'a>> {
        let name = match &base.kind {
            ExpressionKind::Path(path) if path.len() == 1 => &path[0],
            _ => {
                let word = kind.word();
                self.diagnostics.push(
                    Diagnostic::error(base.span, format!("{} is written `{{ … }}`", kind.noun()))
                        .code("wrong-kind")
                        .label(base.span, format!("not {} to update", kind.noun()))
                        .help(format!(
                            "write `{word} name {{ … }}`, or `{word} b = a {{ … }}`"
                        )),
                );
                return None;
            }
        };
        self.defined(name, &[kind])?;
        self.records.get(name.text.as_str()).cloned()
    }

    fn fields(&mut self, record: &mut Record<'a>, body: &'a Body) {
        let mut seen: Vec<&Name> = Vec::new();
        for statement in &body.statements {
            if statement.broken {
                record
                    .fields
                    .insert(&statement.word.text, (&statement.word, None));
                continue;
            }
            let key = &statement.word;
            let Some(value) = &statement.value else {
                self.diagnostics.push(
                    Diagnostic::error(statement.span, format!("`{}` needs a value", key.text))
                        .code("missing")
                        .label(statement.span, "not `key = value`")
                        .help(format!("write `{} = …`", key.text)),
                );
                continue;
            };
            if let Some(report) = not_plain(statement) {
                self.diagnostics.push(report);
                record.fields.insert(&key.text, (key, None));
                continue;
            }
            if let Some(first) = seen.iter().find(|first| first.text == key.text) {
                self.diagnostics.push(twice(key, first.span));
                continue;
            }
            seen.push(key);
            record.fields.insert(&key.text, (key, Some(value)));
            record.set.retain(|(set, _)| outer(set) != key.text);
        }
    }

    /// The values of a record that was read before, those of the command line last.
    pub(crate) fn given(&mut self, kind: Kind, name: &Name) -> Given {
        let what = format!("{} `{}`", kind.word(), name.text);
        let mut given = Given::record(what, name.span);
        let record = self
            .records
            .get(name.text.as_str())
            .cloned()
            .unwrap_or_default();
        given.partial = record.partial;
        for (key, expression) in record.fields.into_values() {
            let value = match expression {
                Some(expression) => self.evaluate(expression, &mut Global),
                None => Spanned::new(Value::Broken, key.span),
            };
            given.insert(key.clone(), value, &mut self.diagnostics);
        }
        self.put(&record.set, &mut given);
        given
    }

    /// Puts the command line's values in the place of those of a definition that is no record.
    pub(crate) fn set(&mut self, name: &Name, given: &mut Given) {
        let set = self.set_of(name);
        self.put(&set, given);
    }

    fn put(&mut self, set: &[(&'a Name, &'a Expression)], given: &mut Given) {
        for (key, value) in set {
            let value = self.evaluate(value, &mut Global);
            // `--set run.optimizer.lr=1e-3` changes one setting of a variant.
            if let Some((outer, label)) = key.text.split_once('.')
                && let Some((_, outer)) = given.keyed.get_mut(outer)
                && let Some(call) = outer.as_call(key.span)
            {
                let other = |argument: &CallArgument| {
                    let known = argument.label.as_ref();
                    known.is_none_or(|known| known.text != label)
                };
                call.arguments.retain(other);
                let label = Some(Name {
                    text: label.to_owned(),
                    span: key.span,
                });
                call.arguments.push(CallArgument { label, value });
                continue;
            }
            given
                .keyed
                .insert(key.text.clone(), ((*key).clone(), value));
        }
    }
}

/// The key of a record that a key of the command line is in: `optimizer` of `optimizer.lr`.
fn outer(key: &Name) -> &str {
    key.text.split('.').next().unwrap_or_default()
}
