//! `eval NAME`: a report, measures of models as a table and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use jam_ir::recipe::{EvalRecipe, Step};
use jam_ir::{Called, DType, ErrorKind, ModelRef};
use jam_weights::checkpoints::write_file;
use jam_weights::progress::Ended;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Task};
use crate::decoding::context_of;
use crate::evaluation::{Subject, measure_of};
use crate::pages::Table;
use crate::results::Hashes;
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};
use crate::{Error, Result};

/// A finished report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the report.
    pub name: String,
    /// A row a model.
    pub rows: Vec<ReportRow>,
}

/// The measures of one model, in the order of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Printed reference of the model.
    pub model: String,
    /// Its measures.
    pub measures: Vec<Measured>,
}

/// What one measure found: in JSON `{MEASURE: FOUND}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>", into = "BTreeMap<String, Value>")]
pub struct Measured {
    /// The measure.
    pub measure: String,
    /// What it found, in its own form.
    pub found: Value,
}

impl From<Measured> for BTreeMap<String, Value> {
    fn from(measured: Measured) -> Self {
        BTreeMap::from([(measured.measure, measured.found)])
    }
}

impl TryFrom<BTreeMap<String, Value>> for Measured {
    type Error = String;

    fn try_from(map: BTreeMap<String, Value>) -> std::result::Result<Self, String> {
        let count = map.len();
        match (map.into_iter().next(), count) {
            (Some((measure, found)), 1) => Ok(Measured { measure, found }),
            _ => Err(format!("an entry of one measure, not of {count}")),
        }
    }
}

/// The file of a report.
const REPORT: &str = "report.json";

/// The kind.
pub(super) struct Evaluate;

impl Kind for Evaluate {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let recipe = work.evaluation(name)?;
        inputs.recipe("", recipe, &[])?;
        recipe
            .models
            .iter()
            .try_for_each(|model| inputs.model(model))?;
        let mut measures = recipe.measures.iter();
        measures.try_for_each(|measure| inputs.called(measure))
    }

    fn sound(&self, hashes: &Hashes, folder: &Path) -> Result<()> {
        hashes.verify(folder)?;
        read(&folder.join(REPORT)).map(drop)
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let recipe = runner.work.evaluation(task.name)?;
        let total = (recipe.models.len() * recipe.measures.len()) as u64;
        let mut bar = runner.progress.begin(task.name, total);
        let mut report = Report {
            name: task.name.to_owned(),
            rows: Vec::new(),
        };
        for model in &recipe.models {
            let mut row = ReportRow {
                model: model.to_string(),
                measures: Vec::new(),
            };
            for measured in runner.measure(model, recipe, &mut |done, what| {
                bar.at(
                    (report.rows.len() * recipe.measures.len()) as u64 + done,
                    &format!("{model} {what}"),
                );
            })? {
                row.measures.push(measured);
            }
            if runner.stop.asked() {
                return Ok(Ended::Stopped);
            }
            report.rows.push(row);
        }
        let table = report.table()?;
        for note in &table.notes {
            runner.progress.note(&format!("{}: {note}", task.name));
        }
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::new(format!("the report cannot be written: {error}")))?;
        let table = table.markdown();
        task.write(&runner.hashes, &mut |folder| {
            write_file(&folder.join(REPORT), json.as_bytes())?;
            write_file(&folder.join("report.md"), table.as_bytes())
        })?;
        Ok(Ended::Complete)
    }
}

impl Runner<'_> {
    /// All measures of one model.
    fn measure(
        &self,
        reference: &ModelRef,
        recipe: &EvalRecipe,
        at: &mut dyn FnMut(u64, &str),
    ) -> Result<Vec<Measured>> {
        let model = self.work.model(&reference.name)?;
        let codec = self.codec(model)?;
        let executable = self.load(reference, DType::F32)?;
        let subject = Subject {
            executable: &executable,
            codec: &codec,
            context: context_of(model),
            inputs: self,
            stop: &self.stop,
        };
        let mut measures = Vec::new();
        for (index, called) in recipe.measures.iter().enumerate() {
            if self.stop.asked() {
                break;
            }
            at(index as u64, &called.name);
            let found = measure_of(&called.name)?.measure(called, &subject);
            measures.push(Measured {
                measure: called.name.clone(),
                found: found.map_err(|error| about(reference, called, error))?,
            });
        }
        Ok(measures)
    }
}

/// A failed measure, with the model and the data.
fn about(model: &ModelRef, called: &Called, error: Error) -> Error {
    let data: Vec<String> = called.data().map(|data| format!("`{data}`")).collect();
    Error {
        message: format!("`{model}` on {}: {}", data.join(", "), error.message),
        ..error
    }
}

/// A report that was made before.
///
/// # Errors
/// When it was not, or is damaged.
pub fn read_report(work: &Workload, name: &str) -> Result<Report> {
    let step = Step::Eval(name.to_owned());
    read(&work.result(&step).join(REPORT)).map_err(|error| match error.kind {
        ErrorKind::Damaged => {
            error.with_help(format!("`{}` makes `{name}` anew", work.restart(&step)))
        }
        _ => error,
    })
}

fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let damaged = |why: String| Error::damaged(format!("the report is damaged: {why}"));
    let report: Report = serde_json::from_slice(&text)
        .map_err(|error| damaged(error.to_string()).with_path(path))?;
    report
        .table()
        .map_err(|error| damaged(error.message).with_path(path))?;
    Ok(report)
}

impl Report {
    /// The report as a table: a row a model, a column or two a measure.
    ///
    /// # Errors
    /// When a measure is not known, found something else than it finds, or a number that is shown is none.
    pub fn table(&self) -> Result<Table> {
        let mut table = Table {
            title: format!("Report `{}`", self.name),
            ..Table::default()
        };
        for row in &self.rows {
            let mut head = vec!["model".to_owned()];
            let mut cells = vec![row.model.clone()];
            for Measured { measure, found } in &row.measures {
                let measure = measure_of(measure)?;
                let shown = measure.cells(found).map_err(|error| Error {
                    message: format!("`{}`: {}", row.model, error.message),
                    ..error
                })?;
                for cell in shown {
                    head.push(cell.head);
                    cells.push(cell.text);
                }
                table.notes.extend(measure.notes(found, &row.model)?);
            }
            table.head = head;
            table.rows.push(cells);
        }
        Ok(table)
    }
}
