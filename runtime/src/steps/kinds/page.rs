//! `page NAME`: answers of models to questions, with tables, reconstructions and curves.

use jam_data::images::Picture;
use jam_ir::DType;
use jam_ir::recipe::{PageRecipe, Step};
use jam_weights::progress::Ended;

use super::{Kind, Task, read_report};
use crate::decoding::{Limits, Request, context_of, generate};
use crate::evaluation::{DrawnScore, asked_pictures};
use crate::image_tokenizers::VqTokenizer;
use crate::inputs::Inputs as _;
use crate::pages::{Answer, Chart, Curve, Page as Document, Question, Reconstructions, fill_page};
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};
use crate::training::read_log;
use crate::{Error, Result};

/// Pictures that a tokenizer is measured with.
const MEASURED: usize = 200;
/// Those of them that a page shows beside their reconstructions.
const RECONSTRUCTIONS: usize = 16;

/// The kind.
pub(super) struct Page;

impl Kind for Page {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let recipe = work.page(name)?;
        inputs.recipe("", recipe, &[])?;
        inputs.data(&recipe.questions)?;
        inputs.decode(&recipe.decode)?;
        recipe
            .models
            .iter()
            .try_for_each(|model| inputs.model(model))?;
        for report in &recipe.reports {
            inputs.step(Step::Eval(report.clone()));
        }
        for (tokenizer, data) in &recipe.tokenizers {
            inputs.step(Step::Tokenizer(tokenizer.clone()));
            inputs.data(data)?;
        }
        for run in &recipe.curves {
            inputs.step(Step::Train(run.clone()));
        }
        Ok(())
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let name = task.name;
        let recipe = runner.work.page(name)?;
        let Some(questions) = runner.answers(name, recipe)? else {
            return Ok(Ended::Stopped);
        };
        let mut page = Document {
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
                runner.work.program.name
            ),
            questions,
            ..Document::default()
        };
        for report in &recipe.reports {
            page.tables.push(read_report(runner.work, report)?.table()?);
        }
        for (tokenizer, data) in &recipe.tokenizers {
            let folder = runner.work.result(&Step::Tokenizer(tokenizer.clone()));
            let vq = VqTokenizer::load(&folder, &runner.device)?;
            let mut originals = runner.pictures(data, vq.settings().picture, MEASURED)?;
            let mut reconstructions = vq.reconstruct(&originals)?;
            let measure = vq.measure(&originals)?;
            let mut caption = format!(
                "Pictures of `{data}`, each beside what `{tokenizer}` makes of its {} tokens: {:.1} dB.",
                vq.tokens_per_picture(),
                measure.psnr
            );
            // Only drawing lessons know what their pictures show.
            if let Ok(asked) = asked_pictures(&runner.documents(data)?, data, MEASURED as u64)
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
        page.charts = runner.charts(recipe)?;
        task.write(&runner.hashes, &mut |folder| fill_page(&page, folder))?;
        let file = task.folder.join("index.html");
        runner.progress.note(&format!("page: {}", file.display()));
        Ok(Ended::Complete)
    }
}

impl Runner<'_> {
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
            let folder = self.work.result(&Step::Train(run.clone()));
            let log = read_log(&folder.join("log.jsonl"))?;
            // About a hundred points, each a mean.
            let learnt: Vec<(f64, f64)> = log
                .iter()
                .filter_map(|line| Some((line.step as f64, line.loss?)))
                .collect();
            let size = learnt.len().div_ceil(100).max(1);
            let points = learnt.chunks(size).map(|points| {
                let mean = |value: fn(&(f64, f64)) -> f64| {
                    points.iter().map(value).sum::<f64>() / points.len() as f64
                };
                (mean(|(step, _)| *step), mean(|(_, loss)| *loss))
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
