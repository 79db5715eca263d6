"""A Gymnasium environment as a benchmark: the tiny one for what is promised, Meta-World for whether that is enough."""

import numpy as np
import pytest

from vla.errors import BodyFault, ConfigError, DataError, DependencyMissing, PolicyFault, UnknownName
from vla.evaluate import run_rows
from vla.experience import ActionChunk
from vla.policies import hold
from vla.protocols import Body, Task
from vla.rows import Benchmark, Row
from vla.runtime import run_episode
from vla.sim import gym_description, gym_env


def right(body, task, steps=30):
    """Start the task, then to the right as fast as it goes."""
    task.reset()
    for _ in range(steps):
        body.command(np.array([3, 0], np.float32))
        if task.succeeded():
            return True
    return False


def test_it_is_a_benchmark_with_a_body_and_tasks(point):
    benchmark = gym_env.Config(str(point)).make()
    assert isinstance(benchmark, Benchmark)
    assert benchmark.tasks("point") == ["right", "left"]
    body, task = benchmark.open(Row("point", "right", -1, seed=3))
    assert isinstance(body, Body) and isinstance(task, Task)
    assert (task.instruction, task.max_steps) == ("go right", 30)
    task.reset()
    observation = body.observe()
    assert {name: picture.shape for name, picture in observation.images.items()} == {
        "top": (8, 12, 3),
        "side": (6, 6, 3),
    }
    assert observation.state.shape == (1,) and abs(observation.state[0]) <= 0.1
    assert not body.observe(images=False).images
    assert body.command(np.array([3, 0], np.float32)).tolist() == [1, 0]
    assert body.observe().state[0] == pytest.approx(observation.state[0] + 0.1, abs=1e-6)
    assert body.observe().time == pytest.approx(0.1)
    assert right(body, task)
    body.command(np.array([1, 0], np.float32))  # the environment has ended its episode
    assert task.succeeded()
    other, task = benchmark.open(Row("point", "left", -1, seed=3))
    assert not right(other, task)
    benchmark.close()
    benchmark.close()


@pytest.mark.parametrize("seed_by", ["reset", "make"])
def test_the_seed_decides_the_scene_whatever_ran_before(point, seed_by):
    point.write_text(f'seed_by = "{seed_by}"\n' + point.read_text())
    benchmark = gym_env.Config(str(point)).make()
    places = []
    for seed in (3, 4, 3):
        body, task = benchmark.open(Row("point", "right", -1, seed))
        task.reset()
        places.append(float(body.observe().state[0]))
        right(body, task, 3)
        task.reset()
        assert float(body.observe().state[0]) == places[-1]
    assert places[0] == places[2] != places[1]
    benchmark.close()


def test_rows_run_in_processes_of_their_own(point, tmp_path):
    config = gym_env.Config(str(point))
    spec = gym_description.read(str(point)).spec
    rows = [Row("point", task, -1, seed) for task in ("right", "left") for seed in range(2)]
    results = run_rows(rows, config, hold.Config(spec, gripper=1.0), tmp_path / "out", progress=False, execute=4)
    assert [(result.status, result.steps) for result in results] == [("failure", 30)] * 4
    assert results[0].embodiment == spec.fingerprint


def test_what_does_not_fit_is_an_error(point):
    benchmark = gym_env.Config(str(point)).make()
    with pytest.raises(UnknownName, match="closest: right"):
        benchmark.open(Row("point", "righ", -1, 0))
    with pytest.raises(UnknownName, match="point"):
        benchmark.tasks("pont")
    with pytest.raises(ConfigError, match="init -1"):
        benchmark.open(Row("point", "right", 0, 0))
    body, task = benchmark.open(Row("point", "right", -1, 0))
    task.reset()
    for action in (np.zeros(3), np.array([np.nan, 0])):
        with pytest.raises(PolicyFault, match="2 finite numbers"):
            body.command(action.astype(np.float32))
    benchmark.close()
    described = point.read_text()
    for wrong, match in (("pixels/bottom", "pixels/bottom"), ("arm", "float64")):
        point.write_text(described.replace("pixels/top", wrong))
        body, task = gym_env.Config(str(point)).make().open(Row("point", "right", -1, 0))
        task.reset()
        with pytest.raises(BodyFault, match=match):
            body.observe()
    for old, new in (("Point-v0", "Pont-v0"), ("make = { goal", "make = { gaol")):
        point.write_text(described.replace(old, new))
        _, task = gym_env.Config(str(point)).make().open(Row("point", "left", -1, 0))
        with pytest.raises(ConfigError, match="Gymnasium cannot make 'vla-tests/Po"):
            task.reset()
    point.write_text(described.replace("first = 1", "first = 4"))
    body, task = gym_env.Config(str(point)).make().open(Row("point", "right", -1, 0))
    task.reset()
    with pytest.raises(BodyFault, match="too few numbers"):
        body.observe()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('env = "vla-tests/Point-v0"', "", "no 'env'"),
        ("max_steps = 30", "max_steps = 0", "max_steps is a whole number from 1"),
        ("max_steps = 30", 'max_steps = "many"', "max_steps is a whole number from 1"),
        ("max_steps = 30", "max_steps = 30.5", "max_steps is a whole number from 1"),
        ("first = 1", "first = -1", "first is a whole number from 0"),
        ("imports = [", 'imports = "math" # [', "imports is a list"),
        ('success = "is_success"', 'success = "is_success"\ncamera = 1', "unknown: camera"),
        ('mode = "delta"', 'mode = "deltas"', "deltas"),
        ('unit = "m"', 'unit = "cm"', "cm"),
        ('role = "primary"', 'role = "first"', "first"),
        ("rate = 10.0", "rate = 0.0", "rate"),
        ("gripper = { closed = 1.0, opened = -1.0 }", "", "gripper"),
        ("[tasks]", "[tasks", "TOML"),
    ],
)
def test_damaged_descriptions_name_what_is_wrong(point, old, new, match):
    point.write_text(point.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=match):
        gym_env.Config(str(point)).make()


def test_what_is_not_there_is_named(point):
    with pytest.raises(UnknownName, match="closest: metaworld"):
        gym_env.Config("metawold").make()
    with pytest.raises(DataError, match=r"nothing\.toml"):
        gym_env.Config(str(point.parent / "nothing.toml")).make()
    described = point.read_text().replace('["gym_point"]', '["no_such_module"]')
    point.write_text(described.replace("max_steps", 'extra = "worlds"\nmax_steps'))
    with pytest.raises(DependencyMissing, match=r"no_such_module.*vla-stack\[worlds\]"):
        gym_env.Config(str(point)).make()
    with pytest.raises(ConfigError):
        gym_env.Config(max_steps=-1)


def test_every_description_that_comes_along_can_be_read():
    assert "metaworld" in gym_description.known()
    for name in gym_description.known():
        assert gym_description.read(name).tasks


class ScriptedReach:
    """Meta-World's own scripted policy, which is told the scene's true state."""

    def __init__(self, body):
        from metaworld.policies import SawyerReachV3Policy

        self.spec, self._body, self._policy = body.spec, body, SawyerReachV3Policy()

    def reset(self, instruction, *, seed):
        pass

    def act(self, observation):
        action = np.clip(self._policy.get_action(self._body._observed), -1, 1).astype(np.float32)
        return ActionChunk(action[None], observation.time, 1 / self.spec.action.rate)


@pytest.mark.filterwarnings("ignore:Constant")
def test_meta_world_runs_and_its_scripted_policy_solves_it():
    pytest.importorskip("metaworld", reason="the extra metaworld is not installed")
    benchmark = gym_env.Config().make()
    states = []
    for seed in (5, 6, 5):
        body, task = benchmark.open(Row("metaworld", "reach", -1, seed))
        task.reset()
        observation = body.observe()
        assert observation.images["corner2"].std() > 20
        states.append(body._observed.copy())
    assert np.array_equal(states[0], states[2]) and not np.array_equal(states[0], states[1])
    outcome = run_episode(body, task, ScriptedReach(body), seed=0)
    assert outcome.status == "success"
    assert 20 < outcome.steps < 100
    benchmark.close()


def test_meta_world_rows_run_in_a_process_of_their_own(tmp_path):
    pytest.importorskip("metaworld", reason="the extra metaworld is not installed")
    spec = gym_description.read("metaworld").spec
    rows = [Row("metaworld", "drawer-close", -1, seed) for seed in range(2)]
    results = run_rows(rows, gym_env.Config(max_steps=20), hold.Config(spec), tmp_path / "out", progress=False)
    assert [result.status for result in results] == ["failure"] * 2
    assert "mujoco" in results[0].versions and "renderer" in results[0].versions
