//! The driver of `backends/cuda-on-cpu` stops a kernel that is wrong: each of these kernels has one fault.
//!
//! A fault ends the program, so every kernel runs in a program of its own. Nothing is tested where CUDA is that of a
//! card: a card does not tell.

use std::process::{Command, Output};

use cubecl::prelude::*;
use jam_cube::cubecl;

/// Names the kernel that the child program launches.
const KERNEL: &str = "JAM_DRIVER_KERNEL";
/// Units of a cube.
const UNITS: usize = 64;

#[cube(launch)]
fn past_the_end(x: &[f32], out: &mut [f32], shift: u32) {
    out[UNIT_POS as usize] = x[UNIT_POS as usize + shift as usize];
}

#[cube(launch)]
fn shared_before_written(out: &mut [f32], write: u32) {
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    if write == 1 {
        scratch[UNIT_POS as usize] = 1.0f32;
    }
    sync_cube();
    out[UNIT_POS as usize] = scratch[UNITS - 1 - UNIT_POS as usize];
}

#[cube(launch)]
fn barrier_that_half_reaches(out: &mut [f32], units: u32) {
    if UNIT_POS < units {
        sync_cube();
    }
    out[UNIT_POS as usize] = 1.0f32;
}

#[cube(launch)]
fn barrier_after_some_left(out: &mut [f32], units: u32) {
    if UNIT_POS >= units {
        terminate!();
    }
    sync_cube();
    out[UNIT_POS as usize] = 1.0f32;
}

#[cube(launch)]
fn barriers_at_two_places(out: &mut [f32], units: u32) {
    if UNIT_POS < units {
        out[UNIT_POS as usize] = 2.0f32;
        sync_cube();
    } else {
        sync_cube();
        out[UNIT_POS as usize] = 1.0f32;
    }
}

/// What another unit wrote is read without a barrier, where there is none.
#[cube(launch)]
fn exchange(out: &mut [f32], #[comptime] barrier: bool) {
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    scratch[UNIT_POS as usize] = 1.0f32;
    if comptime!(barrier) {
        sync_cube();
    }
    out[UNIT_POS as usize] = scratch[UNITS - 1 - UNIT_POS as usize];
}

/// Whether CUDA is the driver that has no card.
fn emulated() -> bool {
    std::env::var_os("COC_CACHE").is_some()
}

fn child(kernel: &str, order: &str) -> Output {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command
        .args(["--exact", "launch_one", "--ignored", "--nocapture"])
        .env(KERNEL, kernel)
        .env("COC_ORDER", order);
    command.output().expect("this program runs again")
}

/// What the child says of a kernel, and whether it went through.
fn ends(kernel: &str, order: &str) -> (bool, String) {
    let output = child(kernel, order);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
#[ignore = "a part of the others, which start it with a kernel's name"]
fn launch_one() {
    let kernel = std::env::var(KERNEL).expect("the name of a kernel");
    let client = cubecl::Device::Cuda(cubecl::device::CudaDevice { index: 0 }).client();
    let x = client.create_from_slice(f32::as_bytes(&[1.0; UNITS]));
    let out = client.empty(UNITS * size_of::<f32>());
    // SAFETY: as long as they were made.
    let [x, written] = [&x, &out].map(|h| unsafe { BufferArg::from_raw_parts(h.clone(), UNITS) });
    let (count, dim) = (CubeCount::new_single(), CubeDim::new_1d(UNITS as u32));
    let (name, right) = kernel.split_once(' ').unwrap_or((&kernel, ""));
    // A number that makes the kernel right, or wrong.
    let pick = |sound: u32, faulty: u32| if right == "sound" { sound } else { faulty };
    match name {
        "bounds" => past_the_end::launch(&client, count, dim, x, written, pick(0, 1)),
        "shared" => shared_before_written::launch(&client, count, dim, written, pick(1, 0)),
        "half" => barrier_that_half_reaches::launch(&client, count, dim, written, pick(64, 32)),
        "left" => barrier_after_some_left::launch(&client, count, dim, written, pick(64, 32)),
        "places" => barriers_at_two_places::launch(&client, count, dim, written, pick(64, 32)),
        "exchange" => exchange::launch(&client, count, dim, written, right == "sound"),
        _ => panic!("no kernel is called {name}"),
    }
    let bytes = client.read_one_unchecked(out);
    let values = f32::from_bytes(&bytes);
    let wrong = values.iter().filter(|x| !x.is_finite()).count();
    assert_eq!(wrong, 0, "{wrong} of {UNITS} are no numbers");
}

fn finds(kernel: &str, orders: &[&str], sign: &str) {
    if !emulated() {
        return;
    }
    for order in orders {
        let (sound, said) = ends(&format!("{kernel} sound"), order);
        assert!(sound, "{kernel} without a fault, {order}: {said}");
        let (passed, said) = ends(kernel, order);
        assert!(!passed, "{kernel} goes through, {order}: {said}");
        assert!(said.contains(sign), "{kernel}, {order}: {said}");
    }
}

#[test]
fn an_index_past_the_end_is_found() {
    finds(
        "bounds",
        &["forward"],
        "element 64 of buffer 0, which has 64",
    );
}

#[test]
fn shared_memory_that_nobody_wrote_is_no_number() {
    finds("shared", &["forward"], "64 of 64 are no numbers");
}

#[test]
fn a_barrier_that_some_units_do_not_reach_is_found() {
    finds(
        "half",
        &["forward", "reverse"],
        "threads diverge at a barrier",
    );
    finds(
        "left",
        &["forward", "reverse"],
        "threads diverge at a barrier",
    );
    finds(
        "places",
        &["forward", "reverse"],
        "threads diverge at a barrier",
    );
}

#[test]
fn a_missing_barrier_is_found_in_every_order() {
    let orders = ["forward", "reverse", "random", "warps", "warps-reverse"];
    finds("exchange", &orders, "are no numbers");
}
