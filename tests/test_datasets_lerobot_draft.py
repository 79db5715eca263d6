"""A drafted description says what the files say and leaves the rest open."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vla.datasets.description import read_description
from vla.datasets.lerobot_draft import draft_description
from vla.errors import DataError


def folder(tmp_path: Path, features: dict[str, Any], modality: Any = None) -> Path:
    info = {"codebase_version": "v2.1", "fps": 15, "features": features, "data_path": "d", "video_path": "v"}
    (tmp_path / "set/meta").mkdir(parents=True)
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
    if modality is not None:
        (tmp_path / "set/meta/modality.json").write_text(json.dumps(modality))
    return tmp_path / "set"


def numbers(width: int, names: Any = None, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [width], "names": names}


def test_a_draft_is_no_description_until_it_is_filled_in(shared_data, tmp_path):
    text = draft_description(shared_data / "lerobot_v20_gr1_pick_place")
    path = tmp_path / "gr1.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"expected one of|standard name"):
        read_description(path)
    filled = text.replace(":?:?", ":rad:joint").replace('mode = "?"', 'mode = "absolute"')
    filled = filled.replace('frame = "?"', 'frame = "joint"').replace('role = "?"', 'role = "primary"')
    filled = filled.replace('orientation = "?"', 'orientation = "upright"')
    filled = re.sub(r'(rotation|gripper) = "\?".*', "", filled)
    assert '"?"' not in re.sub("#.*", "", filled)
    path.write_text(filled)
    description = read_description(path)
    assert description.rate == 20 and description.robot == "GR1ArmsOnly"
    assert sum(len(column.channels) for column in description.state) == 44
    assert [column.start for column in description.action] == [0, 7, 13, 19, 22, 29, 35, 41]
    assert [camera.field for camera in description.cameras] == [
        "observation.images.egoview",
        "observation.images.ego_view",
    ]


def test_nothing_is_guessed(tmp_path):
    features = {
        "observation.state": numbers(3, {"motors": ["shoulder pan", "gripper", "x"]}),
        "observation.environment_state": numbers(2),
        "action": numbers(3, ["shoulder pan", "gripper", "x"]),
        "next.reward": numbers(1),
        "timestamp": numbers(1),
        "observation.images.top": {"dtype": "image", "shape": [3, 4, 5], "names": ["channels", "height", "width"]},
    }
    text = draft_description(folder(tmp_path, features))
    assert 'channels = "state_shoulder_pan:?:? state_gripper:?:? state_x:?:?"' in text
    assert 'channels = "action_shoulder_pan:?:? gripper x"' in text
    assert 'field = "observation.environment_state", channels = "state_environment_state_0:?:?' in text
    assert "reward" not in text and "timestamp" not in text
    for field in ("robot", "mode", "frame", "rotation", "gripper", "role", "orientation"):
        assert f'{field} = "?"' in text
    assert 'name = "top"' in text and 'instruction = ""' in text


def test_groups_and_what_they_say_about_rotation(tmp_path):
    features = {"observation.state": numbers(7), "action": numbers(4, dtype="float64"), "action.grip": numbers(1)}
    modality = {
        "state": {"pose": {"start": 0, "end": 7, "rotation_type": "quaternion"}},
        "action": {"arm": {"start": 1, "end": 4}, "grip": {"start": 0, "end": 1, "original_key": "action.grip"}},
        "video": {"top": {"original_key": "observation.images.top"}},
    }
    text = draft_description(folder(tmp_path, features, modality))
    assert 'modality.json says {"pose": "quaternion"}' in text
    assert 'field = "action", take = [1, 4], channels = "action_arm_0:?:? action_arm_1:?:? action_arm_2:?:?"' in text
    assert 'field = "action.grip", take = [0, 1]' in text and text.count("action.grip") == 1


@pytest.mark.parametrize(
    "modality",
    [
        3,
        {"state": 3},
        {"state": {"a": 3}},
        {"state": {"a": {"start": 5, "end": 90}}},
        {"action": {"a": {"start": "0"}}},
    ],
    ids=str,
)
def test_groups_that_make_no_sense_are_left_out(tmp_path, modality):
    text = draft_description(folder(tmp_path, {"observation.state": numbers(2), "action": numbers(2)}, modality))
    assert "take" not in text and "state_state_1:?:?" in text


def test_a_damaged_modality_is_an_error(tmp_path):
    path = folder(tmp_path, {"action": numbers(2)})
    (path / "meta/modality.json").write_text("{")
    with pytest.raises(DataError, match=r"modality\.json"):
        draft_description(path)
