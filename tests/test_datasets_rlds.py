"""The RLDS reader: the Bridge sample against tensorflow-datasets' own decoder, and small damaged data sets."""

import dataclasses
import io
import json
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from vla.datasets import storage
from vla.datasets.checksum import masked_crc32c
from vla.datasets.oxe.registry import oxe_description
from vla.datasets.rlds import Config, accepts
from vla.datasets.rlds_frames import EncodedFrames
from vla.errors import DataError, UnknownName
from vla.protocols import EpisodeSource

CAMERAS = ("image_0", "image_1", "image_2", "image_3")


def jpeg(value: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def record(**changes) -> bytes:
    """An episode of three steps, encoded by the protobuf library; a change replaces a feature, None leaves it out."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = {
        "action": [float(step) for step in range(21)],
        "observation/state": [float(-step) for step in range(21)],
        "language_instruction": ["Grüße".encode()] * 3,
        **{f"observation/{camera}": [jpeg(10 * step) for step in range(3)] for camera in CAMERAS},
    } | {name.replace("__", "/"): value for name, value in changes.items()}
    example: Any = getattr(tf_example_pb2, "Example")()  # noqa: B009 - made at run time, unknown to type checkers
    for name, values in features.items():
        if values is None:
            continue
        feature = example.features.feature[f"steps/{name}"]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return example.SerializeToString()


def write_set(folder: Path, records: list[bytes], *, state_size: int = 7, shard_length: int | None = None) -> Config:
    import tensorflow_datasets as tfds

    kinds = tfds.features
    observation = {
        "state": kinds.Tensor(shape=(state_size,), dtype=np.float32),
        **{camera: kinds.Image(shape=(8, 8, 3), dtype=np.uint8, encoding_format="jpeg") for camera in CAMERAS},
    }
    step = {
        "action": kinds.Tensor(shape=(7,), dtype=np.float32),
        "language_instruction": kinds.Text(),
        "observation": kinds.FeaturesDict(observation),
    }
    folder.mkdir(exist_ok=True)
    kinds.FeaturesDict({"steps": kinds.Dataset(step)}).save_config(str(folder))
    count = len(records) if shard_length is None else shard_length
    split = {
        "name": "train",
        "shardLengths": [str(count)],
        "numBytes": "1",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {"name": "bridge_dataset", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    shard(folder).write_bytes(b"".join(framed(data) for data in records))
    return Config(folder, fixes=False, cache=folder.parent / "cache")


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def shard(folder: Path) -> Path:
    return folder / "bridge_dataset-train.tfrecord-00000-of-00001"


@pytest.fixture(scope="module")
def bridge(shared_data) -> Path:
    return shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"


@pytest.fixture(scope="module")
def raw(bridge, tmp_path_factory):
    return Config(bridge, fixes=False, cache=tmp_path_factory.mktemp("cache")).make()


def test_the_bridge_sample_has_what_is_known_of_it(raw):
    assert isinstance(raw, EpisodeSource)
    assert len(raw) == 25 and raw.lengths.sum() == 250
    assert raw.spec.camera_names == CAMERAS
    assert {(camera.height, camera.width) for camera in raw.spec.cameras} == {(64, 64)}
    assert len({raw[index].instruction for index in range(25)}) == 4
    assert "tensorflow" not in sys.modules


def test_every_number_and_frame_equals_what_tensorflow_datasets_decodes(raw, bridge):
    import tensorflow_datasets as tfds

    features: Any = tfds.features.FeaturesDict.from_config(str(bridge))
    data = shard(bridge).read_bytes()
    place = 0
    for index in range(len(raw)):
        (length,) = struct.unpack_from("<Q", data, place)
        steps = list(features.deserialize_example_np(data[place + 12 : place + 12 + length])["steps"])
        place += 16 + length
        episode = raw[index]
        assert len(steps) == len(episode)
        for step, expected in enumerate(steps):
            np.testing.assert_array_equal(episode.action[step], expected["action"])
            np.testing.assert_array_equal(episode.state[step], expected["observation"]["state"])
            for camera in CAMERAS:
                np.testing.assert_array_equal(episode.images[camera][step], expected["observation"][camera])
        assert episode.instruction == steps[0]["language_instruction"].decode()


def test_frames_at_random_equal_frames_in_sequence(raw):
    places = [(i, t, camera) for i in range(len(raw)) for t in range(int(raw.lengths[i])) for camera in CAMERAS]
    sequence = {place: raw[place[0]].images[place[2]][place[1]].copy() for place in places}
    for number in np.random.default_rng(0).permutation(len(places)):
        episode, step, camera = places[number]
        assert np.array_equal(raw[episode].images[camera][step], sequence[places[number]])


def test_fixes_leave_out_steps_and_mend_whole_episodes(raw, bridge):
    fixed = Config(bridge, cache=raw.pieces[0].index.parent).make()
    assert fixed.pieces[0].index == raw.pieces[0].index, "both views share one index"
    assert fixed.lengths.sum() == 200, "the no-op first step and the last one, after which nothing was reached"
    assert np.abs(raw[3].action[0, :6]).max() < 1e-4, "what is left out is a no-op"
    assert np.array_equal(fixed[3].state, raw[3].state[1:-1])
    assert np.array_equal(fixed[3].action[:, :3], np.diff(raw[3].state[1:, :3], axis=0))
    assert set(fixed[3].action[:, 6].tolist()) <= {0.0, 1.0}
    assert np.array_equal(fixed[3].images["image_0"][0], raw[3].images["image_0"][1])
    assert fixed.content != raw.content


def test_a_source_travels_to_a_worker_as_a_path(raw):
    message = pickle.dumps(raw)
    assert len(message) < 5000
    again = pickle.loads(message)  # noqa: S301 - our own, as a worker gets it
    assert np.array_equal(again[7].images["image_1"][4], raw[7].images["image_1"][4])


def test_one_camera_can_be_chosen(bridge, raw):
    source = Config(bridge, cameras=("image_2",), cache=raw.pieces[0].index.parent).make()
    assert list(source[0].images) == ["image_2"] and source.spec.camera_names == ("image_2",)


def test_unknown_names_are_answered_with_the_closest(bridge, tmp_path):
    with pytest.raises(UnknownName, match="closest: image_"):
        Config(bridge, cameras=("image0",), cache=tmp_path).make()
    with pytest.raises(UnknownName, match="train"):
        Config(bridge, split="tran", cache=tmp_path).make()
    with pytest.raises(UnknownName, match="bridge_dataset"):
        oxe_description("brige_dataset")


def test_a_small_set_is_read_and_the_index_is_used_again(tmp_path):
    config = write_set(tmp_path / "set", [record(), record(language_instruction=[b"a", b"a", b"b"])])
    assert accepts(config.path)
    source = config.make()
    assert source.lengths.tolist() == [3, 3]
    assert source[0].action.tolist() == np.arange(21).reshape(3, 7).tolist()
    assert source[0].instruction == "Grüße" and source[0].info == {}
    assert source[1].info == {"instruction_changes": [[2, "b"]]}
    assert abs(int(source[0].images["image_3"][2].mean()) - 20) <= 1
    assert source[0].images["image_0"][-1].shape == (8, 8, 3)
    with pytest.raises(IndexError):
        source[0].images["image_0"][3]
    written = source.pieces[0].index.stat().st_mtime_ns
    assert config.make().pieces[0].index.stat().st_mtime_ns == written


def test_the_index_is_made_anew_when_a_shard_changes(tmp_path):
    config = write_set(tmp_path / "set", [record()])
    config.make()
    write_set(tmp_path / "set", [record(), record()])
    assert len(config.make()) == 2


def test_a_damaged_index_is_made_anew(tmp_path):
    config = write_set(tmp_path / "set", [record()])
    index = config.make().pieces[0].index
    index.write_bytes(index.read_bytes()[:100])
    assert len(config.make()) == 1


def test_an_episode_of_which_fixes_leave_nothing_is_not_counted(tmp_path):
    short = {name: [jpeg(0)] for name in (f"observation__{camera}" for camera in CAMERAS)}
    one = record(action=[0.0] * 7, observation__state=[0.0] * 7, language_instruction=[b"x"], **short)
    config = write_set(tmp_path / "set", [one, record()])
    source = dataclasses.replace(config, fixes=True).make()
    assert len(source) == 1 and source[0].source == "bridge_dataset/train[1]"


@pytest.mark.parametrize(
    ("changes", "field", "expected", "found"),
    [
        ({"action": None}, "steps/action", "a float list", "only steps/"),
        ({"action": [1] * 21}, "steps/action", "a float list", "a int64 list"),
        ({"action": [0.0] * 20}, "steps/action", "3 steps x 7 numbers", "20 numbers"),
        ({"action": [float("nan")] * 21}, "steps/action", "finite", "nan"),
        ({"observation__image_1": [jpeg(0)] * 2}, "steps/observation/image_1", "3 elements", "2"),
        ({"observation__image_1": [b"no picture"] * 3}, "steps/observation/image_1", "JPEG", "10 bytes"),
        ({"observation__image_1": [jpeg(0, 9)] * 3}, "steps/observation/image_1", "8x8", "9x9"),
        ({"language_instruction": [b"\xff"] * 3}, "steps/language_instruction", "UTF-8", "0xff"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_record_that_does_not_match_the_specification(tmp_path, changes, field, expected, found):
    config = write_set(tmp_path / "set", [record(), record(**changes)])
    with pytest.raises(DataError) as caught:
        config.make()
    error = caught.value
    assert error.file.endswith("-of-00001") and "at byte" in error.field and field in error.field
    assert expected in error.expected and found in error.found
    assert "--skip-broken" in error.found


def test_a_specification_that_does_not_match(tmp_path):
    with pytest.raises(DataError, match=r"steps/observation/state: expected 3 steps x 8 numbers .* found 21 numbers"):
        write_set(tmp_path / "set", [record()], state_size=8).make()
    config = write_set(tmp_path / "other", [record()])
    features = json.loads((Path(config.path) / "features.json").read_text())
    del features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]["action"]
    (Path(config.path) / "features.json").write_text(json.dumps(features))
    with pytest.raises(DataError, match=r"json: action: expected a field of numbers, found only obs"):
        config.make()


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"pythonClassName": "no.such.Class"}'])
def test_json_that_is_no_specification(tmp_path, name, text):
    config = write_set(tmp_path / "set", [record()])
    (Path(config.path) / name).write_text(text)
    with pytest.raises(DataError, match=name):
        config.make()


def test_fewer_records_than_the_specification_says(tmp_path):
    with pytest.raises(DataError, match=r"expected 2 records as in dataset_info\.json, found only 1"):
        write_set(tmp_path / "set", [record()], shard_length=2).make()


def test_a_truncated_file_and_a_missing_one(tmp_path):
    config = write_set(tmp_path / "set", [record(), record()])
    whole = shard(Path(config.path)).read_bytes()
    shard(Path(config.path)).write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"only \d+ bytes before the file ends"):
        config.make()
    shard(Path(config.path)).unlink()
    with pytest.raises(DataError, match="expected a file, found No such file"):
        config.make()


def test_a_file_cut_after_it_was_indexed(tmp_path):
    source = write_set(tmp_path / "set", [record()]).make()
    frames = source[0].images["image_3"]
    assert isinstance(frames, EncodedFrames) and frames[1].shape == (8, 8, 3)
    os.truncate(shard(tmp_path / "set"), int(frames.places[1, 0]) + 3)
    with pytest.raises(DataError, match="only 3: the file changed after it was indexed"):
        frames[1]
    os.utime(shard(tmp_path / "set"), ns=(1, 1))
    storage._opened.cache_clear()
    with pytest.raises(DataError, match="changed at another time: index it again"):
        frames[0]


def test_a_cache_that_cannot_be_written(tmp_path):
    config = write_set(tmp_path / "set", [record()])
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(DataError, match="a writable folder with space"):
        config.make()
