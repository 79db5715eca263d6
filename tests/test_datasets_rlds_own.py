"""Data that this project wrote: nothing is lost on the way through TFRecords and back."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from vla.datasets.rlds import Config
from vla.datasets.rlds_writer import Writer
from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import DataError
from vla.experience import Episode

SPEC = EmbodimentSpec(
    name="own",
    state=tuple(Channel(f"s{number}") for number in range(300)),
    state_rotation=None,
    action=ActionSpec(
        (Channel("dx", "m"), Channel("g", "1", "gripper")), "delta", "base", None, Gripper(1.0, -1.0), 7.0
    ),
    cameras=(CameraSpec("front", 8, 10, "mirrored", "primary"), CameraSpec("wrist", 6, 6)),
)


def episode(number: int) -> Episode:
    chance = np.random.default_rng(number)
    steps = 3 + number
    sizes = {"front": (8, 10), "wrist": (6, 6)}
    return Episode(
        spec=SPEC,
        state=chance.normal(size=(steps, 300)).astype(np.float32),
        action=chance.normal(size=(steps, 2)).astype(np.float32),
        images={name: [*chance.integers(0, 256, (steps, *size, 3)).astype(np.uint8)] for name, size in sizes.items()},
        time=np.cumsum(chance.random(steps)),
        instruction=f"tu dies, {number}: größer",
        success=(None, True, False)[number % 3],
        source=f"somewhere[{number}]",
        info={"seed": number, "notes": ["a", {"b": None}]},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    with Writer(tmp_path / "own", SPEC) as writer:
        for number in range(4):
            writer.add(episode(number), "train" if number < 3 else "val")
    return tmp_path / "own" / "1.0.0"


def test_everything_comes_back(folder, tmp_path):
    source = Config(folder, split="train+val", cache=tmp_path / "cache").make()
    assert source.spec == SPEC and len(source) == 4
    for number in range(4):
        found, expected = source[number], episode(number)
        for name in ("state", "action", "time"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
        for name in ("instruction", "success", "source", "info"):
            assert getattr(found, name) == getattr(expected, name)
        for name, frames in expected.images.items():
            assert all(np.array_equal(found.images[name][step], frames[step]) for step in range(len(frames)))


def test_there_is_nothing_to_fix(folder, tmp_path):
    sources = [Config(folder, fixes=fixes, cache=tmp_path / "cache").make() for fixes in (True, False)]
    assert sources[0].spec == sources[1].spec and sources[0].content == sources[1].content


def test_one_camera_can_be_chosen(folder, tmp_path):
    source = Config(folder, cameras=("wrist",), cache=tmp_path / "cache").make()
    assert source.spec == dataclasses.replace(SPEC, cameras=SPEC.cameras[1:]) and list(source[0].images) == ["wrist"]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("fingerprint", "0" * 16, "fingerprint: expected"),
        ("format", 3, "format: expected 1 or 2"),
        ("embodiment", {"name": "x"}, "embodiment: expected"),
        ("embodiment", None, "embodiment: expected"),
    ],
)
def test_an_embodiment_that_is_none(folder, tmp_path, field, value, error):
    file = folder / "vla.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(DataError, match=rf"vla\.json: {error}"):
        Config(folder, cache=tmp_path / "cache").make()


def test_an_embodiment_that_does_not_fit(folder, tmp_path):
    file = folder / "vla.json"
    spec = dataclasses.replace(SPEC, state=SPEC.state[1:])
    file.write_text(json.dumps({"format": 1, "fingerprint": spec.fingerprint, "embodiment": spec.to_json()}))
    with pytest.raises(DataError, match=r"observation/state: expected 299 numbers a step as in vla\.json, found 300"):
        Config(folder, cache=tmp_path / "cache").make()
    spec = dataclasses.replace(SPEC, cameras=(dataclasses.replace(SPEC.cameras[0], height=9),))
    file.write_text(json.dumps({"format": 1, "fingerprint": spec.fingerprint, "embodiment": spec.to_json()}))
    with pytest.raises(DataError, match=r"camera front: expected pictures of 9x10 as in vla\.json, found 8x10"):
        Config(folder, cache=tmp_path / "cache").make()
