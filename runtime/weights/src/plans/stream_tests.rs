//! Streams against plans evaluated whole: the same bytes for every number of threads and every bound.

use std::fs;
use std::path::Path;

use crate::checkpoints::decoder::decoder_only;
use indexmap::IndexMap;

use super::*;
use crate::checkpoints::import::{ImportedConfig, open_weights};
use crate::checkpoints::{CheckpointReader, TensorSpec, WeightSource, WriteOptions, synthetic};
use crate::progress::Silent;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 96, "num_attention_heads": 6,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 200, "vocab_size": 500,
    "max_position_embeddings": 64, "torch_dtype": "bfloat16"}"#;

/// Two parents in Hugging Face layout, most of whose matrices lie the other way about.
fn parents(folder: &Path) -> (Model, IndexMap<String, Box<dyn WeightSource>>) {
    let config = ImportedConfig::from_json(CONFIG).unwrap();
    let model = decoder_only(&config.decoder);
    let names = model.weight_uses().into_keys().collect();
    let mut sources = IndexMap::new();
    for (seed, name) in [(1, "a"), (2, "b")] {
        let place = folder.join(name);
        let tensors = synthetic::tensors(&config, &names).unwrap();
        let options = WriteOptions::default();
        let (limits, stop) = (Limits::default(), Stop::default());
        synthetic::write(&place, tensors, options, seed, limits, &Silent, &stop).unwrap();
        fs::write(place.join("config.json"), CONFIG).unwrap();
        sources.insert(name.to_owned(), open_weights(&place).unwrap());
    }
    (model, sources)
}

/// Plans of every kind that reads rows in its own way.
fn plans(model: &mut Model) {
    let uses = model.weight_uses();
    let shapes: Vec<(String, usize)> = uses
        .into_iter()
        .map(|(name, param)| (name, param.ty.axes().count()))
        .collect();
    for (index, (name, axes)) in shapes.into_iter().enumerate() {
        let load = |source: &str| Plan::load(source, name.clone());
        let mean = Plan::Sum(vec![(0.3, load("a")), (0.7, load("b"))]);
        let half = |start: bool| {
            let rows = match name.as_str() {
                "embed.table" => 250,
                _ => return load("a"),
            };
            Plan::Slice {
                axis: 0,
                start: if start { 0 } else { rows },
                len: rows,
                of: Box::new(load(if start { "a" } else { "b" })),
            }
        };
        let delta = |source: &str| Plan::Sum(vec![(1.0, load(source)), (-1.0, load("b"))]);
        let kept = |rescale| Plan::Keep {
            rescale,
            mask: Box::new(Plan::Bernoulli { p: 0.4 }),
            of: Box::new(delta("a")),
        };
        let trimmed = |of| Plan::Trim {
            density: 0.3,
            rescale: true,
            of: Box::new(of),
        };
        // Of a matrix that lies the other way about: some rows or columns of one parent.
        let part = |axis, start, len, of| Plan::Slice {
            axis,
            start,
            len,
            of: Box::new(of),
        };
        let block = |source: &str, row: u64, column: u64| {
            part(1, 48 * column, 48, part(0, 100 * row, 100, load(source)))
        };
        let plan = match index % 9 {
            _ if name == "embed.table" => Plan::Concat {
                axis: 0,
                parts: vec![half(false), half(true)],
            },
            _ if name == "layers.1.mlp.up" => Plan::Concat {
                axis: 0,
                parts: vec![part(0, 0, 40, load("a")), part(0, 40, 56, load("b"))],
            },
            _ if name == "layers.1.mlp.gate" => Plan::Rows {
                runs: (0..32).map(|run| (3, run % 2)).collect(),
                sources: vec![load("a"), mean],
            },
            _ if name == "layers.1.mlp.down" => Plan::Grid {
                row_axis: 0,
                column_axis: 1,
                rows: vec![
                    vec![block("a", 0, 0), block("b", 0, 1)],
                    vec![block("b", 1, 1), block("a", 1, 0)],
                ],
            },
            1 if axes > 1 => {
                let mut order: Vec<usize> = (0..axes).collect();
                order.reverse();
                let turned = |of| Plan::Permute {
                    order: order.clone(),
                    of: Box::new(of),
                };
                turned(turned(mean))
            }
            2 => Plan::Sum(vec![(1.0, mean), (1.0, Plan::Normal { sd: 0.01 })]),
            3 => Plan::Slerp {
                t: 0.3,
                straight: 0.9995,
                from: Box::new(load("a")),
                to: Box::new(load("b")),
            },
            4 => Plan::Sum(vec![(1.0, load("b")), (0.9, trimmed(delta("a")))]),
            5 => Plan::Elect {
                mean: true,
                terms: vec![(0.6, trimmed(load("a"))), (0.4, kept(true))],
            },
            6 => Plan::Stock {
                base: Box::new(mean.clone()),
                of: vec![load("a"), load("b"), trimmed(kept(false))],
            },
            _ => mean,
        };
        model.weights.get_mut(&name).unwrap().plan = plan;
    }
}

fn write(stream: &WeightStream<'_>, model: &Model, folder: &Path, limits: Limits) -> Result<()> {
    let uses = model.weight_uses();
    let specs = weight_shapes(model)?.into_iter();
    let specs = specs.map(|(name, shape)| {
        let dtype = Dtype::from(uses[&name].ty.dtype);
        TensorSpec::new(name, dtype, shape)
    });
    let mut writer = CheckpointWriter::create(folder, specs.collect(), WriteOptions::default())?;
    assert!(stream.write(&mut writer, limits, &mut Silent, &Stop::default())?);
    writer.finish()?;
    Ok(())
}

#[test]
fn the_bytes_depend_neither_on_threads_nor_on_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, sources) = parents(folder.path());
    plans(&mut model);
    let stream = WeightStream::new(&model, 7, &sources).unwrap();
    let mut seen: Option<Vec<u8>> = None;
    let plenty = Limits::default().memory.max(stream.least_memory());
    for (index, (threads, memory)) in [
        (1, plenty),
        (2, plenty),
        (5, plenty),
        (1, stream.least_memory()),
        (5, stream.least_memory() + 100_000),
    ]
    .into_iter()
    .enumerate()
    {
        let place = folder.path().join(format!("out{index}"));
        let limits = Limits { memory, threads };
        write(&stream, &model, &place, limits).unwrap();
        let bytes = fs::read(place.join("model.safetensors")).unwrap();
        let first = seen.get_or_insert_with(|| bytes.clone());
        assert!(
            *first == bytes,
            "{threads} threads in {memory} bytes differ"
        );
        let peak = stream.peak_memory(limits).unwrap();
        assert!(peak <= memory, "{peak} of {memory}");
        // As much as is needed at least, and no more than all weights at once take.
        assert!(peak >= stream.least_memory(), "{peak}");
    }
    // And they are those of the plans evaluated whole.
    let reader = CheckpointReader::open(folder.path().join("out0")).unwrap();
    for (name, shape) in weight_shapes(&model).unwrap() {
        let plan = PlanRows::new(&model.weights[&name].plan, &name, &shape, 7, &sources);
        let mut whole = plan.all().unwrap();
        super::super::rows::round_to(jam_ir::DType::BF16, &mut whole);
        assert_eq!(reader.read_f32(&name).unwrap(), whole, "{name}");
    }
}

/// Bytes counted for a run against the buffers that it really takes.
#[test]
fn a_run_takes_no_more_than_is_counted_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, sources) = parents(folder.path());
    plans(&mut model);
    let stream = WeightStream::new(&model, 7, &sources).unwrap();
    let mut closest = f64::INFINITY;
    for (index, weight) in stream.weights.iter().enumerate() {
        let total = weight.rows();
        for rows in [1, 2, total / 3, total / 2, total] {
            for start in [0, total / 3, total - rows.min(total)] {
                let rows = start..total.min(start + rows.max(1));
                let run = Run {
                    weight: index,
                    bytes: weight.run_bytes(rows.end - rows.start),
                    rows,
                };
                let buffers = Buffers::new(0);
                stream.evaluate(&run, &buffers).unwrap();
                let rows = run.rows.end - run.rows.start;
                let counted = (weight.row_bytes() + weight.bytes.bands) * rows;
                let taken = buffers.total();
                let name = &weight.name;
                assert!(
                    taken <= run.bytes,
                    "{name} {rows}: {taken} of {}",
                    run.bytes
                );
                if !weight.bytes.moves_rows {
                    assert!(taken <= counted, "{name} {rows}: {taken} of {counted}");
                    closest = closest.min(counted as f64 / taken as f64);
                }
            }
        }
    }
    assert!(
        closest < 1.01,
        "nothing is as large as it is counted: {closest}"
    );
}

#[test]
fn too_little_memory_is_refused_with_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, sources) = parents(folder.path());
    for (name, weight) in &mut model.weights {
        weight.plan = Plan::load("a", name.clone());
    }
    let stream = WeightStream::new(&model, 7, &sources).unwrap();
    let least = stream.least_memory();
    let limits = |memory| Limits { memory, threads: 2 };
    assert!(stream.runs(stream.room(limits(least)).unwrap()).len() > 500);
    let error = stream.room(limits(least - 1000)).unwrap_err();
    let help = error.help.unwrap();
    let numbers = help.split([' ', '`']).filter_map(|word| word.parse().ok());
    let said: Vec<u64> = numbers.collect();
    assert_eq!(said[0], least.div_ceil(1 << 20), "{help}");
    stream.room(limits(said[0] << 20)).unwrap();
    let error = write(&stream, &model, &folder.path().join("out"), limits(1 << 20));
    assert!(error.unwrap_err().message.contains("1 MiB of memory"));
}

/// With the least memory a matrix that lies the other way about is read in pieces of one number.
#[test]
fn enough_memory_reads_no_short_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, sources) = parents(folder.path());
    plans(&mut model);
    let stream = WeightStream::new(&model, 7, &sources).unwrap();
    let shortest = |memory| {
        let runs = stream.runs(stream.room(Limits { memory, threads: 2 }).unwrap());
        let shortness = |run: &Run| {
            let weight = &stream.weights[run.weight];
            let rows = run.rows.end - run.rows.start;
            let whole = rows == weight.rows();
            let piece = match (weight.bytes.piece, whole) {
                (0, _) | (_, true) => u64::MAX,
                (piece, false) => piece * rows,
            };
            assert_eq!(weight.shortness(rows) > 0, piece < SHORT_PIECE);
            piece
        };
        runs.iter().map(shortness).min().unwrap()
    };
    assert_eq!(shortest(stream.least_memory()), 2);
    assert!(shortest(stream.fast_memory()) >= SHORT_PIECE);
    assert!(stream.fast_memory() > stream.least_memory());
    // Every length of pieces is tried, and every entry is counted.
    for memory in [stream.least_memory(), stream.fast_memory()] {
        let limits = Limits { memory, threads: 1 };
        let seconds = stream.sample_seconds(limits, 1 << 16).unwrap();
        assert!(seconds.is_finite() && seconds > 0.0);
    }
}

#[test]
fn what_is_missing_is_told_before_a_byte_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, sources) = parents(folder.path());
    plans(&mut model);
    let told = |model: &Model| {
        let stream = WeightStream::new(model, 7, &sources);
        stream
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert_eq!(told(&model), "");
    let weight = &mut model.weights.get_mut("final_norm.gain").unwrap().plan;
    *weight = Plan::load("a", "final_norm.gone");
    assert!(told(&model).contains("`a` has no `final_norm.gone`"));
    *model.weights.get_mut("final_norm.gain").unwrap() = jam_ir::Weight {
        plan: Plan::load("a", "layers.0.mlp.up"),
        ..model.weights["final_norm.gain"].clone()
    };
    assert!(told(&model).contains("do not agree"), "{}", told(&model));
}
