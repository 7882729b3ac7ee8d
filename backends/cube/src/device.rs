//! What a kernel's sizes depend on of a device.

use cubecl::client::Client;
use cubecl::ir::features::Plane;
use cubecl::prelude::*;

/// The limits of a device that kernels are cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Units (threads) of a cube (block) at most.
    pub units: usize,
    /// Bytes of shared memory of a cube at most.
    pub shared: usize,
    /// Units that exchange values without shared memory, 0 where the device has no such operations.
    pub plane: usize,
    /// Cubes along the second and third axis of a launch at most.
    pub cubes: usize,
}

impl Limits {
    /// Those of a client's device.
    pub fn of(client: &Client) -> Limits {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (least, most) = (hardware.plane_size_min, hardware.plane_size_max);
        let planes = properties.features.plane.contains(Plane::Ops) && least == most;
        Limits {
            units: hardware.max_units_per_cube as usize,
            shared: hardware.max_shared_memory_size,
            plane: if planes { most as usize } else { 0 },
            cubes: hardware.max_cube_count.1.min(hardware.max_cube_count.2) as usize,
        }
    }
}

/// A launch of `count` cubes over the first two axes, where one axis has too few.
///
/// The kernel numbers its cubes by `CUBE_POS` and has to leave out those from `count` on.
pub(crate) fn cubes(count: usize) -> CubeCount {
    const AXIS: usize = 65_535;
    let rows = count.div_ceil(AXIS).max(1);
    CubeCount::Static(count.div_ceil(rows).max(1) as u32, rows as u32, 1)
}

/// The widest vectors of at most `most` elements that divide every length.
pub(crate) fn vectors(most: usize, lengths: &[usize]) -> usize {
    let mut size = most.next_power_of_two();
    while size > 1 && (size > most || lengths.iter().any(|len| len % size != 0)) {
        size /= 2;
    }
    size
}

/// Elements of the widest vector that a device reads at once: 16 bytes where it has such vectors.
pub(crate) fn lanes(client: &Client, dtype: ElemType) -> usize {
    let mut sizes = client.io_optimized_vector_sizes(dtype.size());
    sizes.next().unwrap_or(1)
}

/// The same buffer once more, for a second launch.
pub(crate) fn again(buffer: &BufferArg) -> BufferArg {
    match buffer {
        BufferArg::Handle { handle } => {
            let binding = handle.handle.clone();
            // SAFETY: the length that the caller gave.
            unsafe { BufferArg::from_raw_parts_binding(binding, buffer.len()) }
        }
        &BufferArg::Alias { input_pos, length } => BufferArg::Alias { input_pos, length },
    }
}
