//! Rows of a table against the reference, values and gradients.

use super::*;
use crate::kernels::comparison::*;

fn ids(batch: usize, time: usize, vocab: usize) -> Ids {
    let ids = (0..batch * time).map(|i| (i * i * 7 % vocab) as u32);
    Ids::new(ids.collect(), batch, &device())
}

#[test]
fn matches_the_reference() {
    everywhere(|| {
        for (batch, time, vocab, width) in [(1, 1, 1, 1), (2, 9, 5, 3), (3, 211, 301, 64)] {
            assert_same(
                "embedding",
                vec![AnyTensor::Two(random([vocab, width], 1))],
                |i| embedding(i[0].two(), &ids(batch, time, vocab)),
                |i| embedding_reference(i[0].two(), ids(batch, time, vocab).tensor().clone()),
                1e-5,
            );
        }
    });
}

#[test]
fn threads_do_not_matter() {
    assert_threads_do_not_matter(|| {
        let table = random([50, 40], 1);
        let y = embedding(table.clone(), &ids(4, 500, 50));
        let grads = (y.clone() * y.clone()).sum().backward();
        vec![y.into_data(), table.grad(&grads).unwrap().into_data()]
    });
}

#[test]
fn ids_that_only_the_device_knows_name_the_same_rows() {
    everywhere(|| {
        let table = random([50, 40], 1);
        let known = ids(4, 30, 50);
        let computed = Ids::computed(known.tensor().clone());
        let both = [&known, &computed].map(|ids| {
            let y = embedding(table.clone(), ids);
            let grads = (y.clone() * y.clone()).sum().backward();
            (y.into_data(), table.grad(&grads).unwrap().into_data())
        });
        assert_eq!(both[0], both[1]);
        let moved: Vec<i64> = known
            .shifted(7)
            .tensor()
            .clone()
            .into_data()
            .iter()
            .collect();
        let first: Vec<i64> = known.tensor().clone().into_data().iter().collect();
        assert!(moved.iter().zip(&first).all(|(a, b)| *a == b + 7));
    });
}
