//! Steps that show: reports and pages.

use std::path::Path;

use jam_ir::recipe::{EvalRecipe, Measure, PageRecipe};
use jam_ir::{DType, ModelRef};
use serde::{Deserialize, Serialize};

use super::{ResultKind, Runner, Workload, mark_done};
use crate::decoding::{Limits, Request, context_of, generate};
use crate::evaluation::{ChoiceScore, DrawnScore, Losses, mean_loss, score_choices, score_drawn};
use crate::image_tokenizers::VqTokenizer;
use crate::pages::{Answer, Chart, Curve, Page, Question, Reconstructions, Table, write_page};
use crate::training::read_log;
use crate::{Error, Result};
use jam_data::images::Picture;
use jam_weights::checkpoints::{AtomicFolder, write_file};
use jam_weights::progress::Ended;

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

/// Pictures that a tokenizer is measured with.
const MEASURED: usize = 200;
/// Those of them that a page shows beside their reconstructions.
const RECONSTRUCTIONS: usize = 16;

impl Runner<'_> {
    pub(super) fn evaluate(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        let recipe = self.work.evaluation(name)?;
        let total = (recipe.models.len() * recipe.measures.len()) as u64;
        let mut bar = self.progress.begin(name, total);
        let mut report = Report {
            name: name.to_owned(),
            rows: Vec::new(),
        };
        for model in &recipe.models {
            let mut row = ReportRow {
                model: model.to_string(),
                measures: Vec::new(),
            };
            for measured in self.measure(model, recipe, &mut |done, what| {
                bar.at(
                    (report.rows.len() * recipe.measures.len()) as u64 + done,
                    &format!("{model} {what}"),
                );
            })? {
                row.measures.push(measured);
            }
            if self.stop.asked() {
                return Ok(Ended::Stopped);
            }
            report.rows.push(row);
        }
        let draft = AtomicFolder::create(folder)?;
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::new(format!("the report cannot be written: {error}")))?;
        write_file(&draft.path().join("report.json"), json.as_bytes())?;
        write_file(
            &draft.path().join("report.md"),
            report.table().markdown().as_bytes(),
        )?;
        mark_done(draft.path(), key)?;
        draft.commit()?;
        Ok(Ended::Complete)
    }

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
                    let length = context.min(1024) as usize;
                    let losses =
                        mean_loss(&executable, codec.layout(), &set, *limit as usize, length)?;
                    Measured::Perplexity {
                        data: data.to_string(),
                        losses,
                    }
                }
                Measure::Choice { data, limit } => {
                    at(index as u64, "choice");
                    let items = self.choices(data, *limit)?;
                    let score = score_choices(&executable, &codec, &items, context as usize)?;
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
                    )?;
                    Measured::Drawn {
                        data: data.to_string(),
                        score,
                    }
                }
            });
        }
        Ok(measures)
    }

    pub(super) fn write_page(&self, name: &str, folder: &Path, key: &str) -> Result<Ended> {
        let recipe = self.work.page(name)?;
        let Some(questions) = self.answers(name, recipe)? else {
            return Ok(Ended::Stopped);
        };
        let mut page = Page {
            title: recipe.title.clone(),
            lead: format!(
                "Answers of {} to questions that were held out of training, drawn with `{}`. Every \
                 number below is measured by the program `{}`.",
                recipe
                    .models
                    .iter()
                    .map(|model| format!("`{model}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                recipe.decode,
                self.work.program.name
            ),
            questions,
            ..Page::default()
        };
        for report in &recipe.reports {
            page.tables.push(read_report(self.work, report)?.table());
        }
        for (tokenizer, data) in &recipe.tokenizers {
            let folder = self.work.result(ResultKind::Tokenizer, tokenizer);
            let vq = VqTokenizer::load(&folder, &self.device)?;
            let mut originals = self.pictures(data, vq.settings().picture, MEASURED)?;
            let mut reconstructions = vq.reconstruct(&originals)?;
            let measure = vq.measure(&originals)?;
            let mut caption = format!(
                "Pictures of `{data}`, each beside what `{tokenizer}` makes of its {} tokens: {:.1} dB.",
                vq.tokens_per_picture(),
                measure.psnr
            );
            // Only drawing lessons know what their pictures show.
            if let Ok(asked) = self.asked(data, MEASURED as u64)
                && asked.len() == originals.len()
            {
                let share = |pictures: &[Picture]| -> Result<f64> {
                    let mut score = DrawnScore::default();
                    for (asked, picture) in asked.iter().zip(pictures) {
                        score.add(&asked.scene, picture)?;
                    }
                    Ok(100.0 * score.share())
                };
                caption += &format!(
                    " The analyser reads {:.1}% of the things in {} originals right, and {:.1}% in \
                     their reconstructions.",
                    share(&originals)?,
                    originals.len(),
                    share(&reconstructions)?
                );
            }
            originals.truncate(RECONSTRUCTIONS);
            reconstructions.truncate(RECONSTRUCTIONS);
            page.reconstructions.push(Reconstructions {
                caption,
                originals,
                reconstructions,
            });
        }
        page.charts = self.charts(recipe)?;
        write_page(&page, folder, |draft| mark_done(draft, key))?;
        self.progress
            .note(&format!("page: {}", folder.join("index.html").display()));
        Ok(Ended::Complete)
    }

    /// The answers of every model to every question; `None` when stopped.
    fn answers(&self, name: &str, recipe: &PageRecipe) -> Result<Option<Vec<Question>>> {
        let decode = self.work.decoding(&recipe.decode)?;
        let mut prompts: Vec<String> = self
            .documents(&recipe.questions)?
            .into_iter()
            .filter_map(|document| document.prompt)
            .collect();
        prompts.truncate(recipe.count as usize);
        if prompts.is_empty() {
            return Err(Error::new(format!(
                "data `{}` has no questions",
                recipe.questions
            )));
        }
        let mut questions: Vec<Question> = prompts
            .iter()
            .map(|prompt| Question {
                prompt: prompt.clone(),
                answers: Vec::new(),
            })
            .collect();
        let mut bar = self.progress.begin(name, recipe.models.len() as u64);
        for (done, reference) in recipe.models.iter().enumerate() {
            bar.at(done as u64, &reference.to_string());
            let model = self.work.model(&reference.name)?;
            let codec = self.codec(model)?;
            let executable = self.load(reference, DType::F32)?;
            let limits = Limits {
                context: context_of(model),
                max_tokens: decode.max_tokens,
                max_pictures: decode.max_pictures,
                end_with_picture: false,
            };
            let mut requests = Vec::new();
            for (index, prompt) in prompts.iter().enumerate() {
                let prompt = codec.prompt(prompt)?;
                requests.push(Request {
                    prompt,
                    picture_next: false,
                    seed: index as u64,
                });
            }
            let answers = generate(
                &executable,
                codec.producible(),
                decode,
                limits,
                &requests,
                &mut |_, _| {},
                &self.stop,
            )?;
            if self.stop.asked() {
                return Ok(None);
            }
            for (question, tokens) in questions.iter_mut().zip(answers) {
                let pieces = codec.pieces(&tokens)?;
                question.answers.push(Answer {
                    model: reference.to_string(),
                    pieces,
                });
            }
        }
        Ok(Some(questions))
    }

    /// Curves of training and validation loss.
    fn charts(&self, recipe: &PageRecipe) -> Result<Vec<Chart>> {
        let mut train = Chart {
            title: "Training loss".to_owned(),
            x: "optimizer steps".to_owned(),
            y: "nats a token".to_owned(),
            curves: Vec::new(),
        };
        let mut validation = Chart {
            title: "Validation loss".to_owned(),
            ..train.clone()
        };
        for run in &recipe.curves {
            let log = read_log(
                &self
                    .work
                    .result(ResultKind::Training, run)
                    .join("log.jsonl"),
            )?;
            // About a hundred points, each a mean.
            let size = log.len().div_ceil(100).max(1);
            let points = log.chunks(size).map(|lines| {
                let mean = |value: fn(&crate::training::LogLine) -> f64| {
                    lines.iter().map(value).sum::<f64>() / lines.len() as f64
                };
                (mean(|line| line.step as f64), mean(|line| line.loss))
            });
            train.curves.push(Curve {
                name: run.clone(),
                points: points.collect(),
            });
            let points = log
                .iter()
                .filter(|line| !line.validation.is_empty())
                .map(|line| {
                    let sum: f64 = line.validation.iter().map(|(_, loss)| loss).sum();
                    (line.step as f64, sum / line.validation.len() as f64)
                });
            validation.curves.push(Curve {
                name: run.clone(),
                points: points.collect(),
            });
        }
        validation.curves.retain(|curve| curve.points.len() > 1);
        Ok([train, validation]
            .into_iter()
            .filter(|chart| !chart.curves.is_empty())
            .collect())
    }
}

/// A report that was made before.
///
/// # Errors
/// When it was not, or is damaged.
pub fn read_report(work: &Workload, name: &str) -> Result<Report> {
    let path = work.result(ResultKind::Report, name).join("report.json");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("is not a report: {error}")).with_path(&path))
}

impl Report {
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
