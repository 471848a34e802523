"""The bytes to be packed: safetensors files that do not compress, as weights do not."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
CHUNK = 8 * 1024**2


@dataclass(frozen=True)
class Shard:
    """A source file and its digest."""

    path: Path
    size: int
    digest: str


def make_shards(context: Path, total: int, count: int) -> list[Shard]:
    """Makes `count` files of `total` bytes together in `context`/models, or takes those that are there, and
    reads them all: that hashes them for the floor and puts them in the page cache for everyone."""
    models = context / "models"
    models.mkdir(parents=True, exist_ok=True)
    sizes = [total // count + (1 if i < total % count else 0) for i in range(count)]
    names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for stale in set(os.listdir(models)) - set(names):
        (models / stale).unlink()
    for name, size in zip(names, sizes):
        if not _has_size(models / name, size):
            _fill(models / name, size)
    (context / "Containerfile").write_text("FROM scratch\nCOPY models /models\n")
    return [Shard(models / name, size, _hash(models / name)) for name, size in zip(names, sizes)]


def _has_size(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _fill(path: Path, size: int) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        size -= file.write(_header(size))
        while size > 0:
            size -= file.write(os.urandom(min(CHUNK, size)))
    partial.rename(path)


def _header(size: int) -> bytes:
    """The beginning of a safetensors file of `size` bytes: one tensor with all the rest."""
    length = 120
    data = size - 8 - length
    text = f'{{"weight":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}}}'
    return length.to_bytes(8, "little") + text.ljust(length).encode()


def _hash(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"


def make_sparse(context: Path, size: int) -> None:
    """A context whose one file has `size` bytes and occupies none."""
    models = context / "models"
    models.mkdir(parents=True, exist_ok=True)
    with (models / "model.safetensors").open("wb") as file:
        file.write(_header(size))
        file.truncate(size)
    (context / "Containerfile").write_text("FROM scratch\nCOPY models /models\n")
