"""What /proc and the file system say about a running tool: its memory, its writes, its disk use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_INTERVAL = 0.05
DISK_INTERVAL = 0.2
BLOCK = 512


@dataclass(frozen=True)
class DiskSample:
    """Disk use at a moment, in seconds since the step began and in bytes."""

    seconds: float
    tool: int
    registry: int


@dataclass
class Samples:
    """What was seen while a tool ran."""

    peak_process_bytes: int = 0  # the largest VmHWM of one process
    peak_tree_bytes: int = 0  # the largest sum of VmRSS over the process tree
    disk: list[DiskSample] = field(default_factory=list)


class Sampler:
    """Watches a process tree and two sets of directories from a thread, until it is stopped."""

    def __init__(self, pid: int, tool_use: Callable[[], int], registry_use: Callable[[], int]) -> None:
        self.samples = Samples()
        self._pid = pid
        self._tool_use = tool_use
        self._registry_use = registry_use
        self._begin = time.monotonic()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._memory, self._disk)]

    def __enter__(self) -> Sampler:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._sample_disk()

    def _memory(self) -> None:
        while not self._done.wait(MEMORY_INTERVAL):
            # The first process is `time` itself, which is not the tool.
            statuses = [memory_of(pid) for pid in descendants(self._pid)]
            seen = self.samples
            seen.peak_process_bytes = max([seen.peak_process_bytes, *(peak for peak, _ in statuses)])
            seen.peak_tree_bytes = max(seen.peak_tree_bytes, sum(now for _, now in statuses))

    def _disk(self) -> None:
        self._sample_disk()
        while not self._done.wait(DISK_INTERVAL):
            self._sample_disk()

    def _sample_disk(self) -> None:
        now = time.monotonic() - self._begin
        self.samples.disk.append(DiskSample(now, self._tool_use(), self._registry_use()))


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, without itself."""
    found: list[int] = []
    todo = [pid]
    while todo:
        children = children_of(todo.pop())
        found += children
        todo += children
    return found


def children_of(pid: int) -> list[int]:
    """The direct children of all threads of a process; none when it is gone."""
    children: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:
        pass
    return children


def memory_of(pid: int) -> tuple[int, int]:
    """A process's highest and present resident size in bytes; (0, 0) when it is gone."""
    try:
        return parse_memory(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return (0, 0)


def parse_memory(status: str) -> tuple[int, int]:
    """VmHWM and VmRSS of a /proc/PID/status, in bytes."""
    values = {"VmHWM": 0, "VmRSS": 0}
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name in values:
            values[name] = int(rest.split()[0]) * 1024
    return (values["VmHWM"], values["VmRSS"])


def written_by(pid: int) -> int:
    """Bytes that a process and its reaped children dirtied towards a disk: write_bytes of /proc/PID/io.

    Read from a process that has ended and is not reaped yet, this is exact and needs no sampling: the
    kernel adds a child's count to its parent's when the parent waits for it. Sockets and tmpfs do not count.
    """
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    raise ValueError(f"/proc/{pid}/io has no write_bytes")


def disk_use(roots: list[Path]) -> int:
    """Bytes that the files below the roots occupy on their own file systems.

    A hard link counts once, a sparse file what it occupies, and what is mounted inside (an overlay's merged
    view) not at all. Files may vanish while they are counted.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    for root in roots:
        try:
            device = os.stat(root).st_dev
        except OSError:
            continue
        total += _tree_use(root, device, seen)
    return total


def _tree_use(root: Path, device: int, seen: set[tuple[int, int]]) -> int:
    total = 0
    todo = [os.fspath(root)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != device:
                        continue
                    if (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except OSError:
            continue
    return total


def cpu_seconds_of(pid: int) -> float:
    """User and system time of a running process and of its reaped children."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")
