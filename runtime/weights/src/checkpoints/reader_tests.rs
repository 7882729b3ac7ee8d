//! Checkpoints written by hand and by the `safetensors` crate, read back; damage that must be found.

use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;

use super::*;

/// A file written by the reference implementation of the format.
fn reference_file(path: &Path, tensors: &[(&str, safetensors::Dtype, Vec<usize>, Vec<u8>)]) {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (
                *name,
                TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(path, bytes).unwrap();
}

fn floats(values: &[f32]) -> Vec<u8> {
    Dtype::F32.from_f32(values).unwrap()
}

#[test]
fn files_of_the_reference_implementation_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    reference_file(
        &path,
        &[
            (
                "w",
                safetensors::Dtype::F32,
                vec![3, 2],
                floats(&[1., 2., 3., 4., 5., 6.]),
            ),
            (
                "h",
                safetensors::Dtype::BF16,
                vec![2],
                Dtype::BF16.from_f32(&[1.5, -2.0]).unwrap(),
            ),
            (
                "ids",
                safetensors::Dtype::I64,
                vec![1, 2],
                [5i64.to_le_bytes(), (-6i64).to_le_bytes()].concat(),
            ),
            ("one", safetensors::Dtype::F32, vec![], floats(&[7.0])),
            ("none", safetensors::Dtype::F32, vec![0, 4], vec![]),
        ],
    );
    for place in [folder.path(), &path] {
        let reader = CheckpointReader::open(place).unwrap();
        assert_eq!(reader.tensors().len(), 5);
        assert_eq!(reader.read_f32("w").unwrap(), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(reader.read_rows_f32("w", 1..3).unwrap(), [3., 4., 5., 6.]);
        assert!(reader.read_rows_f32("w", 1..1).unwrap().is_empty());
        assert_eq!(reader.read_f32("h").unwrap(), [1.5, -2.0]);
        assert_eq!(reader.read_i64("ids").unwrap(), [5, -6]);
        assert_eq!(reader.read_f32("one").unwrap(), [7.0]);
        assert!(reader.read_f32("none").unwrap().is_empty());
        assert!(reader.read_f32("ids").unwrap_err().message.contains("I64"));
        assert!(reader.read_i64("w").unwrap_err().message.contains("F32"));
        assert!(
            reader
                .read_rows_f32("w", 2..4)
                .unwrap_err()
                .message
                .contains("3 rows")
        );
        assert!(
            reader
                .read_f32("q")
                .unwrap_err()
                .message
                .contains("no tensor `q`")
        );
    }
}

#[test]
fn shards_are_read_through_their_index_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    reference_file(
        &place("a.safetensors"),
        &[("a", safetensors::Dtype::F32, vec![1], floats(&[1.0]))],
    );
    reference_file(
        &place("b.safetensors"),
        &[("b", safetensors::Dtype::F32, vec![1], floats(&[2.0]))],
    );
    let index = |map: &str| {
        fs::write(
            place(INDEX_FILE),
            format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#),
        )
        .unwrap();
        CheckpointReader::open(folder.path())
    };
    let reader = index(r#"{"b":"b.safetensors","a":"a.safetensors"}"#).unwrap();
    assert_eq!(reader.read_f32("a").unwrap(), [1.0]);
    assert_eq!(reader.read_f32("b").unwrap(), [2.0]);
    let outside = tempfile::tempdir().unwrap();
    let far = outside.path().join("a.safetensors");
    fs::copy(place("a.safetensors"), &far).unwrap();
    for (map, expected) in [
        (
            r#"{"a":"a.safetensors","c":"b.safetensors"}"#.to_owned(),
            "names `c`",
        ),
        (
            r#"{"a":"a.safetensors","b":"c.safetensors"}"#.to_owned(),
            "`c.safetensors`, which is not there",
        ),
        (
            r#"{"a":"b.safetensors","b":"a.safetensors"}"#.to_owned(),
            "says that `a` is in `b.safetensors`",
        ),
        (
            r#"{"a":"../a.safetensors"}"#.to_owned(),
            "outside its folder",
        ),
        (r#"{"a":".."}"#.to_owned(), "outside its folder"),
        (r#"{"a":""}"#.to_owned(), "outside its folder"),
        (
            format!(r#"{{"a":{:?}}}"#, far.display().to_string()),
            "outside its folder",
        ),
        (r#"["a"]"#.to_owned(), "the index is wrong"),
    ] {
        let message = index(&map).unwrap_err().message;
        assert!(message.contains(expected), "{map}: {message}");
    }
}

#[test]
fn a_folder_without_a_checkpoint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = CheckpointReader::open(folder.path()).unwrap_err();
    assert!(error.message.contains("no model.safetensors"));
    fs::write(folder.path().join("pytorch_model.bin"), b"x").unwrap();
    let error = CheckpointReader::open(folder.path()).unwrap_err();
    assert!(error.help.unwrap().contains("nothing is executed"));
    assert!(CheckpointReader::open(folder.path().join("absent")).is_err());
}

/// Damage at random places of a good file: never a panic, and never wrong sizes.
#[test]
fn damaged_files_are_errors_or_keep_their_sizes() {
    use rand::{RngExt, SeedableRng};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    reference_file(
        &path,
        &[
            (
                "w",
                safetensors::Dtype::F32,
                vec![3, 2],
                floats(&[1., 2., 3., 4., 5., 6.]),
            ),
            ("v", safetensors::Dtype::F16, vec![4], vec![0; 8]),
        ],
    );
    let good = fs::read(&path).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for _ in 0..2000 {
        let mut bad = good.clone();
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..bad.len());
            bad[place] = random.random();
        }
        if random.random_bool(0.2) {
            bad.truncate(random.random_range(0..bad.len()));
        }
        fs::write(&path, &bad).unwrap();
        if let Ok(reader) = CheckpointReader::open(&path) {
            for (name, info) in reader.tensors() {
                if let Ok(values) = reader.read_f32(name) {
                    assert_eq!(values.len() as u64, info.shape.iter().product::<u64>());
                }
            }
        }
    }
}
