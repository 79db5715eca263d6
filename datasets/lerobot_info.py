"""``meta/info.json`` of a LeRobot data set of any version: its features and where its files lie, checked."""

import json
import math
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.datasets.lerobot_layout import INFO_FILE
from vla.errors import DataError

_LARGEST_JSON = 64 * 2**20  # bytes; info.json of the largest public sets has some kB
_LONGEST_NAME, _DEEPEST = 255, 16  # bytes of a name that file systems take, folders in folders
_LARGEST_NUMBER = 2**40  # of a chunk or a file
_PICTURES = ("image", "video")
_PLACE_FIELDS = {"chunk_index", "file_index", "episode_chunk", "episode_index", "video_key"}


@dataclass(frozen=True)
class Feature:
    """One column or camera as info.json declares it.

    Attributes:
        name: its key, e.g. ``"observation.state"``.
        dtype: ``"float32"``, ``"int64"``, ``"string"``, ``"image"``, ``"video"``...
        shape: of one step.
        names: of its numbers; empty if there is not one for each.
        axes: names of the dimensions, of pictures.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    axes: tuple[str, ...]

    @property
    def width(self) -> int:
        """Numbers a step."""
        return math.prod(self.shape)

    @property
    def is_camera(self) -> bool:
        """Whether it has pictures."""
        return self.dtype in _PICTURES

    @property
    def is_numeric(self) -> bool:
        """Whether it has numbers."""
        return not self.is_camera and re.match(r"(float|double|u?int|bool)", self.dtype) is not None

    @property
    def size(self) -> tuple[int, int]:
        """Declared height and width [pixels] of pictures; (0, 0) if the shape is not that of RGB pictures."""
        if len(self.shape) != 3 or 3 not in (self.shape[0], self.shape[2]):
            return (0, 0)
        channels_first = self.axes[:1] in (("channel",), ("channels",)) or (not self.axes and self.shape[2] != 3)
        return self.shape[1:] if channels_first else self.shape[:2]  # type: ignore[return-value]


@dataclass(frozen=True)
class Info:
    """What info.json says.

    Attributes:
        folder: the data set.
        version: ``codebase_version``, e.g. ``"v2.1"``.
        fps: steps a second.
        features: by name, in the file's order.
        chunk: episodes in one folder of v2.
        data_path: template of the data files.
        video_path: template of the videos; empty if there is none.
        value: the whole file.
    """

    folder: Path
    version: str
    fps: float
    features: dict[str, Feature]
    chunk: int
    data_path: str
    video_path: str
    value: dict[str, Any]

    @property
    def file(self) -> Path:
        """info.json itself."""
        return self.folder / INFO_FILE

    @property
    def cameras(self) -> tuple[Feature, ...]:
        """Those of the features that are pictures."""
        return tuple(feature for feature in self.features.values() if feature.is_camera)

    def data_file(self, chunk: int, file: int) -> Path:
        """The Parquet file at a place: chunk and number (of the episode in v2, of the file in v3)."""
        return self.folder / _filled(self.data_path, chunk, file, "")

    def video_file(self, key: str, chunk: int, file: int) -> Path:
        """The video at a place."""
        return self.folder / _filled(self.video_path, chunk, file, key)


def codebase_version(value: Any) -> str | None:
    """Version that the contents of an info.json name."""
    version = value.get("codebase_version") if isinstance(value, dict) else None
    return version if isinstance(version, str) else None


def read_json(path: Path) -> Any:
    """A JSON file of ``meta/``.

    Raises:
        DataError: it is missing, too large or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_JSON:
            raise DataError(path, "file", expected=f"at most {_LARGEST_JSON} bytes", found=f"{size}")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error


def read_info(folder: Path, versions: tuple[str, ...]) -> Info:
    """``meta/info.json``, with the fields that are read here checked.

    Args:
        folder: the data set.
        versions: those that the caller reads.

    Raises:
        DataError: it is missing, is not JSON, lacks a field or is of another version.
    """
    path = folder / INFO_FILE
    value = read_json(path)
    version = codebase_version(value)
    if version not in versions:
        found = repr(value.get("codebase_version")) if isinstance(value, dict) else repr(value)[:80]
        raise DataError(path, "codebase_version", expected=" or ".join(versions), found=found)
    fps = value.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1e5:
        raise DataError(path, "fps", expected="steps a second, above 0", found=repr(fps)[:80])
    features = value.get("features")
    if not isinstance(features, dict) or not features:
        raise DataError(path, "features", expected="an object of features", found=repr(features)[:80])
    chunk = value.get("chunks_size", 1000)
    if isinstance(chunk, bool) or not isinstance(chunk, int) or not 0 < chunk < 2**31:
        raise DataError(path, "chunks_size", expected="a number above 0", found=repr(chunk)[:80])
    parsed = {name: _feature(path, name, feature) for name, feature in features.items()}
    data_path = _template(path, value, "data_path")
    films = [name for name, feature in parsed.items() if feature.dtype == "video"]
    video_path = _template(path, value, "video_path", max(films, key=len)) if films else ""
    return Info(folder, version or "", float(fps), parsed, chunk, data_path, video_path, value)


def _feature(path: Path, name: str, value: Any) -> Feature:
    def refuse(field: str, expected: str, found: Any) -> DataError:
        return DataError(path, f"features: {name}: {field}", expected=expected, found=repr(found)[:80])

    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        raise refuse("dtype", "an object with a dtype", value)
    shape = value.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**20 for size in shape):
        raise refuse("shape", "a list of sizes", shape)
    if math.prod(shape) > 2**28:
        raise refuse("shape", "at most 2**28 numbers a step", shape)
    axes = tuple(_texts(value.get("names")))
    names = axes if len(axes) == math.prod(shape) and value["dtype"] not in _PICTURES else ()
    return Feature(name, value["dtype"], tuple(shape), names, axes)


def _texts(value: Any, depth: int = 0) -> list[str]:
    """All texts in nested lists and objects: names are written as ``["x"]``, ``[["x"]]`` or ``{"motors": ["x"]}``."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part, depth + 1)] if depth < 4 else []


def _template(path: Path, value: dict[str, Any], field: str, key: str = "") -> str:
    """A path with places to fill in, which can neither leave the folder nor grow without bound."""
    text = value.get(field)
    try:
        if not isinstance(text, str) or text.startswith("/") or ".." in Path(text).parts:
            raise ValueError("not a relative path")
        for _, name, form, _ in string.Formatter().parse(text):
            if name is None:
                continue
            if name not in _PLACE_FIELDS or not re.fullmatch(r"(0?\dd)?", form or ""):
                raise ValueError(f"{{{name}:{form}}}")
        parts = _filled(text, _LARGEST_NUMBER, _LARGEST_NUMBER, key).encode().split(b"/")
        if len(parts) > _DEEPEST or max(map(len, parts)) > _LONGEST_NAME or "\0" in text + key:
            raise ValueError("no file can have that name")
    except (ValueError, IndexError, KeyError) as error:
        expected = f"a relative path with {', '.join(sorted(_PLACE_FIELDS))} to fill in"
        raise DataError(path, field, expected=expected, found=f"{text!r:.120} ({error})") from error
    return text


def _filled(template: str, chunk: int, file: int, key: str) -> str:
    return template.format(chunk_index=chunk, file_index=file, episode_chunk=chunk, episode_index=file, video_key=key)
