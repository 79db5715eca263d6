"""The fixes against arrays worked out by hand, their laws, and the Bridge sample against a few lines of NumPy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.datasets.oxe.fixes import FIXES
from vla.datasets.rlds import Config
from vla.embodiment import ActionSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import ConfigError
from vla.statistics_cache import pooled

LEVELS = st.floats(-1.5, 1.5, width=32)
COLUMNS = arrays(np.float32, st.integers(1, 30), elements=LEVELS)
ANGLES = arrays(np.float32, (7, 3), elements=st.floats(-3.140625, 3.140625, width=32))


def robot(gripper: Gripper | None = None, mode: Any = "delta") -> EmbodimentSpec:
    """An arm with a position, Euler angles and, if asked for, a gripper."""
    motion = [Channel(name, "m", "position") for name in ("dx", "dy", "dz")]
    motion += [Channel(name, "rad", "rotation") for name in ("droll_x", "dpitch_y", "dyaw_z")]
    state = tuple(replace(channel, name=channel.name[1:]) for channel in motion)
    if gripper:
        motion.append(Channel("gripper", "1", "gripper"))
    action = ActionSpec(tuple(motion), mode, "base", "euler_xyz", gripper, 5.0)
    return EmbodimentSpec("arm", state, "euler_xyz", action, ())


def mend_gripper(name: str, column: list[float] | np.ndarray, gripper: Gripper) -> list[float]:
    action = np.zeros((len(column), 7), np.float32)
    action[:, 6] = column
    action[:, :6] = np.arange(6)
    state, mended = FIXES[name].mend(robot(gripper), np.zeros((len(column), 6), np.float32), action)
    np.testing.assert_array_equal(mended[:, :6], action[:, :6])
    assert not state.any() and mended.dtype == np.float32 and list(action[:, 6]) == pytest.approx(list(column))
    return mended[:, 6].tolist()


OPEN_IS_1, CLOSED_IS_1 = Gripper(0.0, 1.0), Gripper(1.0, 0.0)
CHANGES = Gripper(closed=1.0, opened=-1.0)


@pytest.mark.parametrize(
    ("column", "gripper", "result"),
    [
        ([1, 0.7, 0.3, 0.0, 0.0], OPEN_IS_1, [1, 0, 0, 0, 0]),  # on its way to closed: closed from the first step on
        ([0, 0.3, 0.7, 1.0, 0.2, 1.0], OPEN_IS_1, [0, 1, 1, 1, 1, 1]),
        ([1, 0.96, 0.95, 0.05, 0.04], OPEN_IS_1, [1, 1, 0, 0, 0]),  # the limits themselves decide nothing
        ([1, 0.0, 0.4, 0.6], OPEN_IS_1, [1, 0, 0.6, 0.6]),  # after the last decision: the last value
        ([0, 0.3, 0.7, 1.0], CLOSED_IS_1, [0, 1, 1, 1]),  # stored the other way round: still in its own numbers
        ([0.5], OPEN_IS_1, [0.5]),
    ],
)
def test_gripper_is_binarised_walking_backwards(column, gripper, result):
    assert mend_gripper("binarize_gripper", column, gripper) == pytest.approx(result)


@given(COLUMNS, st.sampled_from([OPEN_IS_1, CLOSED_IS_1, CHANGES]))
def test_binarising_equals_a_plain_loop_and_twice_is_once(column, gripper):
    held, loop = float(column[-1]), []
    for value in column[::-1].tolist():
        openness = (np.float32(value) - gripper.closed) / (gripper.opened - gripper.closed)
        held = gripper.opened if openness > 0.95 else gripper.closed if openness < 0.05 else held
        loop.append(held)
    mended = mend_gripper("binarize_gripper", column, gripper)
    assert mended == loop[::-1]
    assert mend_gripper("binarize_gripper", np.array(mended, np.float32), gripper) == mended


@pytest.mark.parametrize(
    ("column", "result"),
    [
        ([0, 0, 1, 0, 0, -1, 0], [-1, -1, 1, 1, 1, -1, -1]),  # first command closes: open before it
        ([0, -1, 0, 1, 1, 0], [1, -1, -1, 1, 1, 1]),  # first command opens: closed before it
        ([0, 0, 0], [-1, -1, -1]),  # no command: open
        ([0.1, -0.1, 0.3, -0.05], [-1, -1, 1, 1]),  # small changes are none
    ],
)
def test_changes_of_a_gripper_become_its_state(column, result):
    assert mend_gripper("absolute_gripper", column, CHANGES) == pytest.approx(result)


@given(COLUMNS)
def test_absolute_grippers_equal_a_plain_loop_and_are_always_one_of_two(column):
    said = [0 if abs(value) <= 0.1 else -1 if value < 0 else 1 for value in column]
    state = -next((value for value in said if value), 1)
    loop = []
    for value in said:
        state = value or state
        loop.append(float(state))
    mended = mend_gripper("absolute_gripper", column, CHANGES)
    assert mended == loop and set(mended) <= {-1.0, 1.0}
    assert mend_gripper("absolute_gripper", np.array(mended, np.float32), CHANGES) == mended


def test_clipped_gripper_stays_within_closed_and_open():
    assert mend_gripper("clip_gripper", [-1, -0.1, 0.4, 1.0, 1.5], CLOSED_IS_1) == pytest.approx([0, 0, 0.4, 1, 1])


def test_relabelled_motion_is_what_was_reached():
    state = np.array([[0, 0, 0, 0, 0, 3.0], [1, 2, 3, 0.1, 0.2, -3.0], [1, 1, 1, 0.2, 0.1, -2.9]], np.float32)
    action = np.full((3, 7), 9.0, np.float32)
    _, mended = FIXES["relabel_from_states"].mend(robot(OPEN_IS_1), state, action)
    turn = 2 * np.pi - 6.0  # from 3.0 over pi to -3.0, not back through zero
    np.testing.assert_allclose(mended[0], [1, 2, 3, 0.1, 0.2, turn, 9.0], atol=1e-6)
    np.testing.assert_allclose(mended[1], [0, -1, -2, 0.1, -0.1, 0.1, 9.0], atol=1e-6)
    np.testing.assert_array_equal(mended[2], action[2])  # nothing comes after the last step: it is left out
    assert FIXES["relabel_from_states"].drop_last == 1


@given(arrays(np.float32, (7, 3), elements=st.floats(-2, 2, width=32)), ANGLES)
def test_relabelled_motions_lead_back_to_the_states(positions, angles):
    state = np.concatenate([positions, angles], axis=1)
    _, mended = FIXES["relabel_from_states"].mend(robot(), state, np.zeros((7, 6), np.float32))
    reached = state[0].astype(float) + np.cumsum(mended[:-1].astype(float), axis=0)
    np.testing.assert_allclose(reached[:, :3], state[1:, :3], atol=1e-5)
    turned = np.exp(1j * reached[:, 3:])
    np.testing.assert_allclose(turned, np.exp(1j * state[1:, 3:].astype(float)), atol=1e-5)
    assert np.abs(mended[:-1, 3:]).max() <= np.pi + 1e-5


def test_relabelling_without_jumps_keeps_every_bit_of_the_plain_difference():
    state = np.random.default_rng(3).normal(0, 0.3, (50, 6)).astype(np.float32)
    _, mended = FIXES["relabel_from_states"].mend(robot(), state, np.zeros((50, 6), np.float32))
    np.testing.assert_array_equal(mended[:-1], state[1:] - state[:-1])


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("binarize_gripper", robot(), "no gripper to mend"),
        ("absolute_gripper", robot(), "no gripper to mend"),
        ("clip_gripper", robot(), "no gripper to mend"),
        ("relabel_from_states", robot(mode="absolute"), "deltas"),
        ("relabel_from_states", replace(robot(), state=robot().state[1:]), "no state channel for 'dx'"),
        ("relabel_from_states", replace(robot(), state_rotation="axis_angle"), "euler_xyz"),
    ],
)
def test_fix_that_does_not_suit_the_channels_is_refused(name, spec, message):
    state, action = np.zeros((2, len(spec.state)), np.float32), np.zeros((2, spec.action.size), np.float32)
    with pytest.raises(ConfigError, match=message):
        FIXES[name].mend(spec, state, action)


def raw_bridge(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """State and action of each episode as tensorflow-datasets decodes the records."""
    import tensorflow_datasets as tfds

    features: Any = tfds.features.FeaturesDict.from_config(str(folder))
    data = (folder / "bridge_dataset-train.tfrecord-00000-of-00001").read_bytes()
    episodes, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        steps = list(features.deserialize_example_np(data[place + 12 : place + 12 + length])["steps"])
        state, action = [step["observation"]["state"] for step in steps], [step["action"] for step in steps]
        episodes.append((np.array(state, float), np.array(action, float)))
        place += 12 + length + 4
    return episodes


def test_bridge_statistics_after_its_fixes_equal_an_independent_computation(shared_data, tmp_path):
    folder = shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0"
    states, actions = [], []
    for state, action in raw_bridge(folder):
        state, action = state[1:], action[1:]  # the first action is a no-op
        gripper, end = action[:, 6].copy(), action[-1, 6]
        for step in reversed(range(len(gripper))):
            end = 1.0 if gripper[step] > 0.95 else 0.0 if gripper[step] < 0.05 else end
            gripper[step] = end
        reached = state[1:, :6] - state[:-1, :6]
        reached[:, 3:] = (reached[:, 3:] + np.pi) % (2 * np.pi) - np.pi
        states.append(state[:-1])
        actions.append(np.concatenate([reached, gripper[:-1, None]], axis=1))
    source: Any = Config(folder, cache=tmp_path).make()
    episodes = [source[index] for index in range(len(source))]
    assert [len(episode) for episode in episodes] == [len(state) for state in states] == source.lengths.tolist()
    state, action = np.concatenate(states), np.concatenate(actions)
    assert state.shape == action.shape == (200, 7)
    np.testing.assert_allclose(np.concatenate([episode.state for episode in episodes]), state, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([episode.action for episode in episodes]), action, atol=1e-6)
    names = (*source.spec.state_names, *source.spec.action.names)
    ours, theirs = pooled([source]).arrays(names), np.concatenate([state, action], axis=1)
    for name, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        np.testing.assert_allclose(ours[name], statistic(theirs, axis=0), atol=1e-6, err_msg=name)
    for name, level in (("q01", 0.01), ("q99", 0.99)):
        np.testing.assert_allclose(ours[name], np.quantile(theirs, level, axis=0), atol=1e-6, err_msg=name)
