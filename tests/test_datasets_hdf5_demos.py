"""LIBERO's and robomimic's files: written here as their own scripts do, and the real samples; h5py is the oracle."""

import json
import multiprocessing
import operator
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import LIBERO_NAMES, OSC, SIZE, STEPS, damaged, env_args, libero, robomimic, stored, write

from vla.datasets.hdf5_demos import Config, Hdf5Source, accepts
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda
from vla.errors import DataError
from vla.plugins import open_source
from vla.protocols import EpisodeSource
from vla.quirks import QuirksFound


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def canonical(actions: np.ndarray, scale: float = 0.05) -> np.ndarray:
    """By hand: clipped, times the controller's largest step; -1 opens and +1 closes become 1 and 0."""
    clipped = np.clip(actions, -1, 1)
    return np.concatenate([clipped[:, :3] * scale, clipped[:, 3:6] * 0.5, (1 - clipped[:, 6:]) / 2], axis=1)


def test_libero_files_are_the_simulators_own_embodiment_with_each_action_after_its_observation(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5")
    source = open_source(path, cache=cache)
    assert isinstance(source, EpisodeSource) and isinstance(source, Hdf5Source)
    assert source.spec == libero_panda(SIZE)
    assert source.lengths.tolist() == [STEPS - 1] * 2
    episode = source[1]
    assert episode.instruction == "open the top drawer" and episode.source == "x_demo.hdf5[demo_1]"
    np.testing.assert_allclose(episode.action, canonical(stored(path, "actions", 1))[1:], atol=1e-7)
    names = ("obs/ee_pos", "obs/ee_ori", "obs/gripper_states")
    expected = np.concatenate([stored(path, name, 1) for name in names], axis=1)
    np.testing.assert_array_equal(episode.state, expected[:-1].astype(np.float32))
    for camera, field in (("agentview", "agentview_rgb"), ("robot0_eye_in_hand", "eye_in_hand_rgb")):
        pictures = stored(path, f"obs/{field}", 1)
        frames = episode.images[camera]
        assert len(frames) == STEPS - 1
        for step in (4, 0, 2):
            np.testing.assert_array_equal(frames[step], pictures[step, ::-1, ::-1])
    np.testing.assert_allclose(episode.time, np.arange(STEPS - 1) / 20)


def test_raw_is_as_stored(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5")
    source = open_source(path, fixes=False, cache=cache)
    episode = source[0]
    assert source.spec.action == RAW_ACTION and source.lengths.tolist() == [STEPS] * 2
    assert {camera.orientation for camera in source.spec.cameras} == {"flipped"}
    np.testing.assert_array_equal(episode.action, stored(path, "actions").astype(np.float32))
    np.testing.assert_array_equal(episode.images["agentview"][3], stored(path, "obs/agentview_rgb")[3])
    assert source.content != open_source(path, cache=cache).content


def test_pictures_of_the_other_convention_come_out_alike(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5", macros_image_convention="opencv")
    assert open_source(path, fixes=False, cache=cache).spec.camera("agentview").orientation == "upright"
    frame = open_source(path, cache=cache)[0].images["agentview"][0]
    np.testing.assert_array_equal(frame, stored(path, "obs/agentview_rgb")[0, :, ::-1])


def test_regenerated_files_say_nothing_but_libero_names_and_have_the_observation_before_the_action(tmp_path, cache):
    path = write(tmp_path / "KITCHEN_SCENE4_close_the_bottom_drawer_demo.hdf5", LIBERO_NAMES, {})
    source = open_source(path, cache=cache)
    assert source.spec == libero_panda(SIZE) and source.lengths.tolist() == [STEPS] * 2
    assert source[0].instruction == "close the bottom drawer"
    np.testing.assert_allclose(source[0].action, canonical(stored(path, "actions")), atol=1e-7)


def test_the_instruction_may_stand_in_the_bddl_text_only(tmp_path, cache):
    text = "(define (problem X)\n  (:domain robosuite)\n  (:language put the\n bowl away)\n (:regions (a)))"
    path = libero(tmp_path / "x.hdf5", problem_info="{}", bddl_file_content=text)
    assert open_source(path, cache=cache)[0].instruction == "put the bowl away"


def test_robomimic_files_have_the_controllers_own_scale(tmp_path, cache):
    limits = {"output_max": [0.1] * 3 + [0.5] * 3, "output_min": [-0.1] * 3 + [-0.5] * 3}
    path = robomimic(tmp_path / "image.hdf5", controller_configs=OSC | limits)
    source = open_source(path, cache=cache)
    assert source.spec.name == "robosuite_panda" and source.spec.state_rotation == "quat_xyzw"
    assert [camera.orientation for camera in source.spec.cameras] == ["upright"] * 2
    episode = source[0]
    np.testing.assert_allclose(episode.action, canonical(stored(path, "actions"), 0.1), atol=1e-7)
    names = ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos")
    expected = np.concatenate([stored(path, name) for name in names], axis=1)
    np.testing.assert_array_equal(episode.state, expected.astype(np.float32))
    np.testing.assert_array_equal(episode.images["agentview"][5], stored(path, "obs/agentview_image")[5])
    assert open_source(path, cache=cache, instruction="lift the cube")[0].instruction == "lift the cube"


def test_robosuite_1_5_names_the_controller_by_arm(tmp_path, cache):
    arm = {key: value for key, value in OSC.items() if key != "control_delta"} | {"input_type": "delta"}
    path = robomimic(tmp_path / "a.hdf5", controller_configs={"type": "BASIC", "body_parts": {"right": arm}})
    np.testing.assert_allclose(open_source(path, cache=cache)[0].action, canonical(stored(path, "actions")), atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controller_configs": OSC | {"control_delta": False}}, "absolute poses"),
        ({"controller_configs": OSC | {"type": "JOINT_VELOCITY"}}, "JOINT_VELOCITY"),
        ({"controller_configs": OSC | {"output_max": 0.2}}, "alike in both directions"),
        ({"controller_configs": None}, "one arm's controller"),
        ({"robots": ["Panda", "Sawyer"]}, "one robot"),
    ],
)
def test_what_no_file_says_is_not_guessed(tmp_path, cache, changes, said):
    with pytest.raises(DataError, match=said) as refused:
        open_source(robomimic(tmp_path / "a.hdf5", **changes), cache=cache)
    assert "--description" in str(refused.value)


def test_a_description_says_what_nobody_knows(tmp_path, cache):
    path = write(tmp_path / "own.hdf5", {"front": (SIZE, SIZE, 3), "pose": (6,)}, {})
    with pytest.raises(DataError, match="--description"):
        open_source(path, cache=cache)
    text = """
        robot = "mine"
        rate = 10.0
        [state]
        rotation = "euler_xyz"
        columns = [{ field = "obs/pose", channels = "x y z roll_x pitch_y yaw_z" }]
        [action]
        mode = "delta"
        frame = "base"
        rotation = "axis_angle"
        gripper = { closed = 1.0, open = -1.0 }
        columns = [{ field = "actions", channels = "dx dy dz drx dry drz", take = [0, 6], scale = 2.0 },
                   { field = "actions", channels = "gripper", take = [6, 7] }]
        [[cameras]]
        name = "front"
        field = "obs/front"
        bgr = true
    """
    description = tmp_path / "own.toml"
    description.write_text(text)
    source = open_source(path, cache=cache, description=description)
    actions = stored(path, "actions")
    expected = np.concatenate([actions[:, :6] * 2, (1 - actions[:, 6:]) / 2], axis=1)
    np.testing.assert_allclose(source[0].action, expected, atol=1e-6)
    np.testing.assert_array_equal(source[0].images["front"][1], stored(path, "obs/front")[1, ..., ::-1])
    description.write_text(text.replace("obs/pose", "obs/gone"))
    with pytest.raises(DataError, match="obs/gone"):
        open_source(path, cache=cache, description=description)


def test_a_folder_is_one_set_in_the_order_of_names_and_numbers(tmp_path, cache):
    folder = tmp_path / "set"
    folder.mkdir()
    libero(folder / "b.hdf5", problem_info=json.dumps({"language_instruction": "second"}))
    write(folder / "a.hdf5", LIBERO_NAMES, {"macros_image_convention": "opengl", "env_args": env_args()}, demos=11)
    assert accepts(folder) and not accepts(tmp_path)
    source = open_source(folder, cache=cache)
    assert [source[number].source for number in (0, 2, 10, 11)] == [
        "a.hdf5[demo_0]",
        "a.hdf5[demo_2]",
        "a.hdf5[demo_10]",
        "b.hdf5[demo_0]",
    ]
    assert source[12].instruction == "second"


def test_a_source_travels_to_a_spawned_process_as_the_path_of_its_index(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5")
    source = open_source(path, cache=cache)
    assert len(pickle.dumps(source)) < 20_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        episode: Any = pool.apply_async(operator.getitem, (source, 1)).get(timeout=100)
        picture = pool.apply_async(operator.getitem, (episode.images["agentview"], 2)).get(timeout=100)
    np.testing.assert_array_equal(episode.action, source[1].action)
    np.testing.assert_array_equal(picture, stored(path, "obs/agentview_rgb", 1)[2, ::-1, ::-1])


def test_no_model_is_an_error_and_one_is_read_as_it_stands(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5")
    source = Config(path, cache=cache).make()
    assert list(source.model_files([1, 0])) == ["<mujoco/>"] * 2
    np.testing.assert_array_equal(source.states(1), stored(path, "states", 1))

    def forget(file: Any) -> None:
        del file["data/demo_0"].attrs["model_file"]

    with pytest.raises(DataError, match=r"demo_0: expected attribute model_file"):
        list(Config(damaged(path, forget), cache=cache).make().model_files([0]))


def test_the_real_teleoperation_files_tell_their_out_of_range_actions(shared_data, cache):
    folder = shared_data / "libero_teleop_hdf5"
    with pytest.raises(QuirksFound) as refused:
        open_source(folder, cache=cache)
    quirks = refused.value.quirks
    assert len(quirks) == 7 and {quirk.kind for quirk in quirks} == {"actions-out-of-range"}
    for quirk in quirks:  # each number counted here by itself
        with h5py.File(quirk.file) as file:
            value: Any = file[quirk.field]
            actions = value[()]
        outside = np.abs(actions) > 1
        step, column = np.unravel_index(np.abs(actions).argmax(), actions.shape)
        name = RAW_ACTION.names[column]
        expected = f"{outside.any(axis=1).sum()} of {len(actions)} steps outside"
        assert expected in quirk.found and f"{actions[step, column]:.6g} in step {step}, channel {name}" in quirk.found
    source = open_source(folder, cache=cache, tolerate=("actions-out-of-range",))
    assert source.spec.name == "libero_panda" and not source.spec.cameras and not source.spec.state
    assert source.lengths.tolist() == [1501, 1108, 1150, 1252, 1437, 1185, 1088]
    assert source[1].instruction.startswith("put the medicine bottle and the bandage in the care box")
    path = folder / "medical_boxes_safe_demo_3.hdf5"
    with h5py.File(path) as file:
        value = file["data/demo_1/actions"]
        actions = value[()]
    np.testing.assert_allclose(source[4].action, canonical(actions), atol=1e-6)
    raw = open_source(folder, cache=cache, tolerate=("all",), fixes=False)[4].action
    np.testing.assert_array_equal(raw, actions.astype(np.float32))
    assert raw.max() > 2 and np.abs(source[4].action[:, :3]).max() <= 0.05 + 1e-7


def test_the_real_robosuite_file_reads_its_old_attributes(shared_data, cache):
    path = shared_data / "robosuite_lift_hdf5" / "demo.hdf5"
    with pytest.raises(QuirksFound, match=r"demo_2/actions: .* 35 of 510 .* -3.75 in step 371, channel dz"):
        open_source(path, cache=cache)
    source = open_source(path, cache=cache, tolerate=("all",))
    assert source.spec.name == "robosuite_panda" and source.spec.action.rate == 20
    assert source.lengths.tolist() == [482, 510, 392] and source[0].instruction == ""
    assert isinstance(source, Hdf5Source) and source.states(2).shape == (392, 32)
