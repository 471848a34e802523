"""A fresh registry for each contestant, started and stopped by scripts/lib/registry.sh."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sampling import cpu_seconds_of, disk_use

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "registry.sh"


class Registry:
    """Runs while the `with` block does; its storage goes with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = ""
        self._pid = 0

    def __enter__(self) -> Registry:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        started = subprocess.run(
            [str(SCRIPT), "start", str(self._directory)], check=True, stdout=subprocess.PIPE, text=True
        )
        self.address, pid = started.stdout.split()
        self._pid = int(pid)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([str(SCRIPT), "stop", str(self._directory)], check=True)
        shutil.rmtree(self._directory)

    def disk_use(self) -> int:
        """Bytes in its storage now."""
        return disk_use([self._directory / "data"])

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        return cpu_seconds_of(self._pid)
