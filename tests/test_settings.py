"""Settings as JSON and back; what a file names is made only if it is ours."""

import json
from pathlib import Path

import fake_benchmark as fake
import pytest

from vla.commands.named_policy import NamedPolicy
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError
from vla.policies import hold, vla_policy
from vla.settings import plain, restore
from vla.sim import gym_description, gym_env, libero


@pytest.mark.parametrize(
    "config",
    [
        libero.Config(camera_size=64, render="exact", limits=(("libero_spatial", 220), ("libero_10", 520))),
        vla_policy.Config(Path("/runs/policy"), embodiment="libero_panda", ode_steps=4),
        vla_policy.Config(Path("here"), temperature=0.5, threads=1),
        hold.Config(libero_panda(32), gripper=0.0),
        NamedPolicy("hold", (("gripper", 0.5), ("horizon", 4))),
        NamedPolicy("hold", body=gym_description.read("metaworld").spec),
        gym_env.Config("point.toml", max_steps=9),
    ],
    ids=lambda config: type(config).__module__,
)
def test_back_and_forth_through_json(config):
    assert restore(json.loads(json.dumps(plain(config)))) == config


@pytest.mark.parametrize("name", ["os.system", "pathlib.Path", "vla.evaluate.run_rows", "vla.simulated.Config", "x"])
def test_a_file_cannot_name_anything_else(name):
    with pytest.raises(ConfigError, match="cannot be made again"):
        restore({"type": name, "command": "true"})


def test_what_does_not_fit_this_version_is_named():
    with pytest.raises(ConfigError, match="do not fit this version"):
        restore(plain(libero.Config()) | {"colour": 1})
    with pytest.raises(ConfigError, match="do not fit this version"):
        restore({"type": "vla.sim.nowhere.Config"})
    with pytest.raises(ConfigError, match="fake_benchmark"):
        restore(plain(fake.Config()))
