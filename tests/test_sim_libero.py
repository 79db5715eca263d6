import numpy as np
import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DataError, PolicyFault, UnknownName
from vla.protocols import Body, Task
from vla.rows import Benchmark, Row
from vla.sim import libero_suites
from vla.sim.libero import Config
from vla.transforms import resize

SUITE = "libero_spatial"


@pytest.fixture(scope="module")
def benchmark():
    made = Config(camera_size=112).make()
    yield made
    made.close()


@pytest.fixture(scope="module")
def names(benchmark):
    return benchmark.tasks(SUITE)


def test_it_is_a_benchmark_of_bodies_and_tasks(benchmark, names):
    body, task = benchmark.open(Row(SUITE, names[0], 0, 0))
    assert isinstance(benchmark, Benchmark)
    assert isinstance(body, Body)
    assert isinstance(task, Task)
    assert body.spec == libero_panda(112)
    assert task.instruction == ("pick up the black bowl between the plate and the ramekin and place it on the plate")
    assert task.max_steps == 220


def test_observation_has_the_published_ones_orientation_layout_and_state(benchmark, names, shared_data):
    with np.load(shared_data / "libero_reference" / "libero_spatial_observation.npz", allow_pickle=False) as file:
        reference = {name: file[name] for name in file.files}
    numbers = [
        number for number, name in enumerate(names) if name == str(reference["task_description"]).replace(" ", "_")
    ]
    body, task = benchmark.open(Row(SUITE, names[numbers[0]], 0, 0))
    assert task.instruction == str(reference["task_description"])
    task.reset()
    observation = body.observe()
    for camera, field in (("agentview", "full_image"), ("robot0_eye_in_hand", "wrist_image")):
        published = resize(reference[field], 56, 56).astype(float).ravel()
        turns = {
            (rows, columns): resize(observation.images[camera][::rows, ::columns], 56, 56).astype(float).ravel()
            for rows in (1, -1)
            for columns in (1, -1)
        }
        alike = {turn: np.corrcoef(published, picture)[0, 1] for turn, picture in turns.items()}
        ours = alike.pop((1, 1))
        assert ours > 0.8
        assert ours > max(alike.values()) + 0.2, alike
    assert observation.state.shape == reference["state"].shape
    assert np.abs(observation.state - reference["state"])[:3].max() < 0.03  # [m]: joint noise of the initial states
    assert np.abs(observation.state - reference["state"])[3:].max() < 0.1
    assert observation.state.dtype == np.float32


def test_pictures_only_when_asked_for(benchmark, names, monkeypatch):
    body, task = benchmark.open(Row(SUITE, names[0], 0, 0))
    task.reset()
    monkeypatch.setattr(body.world, "render", lambda *_: pytest.fail("rendered"))
    assert body.observe(images=False).images == {}


def test_command_sends_metres_clips_and_says_what_it_sent(benchmark, names):
    body, task = benchmark.open(Row(SUITE, names[0], 0, 0))
    task.reset()
    assert body.observe(images=False).time == 0.0
    sent = body.command(np.array([0.2, 0.01, -0.01, 0.0, 0.0, -0.9, 3.0], dtype=np.float32))
    assert sent == pytest.approx([0.05, 0.01, -0.01, 0.0, 0.0, -0.5, 1.0], abs=1e-6)
    assert body.observe(images=False).time == pytest.approx(0.05)
    start = body.observe(images=False).state
    for _ in range(10):
        body.command(np.array([0.02, 0, 0, 0, 0, 0, 0.0], dtype=np.float32))  # forwards, closing
    end = body.observe(images=False).state
    assert end[0] - start[0] > 0.05
    assert start[6] - start[7] > 0.07
    assert end[6] - end[7] < 0.02


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(6), np.r_[np.zeros(6), np.inf]])
def test_command_refuses_what_is_no_action(benchmark, names, bad):
    body, _ = benchmark.open(Row(SUITE, names[0], 0, 0))
    with pytest.raises(PolicyFault):
        body.command(bad.astype(np.float32))


def test_success_is_latched(benchmark, names, monkeypatch):
    body, task = benchmark.open(Row(SUITE, names[0], 0, 0))
    task.reset()
    answers = iter([False, True, False])
    monkeypatch.setattr(body.world.env, "_check_success", lambda: next(answers))
    seen = []
    for _ in range(3):
        body.command(np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32))
        seen.append(task.succeeded())
    assert seen == [False, True, True]


@pytest.mark.parametrize(
    ("suite", "steps"),
    [
        ("libero_spatial", 220),
        ("libero_object", 280),
        ("libero_goal", 300),
        ("libero_10", 520),
        ("libero_90", 400),
        ("libero_goal_swap", 300),
        ("libero_10_with_mug", 520),
    ],
)
def test_every_runnable_suite_has_its_limit(suite, steps):
    tasks = libero_suites.tasks(suite)
    assert {task.max_steps for task in tasks} == {steps}
    assert len(tasks) == (90 if suite == "libero_90" else 10) or suite.count("_") > 1


def test_unknown_names_are_answered_with_the_closest(benchmark, names):
    with pytest.raises(UnknownName, match="libero_spatial"):
        benchmark.tasks("libero_spacial")
    with pytest.raises(UnknownName, match="next_to_the_ramekin"):
        benchmark.open(Row(SUITE, "pick_up_the_black_bowl_next_to_ramekin_and_place_it_on_the_plate", 0, 0))
    with pytest.raises(UnknownName, match="initial states"):
        benchmark.tasks("libero_10_semantic_ood")  # registered by the wheel, without files
    with pytest.raises(ConfigError, match="0 to 49"):
        benchmark.open(Row(SUITE, names[0], 50, 0))


def test_initial_states_that_are_no_table(tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK not really")
    with pytest.raises(DataError, match="broken"):
        libero_suites._initial_states(path)
    np.savez(path, states=np.zeros(5))
    with pytest.raises(DataError, match="shape"):
        libero_suites._initial_states(path)


@pytest.mark.parametrize("bad", [{"camera_size": 0}, {"worlds": 0}, {"settle_steps": -1}, {"render": "nice"}])
def test_impossible_settings(bad):
    with pytest.raises(ConfigError):
        Config(**bad)
