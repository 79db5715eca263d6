"""How an embodiment is laid out as an RLDS data set (an ``episode`` of ``steps``), and TFDS's two JSON files about it.

::

    <name>/<version>/features.json, dataset_info.json                TFDS's own
    <name>/<version>/vla.json                                        the EmbodimentSpec and its fingerprint
    <name>/<version>/vla_manifest.json                               sizes and checksums of these three
    <name>/<version>/<name>-<split>.tfrecord-00000-of-00001          one record an episode

A time is stored twice: ``timestamp`` [s] to look at, and ``time_bits``, the bits of the exact float64 number, because a
``tf.train.Example`` has no wider floats than float32.
"""

import json
import re
from typing import Any

import numpy as np

from vla.datasets.tfrecord_writer import Values
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Episode

TIME, TIME_BITS = "observation/timestamp", "observation/time_bits"
_RESERVED = ("state", "time_bits", "timestamp")
_PACKAGE = "tensorflow_datasets.core.features"


def check_names(spec: EmbodimentSpec, name: str, version: str) -> None:
    """Refuse names that TFDS does not take.

    Raises:
        ConfigError: of the data set, its version or a camera.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"TFDS takes names of small letters, digits and _ for data sets, not {name!r}")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ConfigError(f"a version has three numbers as in 1.0.0, found {version!r}")
    for camera in spec.camera_names:
        if camera in _RESERVED or "/" in camera:
            raise ConfigError(f"camera {camera!r} cannot be a field of observation beside {', '.join(_RESERVED)}")


def features_text(spec: EmbodimentSpec) -> str:
    """Contents of ``features.json``."""
    observation: dict[str, Any] = {"time_bits": _number("int64"), "timestamp": _number("float32")}
    if spec.state:
        observation["state"] = _number("float32", len(spec.state))
    for camera in spec.cameras:
        shape = {"dimensions": [str(camera.height), str(camera.width), "3"]}
        picture = {"shape": shape, "dtype": "uint8"}  # no encoding named: both PNG and JPEG are read
        observation[camera.name] = _feature("image_feature.Image", image=picture)
    step = {
        "observation": _dictionary(observation),
        "action": _number("float32", spec.action.size),
        "language_instruction": _text(),
        "reward": _number("float32"),
        "discount": _number("float32"),
        **{name: _number("bool") for name in ("is_first", "is_last", "is_terminal")},
    }
    steps = _feature("dataset_feature.Dataset", sequence={"feature": _dictionary(step), "length": "-1"})
    episode = _dictionary({"source": _text(), "success": _number("int64"), "info": _text()})
    return json.dumps(_dictionary({"steps": steps, "episode_metadata": episode}), indent=1)


def info_json(name: str, version: str, splits: dict[str, tuple[list[int], int]]) -> str:
    """Contents of ``dataset_info.json``.

    Args:
        name: of the data set.
        version: of the data set.
        splits: split to the records of each shard, and the bytes of all of them.
    """
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    about = [
        {
            "name": split,
            "filepathTemplate": template,
            "shardLengths": [str(length) for length in lengths],
            "numBytes": str(size),
        }
        for split, (lengths, size) in splits.items()
    ]
    return json.dumps({"name": name, "version": version, "fileFormat": "tfrecord", "splits": about}, indent=1)


def shard_name(name: str, split: str, number: int, count: int) -> str:
    """File name of a shard as TFDS has it."""
    return f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def example_of(episode: Episode, info: str, pictures: dict[str, list[bytes]]) -> dict[str, Values]:
    """The fields of one record.

    Args:
        episode: its numbers and texts.
        info: its info as JSON.
        pictures: encoded, by camera.
    """
    steps = len(episode)
    first, last = np.zeros(steps, bool), np.zeros(steps, bool)
    first[0], last[-1] = True, True
    with np.errstate(over="ignore"):
        readable = episode.time.astype(np.float32)
    fields: dict[str, Values] = {
        TIME_BITS: np.ascontiguousarray(episode.time, "<f8").view("<i8"),
        TIME: readable,
        "action": episode.action,
        "language_instruction": [episode.instruction.encode()] * steps,
        "reward": (last & (episode.success is True)).astype(np.float32),
        "discount": np.ones(steps, np.float32),
        "is_first": first,
        "is_last": last,
        "is_terminal": last & (episode.success is not False),  # a failure is an episode that was cut off
    }
    if episode.spec.state:
        fields["observation/state"] = episode.state
    fields |= {f"observation/{camera}": encoded for camera, encoded in pictures.items()}
    success = -1 if episode.success is None else int(episode.success)
    about: dict[str, Values] = {
        "episode_metadata/source": [episode.source.encode()],
        "episode_metadata/success": np.array([success]),
        "episode_metadata/info": [info.encode()],
    }
    return {f"steps/{name}": values for name, values in fields.items()} | about


def _feature(kind: str, **content: Any) -> dict[str, Any]:
    return {"pythonClassName": f"{_PACKAGE}.{kind}", **content}


def _dictionary(features: dict[str, Any]) -> dict[str, Any]:
    return _feature("features_dict.FeaturesDict", featuresDict={"features": features})


def _text() -> dict[str, Any]:
    return _feature("text_feature.Text", text={})


def _number(dtype: str, size: int | None = None) -> dict[str, Any]:
    """A vector of numbers, or a single one."""
    kind, shape = ("scalar.Scalar", {}) if size is None else ("tensor_feature.Tensor", {"dimensions": [str(size)]})
    return _feature(kind, tensor={"shape": shape, "dtype": dtype, "encoding": "none"})
