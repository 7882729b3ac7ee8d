//! `jamc generate`: an illustrated answer, told as it is drawn and written as a page.

mod speaker;

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};

use jam_backends::Device;
use jam_data::tokens::Codec;
use jam_ir::Error;
use jam_ir::recipe::{DecodeRecipe, Sampling};
use jam_ir::{Model, ModelRef, TokenKind};
use jam_runtime::decoding::{Limits, Request, context_of, generate};
use jam_runtime::folders::{is_model_folder, is_something};
use jam_runtime::pages::{Answer, Page, Question, write_page};
use jam_runtime::steps::{Workload, answering, load_executable};
use serde_json::json;

use self::speaker::Speaker;
use super::known;
use crate::cli::{Common, GenerateArgs};
use crate::console::{Console, print, print_json, stop_on_interrupt};
use crate::failure::Failure;
use crate::output::{Mark, check_folder};
use crate::program::{self, Purpose};

pub(crate) fn run(args: &GenerateArgs, common: &Common, console: &Console) -> Result<(), Failure> {
    let out = &match &args.output {
        Some(out) => out.clone(),
        None => free_folder(),
    };
    let reads = args.file.is_dir().then_some(args.file.as_path());
    let replace = check_folder(out, args.force, reads.as_slice(), Mark::ANSWER)?;
    let (speaker, mut recipe, device) = if args.file.is_dir() {
        common.refuse_program_flags(&args.file, None)?;
        if let Some(recipe) = &args.recipe {
            let message = format!("a model folder has no recipes; leave `{recipe}` out");
            return Err(Failure::usage(message));
        }
        if let Some(model) = &args.model {
            let message = format!("a model folder has one model; leave `--model {model}` out");
            return Err(Failure::usage(message));
        }
        let device = common.open_device()?;
        let speaker = Speaker::of_folder(&args.file, &device, common.numbers(), console)?;
        (speaker, default_recipe(), device)
    } else {
        from_program(args, common, console)?
    };
    let Speaker {
        model,
        weights,
        codec,
        path,
    } = speaker;
    if let Some(seed) = common.seed {
        recipe.seed = seed;
    }
    check_vocabulary(&model, &path, &codec, args.picture)?;
    let precision = common.dtype.unwrap_or_default().precision();
    let executable = load_executable(&model, &*weights, &device, precision)?;
    let prompt = match (args.picture, args.go_on) {
        (true, _) => codec.caption(&args.prompt)?,
        (false, true) => codec.beginning(&args.prompt)?,
        (false, false) => codec.prompt(&args.prompt)?,
    };
    let requests: Vec<Request> = (0..args.count)
        .map(|seed| Request {
            prompt: prompt.clone(),
            picture_next: args.picture,
            seed,
        })
        .collect();
    let limits = Limits {
        context: context_of(&model),
        max_tokens: recipe.max_tokens,
        max_pictures: if args.picture { 1 } else { recipe.max_pictures },
        end_with_picture: args.picture,
    };
    let stop = stop_on_interrupt(console);
    // A text that goes on is shown as it goes on.
    let before: &[u32] = if args.go_on { &prompt } else { &[] };
    let shown = args.count <= 1 && !common.quiet && !common.json;
    let stream = Stream::new(&codec, &model, before, shown);
    let answers = generate(
        &executable,
        codec.producible(),
        &recipe,
        limits,
        &requests,
        &mut |row, id| stream.token(row, id),
        &stop,
    )?;
    stream.end();
    if stop.asked() {
        return Err(Failure::Stopped);
    }
    let full = |answer: &Vec<u32>| {
        let ended = answer.last() == Some(&codec.eos());
        !ended && (prompt.len() + answer.len()) as u64 >= limits.context
    };
    let cut = answers.iter().filter(|answer| full(answer)).count();
    if cut > 0 {
        console.warn(&format!(
            "{cut} of {} answers end where the model's context of {} tokens is full",
            answers.len(),
            limits.context
        ));
    }
    let mut page = Page {
        title: args.prompt.clone(),
        ..Page::default()
    };
    let mut question = Question {
        prompt: args.prompt.clone(),
        answers: Vec::new(),
    };
    for tokens in answers {
        let pieces = codec.pieces_after(before, &tokens)?;
        question.answers.push(Answer {
            model: model.name.clone(),
            pieces,
        });
    }
    page.questions.push(question);
    write_page(&page, out, replace, |draft| Mark::ANSWER.put(draft))?;
    let page = out.join("index.html").display().to_string();
    if common.json {
        return print_json(&json!({ "page": page }));
    }
    print(&format!("{page}\n"))
}

/// The folder of a page where none is named: `answer`, or the first of `answer-2`, … that is free.
fn free_folder() -> PathBuf {
    let names = (2..).map(|number: u64| PathBuf::from(format!("answer-{number}")));
    let mut names = std::iter::once(PathBuf::from("answer")).chain(names);
    let free = names.find(|name| !is_something(name));
    free.unwrap_or_else(|| PathBuf::from("answer"))
}

/// The model and the recipe that a program names.
fn from_program(
    args: &GenerateArgs,
    common: &Common,
    console: &Console,
) -> Result<(Speaker, DecodeRecipe, Device), Failure> {
    // Its precision is that of an answer: how the program's trainings learn stays as it is.
    let read_with = Common {
        dtype: None,
        ..common.clone()
    };
    let loaded = program::load(&args.file, Purpose::Look, &read_with, console)?;
    let work = loaded.workload(&read_with);
    let recipe = match &args.recipe {
        Some(name) => known(&work.program.decodings, "decode", name)?.clone(),
        None => work
            .program
            .decodings
            .values()
            .next()
            .cloned()
            .unwrap_or_else(default_recipe),
    };
    let model = match (&args.model, &recipe.model) {
        (Some(name), _) => ModelRef::parse(name),
        (None, Some(model)) => model.clone(),
        (None, None) => {
            let names: Vec<_> = work.models.keys().map(|name| format!("`{name}`")).collect();
            let message = format!(
                "say which model answers: --model NAME, one of {}",
                names.join(", ")
            );
            return Err(Failure::usage(message));
        }
    };
    known(&work.models, "model", &model.name)?;
    if let Some(read) = work.program.models.get(&model.name) {
        let Some(path) = &read.weights else {
            return Err(not_made(&work, &model));
        };
        let device = common.open_device()?;
        let speaker = Speaker::of_weights(&work, &model.name, path, &device, common.numbers())?;
        return Ok((speaker, recipe, device));
    }
    let place = work.weights(&model);
    let (folder, changed) = match (work.made_by(&model), place) {
        (Some(step), Some(place)) => {
            let (mut result, mut changed) = answering(&work, &step);
            // It may have been made with the flag that is given here.
            if changed.is_some() && common.dtype.is_some() {
                let made_with = program::load(&args.file, Purpose::Look, common, console)?;
                (result, changed) = match answering(&made_with.workload(common), &step) {
                    (other, None) => (other, None),
                    _ => (result, changed),
                };
            }
            let state = place.strip_prefix(work.result(&step));
            let folder = state.map_or(place.clone(), |state| result.join(state));
            (Some(folder), changed.map(|changed| (step, changed)))
        }
        (_, place) => (place, None),
    };
    let folder = folder.filter(|folder| is_model_folder(folder));
    let folder = folder.ok_or_else(|| {
        Failure::new(format!(
            "`{model}` is not made yet; `{}` makes it",
            work.command("run", &[])
        ))
    })?;
    if let Some((step, changed)) = changed {
        console.remark(&format!(
            "`{step}` was made before the program changed ({changed}); `{}` makes it as it is now",
            work.command("run", &[])
        ));
    }
    let device = common.open_device()?;
    let speaker = Speaker::of_folder(&folder, &device, common.numbers(), console)?;
    Ok((speaker, recipe, device))
}

/// Why a model without weights cannot answer, and which can.
fn not_made(work: &Workload, model: &ModelRef) -> Failure {
    let program = &work.program;
    let of_it = |name: &&String| match program.trainings.get(*name) {
        Some(training) => training.model.name == model.name,
        None => program.fusions[*name]
            .parents
            .iter()
            .any(|p| p.name == model.name),
    };
    let made = || program.trainings.keys().chain(program.fusions.keys());
    let quoted = |names: Vec<&String>| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    let near: Vec<&String> = made().filter(of_it).collect();
    let help = match (near.is_empty(), made().next()) {
        (false, _) => format!("of it are made: {}", quoted(near)),
        (true, Some(_)) => format!("the program makes {}", quoted(made().collect())),
        (true, None) => "write a `train` or `fuse` of it".to_owned(),
    };
    let message = format!("`{model}` cannot answer: no training or fusion has given it weights");
    Failure::Input(Error::new(message).with_help(help))
}

/// Refuses at once what would fail after an answer is drawn.
fn check_vocabulary(
    model: &Model,
    path: &Path,
    codec: &Codec,
    picture: bool,
) -> Result<(), Failure> {
    let name = &model.name;
    let refused = |message: String, help: &str| {
        let error = Error::new(message).with_path(path).with_help(help);
        Err(Failure::Input(error))
    };
    if !codec.reads_text() {
        return refused(
            format!("`{name}` cannot read a prompt: no text tokenizer belongs to it"),
            "give its `tokens` one: `text = bpe(\"FOLDER\", size: …)`, or a `tokenizer` of the program",
        );
    }
    let images = model.tokens.range(TokenKind::Image);
    if picture && images.is_none_or(|range| range.len == 0) {
        return refused(
            format!("`{name}` cannot draw: its vocabulary has no image tokens"),
            "leave `--picture` out, or name a model that draws",
        );
    }
    if picture && codec.image().is_none() {
        return refused(
            format!("`{name}` cannot draw: no image tokenizer belongs to it"),
            "give its `tokens` one: `image = vq(\"FOLDER\", codes: …, grid: …)`, or a `tokenizer` \
             of the program",
        );
    }
    Ok(())
}

/// How a model folder is sampled.
fn default_recipe() -> DecodeRecipe {
    let sampling = Sampling {
        temperature: 0.8,
        top_p: 0.9,
        top_k: 0,
        guidance: 1.0,
    };
    DecodeRecipe {
        model: None,
        text: sampling.clone(),
        image: Sampling {
            guidance: 2.0,
            ..sampling
        },
        max_tokens: 0,
        max_pictures: 0,
        seed: 0,
        span: None,
    }
}

/// Text as it is drawn, on standard error; a picture shows as a mark.
struct Stream<'a> {
    codec: &'a Codec,
    model: &'a Model,
    /// What the first text goes on with.
    before: RefCell<&'a [u32]>,
    shown: bool,
    state: RefCell<(Vec<u32>, usize)>,
}

impl<'a> Stream<'a> {
    fn new(codec: &'a Codec, model: &'a Model, before: &'a [u32], shown: bool) -> Stream<'a> {
        Stream {
            codec,
            model,
            before: RefCell::new(before),
            shown,
            state: RefCell::default(),
        }
    }

    fn token(&self, _row: usize, id: u32) {
        if !self.shown {
            return;
        }
        let mut state = self.state.borrow_mut();
        let (text, written) = &mut *state;
        let mut out = String::new();
        if self.model.tokens.kind(u64::from(id)) == Some(TokenKind::Text) {
            text.push(id);
            // A character may need several tokens: whole runs are decoded, and what is new is told.
            let before = *self.before.borrow();
            let whole = self.codec.text_after(before, text).unwrap_or_default();
            if !whole.ends_with('\u{fffd}') {
                out = whole.get(*written..).unwrap_or_default().to_owned();
                *written = whole.len();
            }
        } else if !text.is_empty() {
            text.clear();
            self.before.replace(&[]);
            *written = 0;
            out.push_str("\n[picture]\n");
        }
        let _ = write!(std::io::stderr(), "{out}");
    }

    fn end(&self) {
        if self.shown {
            let _ = writeln!(std::io::stderr());
        }
    }
}
