"""Compiles CUDA C++ to machine code as cubecl-cuda does (NVRTC to PTX, ptxas to SASS), and counts instructions.

table.py [--markdown] SOURCES RESULTS: SOURCES is a folder that the driver of `backends/cuda-on-cpu` filled under
COC_SOURCES, with the labels of `examples/every_kernel` in its file `launches`; what was counted is kept in RESULTS by
hash of the source. Needs the wheels that `backends/cube/table` installs; no driver, no card.
"""

import argparse
import ctypes
import glob
import hashlib
import json
import os
import re
import site
import subprocess
import sys
import tempfile
from multiprocessing import Pool

WHEELS = next((p + "/nvidia" for p in site.getsitepackages() if os.path.isdir(p + "/nvidia")), None)
# Counted again where this changes.
VERSION = hashlib.sha256(open(__file__, "rb").read()).hexdigest()
# Shared memory and warps of a multiprocessor, by compute capability (CUDA C++ Programming Guide, Technical
# Specifications); all have 65536 registers and 32 blocks, but for 8.6 and 8.9: 16 and 24 blocks.
MULTIPROCESSORS = {"80": (164, 64, 32), "86": (100, 48, 16), "89": (100, 48, 24), "90": (228, 64, 32)}
LOADS = (16, 32, 64, 128)


def find(pattern):
    found = sorted(glob.glob(f"{WHEELS}/{pattern}", recursive=True))
    if not found:
        raise SystemExit(f"{pattern} is in none of the wheels under {WHEELS}: run backends/cube/table")
    return found[0]


def includes():
    # mma.h lies in the runtime's wheel, crt/mma.h, which it includes, in the compiler's.
    folders = [os.path.dirname(find("**/cuda_fp16.h")), os.path.dirname(os.path.dirname(find("**/crt/mma.h")))]
    return folders + [f for f in glob.glob(f"{WHEELS}/cuda_cccl/include") if os.path.isdir(f + "/cuda")]


def to_ptx(source, arch):
    """PTX, with the options that cubecl-cuda gives NVRTC."""
    nvrtc = ctypes.CDLL(find("**/libnvrtc.so.1[0-9]"))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, None, 0, None, None):
        raise RuntimeError("NVRTC makes no program")
    options = [f"--gpu-architecture={arch}", "-lineinfo"] + [f"--include-path={i}" for i in includes()]
    options = [option.encode() for option in options]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    length, get = (
        (nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
        if failed
        else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    )
    length(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    get(program, text)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(text.value.decode(errors="replace"))
    return text.value


def width(instruction):
    """Bits that a load moves for each thread."""
    parts = instruction.split(".")
    for bits in ("128", "64"):
        if bits in parts:
            return int(bits)
    return 16 if any(part in ("U8", "S8", "U16", "S16") for part in parts) else 32


def compile_one(job):
    """What machine code a source becomes, or why none: (key, numbers)."""
    path, arch, results = job
    source = open(path, "rb").read()
    key = hashlib.sha256(b"\0".join([source, arch.encode(), VERSION.encode()])).hexdigest()
    kept = os.path.join(results, key + ".json")
    if os.path.exists(kept):
        return job[:2], json.load(open(kept))
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = folder + "/kernel.ptx", folder + "/kernel.cubin"
        try:
            open(ptx, "wb").write(to_ptx(source, arch))
        except RuntimeError as error:
            return job[:2], {"error": str(error)}
        made = subprocess.run([find("**/bin/ptxas"), "-v", f"-arch={arch}", "-o", cubin, ptx], capture_output=True, text=True)
        if made.returncode:
            return job[:2], {"error": made.stderr}
        tool = dict(os.environ, PATH=os.path.dirname(find("**/bin/nvdisasm")) + ":" + os.environ["PATH"])
        sass = subprocess.run([find("**/bin/cuobjdump"), "-sass", cubin], capture_output=True, text=True, env=tool)
        if sass.returncode:
            return job[:2], {"error": sass.stderr}
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", made.stderr)
    fixed = re.search(r"(\d+) bytes smem", made.stderr)
    names = re.findall(r"/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][A-Z0-9_.]*)", sass.stdout)
    count = lambda *starts: sum(name.split(".")[0] in starts for name in names)
    numbers = {
        "registers": int(re.search(r"Used (\d+) registers", made.stderr).group(1)),
        "stack": int(spills.group(1)),
        "spill": int(spills.group(2)) + int(spills.group(3)),
        "static": int(fixed.group(1)) if fixed else 0,
        "hmma": count("HMMA", "HGMMA"),
        "ffma": count("FFMA"),
        "lds": count("LDS", "STS", "LDSM"),
        "loads": {str(bits): 0 for bits in LOADS},
    }
    for name in names:
        if name.split(".")[0] in ("LDG", "LD"):
            numbers["loads"][str(width(name))] += 1
    with tempfile.NamedTemporaryFile("w", dir=results, delete=False) as file:
        json.dump(numbers, file)
    os.replace(file.name, kept)
    return job[:2], numbers


def blocks(arch, threads, registers, shared):
    """Blocks that one multiprocessor holds at a time; registers are given to warps by 256, and 1 KiB goes to the system."""
    memory, warps, most = MULTIPROCESSORS[re.sub(r"\D", "", arch)]
    of_block = -(-threads // 32)
    of_warp = -(-registers * 32 // 256) * 256
    # Four schedulers with a quarter of the registers each.
    by_registers = 4 * (16384 // of_warp) // of_block
    return min(by_registers, memory * 1024 // (shared + 1024), warps // of_block, most)


def launches(folder):
    """(label, source, entry, arch, threads, shared), each once, in order."""
    label, seen = "", {}
    for line in open(os.path.join(folder, "launches")):
        if line.startswith("# "):
            label = line[2:].strip()
            continue
        source, entry, arch, threads, _, shared = line.split()
        seen.setdefault((label, source, entry, arch, int(threads), int(shared)))
    return list(seen)


def main():
    reader = argparse.ArgumentParser()
    reader.add_argument("--markdown", action="store_true")
    reader.add_argument("sources")
    reader.add_argument("results")
    asked = reader.parse_args()
    rows = launches(asked.sources)
    if not rows:
        raise SystemExit("no kernel was launched")
    jobs = dict.fromkeys((f"{asked.sources}/{row[1]}.cu", row[3], asked.results) for row in rows)
    with Pool(2) as pool:
        made = dict(pool.imap_unordered(compile_one, jobs))

    several = {}
    for row in rows:
        several.setdefault((row[0], row[3]), set()).add(row[2])
    head = ["kernel", "arch", "threads", "registers", "spill", "stack", "shared", "blocks/MP", "HMMA", "FFMA", "LDS/STS"]
    table, faults = [head + ["LDG " + "/".join(map(str, LOADS))]], []
    for label, source, entry, arch, threads, shared in rows:
        numbers = made[f"{asked.sources}/{source}.cu", arch]
        # A label of several kernels names each.
        entry = re.sub(r"_[0-9a-f]{8}$", "", entry)
        name = f"{label} ({entry})" if len(several[label, arch]) > 1 else label
        if "error" in numbers:
            faults.append(f"{name}, {arch}: {numbers['error'].strip()}")
            continue
        shared += numbers["static"]
        cells = [name, arch, threads, numbers["registers"], numbers["spill"], numbers["stack"], shared]
        cells += [blocks(arch, threads, numbers["registers"], shared), numbers["hmma"], numbers["ffma"], numbers["lds"]]
        table.append([str(cell) for cell in cells] + ["/".join(str(numbers["loads"][str(bits)]) for bits in LOADS)])
        if numbers["spill"] or numbers["stack"]:
            faults.append(f"{name}, {arch}: {numbers['spill']} bytes of spills, {numbers['stack']} of stack")
        if "mma" in re.split(r"[^a-z0-9]+", label) and not any(
            made[f"{asked.sources}/{row[1]}.cu", arch].get("hmma") for row in rows if row[0] == label and row[3] == arch
        ):
            faults.append(f"{name}, {arch}: no tensor core instruction, and `mma` in its label")
    if asked.markdown:
        table.insert(1, ["---"] + ["--:"] * (len(head)))
        print("\n".join("| " + " | ".join(row) + " |" for row in table))
    else:
        widths = [max(len(row[i]) for row in table) for i in range(len(head) + 1)]
        for row in table:
            print("  ".join([row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]).rstrip())
    for fault in dict.fromkeys(faults):
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
