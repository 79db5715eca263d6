"""LeRobot v2.0 and v2.1: what others wrote comes back, through a description."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_files import ARM, LENGTHS, all_of, change_info, change_table, decoded, every, write_arm

from vla.datasets import lerobot_v2, lerobot_v3
from vla.datasets.lerobot_v2 import Config
from vla.errors import DataError, UnknownName
from vla.plugins import open_source
from vla.protocols import EpisodeSource
from vla.quirks import QuirksFound

pytestmark = pytest.mark.usefixtures("own_cache")

GR1 = """
names = ["gr1"]
robot = "gr1_arms"
rate = 20.0
source = "modality.json of the data set: right_arm is 22 to 29"
[state]
columns = [
  { field = "observation.state", take = [0, 2], channels = "joint_left_0 joint_left_1" },
  { field = "observation.state", take = [22, 25], channels = "joint_0 joint_1 joint_2" },
  { field = "observation.state", take = [25, 29], channels = "joint_3 joint_4 joint_5 joint_6" },
]
[action]
mode = "absolute"
frame = "joint"
columns = [{ field = "action", take = [22, 25], channels = "joint_t0 _ joint_t2" }]
[[cameras]]
name = "ego"
field = "observation.images.ego_view"
role = "primary"
"""


# -- the real sample


@pytest.fixture
def gr1(shared_data, tmp_path) -> tuple[Path, Path]:
    (tmp_path / "gr1.toml").write_text(GR1)
    return shared_data / "lerobot_v20_gr1_pick_place", tmp_path / "gr1.toml"


def test_the_real_sample_is_refused_with_exactly_its_quirks(gr1):
    with pytest.raises(QuirksFound) as caught:
        open_source(gr1[0], description=gr1[1])
    have = [(quirk.kind, quirk.field, quirk.expected, quirk.found) for quirk in caught.value.quirks]
    film = "videos/chunk-000/observation.images.egoview/episode_000000.mp4"
    assert have == [
        (
            "missing-camera",
            "features: observation.images.egoview",
            "the videos of a declared camera",
            f"none of the 5 episodes has one, e.g. {film}",
        ),
        ("wrong-total", "total_videos", "5, the files that are there", "2"),
        ("late-timestamps", "timestamp", "0 in an episode's first step", "0.05 s (episode 0, 1, 2, 3 and 1 more)"),
        ("wrong-total", "total_chunks", "1, as there are", "0"),
        ("wrong-splits", "splits: train", "a range within 0:5", "'0:100'"),
    ]
    assert "--tolerate missing-camera wrong-total late-timestamps wrong-splits" in str(caught.value)
    with pytest.raises(QuirksFound) as caught:
        open_source(gr1[0], description=gr1[1], tolerate=("missing-camera", "late-timestamps", "wrong-splits"))
    assert {quirk.kind for quirk in caught.value.quirks} == {"wrong-total"}


def test_the_real_sample_is_read_whole_when_told_to(gr1, caplog):
    source = open_source(gr1[0], description=gr1[1], tolerate=("all",))
    assert len(caplog.records) == 5 and len(source.quirks) == 5
    assert source.lengths.tolist() == [416, 470, 470, 412, 328] and source.lengths.sum() == 2096
    assert [(camera.name, camera.height, camera.width) for camera in source.spec.cameras] == [("ego", 256, 256)]
    texts = [json.loads(line)["tasks"][0] for line in (gr1[0] / "meta/episodes.jsonl").read_text().splitlines()]
    for index in range(5):
        episode = source[index]
        table = pq.read_table(gr1[0] / f"data/chunk-000/episode_{index:06d}.parquet")
        state, action = (np.array(table[name].to_pylist()) for name in ("observation.state", "action"))
        assert np.array_equal(episode.state, state[:, [0, 1, *range(22, 29)]].astype(np.float32))
        assert np.array_equal(episode.action, action[:, [22, 24]].astype(np.float32))
        assert episode.instruction == texts[index]
        np.testing.assert_allclose(episode.time, np.arange(len(episode)) / 20, atol=1e-3)
        pictures = decoded(gr1[0] / f"videos/chunk-000/observation.images.ego_view/episode_{index:06d}.mp4")
        assert len(pictures) == len(episode)
        for step in (len(episode) - 1, 0, 1, len(episode) // 2):
            assert np.array_equal(episode.images["ego"][step], pictures[step])


def test_the_real_sample_without_a_description_lists_what_there_is(gr1):
    with pytest.raises(DataError) as caught:
        open_source(gr1[0])
    for part in (
        "--description FILE",
        "--draft-description",
        "observation.state (float64, 44): motor_0, motor_1",
        "observation.images.ego_view (video, 256x256x3)",
        "meta/modality.json: action.right_arm = action[22:29]",
    ):
        assert part in str(caught.value)


def test_meta_without_data_names_the_first_missing_file(shared_data, tmp_path):
    shutil.copytree(shared_data / "libero_reference/lerobot_v21_meta", tmp_path / "set/meta")
    with pytest.raises(DataError, match=r"data/chunk-000/episode_000000\.parquet: file: .*found nothing there"):
        open_source(tmp_path / "set")


# -- a set of our own making


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_columns_are_joined_and_made_canonical(tmp_path, version):
    want = write_arm(tmp_path / "set", version)
    assert lerobot_v2.accepts(tmp_path / "set") and not lerobot_v3.accepts(tmp_path / "set")
    source = all_of(tmp_path / "set")
    assert isinstance(source, EpisodeSource) and source.quirks == ()
    assert source.spec.state_names == ("x", "y", "z", "roll_x", "pitch_y", "yaw_z")
    assert source.spec.action.names == ("dx", "dy", "dz", "gripper")
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own, as a worker gets it
    for have, worker, columns in zip(every(source), every(again), want, strict=True):
        state = np.concatenate([columns["observation.position"], columns["observation.rotation"]], 1)
        assert np.array_equal(have.state, state.astype(np.float32))
        assert np.array_equal(have.action[:, :3], columns["action.arm"][:, 1:] * 0.5)
        assert np.array_equal(have.action[:, 3], (1 - columns["action.gripper"]) / 2)
        assert np.array_equal(np.stack(list(have.images["film"])), columns["film"])
        assert np.array_equal(np.stack(list(have.images["still"])), columns["still"][..., ::-1])
        assert np.array_equal(worker.action, have.action)
        assert np.array_equal(worker.images["film"][2], columns["film"][2])
    assert [episode.instruction for episode in every(source)] == ["wipe"] * 3
    assert source[2].info == {"instruction_changes": [[5, "dry"]]} and source[0].info == {}
    raw = all_of(tmp_path / "set", fixes=False)
    assert np.array_equal(raw[0].action[:, 3], want[0]["action.gripper"]) and raw.content != source.content


def test_a_set_given_as_the_folder_one_is_in_has_its_name(tmp_path, monkeypatch):
    write_arm(tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    source: Any = open_source(".", description=tmp_path / "arm.toml", cache=tmp_path / "cache")
    assert source[1].source == "set[1]" and source.name == "set"


def test_splits(tmp_path):
    write_arm(tmp_path / "set")
    options = {"description": tmp_path / "arm.toml"}
    assert open_source(tmp_path / "set", **options).lengths.tolist() == [6, 4]
    test = open_source(tmp_path / "set", split="test", **options)
    assert test.lengths.tolist() == [9] and test[0].source == "set[2]"
    with pytest.raises(UnknownName, match=r"unknown split of .* 'valid'; known: test, train"):
        open_source(tmp_path / "set", split="valid", **options)


def test_the_index_is_made_once_and_anew_after_a_change(tmp_path):
    write_arm(tmp_path / "set")
    told: list[tuple[int, int]] = []
    first = all_of(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6) and first.index_file.parent == tmp_path / "cache/vla"
    told.clear()
    second = all_of(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    made_anew_by_writing_info = len(told)
    third = Config(tmp_path / "set", description=tmp_path / "arm.toml", progress=lambda *_: told.append((0, 0))).make()
    assert len(told) == made_anew_by_writing_info and third.content == second.content
    path = tmp_path / "set/data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("action.gripper")
    pq.write_table(table.set_column(column, "action.gripper", pa.array(np.ones(4, np.float32))), path)
    changed = Config(tmp_path / "set", description=tmp_path / "arm.toml").make()
    assert changed.content != third.content and (changed[1].action[:, 3] == 0).all()
    changed.index_file.write_bytes(changed.index_file.read_bytes()[:100])
    assert (Config(tmp_path / "set", description=tmp_path / "arm.toml").make()[1].action[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('field = "action.arm"', 'field = "action.leg"', "expected a field of numbers"),
        ('"observation.images.film"', '"observation.images.fill"', "expected a camera"),
        ("_ dx dy dz", "_ dx dy dz joint_4", "at least 5 numbers a step"),
        ("rate = 10.0", 'rate = 10.0\ninstruction = "text"', "column of the instruction"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path, old, new, message):
    write_arm(tmp_path / "set")
    assert old in ARM
    (tmp_path / "arm.toml").write_text(ARM.replace(old, new))
    with pytest.raises(DataError, match=message):
        Config(tmp_path / "set", description=tmp_path / "arm.toml").make()


def test_an_instruction_in_a_column_of_its_own(tmp_path):
    write_arm(tmp_path / "set")
    folder = tmp_path / "set"
    for number, steps in enumerate(LENGTHS):
        change_table(folder, number, lambda table, n=number, s=steps: table.append_column("say", [[f"do {n}"] * s]))
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    change_info(folder, features=features | {"say": {"dtype": "string", "shape": [1]}})
    (tmp_path / "arm.toml").write_text(ARM.replace("rate = 10.0", 'rate = 10.0\ninstruction = "say"'))
    assert [episode.instruction for episode in every(all_of(folder))] == ["do 0", "do 1", "do 2"]
