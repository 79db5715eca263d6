"""Every kind of field that a step can have, encoded and decoded by tensorflow-datasets as the other side."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage
from rlds_files import example, write_set

from vla.datasets.rlds import Config
from vla.datasets.rlds_index import RldsIndex
from vla.datasets.rlds_specification import read_specification

STEPS = 5
DESCRIPTION = """
robot = "kinds"
rate = 10
instruction = "words/instruction"
[state]
columns = [
    { field = "numbers/a", channels = "x y z" },
    { field = "numbers/flag", channels = "gripper_state" },
    { field = "deep/er/x", channels = "joint_0" },
    { field = "raw", channels = "joint_1 _ joint_2" },
    { field = "grid", take = [1, 3], channels = "joint_3 joint_4" },
    { field = "sequence", take = [4, 5], channels = "joint_5" },
]
[action]
mode = "delta"
frame = "base"
columns = [{ field = "packed", channels = "dx dy" }]
[[cameras]]
name = "png"
field = "png"
[[cameras]]
name = "gray"
field = "gray"
"""


def png(pixels: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels.squeeze()).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def kinds_of_features() -> Any:
    import tensorflow_datasets as tfds

    kinds = tfds.features
    return {
        "numbers": {
            "a": kinds.Tensor(shape=(3,), dtype=np.float64),
            "flag": kinds.Scalar(dtype=np.bool_),
            "half": kinds.Scalar(dtype=np.float16),
            "big": kinds.Scalar(dtype=np.uint64),
            "class": kinds.ClassLabel(num_classes=5),
        },
        "deep": {"er": {"x": kinds.Scalar(dtype=np.int8)}},
        "grid": kinds.Tensor(shape=(2, 2), dtype=np.uint8),
        "raw": kinds.Tensor(shape=(3,), dtype=np.float64, encoding=kinds.Encoding.BYTES),
        "packed": kinds.Tensor(shape=(2,), dtype=np.int16, encoding=kinds.Encoding.ZLIB),
        "png": kinds.Image(shape=(4, 6, 3), encoding_format="png"),
        "gray": kinds.Image(shape=(None, None, 1), encoding_format="png"),
        "words": {"text": kinds.Text(), "string": kinds.Tensor(shape=(), dtype=np.str_)}
        | {"instruction": kinds.Tensor(shape=(32,), dtype=np.int32)},
    }


def a_step(number: int, chance: np.random.Generator) -> dict[str, Any]:
    codes = np.zeros(32, np.int32)
    codes[:6] = list("grüß".encode())
    pixels = chance.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return {
        "numbers": {
            "a": chance.normal(size=3),
            "flag": bool(number % 2),
            "half": np.float16(number / 3),
            "big": np.uint64(2**64 - 1 - number),
            "class": number % 5,
        },
        "deep": {"er": {"x": -number}},
        "grid": chance.integers(0, 256, (2, 2)).astype(np.uint8),
        "raw": chance.normal(size=3),
        "packed": np.array([number, -300 * number], np.int16),
        "png": png(pixels),
        "gray": png(pixels[..., :1]),
        "words": {"text": f"t{number}", "string": "é" * number, "instruction": codes},
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The data set's folder, and its steps as tensorflow-datasets decodes them."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    kinds = tfds.features
    about = {
        "path": kinds.Text(),
        "count": kinds.Scalar(dtype=np.int32),
        "pair": kinds.Tensor(shape=(2,), dtype=np.float32),
    }
    steps = kinds_of_features()
    encoder: Any = kinds.FeaturesDict({"steps": kinds.Dataset(steps), "about": about})
    chance = np.random.default_rng(0)
    message = {"steps": [a_step(number, chance) for number in range(STEPS)]}
    record = encoder.serialize_example(
        message | {"about": {"path": "p", "count": 7, "pair": np.array([1, 2], np.float32)}}
    )
    decoded = list(encoder.deserialize_example_np(record)["steps"])
    # tensorflow-datasets needs TensorFlow to encode sequences: their two lists are laid out by hand
    rows = np.arange(STEPS * 6, dtype=np.float32)
    more = {"steps/sequence/ragged_flat_values": rows.tolist(), "steps/sequence/ragged_row_lengths_0": [3] * STEPS}
    whole: Any = getattr(tf_example_pb2, "Example")()  # noqa: B009 - made at run time, unknown to type checkers
    whole.ParseFromString(record)
    whole.MergeFromString(example(more))
    steps["sequence"] = kinds.Sequence(kinds.Tensor(shape=(2,), dtype=np.float32), length=3)
    features = kinds.FeaturesDict({"steps": kinds.Dataset(steps), "about": about})
    folder = write_set(tmp_path_factory.mktemp("kinds") / "set", {"train": [[whole.SerializeToString()]]}, features)
    (folder / "tiny.toml").write_text(DESCRIPTION)
    return folder, decoded


@pytest.fixture(scope="module")
def source(both):
    folder, _ = both
    return Config(folder, description=folder / "tiny.toml", cache=folder.parent / "cache").make()


def test_every_field_has_a_place(both):
    specification = read_specification(str(both[0]))
    assert not specification.left_out
    assert len(specification.steps) == 15 and set(specification.episode) == {"about/path", "about/count", "about/pair"}


@pytest.mark.parametrize(
    "path",
    ["numbers/a", "numbers/flag", "numbers/half", "numbers/big", "numbers/class", "deep/er/x", "grid", "raw", "packed"],
)
def test_numbers_equal_those_of_tensorflow_datasets(both, source, path):
    index = RldsIndex.open(source.pieces[0].index)
    for step, expected in enumerate(both[1]):
        for name in path.split("/"):
            expected = expected[name]
        found = index.arrays[f"steps/{path}"][step]
        if path == "numbers/half":  # the record itself holds a float32
            found = found.astype(np.float16)
        assert np.array_equal(found, np.asarray(expected).reshape(-1).astype(found.dtype)), path
        assert found.dtype.itemsize >= (4 if path == "numbers/a" else np.asarray(expected).dtype.itemsize)


def test_channels_come_from_all_of_them(both, source):
    episode = source[0]
    for step, expected in enumerate(both[1]):
        state = [*expected["numbers"]["a"], expected["numbers"]["flag"], expected["deep"]["er"]["x"]]
        state += [expected["raw"][0], expected["raw"][2], *expected["grid"].reshape(-1)[1:3], 6 * step + 4]
        assert episode.state[step].tolist() == np.array(state, np.float32).tolist()
        assert episode.action[step].tolist() == expected["packed"].tolist()


def test_pictures_and_texts(both, source):
    episode = source[0]
    assert (source.spec.camera("png").height, source.spec.camera("gray").width) == (4, 6)
    for step, expected in enumerate(both[1]):
        assert np.array_equal(episode.images["png"][step], expected["png"])
        assert np.array_equal(episode.images["gray"][step], np.repeat(expected["gray"], 3, axis=2))
    assert episode.instruction == "grüß"
    index = RldsIndex.open(source.pieces[0].index)
    for path in ("text", "string"):
        found = [index.text(number) for number in index.arrays[f"texts/words/{path}"].tolist()]
        expected = [step["words"][path] for step in both[1]]
        assert found == [text.decode() if isinstance(text, bytes) else text for text in expected]
    assert episode.info["metadata"] == {"about/path": "p", "about/count": 7, "about/pair": [1.0, 2.0]}


def test_the_older_form_of_features_json(both, tmp_path):
    """As tensorflow-datasets wrote it before 4.5: type and content."""
    import json

    content = {"a": {"type": "x.Tensor", "content": {"shape": [3], "dtype": "float32"}}}
    content |= {"b": {"type": "x.Image", "content": {"shape": [None, None, 3], "dtype": "uint8"}}}
    content |= {"c": {"type": "x.Text", "content": {}}, "d": {"type": "my.Own", "content": {"x": 1}}}
    steps = {
        "type": "x.Dataset",
        "content": {"feature": {"type": "x.FeaturesDict", "content": content}, "length": None},
    }
    whole = {"type": "x.FeaturesDict", "content": {"steps": steps}}
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "features.json").write_text(json.dumps(whole))
    (folder / "dataset_info.json").write_text(json.dumps({"name": "old", "splits": []}))
    specification = read_specification(str(folder))
    assert {path: str(kind) for path, kind in specification.steps.items()} == {
        "a": "3 float32",
        "b": "picture ?x?",
        "c": "text",
    }
    assert specification.left_out == {"steps/d": "a feature of kind Own"}
