//! `eval NAME`: a report, measures of models as a table and as JSON.

use std::path::Path;

use jam_ir::recipe::{DataRef, EvalRecipe, Measure, Objective, Step};
use jam_ir::{DType, ErrorKind, ModelRef};
use jam_weights::checkpoints::write_file;
use jam_weights::progress::Ended;
use serde::{Deserialize, Serialize};

use super::{Kind, Task};
use crate::decoding::context_of;
use crate::evaluation::{
    ChoiceRules, ChoiceScore, DIVERGED, DrawnScore, Losses, Reading, mean_loss, score_choices,
    score_drawn,
};
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

/// One measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// Losses on documents.
    Perplexity {
        /// The data.
        data: String,
        /// Sums by kind of token.
        losses: Losses,
    },
    /// Multiple choice.
    Choice {
        /// The data.
        data: String,
        /// Items answered right.
        score: ChoiceScore,
    },
    /// Things drawn.
    Drawn {
        /// The data.
        data: String,
        /// Things drawn right.
        score: DrawnScore,
    },
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
        for measure in &recipe.measures {
            let (Measure::Perplexity { data, .. }
            | Measure::Choice { data, .. }
            | Measure::Drawn { data, .. }) = measure;
            inputs.data(data)?;
            if let Measure::Drawn { decode, .. } = measure {
                inputs.decode(decode)?;
            }
        }
        Ok(())
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
        report.check()?;
        let table = report.table();
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
        let context = context_of(model);
        let mut measures = Vec::new();
        for (index, measure) in recipe.measures.iter().enumerate() {
            if self.stop.asked() {
                break;
            }
            measures.push(match measure {
                Measure::Perplexity { data, limit } => {
                    at(index as u64, "perplexity");
                    let set = self.encoded(data, &codec)?;
                    let reading = Reading {
                        limit: *limit as usize,
                        length: context.min(1024) as usize,
                        objective: Objective::NextToken,
                    };
                    let losses = mean_loss(&executable, codec.layout(), &set, &reading)
                        .map_err(|error| about(reference, data, error))?;
                    Measured::Perplexity {
                        data: data.to_string(),
                        losses,
                    }
                }
                Measure::Choice { data, limit, begin } => {
                    at(index as u64, "choice");
                    let items = self.choices(data, *limit)?;
                    let rules = ChoiceRules {
                        context: context as usize,
                        begin: *begin,
                    };
                    let score = score_choices(&executable, &codec, &items, rules)
                        .map_err(|error| about(reference, data, error))?;
                    Measured::Choice {
                        data: data.to_string(),
                        score,
                    }
                }
                Measure::Drawn {
                    data,
                    decode,
                    pictures,
                } => {
                    at(index as u64, "drawn");
                    let asked = self.asked(data, *pictures)?;
                    let decode = self.work.decoding(decode)?;
                    let mut silent = jam_weights::progress::Silent;
                    let score = score_drawn(
                        &executable,
                        &codec,
                        decode,
                        &asked,
                        context,
                        &mut silent,
                        &self.stop,
                    )
                    .map_err(|error| about(reference, data, error))?;
                    Measured::Drawn {
                        data: data.to_string(),
                        score,
                    }
                }
            });
        }
        Ok(measures)
    }
}

/// A failed measure, with the model and the data.
fn about(model: &ModelRef, data: &DataRef, error: Error) -> Error {
    Error {
        message: format!("`{model}` on `{data}`: {}", error.message),
        ..error
    }
}

/// A report that was made before.
///
/// # Errors
/// When it was not, or is damaged.
pub fn read_report(work: &Workload, name: &str) -> Result<Report> {
    let found = read(&work.result(&Step::Eval(name.to_owned())).join(REPORT));
    found.map_err(|error| match error.kind {
        ErrorKind::Damaged => error.with_help(format!("`jamc eval` makes `{name}` again")),
        _ => error,
    })
}

fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let damaged = |why: String| Error::damaged(format!("the report is damaged: {why}"));
    let report: Report = serde_json::from_slice(&text)
        .map_err(|error| damaged(error.to_string()).with_path(path))?;
    report
        .check()
        .map_err(|error| damaged(error.message).with_path(path))?;
    Ok(report)
}

impl Report {
    /// Every number that is shown is one: JSON holds no others, and a table of others misleads.
    fn check(&self) -> Result<()> {
        for row in &self.rows {
            for measured in &row.measures {
                let (data, what, number) = match measured {
                    Measured::Perplexity { data, losses } => {
                        let kinds = [&losses.all, &losses.text, &losses.image];
                        let shown = kinds.into_iter().filter(|sum| sum.count > 0);
                        let wrong = shown.map(|sum| sum.perplexity()).find(|n| !n.is_finite());
                        // Without a token there is no perplexity.
                        (data, "perplexity", wrong.unwrap_or(losses.all.perplexity()))
                    }
                    Measured::Choice { data, score } => (data, "share", score.accuracy()),
                    Measured::Drawn { data, score } => (data, "share", score.share()),
                };
                if !number.is_finite() {
                    let message = format!("`{}` on `{data}`: the {what} is {number}", row.model);
                    return Err(Error::of(ErrorKind::NotFinite, message).with_help(DIVERGED));
                }
            }
        }
        Ok(())
    }

    /// The report as a table: a row a model, a column or two a measure.
    pub fn table(&self) -> Table {
        let mut table = Table {
            title: format!("Report `{}`", self.name),
            ..Table::default()
        };
        for row in &self.rows {
            let mut head = vec!["model".to_owned()];
            let mut cells = vec![row.model.clone()];
            let mut cell = |name: String, text: String| {
                head.push(name);
                cells.push(text);
            };
            let percent = |share: f64| format!("{:.1}%", 100.0 * share);
            for measured in &row.measures {
                match measured {
                    Measured::Perplexity { data, losses } => {
                        if losses.text.count > 0 {
                            cell(
                                format!("{data} text PPL"),
                                format!("{:.2}", losses.text.perplexity()),
                            );
                        }
                        if losses.image.count > 0 {
                            cell(
                                format!("{data} picture PPL"),
                                format!("{:.2}", losses.image.perplexity()),
                            );
                        }
                    }
                    Measured::Choice { data, score } => {
                        cell(format!("{data} right"), percent(score.accuracy()));
                        if score.cut > 0 {
                            table.notes.push(format!(
                                "{} of {} questions of {data} do not fit the context of {}: what they \
                                 begin with is not read.",
                                score.cut, score.items, row.model
                            ));
                        }
                    }
                    Measured::Drawn { data, score } => {
                        cell(format!("{data} things drawn right"), percent(score.share()));
                    }
                }
            }
            table.head = head;
            table.rows.push(cells);
        }
        table
    }
}
