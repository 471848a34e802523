"""Who is compared, and the exact commands of each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from measure import Measure, run_measured, settle
from proxy import Proxy
from registry import Registry
from sampling import disk_use
from shards import Shard

FLOOR_SCRIPT = Path(__file__).resolve().with_name("floor.sh")
ACCEPT_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}\n'

LABELS = {
    "floor": "curl, digests known (the floor)",
    "crossdock": "crossdock build --push",
    "crossdock-again": "crossdock again, nothing changed",
    "crossdock-proxy": "crossdock through haproxy",
    "crossdock-tls": "crossdock through haproxy, over TLS",
    "buildah-vfs": "buildah vfs: bud + push",
    "buildah-overlay": "buildah overlay: bud + push",
}


@dataclass
class Result:
    """One run of one contestant. Where building and pushing are one step, `build` is None."""

    contestant: str
    build: Measure | None
    push: Measure
    registry_cpu: float
    registry_disk: int
    commands: list[str] = field(default_factory=list)

    @property
    def whole(self) -> Measure:
        """Build and push together."""
        return self.build.then(self.push) if self.build else self.push


class Arena:
    """The place where contestants run: the source files, and a directory that is emptied for each."""

    def __init__(self, work: Path, context: Path, shards: list[Shard], crossdock: Path, quiet: float) -> None:
        self._work = work
        self._context = context
        self._shards = shards
        self._crossdock = crossdock
        self._quiet = quiet

    def floor(self, jobs: int) -> list[Result]:
        """Plain uploads of the shards with their known digests."""
        self._empty()
        listing = "".join(f"{shard.digest} {shard.path}\n" for shard in self._shards)
        with Registry(self._work / "registry") as registry:
            command = [str(FLOOR_SCRIPT), registry.address, "bench/floor", str(jobs)]
            return [self._push("floor", command, registry, stdin=listing)]

    def crossdock(self) -> list[Result]:
        """A cold build with push, then the same once more."""
        self._empty()
        with Registry(self._work / "registry") as registry:
            command = self._crossdock_build()
            command += ["--push", "--tls-verify=false", "-t", f"{registry.address}/bench/model:latest"]
            command.append(str(self._context))
            return [self._push(name, command, registry) for name in ("crossdock", "crossdock-again")]

    def crossdock_proxied(self, tls: bool) -> list[Result]:
        """The same cold build with push, through a proxy that ends TLS, or the same proxy without."""
        self._empty()
        with Registry(self._work / "registry") as registry:
            with Proxy(self._work / "proxy", registry.address, tls) as proxy:
                trust = ["--cert-dir", str(proxy.certificates)] if tls else ["--tls-verify=false"]
                command = [*self._crossdock_build(), "--push", *trust]
                command += ["-t", f"{proxy.address}/bench/model:latest", str(self._context)]
                return [self._push("crossdock-tls" if tls else "crossdock-proxy", command, registry)]

    def crossdock_hash_only(self, context: Path) -> Measure:
        """A build that goes nowhere: every byte is read and hashed."""
        self._empty()
        command = [*self._crossdock_build(), str(context)]
        return self._run(command, lambda: 0)

    def buildah(self, driver: str) -> list[Result]:
        """A build into local storage, then a push from there."""
        self._empty()
        name = f"buildah-{driver}"
        image = "localhost/bench/model:latest"
        policy = self._work / "policy.json"
        policy.write_text(ACCEPT_ANYTHING)
        storage = ["--root", self._path("root"), "--runroot", self._path("runroot"), "--storage-driver", driver]
        signatures = ["--signature-policy", str(policy)]
        bud = ["buildah", *storage, "bud", *signatures, "--format=oci", "--layers=false", "-t", image]
        bud.append(str(self._context))
        push = ["buildah", *storage, "push", *signatures, "--tls-verify=false", image]
        try:
            with Registry(self._work / "registry") as registry:
                settle(self._quiet)
                built = self._run(bud, registry.disk_use)
                push.append(f"docker://{registry.address}/bench/model:latest")
                result = self._push(name, push, registry)
            result.build = built
            result.commands.insert(0, self._shown(bud))
            return [result]
        finally:
            self._empty()

    def _crossdock_build(self) -> list[str]:
        return [str(self._crossdock), "--root", self._path("root"), "build"]

    def _push(self, name: str, command: list[str], registry: Registry, stdin: str = "") -> Result:
        settle(self._quiet)
        cpu = registry.cpu_seconds()
        measure = self._run(command, registry.disk_use, stdin)
        return Result(
            contestant=name,
            build=None,
            push=measure,
            registry_cpu=registry.cpu_seconds() - cpu,
            registry_disk=registry.disk_use(),
            commands=[self._shown(command)],
        )

    def _run(self, command: list[str], registry_use: Callable[[], int], stdin: str = "") -> Measure:
        tool_use = partial(disk_use, self._directories())
        return run_measured(command, self._environment(), tool_use, registry_use, stdin)

    def _directories(self) -> list[Path]:
        """What belongs to the tool alone: its storage, its temporary files, its home."""
        return [self._work / name for name in ("root", "runroot", "tmp", "home")]

    def _path(self, name: str) -> str:
        return str(self._work / name)

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's: no proxies, no credentials, no settings."""
        path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
        return {"PATH": path, "LC_ALL": "C", "HOME": self._path("home"), "TMPDIR": self._path("tmp")}

    def _shown(self, command: list[str]) -> str:
        """A command as a reader wants it: without this machine's paths."""
        names = {str(self._crossdock): "crossdock", str(FLOOR_SCRIPT): f"benches/buildah/{FLOOR_SCRIPT.name}"}
        names |= {str(self._work): "$W", str(self._context): "$CONTEXT"}
        line = " ".join(command)
        for path, name in names.items():
            line = line.replace(path, name)
        return line

    def _empty(self) -> None:
        """Removes what an earlier contestant left, mounts included: overlay storage mounts itself."""
        unmount_below(self._work)
        for directory in self._directories():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)


def unmount_below(directory: Path) -> None:
    """Unmounts whatever is mounted inside a directory, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    for point in sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True):
        subprocess.run(["umount", point], check=False)
