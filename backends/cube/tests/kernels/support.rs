//! Devices, element types, buffers with random numbers, and the comparison.

use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};
use jam_cube::cubecl;

/// A device to compare on.
pub(crate) struct Device {
    /// As `JAM_DEVICES` names it.
    pub(crate) name: String,
    pub(crate) client: Client,
}

/// The devices that are named, or all kinds that are built in.
///
/// # Panics
/// Where none is: a comparison that runs nowhere shows nothing.
pub(crate) fn devices() -> Vec<Device> {
    let built = [
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu:cpu", cfg!(feature = "wgpu")),
    ];
    let built: Vec<&str> = built
        .iter()
        .filter(|(_, built)| *built)
        .map(|(name, _)| *name)
        .collect();
    let named = std::env::var("JAM_DEVICES").unwrap_or_else(|_| built.join(","));
    let names = named
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "cpu");
    let devices: Vec<Device> = names.map(open).collect();
    assert!(
        !devices.is_empty(),
        "no device: build with --features cuda or wgpu"
    );
    devices
}

fn open(name: &str) -> Device {
    let client = match name {
        #[cfg(feature = "cuda")]
        "cuda" => cubecl::Device::Cuda(cubecl::device::CudaDevice { index: 0 }).client(),
        #[cfg(feature = "wgpu")]
        "wgpu" => cubecl::Device::Wgpu(cubecl::wgpu::WgpuDevice::default()).client(),
        #[cfg(feature = "wgpu")]
        "wgpu:cpu" => {
            let device = cubecl::wgpu::WgpuDevice::new(cubecl::wgpu::WgpuDeviceKind::Cpu);
            cubecl::Device::Wgpu(device).client()
        }
        _ => panic!("`{name}` is no device that these tests were built with"),
    };
    Device {
        name: name.to_owned(),
        client,
    }
}

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
}

impl Kind {
    pub(crate) fn elem(self) -> ElemType {
        match self {
            Kind::F32 => f32::elem_type_native(),
            Kind::F16 => f16::elem_type_native(),
            Kind::Bf16 => bf16::elem_type_native(),
        }
    }

    /// What results may differ by, relative to the largest number, or to 1.
    pub(crate) fn tolerance(self) -> f64 {
        if self == Kind::F32 { 1e-5 } else { 1e-2 }
    }
}

/// A buffer on a device, and the numbers that it held when it was made.
#[derive(Clone)]
pub(crate) struct Stored {
    handle: Handle,
    pub(crate) values: Vec<f64>,
}

impl Stored {
    /// The buffer as a kernel takes it.
    pub(crate) fn arg(&self) -> BufferArg {
        // SAFETY: as many elements as it was made with.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.values.len()) }
    }

    /// The buffer itself.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Device {
    /// The element types that this device computes with.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let all = [Kind::F32, Kind::F16, Kind::Bf16];
        let usable = |kind: &Kind| {
            let usage = self.client.properties().type_usage(kind.elem());
            usage.contains(cubecl::ir::features::TypeUsage::Buffer)
                && usage.contains(cubecl::ir::features::TypeUsage::Arithmetic)
        };
        all.into_iter().filter(usable).collect()
    }

    /// Numbers rounded to a type and brought to the device.
    pub(crate) fn put(&self, kind: Kind, values: &[f64]) -> Stored {
        let (bytes, values) = match kind {
            Kind::F32 => {
                let rounded: Vec<f32> = values.iter().map(|&x| x as f32).collect();
                (
                    f32::as_bytes(&rounded).to_vec(),
                    rounded.iter().map(|&x| f64::from(x)).collect(),
                )
            }
            Kind::F16 => {
                let rounded: Vec<f16> = values.iter().map(|&x| f16::from_f64(x)).collect();
                (
                    f16::as_bytes(&rounded).to_vec(),
                    rounded.iter().map(|x| x.to_f64()).collect(),
                )
            }
            Kind::Bf16 => {
                let rounded: Vec<bf16> = values.iter().map(|&x| bf16::from_f64(x)).collect();
                (
                    bf16::as_bytes(&rounded).to_vec(),
                    rounded.iter().map(|x| x.to_f64()).collect(),
                )
            }
        };
        Stored {
            handle: self.client.create_from_slice(&bytes),
            values,
        }
    }

    /// Whole numbers, as `i32`.
    pub(crate) fn put_ids(&self, ids: &[i32]) -> Stored {
        Stored {
            handle: self.client.create_from_slice(i32::as_bytes(ids)),
            values: ids.iter().map(|&id| f64::from(id)).collect(),
        }
    }

    /// Random numbers, the same for a seed.
    pub(crate) fn noise(&self, kind: Kind, len: usize, seed: u64) -> Stored {
        self.put(kind, &noise(len, seed))
    }

    /// A buffer to be written; what it holds is not a number, so that what a kernel leaves out is seen.
    pub(crate) fn empty(&self, kind: Kind, len: usize) -> Stored {
        self.put(kind, &vec![f64::NAN; len])
    }

    /// The numbers of a buffer.
    pub(crate) fn read(&self, kind: Kind, stored: &Stored) -> Vec<f64> {
        let bytes = self.client.read_one_unchecked(stored.handle.clone());
        match kind {
            Kind::F32 => f32::from_bytes(&bytes)
                .iter()
                .map(|&x| f64::from(x))
                .collect(),
            Kind::F16 => f16::from_bytes(&bytes).iter().map(|x| x.to_f64()).collect(),
            Kind::Bf16 => bf16::from_bytes(&bytes)
                .iter()
                .map(|x| x.to_f64())
                .collect(),
        }
    }

    /// The whole numbers of a buffer of `i32`.
    pub(crate) fn read_ids(&self, stored: &Stored) -> Vec<i32> {
        i32::from_bytes(&self.client.read_one_unchecked(stored.handle.clone())).to_vec()
    }

    /// Compares a buffer with what it should hold, and prints a line of the table; `kind` is the type of the
    /// buffer, `of` the one that the kernel computes in.
    pub(crate) fn compare(&self, what: &str, kind: Kind, of: Kind, got: &Stored, want: &[f64]) {
        let got = self.read(kind, got);
        assert_eq!(got.len(), want.len(), "{what}: elements");
        let largest = want.iter().fold(1.0f64, |top, x| top.max(x.abs()));
        let mut worst = 0.0f64;
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!(
                g.is_finite(),
                "{what} on {} in {of:?}: element {i} is {g}, not {w}",
                self.name
            );
            worst = worst.max((g - w).abs() / largest);
        }
        println!(
            "{what:<58} {:<9} {:<5} {worst:.1e}",
            self.name,
            format!("{of:?}")
        );
        assert!(
            worst <= of.tolerance(),
            "{what} on {} in {of:?}: off by {worst:.1e} of {largest}",
            self.name
        );
    }
}

/// Numbers about normally distributed, the same for a seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut uniform = move || {
        // SplitMix64 (Steele et al. 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..len)
        .map(|_| (0..4).map(|_| uniform() - 0.5).sum::<f64>() * 1.7)
        .collect()
}

/// Runs a comparison on every device and in every element type that it has.
pub(crate) fn everywhere(compare: impl Fn(&Device, Kind)) {
    for device in devices() {
        for kind in device.kinds() {
            compare(&device, kind);
        }
    }
}
