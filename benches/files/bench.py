"""Many small files and large bases: crossdock beside find, tar, sha256sum and zcat over the same bytes.

Two questions. What does a context of very many files cost, beside the plain tools that walk, pack and hash it? And does
the index of a base come at the speed of `zcat | tar t`? The page cache is warm for everyone. Contestants take turns,
so that a busy moment of the machine meets all of them, and each ratio is between medians of the same run.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

HEAD = """# Many files, and large bases

Made by `make bench-files FILES={files} BASE_MB={base_mb} RUNS={runs}` on {machine}. Medians; the memory is the largest
process's peak resident size, the worst of all runs. The page cache is warm.
"""


class Contestant:
    """A command line, and what its runs took."""

    def __init__(self, name, command, before=lambda: None):
        self.name, self.command, self.before = name, command, before
        self.times, self.memory = [], 0

    def run(self):
        self.before()
        start = time.monotonic()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.times.append(time.monotonic() - start)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{self.name}: exit {process.returncode}\n{error.decode(errors='replace')}")
        self.memory = max(self.memory, usage.ru_maxrss)

    @property
    def median(self):
        return statistics.median(self.times)

    def row(self):
        span = f"{min(self.times):.2f} to {max(self.times):.2f}"
        return f"| {self.name} | {self.median:.2f} s | {span} | {self.memory / 1024:.0f} MiB |"


def shell(pipeline):
    return ["bash", "-c", f"set -o pipefail; {pipeline}"]


def take_turns(contestants, runs):
    for _ in range(runs):
        for contestant in contestants:
            contestant.run()
    print("\n| | median | fastest and slowest | peak memory |\n|---|---:|---:|---:|")
    for contestant in contestants:
        print(contestant.row())
    print()


def goal(text, found, met):
    print(f"- {'met' if met else 'MISSED'}: {text} (found: {found})")
    return met


def make_context(directory, files):
    for index in range(files):
        parent = directory / "files" / f"d{index // 1000:03}"
        if index % 1000 == 0:
            parent.mkdir(parents=True)
        (parent / f"f{index % 1000:03}").write_bytes(f"{index:8}".encode() * 256)
    (directory / "Containerfile").write_text("FROM scratch\nCOPY files /files\n")


def make_base(layout, megabytes):
    """An OCI layout with one gzip layer: files from 300 B to 400 KiB, half noise and half text, as programs are."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    chance = random.Random(1)
    noise, text = chance.randbytes(1 << 20), b"".join(b"line %d of a text\n" % n for n in range(20000))
    tar, blob = layout / "layer.tar", layout / "layer.gz"
    with tarfile.open(tar, "w") as archive:
        total = index = 0
        while total < megabytes * 1_000_000:
            entry = tarfile.TarInfo(f"usr/share/d{index % 300}/file-{index}")
            entry.size = chance.choice([300, 4_000, 20_000, 100_000, 400_000])
            half, at = entry.size // 2, chance.randrange(1 << 17)
            archive.addfile(entry, io.BytesIO(noise[at : at + half] + text[at : at + entry.size - half]))
            total, index = total + entry.size, index + 1
    with open(tar, "rb") as plain, gzip.GzipFile(blob, "wb", compresslevel=6, mtime=0) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)

    def digest(path):
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

    def put(media_type, document):
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    oci = "application/vnd.oci.image"
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    config = put(f"{oci}.config.v1+json", config | {"rootfs": {"type": "layers", "diff_ids": [digest(tar)]}})
    layer = {"mediaType": f"{oci}.layer.v1.tar+gzip", "digest": digest(blob), "size": blob.stat().st_size}
    path = blobs / layer["digest"].removeprefix("sha256:")
    blob.rename(path)
    tar.unlink()
    manifest = {"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": config, "layers": [layer]}
    manifest = put(f"{oci}.manifest.v1+json", manifest)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "base"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return path


def context_bench(crossdock, work, files, runs):
    context, root = work / "context", work / "root"
    make_context(context, files)
    remove = lambda: shutil.rmtree(root, ignore_errors=True)
    build = [crossdock, "--root", root, "build"]
    walk = Contestant("find", ["find", context, "-printf", "%s %m %p\n"])
    packed = Contestant("tar c \\| sha256sum", shell(f"tar c -C {context} files | sha256sum"))
    plan = Contestant("crossdock build --dry-run", [*build, "--dry-run", context], remove)
    new = Contestant("crossdock build, first time", [*build, "-t", "x", context], remove)
    again = Contestant("crossdock build, again", [*build, "-t", "x", context])
    print(f"\n## A context of {files} files of 2 KiB")
    take_turns([walk, packed, plan, new, again], runs)
    beside = plan.median - walk.median
    met = [
        goal("planning takes less than 2 s beside the walk", f"{beside:.2f} s", beside < 2),
        goal("planning takes less than 200 MiB", f"{plan.memory / 1024:.0f} MiB", plan.memory < 200 << 10),
        goal("planning, beside the walk, is as fast as tar c | sha256sum", f"{beside / packed.median:.2f} of its time",
             beside <= packed.median),
    ]
    print(f"\nThe first build, which hashes and records all of it, takes {new.median / packed.median:.2f} x the time of "
          f"`tar c | sha256sum`; the second one {again.median / packed.median:.2f} x.")
    return all(met)


def base_bench(crossdock, work, megabytes, runs):
    layout, context, root = work / "layout", work / "onto-base", work / "root"
    blob = make_base(layout, megabytes)
    context.mkdir()
    (context / "file").write_text("x")
    (context / "Containerfile").write_text(f"FROM oci:{layout}:base\nCOPY file /usr/share/\n")
    remove = lambda: shutil.rmtree(root, ignore_errors=True)
    listed = Contestant("zcat \\| tar t", shell(f"zcat < {blob} | tar t"))
    indexed = Contestant("crossdock build --dry-run, base not indexed",
                         [crossdock, "--root", root, "build", "--dry-run", context], remove)
    print(f"\n## A base layer of {megabytes} MB, {blob.stat().st_size >> 20} MiB with gzip")
    take_turns([listed, indexed], runs)
    ratio = listed.median / indexed.median
    return goal("a base is indexed at no less than 0.8 of the speed of zcat | tar t", f"{ratio:.2f}", ratio >= 0.8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossdock", required=True)
    for option, default in (("files", 100_000), ("base_mb", 1000), ("runs", 3)):
        default = int(os.environ.get(option.upper(), default))
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}"
    print(HEAD.format(machine=machine, files=options.files, base_mb=options.base_mb, runs=options.runs).strip())
    with tempfile.TemporaryDirectory(prefix="crossdock-bench-", dir=os.environ.get("BENCH_DIR")) as work:
        work = pathlib.Path(work)
        met = [
            context_bench(options.crossdock, work, options.files, options.runs),
            base_bench(options.crossdock, work, options.base_mb, options.runs),
        ]
    sys.exit(0 if all(met) else 1)


main()
