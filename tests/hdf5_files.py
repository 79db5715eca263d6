"""Small LIBERO and robomimic files for tests, written by h5py as those projects' own scripts do."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

STEPS, SIZE = 6, 16
type Names = dict[str, tuple[int, ...]]
OSC = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
}
LIBERO_NAMES: Names = {
    "agentview_rgb": (SIZE, SIZE, 3),
    "eye_in_hand_rgb": (SIZE, SIZE, 3),
    "ee_pos": (3,),
    "ee_ori": (3,),
}
LIBERO_NAMES |= {"ee_states": (6,), "gripper_states": (2,), "joint_states": (7,)}
ROBOMIMIC_NAMES: Names = {"agentview_image": (SIZE, SIZE, 3), "robot0_eye_in_hand_image": (SIZE, SIZE, 3)}
ROBOMIMIC_NAMES |= {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,), "object": (10,)}


def env_args(**changes: Any) -> str:
    kwargs = {"robots": ["Panda"], "control_freq": 20, "controller_configs": OSC} | changes
    return json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})


def write(path: Path, names: Names, attributes: dict[str, Any], *, demos=2, **options) -> Path:
    """A file of that layout with random contents."""
    rng = np.random.default_rng(demos)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attributes)
        for number in range(demos):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["model_file"] = STEPS, "<mujoco/>"
            states = rng.normal(size=(STEPS, 9))
            states[:, 0] = 3 + np.arange(STEPS) / 20
            demo["states"] = states
            demo["actions"] = np.clip(rng.normal(size=(STEPS, 7)), -1, 1)
            demo["rewards"], demo["dones"] = np.zeros(STEPS, np.uint8), np.zeros(STEPS, np.uint8)
            for name, shape in names.items():
                if len(shape) == 3:
                    values: Any = rng.integers(0, 256, (STEPS, *shape), dtype=np.uint8)
                else:
                    values = rng.normal(size=(STEPS, *shape))
                demo.create_dataset(f"obs/{name}", data=values, **options)
    return path


def libero(path: Path, **changes: Any) -> Path:
    """As ``scripts/create_dataset.py`` writes it."""
    attributes = {
        "env_name": "Libero_Kitchen_Tabletop_Manipulation",
        "problem_info": json.dumps({"language_instruction": "open the top drawer"}),
        "bddl_file_name": "a.bddl",
        "macros_image_convention": "opengl",
        "env_args": env_args(),
        "num_demos": 2,
        "total": 2 * STEPS,
    }
    return write(path, LIBERO_NAMES, attributes | changes)


def robomimic(path: Path, **changes: Any) -> Path:
    """As ``dataset_states_to_obs.py --compress`` writes it."""
    return write(path, ROBOMIMIC_NAMES, {"env_args": env_args(**changes), "total": 2 * STEPS}, compression="gzip")


def stored(path: Path, name: str, demo: int = 0) -> Any:
    with h5py.File(path) as file:
        value: Any = file[f"data/demo_{demo}/{name}"]
        return value[()]


def damaged(path: Path, change) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path
