import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vla.datasets import lerobot_writer, rlds_writer
from vla.errors import BodyFault, ConfigError, DataError, UnknownName
from vla.experience import Episode
from vla.plugins import open_source
from vla.rows import EVALUATION_SEEDS, Row
from vla.sim import libero_suites
from vla.sim.expert import generate as generating
from vla.sim.expert.generate import GenerateConfig, Job, generate, make_episode
from vla.sim.expert.paraphrases import paraphrases
from vla.sim.expert.record import NONE, record, replay
from vla.sim.expert.solve import solve
from vla.sim.expert.workers import Crashed, Worker
from vla.sim.libero import Config, LiberoBenchmark

SUITE = "libero_spatial"


@pytest.fixture(scope="module")
def benchmark():
    made = Config(camera_size=32).make()
    yield made
    made.close()


@pytest.fixture(scope="module")
def task():
    return libero_suites.tasks(SUITE)[0].name


@pytest.fixture(scope="module")
def clean(benchmark, task):
    """An undisturbed demonstration from one of the benchmark's initial states."""
    episode = demonstrate(benchmark, Row(SUITE, task, 0, seed=2))
    assert episode is not None
    return episode


@pytest.fixture(scope="module")
def disturbed(benchmark, task):
    """Episode 0 of the default configuration, made here instead of in a worker."""
    config = GenerateConfig(tasks=(task,), camera_size=32, widen=(1.0, 2.0))
    answer = make_episode(config, Job(task, 0), benchmark)
    assert answer.episode is not None
    return answer.episode


def test_expert_solves_from_sight_of_the_state_alone(clean):
    assert clean.success
    assert 50 < len(clean) < 220
    assert clean.state.shape == (len(clean), 8)
    assert clean.images["agentview"][0].shape == (32, 32, 3)
    assert len(clean.images["robot0_eye_in_hand"]) == len(clean)
    assert set(np.unique(clean.action[:, 6])) == {0.0, 1.0}
    assert np.abs(clean.action[:, :3]).max() <= 0.05 + 1e-6


def test_every_step_is_part_of_a_named_subtask(clean):
    subtasks, keyframes = clean.info["subtasks"], clean.info["keyframes"]
    assert [label for _, label, *_ in subtasks][:5] == ["reach", "grasp", "lift", "carry", "place"]
    assert {tuple(names) for _, _, *names in subtasks} == {("akita_black_bowl_1", "plate_1")}
    assert [first for first, *_ in subtasks] == [0, *(step + 1 for step in keyframes[:-1])]
    assert keyframes[-1] == len(clean) - 1
    (gripped,) = np.flatnonzero(np.diff(clean.action[:, 6]) < 0)  # the fingers close within the grasp
    grasp, lift = (first for first, label, *_ in subtasks if label in ("grasp", "lift"))
    assert grasp <= gripped < lift


def test_writers_keep_what_is_known_and_readers_give_it_back(clean, disturbed, tmp_path):
    for name, writer in (("lerobot", lerobot_writer.Writer), ("rlds", rlds_writer.Writer)):
        with writer(tmp_path / name, clean.spec) as opened:
            opened.add(clean)
            opened.add(disturbed)
        source = open_source(tmp_path / name / ("1.0.0" if name == "rlds" else ""))
        for place, episode in enumerate((clean, disturbed)):
            for key in ("subtasks", "keyframes", "accidents", "initial_state_from"):
                assert source[place].info[key] == episode.info[key]
    assert "benchmark's initial state 0" in clean.info["initial_state_from"]
    assert "none of the benchmark's" in disturbed.info["initial_state_from"]


def test_a_paraphrase_changes_the_words_only(benchmark, disturbed, task):
    config = GenerateConfig(tasks=(task,), camera_size=32, widen=(1.0, 2.0), paraphrase=True, images=False)
    said = make_episode(config, Job(task, 0), benchmark).episode
    assert said is not None
    assert said.info["original_instruction"] == disturbed.instruction
    assert said.instruction == paraphrases(disturbed.instruction)[said.info["wording"]]
    assert np.array_equal(said.action, disturbed.action) and not said.images


def test_labels_are_clean_and_what_was_sent_is_kept(clean, disturbed):
    assert np.array_equal(np.array(clean.info["executed"], dtype=np.float32), clean.action)
    sent = np.array(disturbed.info["executed"], dtype=np.float32)
    off = (sent - disturbed.action)[:, :6] / (0.05, 0.05, 0.05, 0.5, 0.5, 0.5)
    assert 0.08 < off[:, :3].std() < 0.2  # 0.15, less what was clipped
    assert np.array_equal(sent[:, 6], disturbed.action[:, 6])


def test_replay_from_the_recorded_initial_state_succeeds_again(benchmark, clean, disturbed, task):
    for episode in (clean, disturbed):
        benchmark.open(Row(SUITE, task, 5, seed=0))[1].reset()  # something else in between
        stored = json.loads(json.dumps(dict(episode.info)))
        assert replay(benchmark, dataclasses.replace(episode, info=stored))


def test_replay_of_what_was_not_recorded_here(benchmark, clean):
    info = {key: value for key, value in clean.info.items() if key != "initial_state"}
    with pytest.raises(DataError, match="initial_state"):
        replay(benchmark, dataclasses.replace(clean, info=info))


def test_processes_give_the_same_episodes_in_order(disturbed, task):
    seen = []
    config = GenerateConfig(tasks=(task,), episodes=2, workers=2, camera_size=32, widen=(1.0, 2.0))
    first, second = generate(config, seen.append)
    assert first.info == disturbed.info
    assert np.array_equal(first.state, disturbed.state)
    assert np.array_equal(first.images["agentview"][10], disturbed.images["agentview"][10])
    assert EVALUATION_SEEDS <= first.info["seed"] < second.info["seed"]
    assert 1.0 <= first.info["widen"] <= 2.0
    assert (seen[-1].done, seen[-1].total, seen[-1].lost) == (2, 2, 0)


def test_unknown_task_starts_no_process(task):
    with pytest.raises(UnknownName, match="ramekin"):
        next(generate(GenerateConfig(tasks=(task + "s",))))
    with pytest.raises(ConfigError):
        GenerateConfig(widen=(2.0, 1.0))
    with pytest.raises(ConfigError):
        GenerateConfig(episodes=0)


STAND_INS = """
import os
import time
from vla.errors import UnknownName
from vla.sim.expert.generate import Answer

class Echo:
    def __init__(self, argument):
        self.argument = argument

    def __call__(self, request):
        if request == "die":
            os._exit(7)
        if request == "hang":
            open("hanging", "w").close()
            time.sleep(3600)
        if request == "raise":
            raise UnknownName("task", "a", ["b"])
        if request == "break":
            raise RuntimeError("unexpected")
        return self.argument, request

class Fails:
    def __init__(self, argument):
        pass

    def __call__(self, job):
        if job.number == 0:
            os._exit(1)
        return Answer(None, ("not solved",))
"""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """What a worker process can import instead of the simulator."""
    (tmp_path / "vla_worker_stand_ins.py").write_text(STAND_INS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("vla_worker_stand_ins")


def test_worker_answers_reports_and_is_replaced(stand_ins):
    with Worker(stand_ins.Echo, "x") as worker:
        worker.send(1)
        assert worker.receive() == ("x", 1)
        for request, error, message in (
            ("raise", UnknownName, "closest|known"),
            ("die", Crashed, "code 7"),
            ("break", Crashed, "unexpected"),
        ):
            worker.send(request)
            with pytest.raises(error, match=message):
                worker.receive()
            worker.send(2)
            assert worker.receive()[1] == 2


def test_error_if_nothing_succeeds(task, monkeypatch, stand_ins):
    monkeypatch.setattr(generating, "_Maker", stand_ins.Fails)
    seen = []
    with pytest.raises(BodyFault, match="none of 2"):
        list(generate(GenerateConfig(tasks=(task,), episodes=2, workers=2), seen.append))
    assert seen[-1].failed == 2
    assert "code 1" in seen[0].reason


def test_a_busy_worker_does_not_outlive_a_killed_parent(tmp_path, stand_ins):
    script = tmp_path / "run.py"
    script.write_text(
        "import vla_worker_stand_ins as stand_ins\n"
        "from vla.sim.expert.workers import Worker\n"
        "if __name__ == '__main__':\n"
        "    with Worker(stand_ins.Echo, 'x') as worker:\n"
        "        worker.send('hang')\n"
        "        worker.receive()\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "hanging").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait(timeout=30)
    while alive_in_group(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_interrupt_ends_the_workers(tmp_path, task):
    script = tmp_path / "run.py"
    script.write_text(
        "from vla.sim.expert.generate import GenerateConfig, generate\n"
        "if __name__ == '__main__':\n"
        f"    for episode in generate(GenerateConfig(tasks=({task!r},), episodes=50, workers=2, camera_size=16)):\n"
        "        print(len(episode), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "Process Spawn" not in errors  # no worker's traceback
    time.sleep(0.5)
    assert not alive_in_group(process.pid)


def alive_in_group(group: int) -> list[str]:
    """Command names of the group's processes that are not only waiting to be reaped."""
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, its_group = rest.split()[:3]
            if int(its_group) == group and state != "Z":
                names.append(name)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_expert_solves_every_task(benchmark, number):
    name = libero_suites.tasks(SUITE)[number].name
    episodes = [demonstrate(benchmark, Row(SUITE, name, -1, seed), images=False) for seed in range(4)]
    assert sum(episode is not None for episode in episodes) >= 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("suite", "number", "init"),
    [
        ("libero_10_swap", 3, 13),  # a bowl for a drawer that is not quite open
        ("libero_10_swap", 8, 13),  # two pots for a stove that is far away
        ("libero_goal", 3, 13),  # a bowl that slips
        ("libero_goal", 3, 5),  # one that stands beneath the open drawer
        ("libero_90", 6, 0),  # a drawer whose handle no hand can grip
        ("libero_90", 32, 1),  # a bottle that is too tall for a drawer
        ("libero_90", 89, 0),  # a book that is too tall for a shelf
    ],
)
def test_expert_solves_what_needs_room_or_reach(benchmark, suite, number, init):
    name = libero_suites.tasks(suite)[number].name
    body, task = benchmark.open(Row(suite, name, init, seed=0))
    task.reset()
    rng = np.random.default_rng([0, task.number, init + 1])
    for step in itertools.islice(solve(body.world, rng), task.max_steps):
        body.world.step(step.raw)
        if task.succeeded():
            break
    assert task.succeeded()


def demonstrate(benchmark: LiberoBenchmark, row: Row, *, images: bool = True) -> Episode | None:
    body, task = benchmark.open(row)
    return record(body, task, NONE, images=images)
