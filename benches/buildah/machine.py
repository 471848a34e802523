"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path


def describe(crossdock: Path, data: Path) -> dict[str, str]:
    """CPU, memory, kernel, file system, versions and the day. Nothing that names the machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": f"{cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.1f} GiB",
        "system": f"{distribution()}, Linux {platform.release().split('-')[0]}",
        "file system": file_system(data),
        "crossdock": first_line([str(crossdock), "--version"]),
        "buildah": first_line(["buildah", "--version"]),
        "registry": first_line(["docker-registry", "--version"]),
        "curl": first_line(["curl", "--version"]),
    }


def cpu_model() -> str:
    """The first CPU's name, with the hash and cipher instructions that decide these figures."""
    model, flags = platform.machine(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        if name.strip() in ("flags", "Features"):
            flags = value
    has_sha = {"sha_ni", "sha2"} & set(flags.split())
    return f"{model} ({'with' if has_sha else 'without'} SHA-256 instructions)"


def distribution() -> str:
    """The name of the distribution."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def file_system(path: Path) -> str:
    """The type of the file system that holds a path."""
    command = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(path)]
    return first_line(command)


def first_line(command: list[str]) -> str:
    """The first line that a program prints, without what stands in brackets."""
    try:
        shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError:
        return "not installed"
    lines = shown.stdout.splitlines()
    return lines[0].partition(" (")[0].strip() if lines else "unknown"
