//! Choosing a device at run time, and telling what this machine offers.
//!
//! A choice is written `auto`, `cpu`, `wgpu`, `wgpu:cpu`, `wgpu:N`, `cuda` or `cuda:N`. The CPU is
//! always there. `auto` takes the first CUDA device, else the first GPU under wgpu, else the CPU; a
//! software Vulkan driver is used only where it is named: by `wgpu:cpu`, or by `wgpu` with
//! `CUBECL_WGPU_DEFAULT_DEVICE=Cpu` in the environment.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::ExecError;
use crate::kernels::served::Place;

/// Which device to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The fastest kind that this machine has and this program was built with.
    #[default]
    Auto,
    /// The processor (Burn's Flex).
    Cpu,
    /// A device under wgpu: Vulkan, Metal or Direct3D.
    Wgpu(WgpuChoice),
    /// The CUDA device with this number.
    Cuda(usize),
}

/// Which device under wgpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WgpuChoice {
    /// What wgpu prefers, or `CUBECL_WGPU_DEFAULT_DEVICE` names.
    #[default]
    Default,
    /// A software driver on the processor.
    Software,
    /// The GPU with this number, discrete ones first.
    Gpu(usize),
}

/// A word that names no device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no device `{}`: use auto, cpu, wgpu, wgpu:cpu, wgpu:N, cuda or cuda:N",
            self.0
        )
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<DeviceChoice, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        let number = |digits: &str| {
            digits
                .parse::<u16>()
                .map(usize::from)
                .map_err(|_| unknown())
        };
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(DeviceChoice::Auto),
                "cpu" => Ok(DeviceChoice::Cpu),
                "wgpu" => Ok(DeviceChoice::Wgpu(WgpuChoice::Default)),
                "cuda" => Ok(DeviceChoice::Cuda(0)),
                _ => Err(unknown()),
            },
            Some(("wgpu", "cpu")) => Ok(DeviceChoice::Wgpu(WgpuChoice::Software)),
            Some(("wgpu", digits)) => Ok(DeviceChoice::Wgpu(WgpuChoice::Gpu(number(digits)?))),
            Some(("cuda", digits)) => Ok(DeviceChoice::Cuda(number(digits)?)),
            Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Wgpu(WgpuChoice::Default) => f.write_str("wgpu"),
            DeviceChoice::Wgpu(WgpuChoice::Software) => f.write_str("wgpu:cpu"),
            DeviceChoice::Wgpu(WgpuChoice::Gpu(index)) => write!(f, "wgpu:{index}"),
            DeviceChoice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The device, once it is known to be there.
    ///
    /// # Errors
    /// When this machine has no such device, or the program was built without its kind.
    pub fn open(self) -> Result<Device, ExecError> {
        match self {
            DeviceChoice::Cpu => Ok(Device::flex()),
            DeviceChoice::Cuda(index) => cuda::open(index),
            DeviceChoice::Wgpu(choice) => wgpu::open(choice),
            DeviceChoice::Auto => Ok(cuda::open(0)
                .or_else(|_| wgpu::open(WgpuChoice::Gpu(0)))
                .unwrap_or_else(|_| Device::flex())),
        }
    }
}

/// Whether a kind of device is built in, and which devices of it this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What `--device` calls it: `cpu`, `wgpu`, `cuda`.
    pub name: &'static str,
    /// Which kernels its devices run.
    pub place: Place,
    /// Whether this program was built with it.
    pub built: bool,
    /// Devices found, as [`DeviceChoice`] prints them, each with a description.
    pub devices: Vec<(String, String)>,
    /// Why nothing was found, or what keeps a device from being used.
    pub note: Option<String>,
}

/// What this machine offers and what the program was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doctor {
    /// Kinds of devices, the CPU first.
    pub kinds: Vec<Kind>,
    /// Threads that the processor runs at once.
    pub threads: usize,
    /// Vector instructions of the processor: `baseline`, `neon`, `avx2` or `avx512`.
    pub simd: &'static str,
    /// What `--device auto` takes.
    pub auto: String,
}

/// The widest vector instructions of this processor that CPU kernels are written for.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let all = |found: &[bool]| found.iter().all(|&found| found);
        let v3 = [
            is_x86_feature_detected!("avx2"),
            is_x86_feature_detected!("fma"),
        ];
        let v4 = [
            is_x86_feature_detected!("avx512f"),
            is_x86_feature_detected!("avx512bw"),
            is_x86_feature_detected!("avx512dq"),
            is_x86_feature_detected!("avx512vl"),
        ];
        match (all(&v3), all(&v4)) {
            (true, true) => return "avx512",
            (true, false) => return "avx2",
            (false, _) => {}
        }
    }
    if cfg!(target_arch = "aarch64") {
        "neon"
    } else {
        "baseline"
    }
}

/// Looks for devices. Never panics; may take seconds where GPU drivers have to be loaded.
pub fn doctor() -> Doctor {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let simd = instruction_set();
    let cpu = Kind {
        name: "cpu",
        place: Place::Processor,
        built: true,
        devices: vec![("cpu".to_owned(), format!("{threads} threads, {simd}"))],
        note: None,
    };
    let (wgpu, cuda) = (wgpu::kind(), cuda::kind());
    let first_gpu = |kind: &Kind| {
        let mut names = kind.devices.iter().map(|(name, _)| name);
        names.find(|name| *name != "wgpu:cpu").cloned()
    };
    let auto = first_gpu(&cuda).or_else(|| first_gpu(&wgpu));
    Doctor {
        auto: auto.unwrap_or_else(|| "cpu".to_owned()),
        kinds: vec![cpu, wgpu, cuda],
        threads,
        simd,
    }
}

/// Runs a probe of a driver; a panic in it is a failure like any other, and prints nothing.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn probe<T>(look: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
    std::panic::set_hook(hook);
    found.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("the driver failed").to_owned()
    })
}

/// The devices of a type that a probe finds.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn devices(kind: burn::tensor::DeviceType) -> Result<Vec<Device>, String> {
    probe(|| Device::enumerate(kind).into_vec())
}

#[cfg(feature = "cuda")]
mod cuda {
    //! CUDA devices, with this feature built in.

    use super::{DeviceChoice, Kind, Place, devices, probe};
    use crate::error::ExecError;
    use burn::tensor::{Device, DeviceType, Tensor};

    pub(super) fn open(index: usize) -> Result<Device, ExecError> {
        let found = devices(DeviceType::Cuda).map_err(ExecError::Device)?;
        if found.is_empty() {
            let reason = "no CUDA device: there is no NVIDIA driver or no card";
            return Err(ExecError::Device(reason.to_owned()));
        }
        if index >= found.len() {
            return Err(ExecError::Device(format!(
                "no CUDA device {index}: this machine has {}",
                found.len()
            )));
        }
        let device = Device::cuda(index);
        usable(&device).map_err(|reason| {
            ExecError::Device(format!("the CUDA device {index} cannot be used: {reason}"))
        })?;
        Ok(device)
    }

    /// Adds two numbers there: this needs the driver, NVRTC and its headers.
    fn usable(device: &Device) -> Result<(), String> {
        let sum = probe(|| {
            let ones = Tensor::<1>::ones([2], device);
            (ones.clone() + ones)
                .try_into_vec_as::<f32>()
                .map_err(|e| e.to_string())
        })??;
        match sum[..] {
            [2.0, 2.0] => Ok(()),
            _ => Err("it does not add".to_owned()),
        }
    }

    pub(super) fn kind() -> Kind {
        let found = devices(DeviceType::Cuda);
        let note = match &found {
            Err(reason) => Some(reason.clone()),
            Ok(found) if found.is_empty() => Some("no CUDA device".to_owned()),
            Ok(found) => usable(&found[0]).err(),
        };
        let described = found.unwrap_or_default().into_iter().enumerate();
        let devices = described.map(|(index, device)| {
            let name = probe(|| device.identity().map(|identity| identity.name));
            let name = name
                .ok()
                .flatten()
                .unwrap_or_else(|| "a CUDA device".to_owned());
            (DeviceChoice::Cuda(index).to_string(), name)
        });
        Kind {
            name: "cuda",
            place: Place::Gpu,
            built: true,
            devices: devices.collect(),
            note,
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    //! CUDA devices, without this feature.

    use super::{Kind, Place};
    use crate::error::ExecError;
    use burn::tensor::Device;

    const BUILD: &str = "built without the feature cuda: cargo build --release --features cuda";

    pub(super) fn open(_: usize) -> Result<Device, ExecError> {
        Err(ExecError::Device(BUILD.to_owned()))
    }

    pub(super) fn kind() -> Kind {
        Kind {
            name: "cuda",
            place: Place::Gpu,
            built: false,
            devices: Vec::new(),
            note: Some(BUILD.to_owned()),
        }
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    //! Devices under wgpu, with this feature built in.

    use super::{DeviceChoice, Kind, Place, WgpuChoice, devices, probe};
    use crate::error::ExecError;
    use burn::tensor::{Device, DeviceKind, DeviceType};

    /// Environment variable by which cubecl chooses the default device.
    const DEFAULT: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

    /// Devices by their choice, GPUs first, in the order in which wgpu lists them.
    fn found() -> Result<Vec<(WgpuChoice, Device)>, String> {
        let listed = devices(DeviceType::Wgpu)?;
        let software = Device::wgpu(DeviceKind::Cpu);
        let (cpus, gpus): (Vec<Device>, Vec<Device>) =
            listed.into_iter().partition(|device| *device == software);
        let gpus = gpus.into_iter().enumerate();
        let gpus = gpus.map(|(index, device)| (WgpuChoice::Gpu(index), device));
        let cpus = cpus
            .into_iter()
            .map(|device| (WgpuChoice::Software, device));
        Ok(gpus.chain(cpus).collect())
    }

    pub(super) fn open(choice: WgpuChoice) -> Result<Device, ExecError> {
        let found = found().map_err(ExecError::Device)?;
        let wanted = match choice {
            WgpuChoice::Default => match std::env::var(DEFAULT).as_deref() {
                Ok("Cpu") => WgpuChoice::Software,
                // Another device is named: wgpu reads the variable itself.
                Ok(_) if !found.is_empty() => return Ok(Device::wgpu(DeviceKind::DefaultDevice)),
                _ => WgpuChoice::Gpu(0),
            },
            named => named,
        };
        let device = found.iter().find(|(choice, _)| *choice == wanted);
        if let Some((_, device)) = device {
            return Ok(device.clone());
        }
        let software = found
            .iter()
            .any(|(choice, _)| *choice == WgpuChoice::Software);
        let reason = match wanted {
            WgpuChoice::Software => "no software driver (Mesa's llvmpipe) under wgpu".to_owned(),
            _ if software => {
                "no GPU under wgpu, but a software driver: name it with wgpu:cpu".to_owned()
            }
            WgpuChoice::Gpu(index) if index > 0 => format!("no GPU {index} under wgpu"),
            _ => "no device under wgpu: no Vulkan, Metal or Direct3D driver was found".to_owned(),
        };
        Err(ExecError::Device(reason))
    }

    pub(super) fn kind() -> Kind {
        let (found, note) = match found() {
            Ok(found) if found.is_empty() => (found, Some("no device under wgpu".to_owned())),
            Ok(found) => (found, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let devices = found.into_iter().map(|(choice, device)| {
            let name = probe(|| device.identity().map(|identity| identity.name));
            let name = name.ok().flatten().unwrap_or_else(|| "a device".to_owned());
            (DeviceChoice::Wgpu(choice).to_string(), name)
        });
        Kind {
            name: "wgpu",
            place: Place::Gpu,
            built: true,
            devices: devices.collect(),
            note,
        }
    }
}

#[cfg(not(feature = "wgpu"))]
mod wgpu {
    //! Devices under wgpu, without this feature.

    use super::{Kind, Place, WgpuChoice};
    use crate::error::ExecError;
    use burn::tensor::Device;

    const BUILD: &str = "built without the feature wgpu: cargo build --release --features wgpu";

    pub(super) fn open(_: WgpuChoice) -> Result<Device, ExecError> {
        Err(ExecError::Device(BUILD.to_owned()))
    }

    pub(super) fn kind() -> Kind {
        Kind {
            name: "wgpu",
            place: Place::Gpu,
            built: false,
            devices: Vec::new(),
            note: Some(BUILD.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_print_as_they_are_read() {
        for text in [
            "auto", "cpu", "wgpu", "wgpu:cpu", "wgpu:2", "cuda:0", "cuda:13",
        ] {
            let choice: DeviceChoice = text.parse().expect("a device");
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "wgpu:gpu",
            "cpu:0",
            "cuda:99999999",
        ] {
            let error = text.parse::<DeviceChoice>().expect_err("no device");
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.open().expect("a device"), Device::flex());
        assert!(DeviceChoice::Auto.open().is_ok());
        let doctor = doctor();
        assert!(doctor.threads > 0);
        let cpu = &doctor.kinds[0];
        assert!(cpu.built && cpu.devices.len() == 1, "{cpu:?}");
        for kind in &doctor.kinds[1..] {
            assert!(
                kind.built
                    || kind
                        .note
                        .as_ref()
                        .is_some_and(|note| note.contains("--features"))
            );
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_kind_that_is_not_built_in_says_how_to_build_it() {
        let error = DeviceChoice::Cuda(0).open().expect_err("not built in");
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}
