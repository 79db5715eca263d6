"""robosuite's own tasks: a benchmark, the same scenes by seed, and what its own environment does, step by step."""

import numpy as np
import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, UnknownName
from vla.evaluate import run_rows
from vla.policies import hold
from vla.protocols import Body, Task
from vla.rows import Benchmark, Row
from vla.sim import robosuite_env
from vla.transforms import connect


@pytest.fixture(scope="module")
def benchmark():
    made = robosuite_env.Config(camera_size=64).make()
    yield made
    made.close()


def lift(body, task) -> bool:
    """Above the cube, by the simulator's true state, down, close, up."""
    task.reset()
    for step in range(100):
        away = body.world.data.xpos[body.world.env.cube_body_id] - body.world.state()[:3]
        if step < 40 and np.linalg.norm(away[:2]) > 0.01:
            away[2] += 0.06
        move = np.clip(away, -0.05, 0.05) if step < 55 else np.array([0, 0, 0.05])
        body.command(np.array([*move, 0, 0, 0, step < 40], np.float32))
        if task.succeeded():
            return True
    return False


def test_a_lift_is_seen_and_pictures_are_there(benchmark):
    assert isinstance(benchmark, Benchmark)
    body, task = benchmark.open(Row("robosuite", "Lift", -1, seed=3))
    assert isinstance(body, Body) and isinstance(task, Task)
    assert (task.instruction, task.max_steps) == ("lift the red cube", 400)
    task.reset()
    observation = body.observe()
    assert {picture.shape for picture in observation.images.values()} == {(64, 64, 3)}
    assert observation.images["agentview"].std() > 20
    assert not task.succeeded()
    assert lift(body, task)
    task.reset()
    assert not task.succeeded()


def test_the_seed_decides_the_scene_whatever_ran_before(benchmark):
    states = []
    for seed in (3, 4, 3):
        body, task = benchmark.open(Row("robosuite", "Lift", -1, seed))
        task.reset()
        for _ in range(5):
            body.command(np.array([0.02, 0, -0.03, 0, 0, 0.1, 0], np.float32))
        states.append(np.concatenate([body.world.get_state(), body.observe().images["agentview"].reshape(-1)]))
    assert np.array_equal(states[0], states[2])
    assert not np.array_equal(states[0], states[1])


@pytest.mark.parametrize("name", ["Lift", "Door"])
def test_steps_are_robosuites_own(name):
    states = []
    for fused in (True, False):
        made = robosuite_env.Config(fused=fused).make()
        body, task = made.open(Row("robosuite", name, -1, seed=1))
        task.reset()
        rng = np.random.default_rng(0)
        states.append([body.world.get_state()])
        for _ in range(20):
            body.command(rng.uniform(-0.05, 0.05, 7).astype(np.float32))
            states[-1].append(body.world.get_state())
        made.close()
    assert np.abs(np.array(states[0])[:, 1:] - np.array(states[1])[:, 1:]).max() < 1e-6


def test_policies_of_libero_fit(benchmark):
    assert connect(benchmark.spec, libero_panda(64))


@pytest.mark.slow
@pytest.mark.parametrize("name", robosuite_env.TASKS)
def test_every_task_opens_and_runs(benchmark, name):
    body, task = benchmark.open(Row("robosuite", name, -1, seed=0))
    task.reset()
    for _ in range(10):
        body.command(np.zeros(7, np.float32))
    assert not task.succeeded()
    assert np.isfinite(body.observe().state).all()


@pytest.mark.slow
def test_rows_run_in_processes_of_their_own(tmp_path, benchmark):
    rows = [Row("robosuite", "Lift", -1, seed) for seed in range(2)]
    config = robosuite_env.Config(camera_size=32, max_steps=10)
    results = run_rows(rows, config, hold.Config(config.make().spec), tmp_path / "out", progress=False)
    assert [(result.status, result.steps) for result in results] == [("failure", 10)] * 2
    assert "robosuite" in results[0].versions


def test_what_is_not_there_is_named(benchmark):
    with pytest.raises(UnknownName, match="closest: Lift"):
        benchmark.open(Row("robosuite", "lift", -1, 0))
    with pytest.raises(UnknownName, match="robosuite"):
        benchmark.tasks("libero_spatial")
    with pytest.raises(ConfigError, match="init -1"):
        benchmark.open(Row("robosuite", "Lift", 0, 0))
    with pytest.raises(ConfigError):
        robosuite_env.Config(camera_size=0)
