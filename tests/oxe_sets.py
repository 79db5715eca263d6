"""Small data sets with the features that Open X-Embodiment sets publish, listed in ``data/oxe_features.toml``.

The features are written by tensorflow-datasets, the records by the protobuf library.
"""

import io
import tomllib
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage
from rlds_files import example
from rlds_files import write_set as write_records

STEPS = 6
INSTRUCTION = "put the Löffel away"
TABLE: dict[str, dict[str, Any]] = tomllib.loads((Path(__file__).parent / "data/oxe_features.toml").read_text())

FLAGS = "is_first bool\nis_last bool\nis_terminal bool\n"
GROUPS = {
    "rtx": FLAGS + "reward float32\n",
    "plain": FLAGS + "reward float32\ndiscount float32\n",
    "builder": FLAGS + "reward float32\ndiscount float32\nlanguage_embedding float32 512\n",
    "gnm": FLAGS + "reward float64\ndiscount float64\nlanguage_embedding float32 512\n",
}
TEXTS, PICTURES = ("string", "text", "codes"), ("jpeg", "png", "png16", "image", "floatimage")
RED, BLUE = (200, 60, 20), (20, 60, 200)


def fields(entry: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Path to kind and shape, of every step feature."""
    return listed(GROUPS[entry["steps"]] + entry["fields"])


def listed(lines: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Path to kind and shape, of lines of the table."""
    words = [line.split() for line in lines.split("\n") if line.strip()]
    return {path: (kind, tuple(int(size) for size in shape)) for path, kind, *shape in words}


def stored(path: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a field, (steps, numbers): different in each column, grippers among them both ways and in between."""
    count = int(np.prod(shape, dtype=int))
    steps, columns = np.arange(STEPS)[:, None], np.arange(count)[None, :]
    if kind == "bool" or kind.startswith(("int", "uint")):
        return (steps + columns) % 2
    values = ((zlib.crc32(path.encode()) % 89 + 13 * columns + 29 * steps) % 97) / 48.0 - 1.0
    return values.astype(np.float32)


def picture(kind: str, height: int, width: int, depth: int, color: tuple[int, int, int]) -> bytes:
    if kind == "floatimage":
        pixels = np.full((height, width, 4), 7, np.uint8)  # four bytes of a float a pixel, as tensorflow-datasets does
    elif depth == 1:
        pixels = np.full((height, width), 7, np.uint16 if kind == "png16" else np.uint8)
    else:
        pixels = np.full((height, width, 3), color, np.uint8)
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "JPEG" if kind == "jpeg" else "PNG")
    return buffer.getvalue()


def feature(kind: str, shape: tuple[int, ...]) -> Any:
    import tensorflow_datasets as tfds

    kinds = tfds.features
    if kind in PICTURES:
        dtype = {"png16": np.uint16, "floatimage": np.float32}.get(kind, np.uint8)
        coding = {"jpeg": "jpeg", "png": "png", "png16": "png"}.get(kind)
        return kinds.Image(
            shape=(shape[0], shape[1], shape[2] if len(shape) == 3 else 3), dtype=dtype, encoding_format=coding
        )
    if kind == "text":
        return kinds.Text()
    if kind == "string":
        return kinds.Tensor(shape=(), dtype=np.object_)
    if kind == "zlib":
        return kinds.Tensor(shape=shape, dtype=np.float32, encoding="zlib")
    return kinds.Tensor(shape=shape, dtype=np.int32 if kind == "codes" else np.dtype(kind).type)


def nested(flat: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> Any:
    """Paths as a tree of two levels: further slashes belong to the name, as in some of the published features."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        head, slash, rest = path.partition("/")
        if slash:
            tree.setdefault(head, {})[rest] = value
        else:
            tree[path] = value
    return make({name: make(value) if isinstance(value, dict) else value for name, value in tree.items()})


def encoded(kind: str, shape: tuple[int, ...], numbers: np.ndarray | None) -> list[Any]:
    """What the record holds of one field, all steps after another."""
    if kind in ("string", "text"):
        return [INSTRUCTION.encode()] * STEPS
    if kind == "codes":
        codes = list(INSTRUCTION.encode())
        return (codes + [0] * (shape[0] - len(codes))) * STEPS
    assert numbers is not None
    if kind == "zlib":
        return [zlib.compress(np.asarray(row, np.float32).tobytes()) for row in numbers]
    return numbers.reshape(-1).tolist()


def write_set(
    name: str,
    folder: Path,
    size: tuple[int, int] | None = None,
    episodes: Sequence[Mapping[str, np.ndarray]] = ({},),
) -> None:
    """Episodes of the data set: ``size`` in place of that of its pictures, with red and blue put right; numbers and
    encoded pictures in place of the usual ones, a row a step."""
    import tensorflow_datasets as tfds

    entry = TABLE[name]
    swapped = {word.partition(":")[0] for word in entry["cameras"].split() if word.endswith(":bgr") and size is None}
    features, values = {}, {}
    for path, (kind, shape) in fields(entry).items():
        if size is not None and kind in ("jpeg", "png", "image"):
            shape = (*size, *shape[2:])
        features[path] = feature(kind, shape)
        if kind in PICTURES:
            color = BLUE if path.rpartition("/")[2] in swapped else RED
            depth = shape[2] if len(shape) == 3 else 3
            values[f"steps/{path}"] = [picture(kind, shape[0], shape[1], depth, color)] * STEPS
        else:
            values[f"steps/{path}"] = encoded(kind, shape, None if kind in TEXTS else stored(path, kind, shape))
    tree = nested(features, lambda tree: tree)
    once = {path: feature(kind, shape) for path, (kind, shape) in listed(entry.get("episode", "")).items()}
    whole: Any = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(tree), **once})
    records = [example(values | changed(entry, numbers)) for numbers in episodes]
    write_records(folder, {"train": [records]}, whole, name=name)


def changed(entry: dict[str, Any], numbers: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """What the record holds of fields with contents of their own, and of those of the whole episode: 1 unless given."""
    found = {path: numbers.get(path, np.ones(1, int)).tolist() for path in listed(entry.get("episode", ""))}
    for path, (kind, shape) in fields(entry).items():
        if path in numbers:
            given = numbers[path]
            found[f"steps/{path}"] = given.tolist() if kind in PICTURES else encoded(kind, shape, given)
    return found
