"""Writes weights with the libraries of their formats, damages some, and says which of them the libraries still read.

models.py DIRECTORY: prints a JSON object, by name of a file whether it can be read."""

import json
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import safetensors
import silero_vad_data

DIRECTORY = Path(sys.argv[1])


def main() -> None:
    write_safetensors()
    write_gguf()
    for whole in sorted(DIRECTORY.iterdir()):
        data = whole.read_bytes()
        for name, damaged in damages(data):
            (DIRECTORY / f"{whole.stem}-{name}{whole.suffix}").write_bytes(damaged)
    write_split()
    shutil.copy(silero_vad_data.WEIGHTS, DIRECTORY / "silero.safetensors")
    shutil.copy(silero_vad_data.PROGRAM, DIRECTORY / "silero.pt")
    print(json.dumps({path.name: is_whole(path) for path in sorted(DIRECTORY.iterdir())}))


def write_safetensors() -> None:
    sizes = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "uint8": 1, "bool": 1}
    bytes_of = {dtype: np.zeros(3 * (at + 1) * size, np.uint8) for at, (dtype, size) in enumerate(sizes.items())}
    tensors = {
        f"model.layers.{at}.{dtype}": safetensors.TensorSpec(
            dtype=dtype, shape=[3, at + 1], data_ptr=data.ctypes.data, data_len=data.nbytes
        )
        for at, (dtype, data) in enumerate(bytes_of.items())
    }
    safetensors.serialize_file(tensors, DIRECTORY / "some.safetensors", {"format": "pt"})
    safetensors.serialize_file({}, DIRECTORY / "none.safetensors", None)


def write_gguf() -> None:
    """A file for each type of tensors, and one with all kinds of values."""
    types = gguf.GGMLQuantizationType
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind == types.Q8_1:
            continue  # which no file has, and whose size here is not that of ggml
        writer = gguf.GGUFWriter(DIRECTORY / f"{kind.name}.gguf", "llama")
        plain = {types.F32: np.float32, types.F16: np.float16, types.F64: np.float64}
        if kind in plain:
            writer.add_tensor("token_embd.weight", np.zeros((2, 5), plain[kind]))
        else:
            writer.add_tensor("token_embd.weight", np.zeros((2, 3 * size), np.uint8), raw_dtype=kind)
        finish(writer)
    writer = gguf.GGUFWriter(DIRECTORY / "values.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_token_list([f"token {at}" for at in range(300)])
    writer.add_token_scores([0.5] * 300)
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_bool("yes", True)
    writer.add_float64("number", 1.5)
    writer.add_int64("long", -1)
    for at in range(3):
        writer.add_tensor(f"blk.{at}.weight", np.zeros((4, 7), np.float32))
    finish(writer)


def write_split() -> None:
    writer = gguf.GGUFWriter(DIRECTORY / "split.gguf", "llama", split_max_tensors=1)
    for at in range(3):
        writer.add_tensor(f"blk.{at}.weight", np.zeros((4, 8), np.float32))
    finish(writer)


def finish(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def damages(data: bytes):
    for part in (0, 1, 2, 5, 9):
        yield f"cut{part}", data[: len(data) * part // 10]
    if len(data) > 64:
        yield "without-last-tensor", data[:-64]
    yield "head", b"\0" + data[1:]


def is_whole(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            safetensors.deserialize(path.read_bytes())
        elif path.suffix == ".gguf":
            gguf.GGUFReader(path)
    except Exception:  # whatever the library says of it
        return False
    return True


main()
