#!/usr/bin/env python3
"""crossdock beside buildah, and beside the floor: plain uploads of the same bytes to the same registry.

Everyone gets the same source files (already in the page cache), the same registry program with empty storage,
and a disk that has settled. Writes results.json, results.md and results.svg.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import chart
import machine
import report
from contestants import Arena, Result, unmount_below
from measure import Measure, StepFailed, settle
from shards import GIB, make_shards, make_sparse

ROOT = Path(__file__).resolve().parents[2]
# buildah's vfs driver holds several copies at once, and the registry one more.
SPACE_FACTOR = 8


def main() -> int:
    options = parse_options()
    work = options.directory / "work"
    command = command_line(options)
    try:
        arena = prepare(options, work)
        facts = machine.describe(options.crossdock, options.directory)
        results = run_all(options, arena)
        summary = report.Summary(results, {}, facts, options.size, options.shards, options.floor_jobs, command)
        # What took long is safe before something new is tried.
        save(summary, options.out)
        summary.memory = measure_memory(options, arena)
        save(summary, options.out)
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    finally:
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{summary.table()}\n\n{summary.goals()}\n\nWritten to {options.out}/results.{{md,svg,json}}")
    return 0


def parse_options() -> argparse.Namespace:
    """Each option can be given by an environment variable too, so that `make bench SIZE_GB=1` works."""
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crossdock", type=Path, required=True, help="the program")
    parser.add_argument("--size-gb", type=float, default=env("SIZE_GB", "4"), help="GiB in all; may be 0.1")
    parser.add_argument("--shards", type=int, default=env("SHARDS"), help="files; default: one a GiB")
    parser.add_argument("--runs", type=int, default=env("RUNS", "3"), help="of crossdock and of the floor")
    parser.add_argument("--floor-jobs", type=int, default=env("FLOOR_JOBS", "4"), help="uploads side by side")
    parser.add_argument("--drivers", default=env("DRIVERS", "vfs overlay"), help="buildah's; may be empty")
    parser.add_argument("--memory-sizes", default=env("MEMORY_SIZES", ""), help="GiB of sparse files to hash")
    parser.add_argument("--settle", type=float, default=env("SETTLE", "2"), help="quiet seconds before a step")
    default_directory = env("BENCH_DIR", str(ROOT / "demo-data" / "bench"))
    parser.add_argument("--directory", type=Path, default=default_directory, help="for data and storage")
    parser.add_argument("--out", type=Path, default=env("OUT", str(ROOT / "docs" / "bench")))
    options = parser.parse_args()
    options.size = int(options.size_gb * GIB)
    options.shards = options.shards or max(1, round(options.size_gb))
    options.drivers = options.drivers.split()
    options.memory_sizes = [float(size) for size in options.memory_sizes.split()]
    options.directory = options.directory.resolve()
    return options


def command_line(options: argparse.Namespace) -> str:
    """How to run this again."""
    shards = "" if options.shards == max(1, round(options.size_gb)) else f" SHARDS={options.shards}"
    sizes = " ".join(f"{size:g}" for size in options.memory_sizes)
    memory = f" MEMORY_SIZES='{sizes}'" if sizes else ""
    return f"make bench SIZE_GB={options.size_gb:g}{shards} RUNS={options.runs}{memory}"


def prepare(options: argparse.Namespace, work: Path) -> Arena:
    """Checks that there is room before anything is written, then makes and reads the source files."""
    options.directory.mkdir(parents=True, exist_ok=True)
    unmount_below(work)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    free = shutil.disk_usage(options.directory).free
    if free < options.size * SPACE_FACTOR:
        raise StepFailed(
            f"{options.directory} has {free / GIB:.1f} GiB free; this size needs {SPACE_FACTOR} times as much "
            f"as the data: {options.size * SPACE_FACTOR / GIB:.1f} GiB (set SIZE_GB or BENCH_DIR)"
        )
    context = options.directory / "context"
    progress(f"{options.shards} files, {options.size / GIB:g} GiB together: making and reading them")
    shards = make_shards(context, options.size, options.shards)
    return Arena(work, context, shards, options.crossdock, options.settle)


def run_all(options: argparse.Namespace, arena: Arena) -> list[Result]:
    """crossdock, plain and over TLS, and the floor in turns, then buildah once a driver."""
    results: list[Result] = []
    for run in range(options.runs):
        progress(f"run {run + 1} of {options.runs}: the floor")
        results += shown(arena.floor(options.floor_jobs))
        progress(f"run {run + 1} of {options.runs}: crossdock, twice")
        results += shown(arena.crossdock())
        progress(f"run {run + 1} of {options.runs}: crossdock through a proxy, without TLS and with it")
        results += shown(arena.crossdock_proxied(tls=False))
        results += shown(arena.crossdock_proxied(tls=True))
    for driver in options.drivers:
        progress(f"buildah, {driver} driver")
        results += shown(arena.buildah(driver))
    return results


def measure_memory(options: argparse.Namespace, arena: Arena) -> dict[float, Measure]:
    """Peak memory of crossdock over files of growing size that occupy no disk."""
    measured = {}
    for size in options.memory_sizes:
        progress(f"crossdock hashes a sparse file of {size:g} GiB")
        context = options.directory / "sparse"
        make_sparse(context, int(size * GIB))
        settle(options.settle)
        measured[size] = arena.crossdock_hash_only(context)
        shutil.rmtree(context)
    return measured


def progress(text: str) -> None:
    print(f"==> {text}", flush=True)


def shown(results: list[Result]) -> list[Result]:
    for result in results:
        whole = result.whole
        print(
            f"    {result.contestant:<18} {whole.seconds:8.2f} s, {whole.peak_memory / 1024**2:6.0f} MiB memory, "
            f"{whole.written / 1024**2:9.1f} MiB written",
            flush=True,
        )
    return results


def save(summary: report.Summary, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(summary.json())
    (out / "results.md").write_text(summary.markdown())
    (out / "results.svg").write_text(chart.draw(summary))


if __name__ == "__main__":
    sys.exit(main())
