//! Rows of a table by id, with a dense gradient summed in a fixed order.

use super::buffer::{Flat, filled, flat, floats, integers, on_flex, piece_rows};
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

/// `table[ids]`: table `[vocab, width]`, ids `[batch, time]` below vocab, result `[batch, time, width]`.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if !on_flex(&table) {
        return embedding_reference(table, ids);
    }
    Tensor::from_dispatch(Dispatch::embedding(
        table.into_dispatch(),
        ids.into_dispatch(),
    ))
}

/// [`embedding`] by plain tensor operations.
pub fn embedding_reference(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}

/// The gather as a backend operation.
#[backend_extension(Flex, Autodiff)]
trait EmbeddingOps: Backend {
    /// See [`embedding`].
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

impl EmbeddingOps for Flex {
    fn embedding(table: Flat, ids: Flat) -> Flat {
        gather(&table, &ids).0
    }
}

impl<C: CheckpointStrategy> EmbeddingOps for Autodiff<Flex, C> {
    fn embedding(table: FloatTensor<Self>, ids: Flat) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gather;

        impl Backward<Flex, 1> for Gather {
            type State = (Vec<usize>, [usize; 2]);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let (ids, table) = ops.state;
                if let [Some(node)] = ops.parents {
                    grads.register::<Flex>(node.id, scatter_add(&grad, &ids, table));
                }
            }
        }

        let nodes = [table.node()];
        let (out, rows) = gather(table.primitive(), &ids);
        let shape = table.primitive().layout().shape();
        let sides = [shape[0], shape[1]];
        taped!(C, Gather, nodes, (rows, sides), out)
    }
}

/// The rows, and the ids as they were found.
fn gather(table: &Flat, ids: &Flat) -> (Flat, Vec<usize>) {
    let shape = table.layout().shape();
    let (vocab, width) = (shape[0], shape[1]);
    let times = ids.layout().shape();
    let out_shape = [times[0], times[1], width];
    let rows: Vec<usize> = integers(ids)
        .into_iter()
        .map(|id| {
            assert!(
                (0..vocab as i64).contains(&id),
                "embedding: id {id} in a table of {vocab} rows"
            );
            id as usize
        })
        .collect();
    let table = floats(table);
    let out = filled(rows.len() * width, |out| {
        let piece = piece_rows(width);
        out.par_chunks_mut((piece * width).max(1))
            .zip(rows.par_chunks(piece))
            .for_each(|(out, rows)| {
                for (out, &row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
                    out.copy_from_slice(&table[row * width..][..width]);
                }
            });
    });
    (flat(out, out_shape), rows)
}

/// A table of zeros to which every row of `grad` is added at its id, in the order of the rows.
fn scatter_add(grad: &Flat, ids: &[usize], [vocab, width]: [usize; 2]) -> Flat {
    let grad = floats(grad);
    // Rows sorted by id, in their order within an id.
    let mut starts = vec![0; vocab + 1];
    for &id in ids {
        starts[id + 1] += 1;
    }
    for id in 0..vocab {
        starts[id + 1] += starts[id];
    }
    let mut next = starts.clone();
    let mut sorted = vec![0; ids.len()];
    for (row, &id) in ids.iter().enumerate() {
        sorted[next[id]] = row;
        next[id] += 1;
    }
    let mut table = vec![0.0; vocab * width];
    table
        .par_chunks_mut(width.max(1))
        .with_min_len(64)
        .enumerate()
        .for_each(|(id, out)| {
            for &row in &sorted[starts[id]..starts[id + 1]] {
                for (sum, &x) in out.iter_mut().zip(&grad[row * width..][..width]) {
                    *sum += x;
                }
            }
        });
    flat(table, [vocab, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::comparison::*;
    use burn::tensor::TensorData;

    fn ids(batch: usize, time: usize, vocab: usize) -> Tensor<2, Int> {
        let ids: Vec<i32> = (0..batch * time)
            .map(|i| (i * i * 7 % vocab) as i32)
            .collect();
        Tensor::from_data(TensorData::new(ids, [batch, time]), &device())
    }

    #[test]
    fn matches_the_reference() {
        for (batch, time, vocab, width) in [(1, 1, 1, 1), (2, 9, 5, 3), (3, 211, 301, 64)] {
            assert_same(
                "embedding",
                vec![AnyTensor::Two(random([vocab, width], 1))],
                |i| embedding(i[0].two(), ids(batch, time, vocab)),
                |i| embedding_reference(i[0].two(), ids(batch, time, vocab)),
                1e-5,
            );
        }
    }

    #[test]
    fn threads_do_not_matter() {
        assert_threads_do_not_matter(|| {
            let table = random([50, 40], 1);
            let y = embedding(table.clone(), ids(4, 500, 50));
            let grads = (y.clone() * y.clone()).sum().backward();
            vec![y.into_data(), table.grad(&grads).unwrap().into_data()]
        });
    }
}
