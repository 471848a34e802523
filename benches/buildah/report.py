"""From single runs to medians, ratios, the goals, and the page docs/bench/results.md."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from statistics import median

from contestants import LABELS, Result
from measure import Measure
from sampling import DiskSample

MIB = 1024**2
GIB = 1024**3
TIMELINE_POINTS = 120

FLOOR_LIMIT = 1.3
BUILDAH_FACTOR = 10
WRITTEN_LIMIT = 1 * MIB
MEMORY_LIMIT = 128 * MIB
TLS_RATE = 0.8


@dataclass(frozen=True)
class Row:
    """A contestant's medians over its runs. Bytes and seconds."""

    contestant: str
    runs: int
    build: float | None
    push: float
    total: float
    fastest: float
    slowest: float
    cpu: float
    memory: int
    memory_sampled: int
    memory_tree: int
    written: int
    written_rusage: int
    disk: int
    registry_disk: int
    registry_cpu: float
    commands: list[str]
    timeline: list[DiskSample]

    @property
    def label(self) -> str:
        """How the contestant is called in tables and charts."""
        return LABELS[self.contestant]


def row_of(results: list[Result]) -> Row:
    """Medians of all runs of one contestant; the timeline of its median run. Memory and writes are the worst of
    all runs: a bound that holds in most runs is none."""
    wholes = [result.whole for result in results]
    middle = sorted(wholes, key=lambda whole: whole.seconds)[len(wholes) // 2]
    builds = [result.build.seconds for result in results if result.build]
    return Row(
        contestant=results[0].contestant,
        runs=len(results),
        build=median(builds) if builds else None,
        push=median(result.push.seconds for result in results),
        total=median(whole.seconds for whole in wholes),
        fastest=min(whole.seconds for whole in wholes),
        slowest=max(whole.seconds for whole in wholes),
        cpu=median(whole.cpu_seconds for whole in wholes),
        memory=max(whole.peak_memory for whole in wholes),
        memory_sampled=max(whole.peak_memory_sampled for whole in wholes),
        memory_tree=max(whole.peak_memory_tree for whole in wholes),
        written=max(whole.written for whole in wholes),
        written_rusage=max(whole.written_rusage for whole in wholes),
        disk=max(whole.peak_disk for whole in wholes),
        registry_disk=max(result.registry_disk for result in results),
        registry_cpu=median(result.registry_cpu for result in results),
        commands=results[-1].commands,
        timeline=thinned(middle.disk),
    )


def thinned(samples: list[DiskSample]) -> list[DiskSample]:
    """At most TIMELINE_POINTS samples; in each group the highest, so that no peak is lost."""
    group = -(-len(samples) // TIMELINE_POINTS) or 1
    highest = [max(samples[i : i + group], key=lambda s: s.tool) for i in range(0, len(samples), group)]
    return highest if not samples or highest[-1] == samples[-1] else [*highest, samples[-1]]


@dataclass
class Summary:
    """All that a report needs."""

    results: list[Result]
    memory: dict[float, Measure]
    facts: dict[str, str]
    size: int
    shards: int
    floor_jobs: int
    command: str

    def rows(self) -> list[Row]:
        """One row a contestant, in the order of LABELS."""
        by_name = {name: [r for r in self.results if r.contestant == name] for name in LABELS}
        return [row_of(results) for results in by_name.values() if results]

    def row(self, contestant: str) -> Row | None:
        """One contestant's row, if it ran."""
        return next((row for row in self.rows() if row.contestant == contestant), None)

    def table(self) -> str:
        """The comparison as a markdown table."""
        floor, crossdock = self.row("floor"), self.row("crossdock")
        header = ["", "build", "push", "total", "x floor", "x crossdock", "CPU", "peak memory", "written by it"]
        header += ["peak extra disk", "registry CPU"]
        lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
        for row in self.rows():
            lines.append(
                [
                    row.label,
                    f"{row.build:.1f} s" if row.build is not None else "(one step)",
                    f"{row.push:.1f} s",
                    f"**{row.total:.1f} s**",
                    ratio(row.total, floor),
                    ratio(row.total, crossdock),
                    f"{row.cpu:.1f} s",
                    f"{row.memory / MIB:.0f} MiB",
                    size_text(row.written),
                    size_text(row.disk),
                    f"{row.registry_cpu:.1f} s",
                ]
            )
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def goals(self) -> str:
        """What the project wants of itself, met or not, as a markdown list."""
        crossdock, again = self.row("crossdock"), self.row("crossdock-again")
        floor, vfs = self.row("floor"), self.row("buildah-vfs")
        lines = []
        if crossdock and floor:
            times = crossdock.total / floor.total
            lines.append(goal(times <= FLOOR_LIMIT, f"at most {FLOOR_LIMIT} x the floor", f"{times:.2f} x"))
        if crossdock and vfs:
            times = vfs.total / crossdock.total
            lines.append(goal(times >= BUILDAH_FACTOR, f"{BUILDAH_FACTOR} x faster than buildah vfs", f"{times:.1f} x"))
        proxied, tls = self.row("crossdock-proxy"), self.row("crossdock-tls")
        if proxied and tls:
            rate = proxied.total / tls.total
            what = f"over TLS at least {TLS_RATE} of the rate without, through the same proxy"
            lines.append(goal(rate >= TLS_RATE, what, f"{rate:.2f}"))
        if crossdock and again:
            written = max(crossdock.written, again.written)
            lines.append(goal(written < WRITTEN_LIMIT, "less than 1 MiB written", size_text(written)))
            memory = max(crossdock.memory, again.memory, *(m.peak_memory for m in self.memory.values()))
            lines.append(goal(memory <= MEMORY_LIMIT, "at most 128 MiB of memory", size_text(memory)))
        return "\n".join(lines)

    def markdown(self) -> str:
        """The whole page."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        commands = "\n".join(f"# {r.label}\n" + "\n".join(r.commands) for r in self.rows())
        return PAGE.format(
            size=f"{self.size / GIB:g} GiB",
            floor_jobs=self.floor_jobs,
            shards=self.shards,
            command=self.command,
            table=self.table(),
            goals=self.goals(),
            spread=self._spread(),
            memory=self._memory_table(),
            facts=facts,
            commands=commands,
        )

    def _spread(self) -> str:
        repeated = [row for row in self.rows() if row.runs > 1]
        texts = [f"{r.label} {r.fastest:.2f} to {r.slowest:.2f} s" for r in repeated]
        return f"Fastest and slowest of {repeated[0].runs} runs: {'; '.join(texts)}." if repeated else "One run each."

    def _memory_table(self) -> str:
        if not self.memory:
            return ""
        lines = ["\n## Memory and size\n", "crossdock hashing one sparse file (a build without a push):\n"]
        lines += ["| file | time | peak memory | written |", "| ---: | ---: | ---: | ---: |"]
        for size, m in self.memory.items():
            cells = [f"{size:g} GiB", f"{m.seconds:.1f} s", size_text(m.peak_memory), size_text(m.written)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Everything, for other programs; each run's medians are recomputable from `runs`."""
        runs = [
            {"contestant": r.contestant, "build": plain(r.build), "push": plain(r.push)}
            | {"registry_cpu": round(r.registry_cpu, 2), "registry_disk": r.registry_disk}
            for r in self.results
        ]
        data = {"command": self.command, "bytes": self.size, "shards": self.shards, "machine": self.facts}
        data |= {"summary": [asdict(row) for row in self.rows()], "runs": runs}
        data |= {"memory": [{"gib": size} | (plain(m) or {}) for size, m in self.memory.items()]}
        lines = json.dumps(rounded(data), indent=1)
        # A sample on one line, so that a person can read the file and a diff stays small.
        return re.sub(r"\{\s*(\"seconds\": [^{}]*?)\s*\}", lambda m: "{" + " ".join(m[1].split()) + "}", lines) + "\n"


def plain(measure: Measure | None) -> dict[str, object] | None:
    """A step's figures without its samples, which the summary has."""
    if measure is None:
        return None
    figures = {name: value for name, value in asdict(measure).items() if name != "disk"}
    return figures | {"peak_disk": measure.peak_disk, "peak_registry_disk": measure.peak_registry_disk}


def rounded(value: object) -> object:
    """Milliseconds are enough."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


def ratio(seconds: float, to: Row | None) -> str:
    """How many times as long."""
    return f"{seconds / to.total:.2f}" if to else "?"


def goal(met: bool, what: str, found: str) -> str:
    """One line of the list of goals."""
    return f"- {'met' if met else '**MISSED**'}: {what} (found: {found})"


def size_text(count: float) -> str:
    """Bytes for a person."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


PAGE = """\
# crossdock beside buildah

{size} of incompressible bytes in {shards} files, `FROM scratch` and one `COPY`, built and pushed to a registry on
the same machine. Made by `{command}`; the figures are this machine's, the command is yours to repeat.

{table}

{spread}

![Extra disk use over time, and total time](results.svg)

## Goals

{goals}
{memory}
## How it was measured

- The **floor** is curl sending the same files, whose digests it was told, by one monolithic PUT each, {floor_jobs}
  side by side. It reads every byte once and hashes none: what is above it is the builder's own cost.
- Through haproxy, crossdock pushes to the same registry by a proxy on this machine, once without TLS and once with it. The
  proxy's CPU is in neither column, and shares the cores.
- buildah is given `--layers=false`, as in the usual pipeline step. It compresses with gzip when it pushes to a
  registry; the `-D` of Debian's version does not change that (the pushed layer is the same, digest and all).
- Every push goes to a registry that was just started on empty storage. Before each step the disk is synced and left
  until next to nothing waits to be written. The source files are in the page cache for everyone.
- Times are medians where there are several runs; memory and writes are the worst of them.
- CPU is user and system time of the tool and its children (`wait4`). Peak memory is the largest process's
  `ru_maxrss`, which counts mapped file pages too.
- Written by it: `write_bytes` in `/proc/PID/io`, read when the process has ended and before it is reaped; the kernel
  adds up children there. Sockets do not count. `results.json` has the rusage figure beside it as a cross-check.
- Peak extra disk: blocks occupied below the tool's own storage, `TMPDIR` and home, sampled five times a second. The
  registry's storage is not in it.

## The machine

{facts}

## The commands

```sh
{commands}
```
"""
