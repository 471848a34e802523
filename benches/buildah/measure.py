"""Runs one command and says what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sampling import DiskSample, Sampler, written_by

KIB = 1024


@dataclass
class Measure:
    """The cost of one step of a contestant. Bytes and seconds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0  # user + system, children included
    peak_memory: int = 0  # ru_maxrss: the largest single process
    peak_memory_sampled: int = 0  # VmHWM as sampled, of the largest single process
    peak_memory_tree: int = 0  # the sum over the process tree, sampled
    written: int = 0  # write_bytes of /proc/PID/io at the end, children included
    written_rusage: int = 0  # ru_oublock x 512: the cross-check
    disk: list[DiskSample] = field(default_factory=list)

    def then(self, later: Measure) -> Measure:
        """This step and the one after it, as one."""
        shifted = [DiskSample(s.seconds + self.seconds, s.tool, s.registry) for s in later.disk]
        return Measure(
            seconds=self.seconds + later.seconds,
            cpu_seconds=self.cpu_seconds + later.cpu_seconds,
            peak_memory=max(self.peak_memory, later.peak_memory),
            peak_memory_sampled=max(self.peak_memory_sampled, later.peak_memory_sampled),
            peak_memory_tree=max(self.peak_memory_tree, later.peak_memory_tree),
            written=self.written + later.written,
            written_rusage=self.written_rusage + later.written_rusage,
            disk=self.disk + shifted,
        )

    @property
    def peak_disk(self) -> int:
        """The most that the tool's own directories held at once."""
        return max((s.tool for s in self.disk), default=0)

    @property
    def peak_registry_disk(self) -> int:
        """The most that the registry's storage held at once."""
        return max((s.registry for s in self.disk), default=0)


class StepFailed(RuntimeError):
    """A contestant's command ended with an error; its output is in the message."""


def run_measured(
    command: list[str],
    env: dict[str, str],
    tool_use: Callable[[], int],
    registry_use: Callable[[], int],
    stdin: str = "",
) -> Measure:
    """Runs `command` under GNU time, which keeps this interpreter's own memory out of ru_maxrss: a child
    inherits the peak of whoever forks it. What it prints goes to memory, so that it does not count as
    written."""
    timed = ["/usr/bin/time", "-q", "-f", "\\n%M", "--", *command]
    with open(os.memfd_create("output"), "w+b") as output, open(os.memfd_create("input"), "w+b") as source:
        source.write(stdin.encode())
        source.seek(0)
        begin = time.monotonic()
        process = subprocess.Popen(timed, env=env, stdin=source, stdout=output, stderr=subprocess.STDOUT)
        try:
            with Sampler(process.pid, tool_use, registry_use) as sampler:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                seconds = time.monotonic() - begin
                written = written_by(process.pid)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if process.returncode != 0:
        raise StepFailed(f"{' '.join(command)}\nended with {process.returncode}:\n{printed[-4000:]}")
    samples = sampler.samples
    return Measure(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory=int(printed.split()[-1]) * KIB,
        peak_memory_sampled=samples.peak_process_bytes,
        peak_memory_tree=samples.peak_tree_bytes,
        written=written,
        written_rusage=usage.ru_oublock * 512,
        disk=samples.disk,
    )


def settle(quiet_seconds: float) -> None:
    """Waits until what earlier steps wrote is on the disk, so that nobody pays for another's writes."""
    os.sync()
    deadline = time.monotonic() + 120
    while unwritten_bytes() > 32 * KIB * KIB:
        if time.monotonic() > deadline:
            print("  (the disk does not settle; going on)", file=sys.stderr)
            break
        time.sleep(0.5)
    time.sleep(quiet_seconds)


def unwritten_bytes() -> int:
    """What the page cache still has to write, of the whole machine."""
    wanted = ("Dirty:", "Writeback:")
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith(wanted))
