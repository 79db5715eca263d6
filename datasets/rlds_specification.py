"""What an RLDS folder says about itself: its features, splits and shards, read from its two JSON files.

::

    dataset_info.json ──▶ name, splits: shards and how many records each has
    features.json ──────▶ fields of a step and of an episode, by path; what is not read, and why

A field is stored in a record under its path: steps side by side in one list, as tensorflow-datasets lays them out.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla.datasets import storage
from vla.errors import DataError

FEATURES, INFO = "features.json", "dataset_info.json"
STEPS = "steps"
WIDEST = 256
"""Numbers a step of the widest field that the index holds: more are embeddings, depth or simulator dumps."""

WIDEST_STATE = 4096
"""The same for fields that are called ``state`` or ``action``."""

_DEPTH = 32  # levels of features within features
_MOST = 1 << 40  # records of a shard
_CODES = "instruction"  # fields of this name hold text as character codes, one number each (language_table)

Coding = Literal["list", "rows", "bytes", "zlib"]


@dataclass(frozen=True)
class NumberField:
    """Numbers, so many each step.

    Attributes:
        size: numbers a step.
        dtype: NumPy's name of what they are; floats of a list are stored as float32 whatever this says.
        coding: in a list; in a list with a list of row lengths beside it; as raw bytes; as deflated bytes.
    """

    size: int
    dtype: str
    coding: Coding = "list"

    def __str__(self) -> str:
        return f"{self.size} {self.dtype}"


@dataclass(frozen=True)
class ImageField:
    """An encoded picture a step; ``height`` and ``width`` [pixels] are None where they are left open."""

    height: int | None
    width: int | None

    def __str__(self) -> str:
        return f"picture {self.height or '?'}x{self.width or '?'}"


@dataclass(frozen=True)
class TextField:
    """A text a step; ``codes`` is how many numbers it is stored as, None where it is stored as text."""

    codes: int | None = None

    def __str__(self) -> str:
        return "text"


Field = NumberField | ImageField | TextField


@dataclass(frozen=True)
class Split:
    """Shards of one split.

    Attributes:
        files: names within the folder.
        lengths: records in each of them.
    """

    files: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Records in all."""
        return sum(self.lengths)


@dataclass(frozen=True)
class Specification:
    """An RLDS folder's own description.

    Attributes:
        folder: path or URL.
        name: of the data set.
        splits: by name.
        steps: fields of a step by path, e.g. ``"observation/state"``.
        episode: fields of an episode by path, e.g. ``"episode_metadata/file_path"``.
        left_out: path, as in a record, to why it is not read.
    """

    folder: str
    name: str
    splits: Mapping[str, Split]
    steps: Mapping[str, Field]
    episode: Mapping[str, Field]
    left_out: Mapping[str, str]

    def listing(self) -> str:
        """All fields, for people."""
        lines = [f"  steps/{path}: {kind}" for path, kind in self.steps.items()]
        lines += [f"  {path}: {kind}" for path, kind in self.episode.items()]
        lines += [f"  {path}: not read: {reason}" for path, reason in self.left_out.items()]
        return "\n".join(lines)


def read_specification(folder: str) -> Specification:
    """The specification of an RLDS folder.

    Raises:
        DataError: a file is missing, is not JSON or not a specification.
    """
    info_file, features_file = storage.join(folder, INFO), storage.join(folder, FEATURES)
    info = read_json(info_file)
    name = info.get("name") if isinstance(info, dict) else None
    if not isinstance(name, str) or not name or "/" in name:
        raise DataError(info_file, "name", expected="the data set's name", found=repr(name)[:100])
    fields = _Fields(features_file)
    fields.walk(read_json(features_file), "", 0, steps=None)
    if not fields.steps:
        known = ", ".join([*fields.episode, *fields.left_out]) or "none"
        raise DataError(features_file, STEPS, expected="a Dataset feature with fields", found=f"only {known}"[:1000])
    splits = _splits(info, name, info_file)
    return Specification(folder, name, splits, fields.steps, fields.episode, fields.left_out)


def read_json(place: str | Path) -> Any:
    """The JSON value of a file.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(storage.read(place))
    except (ValueError, RecursionError) as error:
        raise DataError(place, "file", expected="JSON", found=str(error)) from error


def _splits(info: dict[str, Any], name: str, file: str) -> dict[str, Split]:
    kind = info.get("fileFormat", "tfrecord")
    if kind != "tfrecord":
        raise DataError(file, "fileFormat", expected="tfrecord", found=repr(kind)[:100])
    entries = info.get("splits")
    if not isinstance(entries, list):
        raise DataError(file, "splits", expected="a list", found=repr(entries)[:100])
    splits: dict[str, Split] = {}
    for number, entry in enumerate(entries):
        where = f"splits[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise DataError(file, where, expected="a split with a name", found=repr(entry)[:100])
        lengths = tuple(_whole(value) for value in _list(entry.get("shardLengths", [])))
        if any(length is None or not 0 <= length <= _MOST for length in lengths):
            found = repr(entry.get("shardLengths"))[:100]
            raise DataError(file, f"{where}: shardLengths", expected="records of each shard", found=found)
        template = entry.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        files = tuple(_shard_name(template, name, entry["name"], place, len(lengths)) for place in range(len(lengths)))
        if any(not file_name or "/" in file_name for file_name in files):
            raise DataError(file, f"{where}: filepathTemplate", expected="a name of a file", found=repr(template)[:100])
        splits[entry["name"]] = Split(files, tuple(length or 0 for length in lengths))
    return splits


def _shard_name(template: Any, name: str, split: str, index: int, count: int) -> str:
    """The name of one shard; empty if the template is none."""
    digits = max(5, len(str(count)))
    values = {
        "DATASET": name,
        "SPLIT": split,
        "FILEFORMAT": "tfrecord",
        "SHARD_INDEX": f"{index:0{digits}}",
        "NUM_SHARDS": f"{count:0{digits}}",
        "SHARD_X_OF_Y": f"{index:0{digits}}-of-{count:0{digits}}",
    }
    if not isinstance(template, str):
        return ""
    for key, value in values.items():
        template = template.replace(f"{{{key}}}", value)
    return "" if "{" in template or template in (".", "..") or "\0" in template else template


@dataclass
class _Fields:
    """Collects the fields of ``features.json``, in both forms that tensorflow-datasets has written."""

    file: str
    steps: dict[str, Field] = field(default_factory=dict)
    episode: dict[str, Field] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def walk(self, value: Any, path: str, depth: int, *, steps: str | None) -> None:
        """Add a feature and those within; ``steps`` is the path within a step, None outside."""
        if depth > _DEPTH or not isinstance(value, dict):
            found = f"more than {_DEPTH} levels" if isinstance(value, dict) else repr(value)[:100]
            raise DataError(self.file, path or "features", expected="a feature", found=found)
        kind = value.get("pythonClassName", value.get("type"))
        if not isinstance(kind, str):
            raise DataError(self.file, path or "features", expected="pythonClassName", found=repr(kind)[:100])
        kind = kind.rpartition(".")[2]
        content = _content(value)
        if kind == "FeaturesDict":
            inner = content.get("features", content)
            for name, feature in _dict(inner).items():
                below = name if not path else f"{path}/{name}"
                within = None if steps is None else name if not steps else f"{steps}/{name}"
                self.walk(feature, below, depth + 1, steps=within)
        elif kind in ("Dataset", "Sequence") and path == STEPS:
            self.walk(content.get("feature"), path, depth + 1, steps="")
        else:
            self._add(kind, content, path, steps)

    def _add(self, kind: str, content: dict[str, Any], path: str, steps: str | None) -> None:
        name = path.rpartition("/")[2]
        found = _read_field(kind, content, name)
        if isinstance(found, str):
            self.left_out[path] = found
        elif steps is None:
            if isinstance(found, ImageField):
                self.left_out[path] = "a picture of an episode"
            else:
                self.episode[path] = found
        else:
            self.steps[steps] = found


def _read_field(kind: str, content: dict[str, Any], name: str) -> Field | str:
    """The field, or why it is left out."""
    if kind in ("Tensor", "Scalar", "Text", "ClassLabel", "Image"):
        shape = _shape(content, kind)
        if shape is None:
            return "a shape that is none"
        if kind == "Text":
            return TextField()
        if kind == "Image":
            return _image(content, shape)
        return _tensor(content, shape, name, kind)
    if kind == "Sequence":
        return _sequence(content)
    return f"a feature of kind {kind}"


def _image(content: dict[str, Any], shape: tuple[int | None, ...]) -> Field | str:
    dtype = content.get("dtype") or "uint8"
    if dtype != "uint8":
        return f"a picture of {dtype}"
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        return f"a picture of shape {list(shape)}"
    return ImageField(shape[0], shape[1])


def _tensor(content: dict[str, Any], shape: tuple[int | None, ...], name: str, kind: str) -> Field | str:
    if None in shape:
        return f"ragged: shape {list(shape)}"
    size = math.prod(number for number in shape if number is not None)
    dtype = "int64" if kind == "ClassLabel" else content.get("dtype")
    coding = str(content.get("encoding") or "none").lower()
    if dtype in ("string", "object", "str"):
        return TextField() if size == 1 and coding == "none" else f"texts of shape {list(shape)}"
    if coding not in ("none", "bytes", "zlib") or not isinstance(dtype, str) or dtype not in _DTYPES:
        return f"numbers of {dtype} in encoding {coding}"
    if name.endswith(_CODES) and coding == "none" and np.dtype(dtype).kind in "iu" and 16 <= size <= 1 << 16:
        return TextField(codes=size)
    widest = WIDEST_STATE if name in ("state", "action") else WIDEST
    if not 0 < size <= widest:
        return f"{size} numbers, where at most {widest} are kept"
    return NumberField(size, dtype, "list" if coding == "none" else "bytes" if coding == "bytes" else "zlib")


def _sequence(content: dict[str, Any]) -> Field | str:
    """A sequence within a step has row lengths beside it even where its length is fixed."""
    length, inner = _whole(content.get("length", -1)), content.get("feature")
    if length is None or length < 1:
        return "ragged: a sequence of any length"
    if not isinstance(inner, dict):
        return "a sequence of nothing"
    kind = str(inner.get("pythonClassName", inner.get("type"))).rpartition(".")[2]
    found = _read_field(kind, _content(inner), "") if kind in ("Tensor", "Scalar", "ClassLabel") else "nested"
    if not isinstance(found, NumberField) or found.coding != "list":
        return "a sequence of sequences, texts or pictures"
    if length * found.size > WIDEST:
        return f"{length * found.size} numbers, where at most {WIDEST} are kept"
    return NumberField(length * found.size, found.dtype, "rows")


_DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_DTYPES |= {"float16", "float32", "float64", "bool"}


def _content(value: dict[str, Any]) -> dict[str, Any]:
    """What is said about a feature, under whatever name tensorflow-datasets gave that."""
    for key, inner in value.items():
        if key not in ("pythonClassName", "type", "description", "valueRange", "proto_cls"):
            if key == "jsonFeature" and isinstance(inner, dict):
                return {}
            return _dict(inner)
    return {}


def _shape(content: dict[str, Any], kind: str) -> tuple[int | None, ...] | None:
    """The shape, None for an open dimension; None in place of all of it if it is none."""
    value = content.get("shape", [None, None, 3] if kind == "Image" else [])
    if isinstance(value, dict):
        value = value.get("dimensions", [])
    if not value and kind == "Image":
        value = [None, None, 3]
    if not isinstance(value, list) or len(value) > 16:
        return None
    numbers = [-1 if number is None else _whole(number) for number in value]
    if any(number is None or number < -1 for number in numbers):
        return None
    return tuple(None if number == -1 else number for number in numbers)


def _whole(value: Any) -> int | None:
    """A whole number, which protobuf writes into JSON as text; None if it is none."""
    if isinstance(value, str) and len(value) < 20 and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
