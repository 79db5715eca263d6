"""Every Open X-Embodiment description against a small data set with that set's own published features.

The features are written by tensorflow-datasets, the records by the protobuf library, and both are read through the RLDS
reader. What must come out stands in ``data/oxe_features.toml``, written down from the publishers' documents and code,
not from the descriptions.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oxe_sets import INSTRUCTION, PICTURES, RED, STEPS, TABLE, TEXTS, fields, stored, write_set

from vla.datasets.description import read_description
from vla.datasets.oxe.registry import oxe_description, oxe_files
from vla.datasets.rlds import Config
from vla.errors import UnknownName


def relative(column: np.ndarray) -> np.ndarray:
    """Gripper changes, 1 closes, -1 opens, as states, 1 open, written as a plain loop."""
    said = [0 if abs(value) <= 0.1 else 1 if value < 0 else -1 for value in column]
    first = next((value for value in said if value), -1)
    state, states = -first, []
    for value in said:
        state = value or state
        states.append((state + 1) / 2)
    return np.array(states)


def binary(column: np.ndarray) -> np.ndarray:
    held, result = column[-1], []
    for value in column[::-1]:
        held = 1.0 if value > 0.95 else 0.0 if value < 0.05 else held
        result.append(held)
    return np.array(result[::-1])


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    "1-": lambda x: 1 - x,
    "clip:": lambda x: np.clip(x, 0, 1),
    "1-clip:": lambda x: 1 - np.clip(x, 0, 1),
    "(x+1)/2:": lambda x: (x + 1) / 2,
    "(1-x)/2:": lambda x: (1 - x) / 2,
    "relative:": relative,
    "binary:": binary,
    "moved:": lambda x: np.append(x[1:] - x[:-1], 0.0),
}
CHANGE = "|".join(re.escape(change) for change in CHANGES if change)
TERM = re.compile(
    rf"(?P<change>{CHANGE})?((?P<factor>[\d.]+)\*)?(?P<path>[a-z][\w/]*)\[(?P<start>\d+)(:(?P<stop>\d+))?\]"
)


def expected(entry: dict[str, Any], part: str) -> np.ndarray:
    """Columns as the table says, before steps are left out."""
    columns = []
    for term in entry[part].split():
        match = TERM.fullmatch(term)
        assert match, term
        kind, shape = fields(entry)[match["path"]]
        numbers = stored(match["path"], kind, shape)
        start, convert, factor = int(match["start"]), CHANGES[match["change"] or ""], float(match["factor"] or 1)
        columns += [factor * convert(numbers[:, place]) for place in range(start, int(match["stop"] or start + 1))]
    return np.stack(columns, axis=1) if columns else np.zeros((STEPS, 0))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_data_set_with_its_own_features_gives_canonical_actions(name, tmp_path):
    entry = TABLE[name]
    write_set(name, tmp_path / "set")
    source = Config(tmp_path / "set", cache=tmp_path / "cache").make()
    episode = source[0]
    first, last = entry.get("drop", [0, 0])
    kept = slice(first, STEPS - last)
    assert len(source) == 1 and len(episode) == STEPS - first - last == source.lengths[0]
    np.testing.assert_allclose(episode.state, expected(entry, "state")[kept], atol=1e-6)
    np.testing.assert_allclose(episode.action, expected(entry, "action")[kept], atol=1e-6)
    assert episode.instruction == INSTRUCTION
    assert list(episode.images) == [word.partition(":")[0] for word in entry["cameras"].split()]
    for camera, frames in episode.images.items():
        np.testing.assert_allclose(frames[0][3, 3], RED, atol=6, err_msg=camera)  # JPEG keeps colours to a few steps
    spec = source.spec.action
    assert all(channel.scale == 1 for channel in spec.channels)
    grippers = [column for column, channel in enumerate(spec.channels) if channel.kind == "gripper"]
    assert spec.gripper is None or (spec.gripper.closed, spec.gripper.opened) == (0, 1)
    assert bool(grippers) == (spec.gripper is not None)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_raw_numbers_are_those_stored(name, tmp_path):
    entry = TABLE[name]
    write_set(name, tmp_path / "set")
    source = Config(tmp_path / "set", cache=tmp_path / "cache", fixes=False).make()
    episode, description = source[0], oxe_description(name)
    assert len(episode) == STEPS
    column = 0
    for part in description.action:
        kind, shape = fields(entry)[part.field]
        numbers = stored(part.field, kind, shape)[:, part.start : part.stop]
        taken = [place for place, channel in enumerate(part.channels) if channel is not None]
        np.testing.assert_array_equal(episode.action[:, column : column + len(taken)], numbers[:, taken])
        column += len(taken)
    assert column == episode.action.shape[1]


@pytest.mark.parametrize("name", ["kuka", "bridge", "language_table", "bc_z", "berkeley_autolab_ur5", "droid"])
def test_tensorflow_datasets_reads_the_same_numbers_in_these_small_sets(name, tmp_path):
    """So that the tests above rest on records as they really are: compressed, truth values, codes, pictures."""
    import tensorflow_datasets as tfds

    write_set(name, tmp_path / "set")
    record = next((tmp_path / "set").glob("*.tfrecord*")).read_bytes()[12:-4]
    features: Any = tfds.features.FeaturesDict.from_config(str(tmp_path / "set"))
    step = list(features.deserialize_example_np(record)["steps"])[2]
    for path, (kind, shape) in fields(TABLE[name]).items():
        if kind not in (*TEXTS, *PICTURES):
            head, slash, rest = path.partition("/")
            found = np.asarray(step[head][rest] if slash else step[head], dtype=float)
            np.testing.assert_allclose(found.reshape(-1), stored(path, kind, shape)[2], atol=1e-6)


def test_every_description_is_tested_and_says_where_it_is_from():
    files = set(oxe_files().values())
    assert {oxe_files()[name] for name in TABLE} == files
    for file in files:
        description = oxe_description(file.stem)
        assert description.names[0] == file.stem
        assert len(description.source) > 40, file.name


def test_at_least_sixty_of_the_open_x_data_sets_are_described():
    others = ("libero_", "tdroid_", "bridge_data_msr")  # came later, in the same form
    assert len([file for file in set(oxe_files().values()) if not file.stem.startswith(others)]) >= 60


@pytest.mark.parametrize("name", sorted(TABLE))
def test_names_stand_in_their_usual_order(name):
    """A wrong slice shows in the numbers; this shows a wrong name for the right number."""
    spec = oxe_description(name).embodiment({}, fixes=True)
    orders = ("dx dy dz", "droll_x dpitch_y dyaw_z", "drx dry drz", "dqx dqy dqz dqw", "x y z", "roll_x pitch_y yaw_z")
    for names in (spec.state_names, spec.action.names):
        for order in orders:
            found = [word for word in names if word in order.split()]
            assert found in ([], order.split(), order.split()[:2]), (found, names)


def test_embodiments_of_one_name_are_alike():
    """A mixture keeps statistics and model inputs by the embodiment's name."""
    found: dict[str, str] = {}
    for file in set(oxe_files().values()):
        description = read_description(file)
        sizes = {camera.name: (1, 1) for camera in description.cameras}
        fingerprint = description.embodiment(sizes, fixes=True).fingerprint
        assert found.setdefault(description.robot, fingerprint) == fingerprint, description.robot


def test_name_that_is_not_known_is_answered_with_the_closest():
    with pytest.raises(UnknownName, match="closest: taco_play"):
        oxe_description("taco_plai")


def test_copies_with_their_channels_put_right_are_left_alone(tmp_path):
    """Copies resized to 256 x 256 by rlds_dataset_mod under the same name have red and blue in order already."""
    write_set("utaustin_mutex", tmp_path / "set", size=(256, 256))
    episode = Config(tmp_path / "set", cache=tmp_path / "cache").make()[0]
    for frames in episode.images.values():
        np.testing.assert_allclose(frames[0][3, 3], RED, atol=6)
