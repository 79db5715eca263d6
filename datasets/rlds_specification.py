"""What an RLDS folder says about itself: its features, splits and shards, read through tensorflow-datasets.

Only the two JSON files are read, and tensorflow-datasets imports no TensorFlow for them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.datasets.tfrecord import FeatureKind
from vla.errors import DataError, UnknownName

FEATURES, INFO = "features.json", "dataset_info.json"


@dataclass(frozen=True)
class NumberField:
    """A numeric step field of ``size`` numbers, stored as a list of ``kind``."""

    size: int
    kind: FeatureKind


@dataclass(frozen=True)
class ImageField:
    """An encoded picture a step; ``height`` and ``width`` [pixels] are None where they are left open."""

    height: int | None
    width: int | None


@dataclass(frozen=True)
class TextField:
    """A text a step."""


Field = NumberField | ImageField | TextField


@dataclass(frozen=True)
class Specification:
    """An RLDS folder's own description.

    Attributes:
        folder: where it lies.
        name: of the data set.
        fields: step fields by path, e.g. ``"observation/state"``; fields of types that are not read here are absent.
        shards: files of the split.
        shard_lengths: records in each of them.
    """

    folder: Path
    name: str
    fields: dict[str, Field]
    shards: tuple[Path, ...]
    shard_lengths: tuple[int, ...]

    def field[F: Field](self, path: str, kind: type[F]) -> F:
        """The step field of that path and kind.

        Raises:
            DataError: there is none, or it is of another kind.
        """
        found = self.fields.get(path)
        if not isinstance(found, kind):
            expected = f"a step feature ({kind.__name__})"
            known = f"none of that name among {', '.join(sorted(self.fields))}" if found is None else str(found)
            raise DataError(self.folder / FEATURES, f"steps/{path}", expected=expected, found=known)
        return found


def data_set_name(folder: Path) -> str:
    """Name of the data set in an RLDS folder.

    Raises:
        DataError: the folder has no readable ``dataset_info.json`` with a name.
    """
    info = read_json(folder / INFO)
    name = info.get("name") if isinstance(info, dict) else None
    if not isinstance(name, str):
        raise DataError(folder / INFO, "name", expected="the data set's name", found=repr(name))
    return name


def read_specification(folder: Path, split: str) -> Specification:
    """The specification of one split.

    Raises:
        DataError: a file is missing, is not JSON or not a specification.
        UnknownName: there is no such split.
    """
    import tensorflow_datasets as tfds

    name = data_set_name(folder)
    read_json(folder / FEATURES)
    try:
        features: Any = tfds.features.FeaturesDict.from_config(str(folder))
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise DataError(folder / FEATURES, "features", expected="an RLDS specification", found=str(error)) from error
    try:
        splits: Any = tfds.builder_from_directory(str(folder)).info.splits
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(folder / INFO, "splits", expected="a data set description", found=str(error)) from error
    if split not in splits:
        raise UnknownName(f"split of {name}", split, list(splits))
    if "steps" not in features or not isinstance(features["steps"], tfds.features.Dataset):
        raise DataError(folder / FEATURES, "steps", expected="a Dataset feature", found=", ".join(features) or "none")
    fields = dict(_fields(features["steps"].feature, ""))
    shards = tuple(folder / Path(str(path)).name for path in splits[split].filepaths)
    return Specification(folder, name, fields, shards, tuple(splits[split].shard_lengths))


def read_json(path: Path) -> Any:
    """The JSON value of a file.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
    except ValueError as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error


def _fields(feature: Any, prefix: str) -> Iterator[tuple[str, Field]]:
    import tensorflow_datasets as tfds

    kinds: Any = tfds.features
    if isinstance(feature, kinds.FeaturesDict):
        for name, inner in feature.items():
            yield from _fields(inner, f"{prefix}/{name}" if prefix else name)
    elif isinstance(feature, kinds.Image):
        height, width = feature.shape[:2]
        yield prefix, ImageField(height, width)
    elif isinstance(feature, kinds.Text):
        yield prefix, TextField()
    elif isinstance(feature, kinds.Tensor) and None not in feature.shape:
        dtype = np.dtype(feature.np_dtype)
        size = int(np.prod(feature.shape, dtype=int))
        if dtype.kind == "f":
            yield prefix, NumberField(size, "float")
        elif dtype.kind in "iub":
            yield prefix, NumberField(size, "int64")
        elif dtype.kind in "SUO" and not feature.shape:
            yield prefix, TextField()
