//! The list that a family of kernels adds its launches to.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use cubecl::client::Client;
use cubecl::prelude::*;
use half::{bf16, f16};
use jam_cube::cubecl;

/// Tokens of a step.
pub(crate) const TOKENS: usize = 4096;
/// Features of a token.
pub(crate) const WIDTH: usize = 4096;

/// Launches that are timed together, and how often; the median counts.
const TOGETHER: usize = 5;
const TIMES: usize = 7;

/// An element type, as labels name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) elem: ElemType,
    pub(crate) bytes: usize,
}

/// The element types that kernels are launched in.
pub(crate) fn types() -> [Type; 3] {
    let of = |name, elem: ElemType| Type {
        name,
        elem,
        bytes: elem.size(),
    };
    [
        of("f32", f32::elem_type_native()),
        of("f16", f16::elem_type_native()),
        of("bf16", bf16::elem_type_native()),
    ]
}

/// What a launch costs at least: bytes read and written, operations on floating-point numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) bytes: usize,
    pub(crate) flops: usize,
}

/// A buffer of a device.
pub(crate) struct Buffer {
    handle: cubecl::server::Handle,
    len: usize,
}

impl Buffer {
    /// The buffer as a kernel takes it.
    pub(crate) fn arg(&self) -> BufferArg {
        // SAFETY: as many elements as it was made for.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.len) }
    }

    /// The buffer itself.
    pub(crate) fn handle(&self) -> cubecl::server::Handle {
        self.handle.clone()
    }
}

/// Runs what is added to it, once it is added, so that buffers live no longer than they must.
pub(crate) struct List {
    pub(crate) client: Client,
    words: Vec<String>,
    /// The file of launches, where nothing is run.
    launches: Option<PathBuf>,
    count: usize,
}

impl List {
    pub(crate) fn new(words: Vec<String>) -> List {
        let launches = std::env::var_os("COC_SOURCES").map(|at| PathBuf::from(at).join("launches"));
        if launches.is_none() {
            println!(
                "{:<56} {:>10} {:>8} {:>8}",
                "kernel", "ms", "GB/s", "TFLOP/s"
            );
        }
        List {
            client: cubecl::Device::Cuda(cubecl::device::CudaDevice { index: 0 }).client(),
            words,
            launches,
            count: 0,
        }
    }

    /// Whether a label is asked for: what is not needs no buffers.
    pub(crate) fn wants(&self, label: &str) -> bool {
        self.words.iter().all(|word| label.contains(word.as_str()))
    }

    /// A buffer of `len` elements; what it holds is not said.
    pub(crate) fn empty(&self, ty: Type, len: usize) -> Buffer {
        self.bytes(ty.bytes, len)
    }

    /// A buffer of `len` numbers in f32.
    pub(crate) fn floats(&self, len: usize) -> Buffer {
        self.bytes(size_of::<f32>(), len)
    }

    fn bytes(&self, size: usize, len: usize) -> Buffer {
        Buffer {
            handle: self.client.empty(len * size),
            len,
        }
    }

    /// A buffer of whole numbers.
    pub(crate) fn words(&self, values: &[u32]) -> Buffer {
        Buffer {
            handle: self.client.create_from_slice(u32::as_bytes(values)),
            len: values.len(),
        }
    }

    /// Times a launch, or has it written to the file of launches.
    pub(crate) fn kernel(&mut self, label: &str, cost: Cost, launch: impl Fn(&Client)) {
        if !self.wants(label) {
            return;
        }
        self.count += 1;
        self.sync();
        if let Some(path) = &self.launches {
            let mut file = OpenOptions::new().create(true).append(true).open(path);
            let write = |file: &mut std::fs::File| writeln!(file, "# {label}");
            file.as_mut()
                .map_err(|error| error.to_string())
                .and_then(|file| write(file).map_err(|error| error.to_string()))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            launch(&self.client);
            self.sync();
            return;
        }
        launch(&self.client);
        launch(&self.client);
        self.sync();
        let mut times: Vec<f64> = (0..TIMES)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..TOGETHER {
                    launch(&self.client);
                }
                self.sync();
                start.elapsed().as_secs_f64() / TOGETHER as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let time = times[TIMES / 2];
        println!(
            "{label:<56} {:>10.3} {:>8.0} {:>8.2}",
            time * 1e3,
            cost.bytes as f64 / time / 1e9,
            cost.flops as f64 / time / 1e12
        );
    }

    fn sync(&self) {
        let synced = cubecl::future::block_on(self.client.sync());
        synced.unwrap_or_else(|error| panic!("a launch failed: {error:?}"));
    }

    /// # Panics
    /// Where no label has the words: nothing would have been shown.
    pub(crate) fn end(self) {
        assert!(self.count > 0, "no label has all of {:?}", self.words);
    }
}
