"""A simulator that LIBERO's numbers do not hold for is refused, or every result says so."""

import importlib.metadata

import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.episode_worker import HandlerFactory
from vla.errors import ConfigError
from vla.policies import hold
from vla.sim import libero, simulator_version
from vla.sim.expert import generate

REAL = importlib.metadata.version


@pytest.fixture
def installed(monkeypatch):
    versions = {"mujoco": "3.3.2", "robosuite": "1.4.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda package: versions.get(package) or REAL(package))
    return versions


def test_what_the_lock_installs_is_right():
    assert simulator_version.check(allow_drift=False) == ""


@pytest.mark.parametrize("version", ["3.2.3", "3.2.7", "3.3.0", "3.3.2", "3.3.2.post1"])
def test_known_versions_are_taken(installed, version):
    installed["mujoco"] = version
    assert simulator_version.check(allow_drift=False) == ""


@pytest.mark.parametrize("version", ["3.2.2", "3.3.3", "3.4.0", "3.10.1", "4", "2.3.7"])
def test_others_are_refused_with_the_reason(installed, version):
    installed["mujoco"] = version
    with pytest.raises(ConfigError, match=rf"mujoco {version} is not 3.2.3 to 3.3.2: .*floors.*slide.*pip install"):
        libero.Config().make()
    assert libero.Config(allow_simulator_drift=True).make().drift == f"mujoco {version}"
    with pytest.raises(ConfigError, match="--allow-simulator-drift"):
        next(generate.generate(generate.GenerateConfig(episodes=1)))


def test_both_packages_are_named(installed):
    installed |= {"mujoco": "3.4.0", "robosuite": "1.5.1"}
    assert simulator_version.check(allow_drift=True) == "mujoco 3.4.0, robosuite 1.5.1"
    with pytest.raises(ConfigError, match=r"robosuite 1\.5\.1 is not 1\.4"):
        simulator_version.check(allow_drift=False)


def test_results_are_marked(installed):
    """What goes into the versions of every result, from the benchmark to the worker."""
    installed["mujoco"] = "3.4.0"
    factory = HandlerFactory(libero.Config(allow_simulator_drift=True), hold.Config(libero_panda(32)), "hold", None)
    assert factory()._mark() == {"simulator drift": "mujoco 3.4.0"}
    installed["mujoco"] = "3.3.2"
    assert factory()._mark() == {}
