"""RLDS: tensorflow-datasets opens what we write and finds every number bit for bit."""

import dataclasses
import io
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PilImage
from random_episodes import SPEC, episode
from rlds_files import read_records

from vla.datasets.picture_writer import encode_png
from vla.datasets.rlds_writer import Writer
from vla.datasets.tfrecord import parse_example
from vla.datasets.tfrecord_writer import encode_example, write_record
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DataError
from vla.experience import Episode


def write(path: Path, episodes: list[Episode], **options) -> Path:
    with Writer(path, episodes[0].spec, **options) as writer:
        for each in episodes:
            writer.add(each)
    return path / "1.0.0"


def records(folder: Path, split: str = "train") -> list[bytes]:
    files = sorted(folder.glob(f"*-{split}.tfrecord-*"))
    return [record.data for file in files for record in read_records(file)]


def as_tfds_reads(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """Episodes by tensorflow-datasets, each step a dict."""
    import tensorflow_datasets as tfds

    features: Any = tfds.builder_from_directory(str(folder)).info.features
    result = []
    for data in records(folder, split):
        example = features.deserialize_example_np(data)
        result.append({"steps": list(example["steps"]), "about": example["episode_metadata"]})
    return result


def check_against_tfds(have: dict[str, Any], want: Episode) -> None:
    steps = have["steps"]
    assert len(steps) == len(want)
    for name, values in (("state", want.state), ("time_bits", want.time.view(np.int64))):
        assert np.stack([step["observation"][name] for step in steps]).tobytes() == values.tobytes()
    assert np.stack([step["action"] for step in steps]).tobytes() == want.action.tobytes()
    assert {step["language_instruction"].decode() for step in steps} == {want.instruction}
    assert [bool(step["is_first"]) for step in steps] == [True] + [False] * (len(want) - 1)
    assert [bool(step["is_last"]) for step in steps] == [False] * (len(want) - 1) + [True]
    assert float(steps[-1]["reward"]) == (1.0 if want.success else 0.0)
    assert bool(steps[-1]["is_terminal"]) == (want.success is not False)
    for camera in want.spec.camera_names:
        assert np.array_equal([step["observation"][camera] for step in steps], np.stack(list(want.images[camera])))
    about = have["about"]
    assert int(about["success"]) == {None: -1, False: 0, True: 1}[want.success]
    assert about["source"].decode() == want.source and json.loads(about["info"]) == want.info


def test_tensorflow_datasets_opens_it(tmp_path):
    import tensorflow_datasets as tfds

    episodes = [episode(seed, steps) for seed, steps in enumerate((5, 3, 1, 7))]
    folder = write(tmp_path / "my_set", episodes)
    builder: Any = tfds.builder_from_directory(str(folder))
    assert builder.name == "my_set" and str(builder.version) == "1.0.0"
    train = builder.info.splits["train"]
    assert train.num_examples == 4 and train.shard_lengths == [4]
    assert [Path(str(path)).name for path in train.filepaths] == ["my_set-train.tfrecord-00000-of-00001"]
    for have, want in zip(as_tfds_reads(folder), episodes, strict=True):
        check_against_tfds(have, want)
    about = json.loads((folder / "vla.json").read_text())
    assert about["format"] == 2 and EmbodimentSpec.from_json(about["embodiment"]) == SPEC


floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
times = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_extreme_numbers_and_texts_come_back(tmp_path_factory, data):
    steps = data.draw(st.integers(1, 4))
    spec = libero_panda(1)
    draw = {
        "state": data.draw(arrays.arrays(np.float32, (steps, len(spec.state)), elements=floats32)),
        "action": data.draw(arrays.arrays(np.float32, (steps, spec.action.size), elements=floats32)),
        "time": data.draw(arrays.arrays(np.float64, steps, elements=times)),
        "instruction": data.draw(st.text(st.characters(codec="utf-8"))),
        "source": data.draw(st.text(st.characters(codec="utf-8"))),
        "info": data.draw(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.integers())),
    }
    want = episode(1, steps, spec, **draw)
    folder = write(tmp_path_factory.mktemp("rlds") / "extreme", [want])
    check_against_tfds(as_tfds_reads(folder)[0], want)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.lists(st.binary(max_size=300), max_size=4)
        | arrays.arrays(np.int64, st.integers(0, 5))
        | arrays.arrays(np.float32, st.integers(0, 5), elements=floats32),
        max_size=4,
    )
)
def test_an_example_is_what_our_parser_reads(fields):
    data = encode_example(fields)
    parsed = parse_example(data, "file", "record")
    assert set(parsed) == set(fields)
    for name, values in fields.items():
        if isinstance(values, list):
            assert parsed[name].texts(data) == values
        elif values.dtype.kind == "f":
            assert parsed[name].floats(data).tobytes() == values.tobytes()
        else:
            assert parsed[name].integers(data).tolist() == values.tolist()


def test_records_are_framed_as_tensorflow_framed_them(shared_data):
    """Written anew, the records of a file that TensorFlow wrote give the same file."""
    file = shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0/bridge_dataset-train.tfrecord-00000-of-00001"
    ours = io.BytesIO()
    for record in read_records(file):
        write_record(ours, record.data)
    assert ours.getvalue() == file.read_bytes()


def test_shards_and_splits(tmp_path):
    import tensorflow_datasets as tfds

    episodes = [episode(seed) for seed in range(6)]
    with Writer(tmp_path / "set", SPEC, file_bytes=9000) as writer:
        for number, each in enumerate(episodes):
            writer.add(each, "train" if number < 4 else "val")
        with pytest.raises(ConfigError, match="follow each other"):
            writer.add(episodes[0], "train")
    assert not list(tmp_path.iterdir())
    with Writer(tmp_path / "set", SPEC, file_bytes=9000) as writer:
        for number, each in enumerate(episodes):
            writer.add(each, "train" if number < 4 else "val")
    splits: Any = tfds.builder_from_directory(str(tmp_path / "set/1.0.0")).info.splits
    assert splits["train"].num_examples == 4 and splits["val"].num_examples == 2
    assert len(splits["train"].shard_lengths) > 1
    both = as_tfds_reads(tmp_path / "set/1.0.0") + as_tfds_reads(tmp_path / "set/1.0.0", "val")
    for have, want in zip(both, episodes, strict=True):
        check_against_tfds(have, want)


class Stored:
    """Pictures that have their bytes, and tell when one is decoded."""

    def __init__(self, data: list[bytes]):
        self.data, self.decoded = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def encoded(self, index: int) -> bytes:
        return self.data[index]

    def __getitem__(self, index):
        self.decoded += 1
        return np.asarray(PilImage.open(io.BytesIO(self.data[index])).convert("RGB"))


def picture(mode: str, kind: str, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    PilImage.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("storage", "mode", "kind", "kept"),
    [
        ("image", "RGB", "JPEG", True),
        ("image", "RGB", "PNG", True),
        ("image", "L", "PNG", False),
        ("image", "RGBA", "PNG", False),
        ("jpeg", "RGB", "JPEG", True),
        ("jpeg", "RGB", "PNG", False),
    ],
)
def test_encoded_pictures_pass_through(tmp_path, storage, mode, kind, kept):
    data = picture(mode, kind)
    frames: Any = Stored([data] * 5)
    want = episode(0, images=dict.fromkeys(SPEC.camera_names, frames)).take(np.array([1, 3]))
    folder = write(tmp_path / "set", [want], storage=storage)
    record = records(folder)[0]
    stored = parse_example(record, "f", "r")["steps/observation/agentview"].texts(record)
    assert (stored == [data] * 2) == kept and (frames.decoded == 0) == kept
    if storage == "image":
        check_against_tfds(as_tfds_reads(folder)[0], want)


def test_a_passed_through_picture_of_another_size_is_refused(tmp_path):
    frames: Any = Stored([picture("RGB", "PNG", 8)] * 5)
    with pytest.raises(DataError, match=r"camera agentview, step 0: expected uint8 of shape \(16, 16, 3\)"):
        write(tmp_path / "set", [episode(0, images=dict.fromkeys(SPEC.camera_names, frames))])


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_png_keeps_every_pixel(pixels):
    with PilImage.open(io.BytesIO(encode_png(pixels))) as have:
        assert have.format == "PNG" and have.mode == "RGB" and np.array_equal(np.asarray(have), pixels)


def test_jpeg_within_its_stated_error(tmp_path, shared_data):
    with np.load(shared_data / "libero_reference/libero_spatial_observation.npz") as given:
        pictures = [value for value in given.values() if value.ndim == 3 and value.shape[2] == 3]
    spec = libero_panda(pictures[0].shape[0])
    want = episode(0, 2, spec, images=dict.fromkeys(spec.camera_names, pictures[:2]))
    have = as_tfds_reads(write(tmp_path / "set", [want], storage="jpeg"))[0]["steps"]
    for step, true in enumerate(pictures[:2]):
        error = have[step]["observation"]["agentview"].astype(float) - true
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 38


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": np.full((5, 7), np.inf, np.float32)}, "action: expected finite numbers, found inf"),
        ({"time": np.full(5, np.nan)}, "time"),
        ({"info": {"no": float("nan")}}, "JSON values"),
        ({"instruction": "\ud800"}, "instruction: expected Unicode"),
        ({"spec": libero_panda(17)}, "embodiment: expected libero_panda"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_episode_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(DataError, match=message), Writer(tmp_path / "set", SPEC) as writer:
        writer.add(dataclasses.replace(episode(0), **changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("9set", {}, "small letters"),
        ("set", {"version": "1.0"}, "three numbers"),
        ("set", {"storage": "video"}, "not as video"),
        ("set", {"quality": 0}, "quality"),
    ],
)
def test_options_out_of_range(tmp_path, name, options, message):
    with pytest.raises(ConfigError, match=message):
        Writer(tmp_path / name, SPEC, **options)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DataError, match="disk: expected a writable folder with space"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
            write(tmp_path / "set", [episode(seed, 20) for seed in range(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
