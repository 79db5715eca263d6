"""Small RLDS data sets for tests: specified and encoded by tensorflow-datasets and protobuf, not by our own code."""

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from vla.datasets.checksum import masked_crc32c
from vla.datasets.tfrecord import Broken, Record, scan_records
from vla.errors import DataError

DESCRIPTION = """
robot = "tiny"
rate = 10
instruction = "language_instruction"
[state]
columns = [{ field = "observation/state", channels = "x y" }]
[action]
mode = "delta"
frame = "base"
gripper = { closed = 1.0, open = -1.0 }
columns = [{ field = "action", channels = "dx gripper" }]
[[cameras]]
name = "front"
field = "observation/image"
"""


def picture(value: int, kind: str = "JPEG", size: int = 8) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def example(features: dict[str, list]) -> bytes:
    """A record, encoded by the protobuf library."""
    from tensorflow_datasets.proto import tf_example_pb2

    message: Any = getattr(tf_example_pb2, "Example")()  # noqa: B009 - made at run time, unknown to type checkers
    for name, values in features.items():
        feature = message.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif values and isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return message.SerializeToString()


def episode(number: int, steps: int = 3, **changes: list | None) -> bytes:
    """A record of a tiny set: action and state count up from the number; a change replaces a field, None removes it."""
    count = range(2 * steps)
    features: dict[str, list | None] = {
        "steps/action": [float(100 * number + value) for value in count],
        "steps/observation/state": [float(-100 * number - value) for value in count],
        "steps/observation/image": [picture(10 * (step % 20)) for step in range(steps)],
        "steps/language_instruction": [f"task {number}".encode()] * steps,
        "episode_metadata/file_path": [f"file {number}".encode()],
    }
    features |= {name.replace("__", "/"): values for name, values in changes.items()}
    return example({name: values for name, values in features.items() if values is not None})


def tiny_features() -> Any:
    import tensorflow_datasets as tfds

    kinds = tfds.features
    observation = {"state": kinds.Tensor(shape=(2,), dtype=np.float32), "image": kinds.Image(shape=(8, 8, 3))}
    step = {
        "action": kinds.Tensor(shape=(2,), dtype=np.float32),
        "language_instruction": kinds.Text(),
        "observation": observation,
    }
    return kinds.FeaturesDict({"steps": kinds.Dataset(step), "episode_metadata": {"file_path": kinds.Text()}})


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def write_set(folder: Path, shards: dict[str, list[list[bytes]]], features: Any = None, *, name: str = "tiny") -> Path:
    """A data set of splits, each a list of shards, each a list of records; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (features or tiny_features()).save_config(str(folder))
    splits = []
    for split, files in shards.items():
        splits.append({"name": split, "numBytes": "1", "shardLengths": [str(len(records)) for records in files]})
        for number, records in enumerate(files):
            shard(folder, number, len(files), split, name).write_bytes(b"".join(framed(data) for data in records))
    info = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "tiny.toml").write_text(DESCRIPTION)
    return folder


def shard(folder: Path, number: int = 0, count: int = 1, split: str = "train", name: str = "tiny") -> Path:
    return folder / f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def read_records(path: Path) -> Iterator[Record]:
    """All records of a file in their order; what is broken is an error."""
    with path.open("rb") as file:
        for record in scan_records(file, path.stat().st_size):
            if isinstance(record, Broken):
                raise DataError(path, f"record at byte {record.offset}", expected=record.expected, found=record.found)
            yield record


def send_picture(source: Any, pipe: Any) -> None:
    """What a worker process does: started by name, so it cannot lie in a test module."""
    pipe.send(source[3].images["front"][1].tobytes())
