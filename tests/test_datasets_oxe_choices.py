"""Fixes that leave out episodes or steps, on small sets with the real sets' features; results worked out by hand."""

from typing import Any

import numpy as np
import pytest
from oxe_sets import STEPS, TABLE, picture, write_set
from rlds_files import DESCRIPTION

from vla.datasets.description import parse_description, read_description
from vla.datasets.oxe.fixes import DROID_Q01, DROID_Q99, FIXES
from vla.datasets.oxe.registry import FOLDER
from vla.datasets.rlds import Config
from vla.datasets.window_reader import one_by_one, read_windows
from vla.embodiment import ActionSpec, Channel, EmbodimentSpec
from vla.errors import ConfigError, DataError

ONE_WAY = ActionSpec((Channel("dx", "m", "position"),), "delta", "base", None, None, 5.0)


def kuka(folder: Any, successes: list[int]) -> None:
    """Episode i moves by i/10 along x in every step."""
    moves = [np.full((STEPS, 3), number / 10) for number in range(len(successes))]
    episodes = [
        {"success": np.array([success]), "action/world_vector": move}
        for success, move in zip(successes, moves, strict=True)
    ]
    write_set("kuka", folder, (32, 40), episodes)


def test_only_successes_of_kuka_are_kept(tmp_path):
    kuka(tmp_path / "set", [1, 0, 0, 1])
    options: Any = {"path": tmp_path / "set", "cache": tmp_path / "cache"}
    source = Config(**options).make()
    assert source.lengths.tolist() == [STEPS, STEPS]
    assert [episode.action[2, 0] for episode in (source[0], source[1])] == pytest.approx([0.0, 0.3])
    assert [source[number].source for number in range(2)] == ["kuka/train[0]", "kuka/train[3]"]
    stored = Config(**options, fixes=False).make()
    assert [stored[number].action[0, 0] for number in range(len(stored))] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert stored[1].info["metadata"]["success"] == 0
    assert len(Config(**options, split="train[:3]").make()) == 1  # three records, as everywhere else, one of them good
    with pytest.raises(DataError, match=r"train\[1:3\].*at least one episode.*that the fixes keep"):
        Config(**options, split="train[1:3]").make()


def test_kuka_without_its_outcomes_is_not_taken_for_successful(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLE, "kuka", {name: value for name, value in TABLE["kuka"].items() if name != "episode"})
    kuka(tmp_path / "set", [1])
    with pytest.raises(DataError, match=r"success: expected .*true or false, for the fix keep_successes"):
        Config(tmp_path / "set", cache=tmp_path / "cache").make()
    assert len(Config(tmp_path / "set", cache=tmp_path / "cache", fixes=False).make()) == 1


# The first motion counts from 1e-5 * (0.7597932 + 0.7776298) / 2 = 0.76871e-5 on.
VELOCITIES = np.array(
    [
        [0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.76e-5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.78e-5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, -1.0],
    ]
)
MOVING = [0, 3, 5]


def droid(folder: Any) -> None:
    """A still episode before and after one that moves at times; its gripper closes where the arm is still."""
    still, gripper = np.zeros((STEPS, 6)), np.array([[0.0], [0.2], [0.4], [0.6], [0.8], [1.0]])
    place = np.arange(STEPS)[:, None] + np.zeros(6)
    colours = [picture("jpeg", 180, 320, 3, (40 * step, 0, 0)) for step in range(STEPS)]
    shown = np.array(colours, object)
    moving = {
        "action_dict/cartesian_velocity": VELOCITIES,
        "action_dict/gripper_position": gripper,
        "observation/cartesian_position": place,
        "observation/wrist_image_left": shown,
    }
    frozen = {"action_dict/cartesian_velocity": still}
    write_set("droid", folder, None, [frozen, moving, frozen])


def test_still_steps_of_droid_are_left_out_of_numbers_times_and_pictures(tmp_path):
    droid(tmp_path / "set")
    source = Config(tmp_path / "set", cache=tmp_path / "cache").make()
    assert source.lengths.tolist() == [len(MOVING)]
    episode = source[0]
    assert episode.source == "droid/train[1]" and len(episode) == len(MOVING)
    np.testing.assert_allclose(episode.action[:, 0], [0.075 * 0.5, 0.075 * 0.78e-5, 0], rtol=1e-6)
    np.testing.assert_allclose(episode.action[:, 5], [0, 0, -0.15], atol=1e-7)
    np.testing.assert_allclose(episode.action[:, 6], [1.0, 0.4, 0.0], atol=1e-6)  # stored 1 is closed
    np.testing.assert_array_equal(episode.state[:, 0], MOVING)
    np.testing.assert_allclose(episode.time, np.array(MOVING) / 15)
    red = [int(frame[90, 160, 0]) for frame in episode.images["wrist_image_left"]]
    assert red == pytest.approx([40 * step for step in MOVING], abs=3)


def test_windows_without_still_steps_are_those_of_the_episode(tmp_path):
    droid(tmp_path / "set")
    source: Any = Config(tmp_path / "set", cache=tmp_path / "cache").make()
    places = np.zeros(3, np.int64), np.arange(3)
    (have,), (want,) = read_windows(source, *places, 2), one_by_one(source, *places, 2)
    for name in ("state", "actions", "valid", "time"):
        np.testing.assert_array_equal(getattr(have, name), getattr(want, name))
    assert list(have.instructions) == list(want.instructions)
    np.testing.assert_array_equal(have.actions[0, 1], source[0].action[1])
    assert have.valid.tolist() == [[True, True], [True, True], [True, False]]
    for step in range(3):
        picture = have[step].observation.images["wrist_image_left"]
        np.testing.assert_array_equal(picture, source[0].images["wrist_image_left"][step])


def test_still_steps_stay_in_the_data_as_stored(tmp_path):
    droid(tmp_path / "set")
    source = Config(tmp_path / "set", cache=tmp_path / "cache", fixes=False).make()
    assert source.lengths.tolist() == [STEPS] * 3
    np.testing.assert_allclose(source[1].action[:, :6], VELOCITIES, rtol=1e-6)


def test_still_steps_are_those_that_openvla_calls_so():
    """Its own comparison, of normalised numbers, which is good to some 1e-7."""
    spec = read_description(FOLDER / "droid.toml").embodiment({}, fixes=False)
    low, high = np.array(DROID_Q01), np.array(DROID_Q99)
    levels = [0.0, 0.9e-5, -0.9e-5, 1.1e-5, -1.1e-5, 0.5]
    level = np.random.default_rng(0).choice(levels, (500, 6), p=[0.7] + [0.06] * 5)
    action = level * (high - low) / 2
    normalised, none = (2 * (values - low) / (high - low + 1e-8) - 1 for values in (action, np.zeros(6)))
    theirs = (np.abs(normalised - none) > 1e-5).any(axis=1)
    keep = FIXES["drop_still_steps"].keep
    assert keep is not None
    ours = keep(spec, np.concatenate([action, np.ones((500, 1))], axis=1).astype(np.float32))
    assert 50 < ours.sum() < 450
    np.testing.assert_array_equal(ours, theirs)


def test_still_steps_of_another_arm_are_refused():
    keep = FIXES["drop_still_steps"].keep
    assert keep is not None
    with pytest.raises(ConfigError, match="six changes"):
        keep(EmbodimentSpec("arm", (), None, ONE_WAY, ()), np.zeros((2, 1), np.float32))
    value = {"robot": "arm", "rate": 5, "fixes": ["drop_still_steps"]}
    value["action"] = {"mode": "delta", "frame": "base", "columns": [{"field": "action", "channels": "dx dy dz"}]}
    with pytest.raises(DataError, match="six changes"):
        parse_description(value, FOLDER)


def test_formats_that_cannot_choose_say_so(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('fixes = ["clip_gripper", "keep_successes"]\n' + DESCRIPTION)
    assert read_description(file).chooses == ("keep_successes",)
    with pytest.raises(DataError, match=r"mine.toml: fixes: expected .*RLDS, found keep_successes"):
        read_description(file, choosing=False)
