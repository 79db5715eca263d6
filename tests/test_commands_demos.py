"""``vla demos`` as a command, with a stand-in for the simulator's processes where that is enough."""

import dataclasses
import json

import numpy as np
import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.errors import BodyFault
from vla.experience import Episode
from vla.plugins import open_source
from vla.rows import EVALUATION_SEEDS
from vla.sim.expert import generate as generating
from vla.sim.expert.generate import TRIES, GenerateConfig, Job, Progress, jobs_after
from vla.sim.expert.record import NONE, RECOVERIES, Disturbance


def made(config: GenerateConfig, job: Job) -> Episode:
    """Three steps that say which job they answer."""
    spec = libero_panda(config.camera_size)
    pictures = [np.zeros((config.camera_size, config.camera_size, 3), dtype=np.uint8)] * 3
    numbers = np.full((3, 8), job.number, dtype=np.float32)
    info = {"subtasks": [[0, "reach", "bowl_1", "plate_1"]], "keyframes": [2]}
    return Episode(
        spec=spec,
        state=numbers,
        action=np.zeros((3, 7), dtype=np.float32),
        images=dict.fromkeys(spec.camera_names, pictures),
        time=np.arange(3) / 20.0,
        instruction="put the bowl on the plate",
        success=True,
        source="here",
        info=info | {"task": job.task, "seed": EVALUATION_SEEDS + job.number * TRIES + 1},
    )


@pytest.fixture
def asked(monkeypatch) -> list[GenerateConfig]:
    """What the command asks the expert for; one episode of three steps comes back."""
    configs: list[GenerateConfig] = []

    def generate(config, progress, *, after=None):
        configs.append(config)
        progress(Progress(1, 5, 2, 1, "not solved"))
        yield made(config, Job(config.tasks[0], 0))

    monkeypatch.setattr(generating, "generate", generate)
    return configs


@pytest.mark.parametrize("form", ["lerobot", "rlds"])
def test_either_format_keeps_subtasks_and_keyframes(vla, tmp_path, asked, form):
    code, out, _ = vla(
        "demos", "--out", tmp_path / "set", "--tasks", 0, "--format", form, "--camera-size", 16, "--json"
    )
    assert code == 0 and json.loads(out)["format"] == form
    source = open_source(tmp_path / "set" / ("1.0.0" if form == "rlds" else ""))
    assert len(source) == 1
    episode = source[0]
    assert episode.info["subtasks"] == [[0, "reach", "bowl_1", "plate_1"]] and episode.info["keyframes"] == [2]
    assert asked[0].disturbance == Disturbance() and not asked[0].paraphrase


def test_what_is_done_to_the_expert_on_purpose_is_an_option(vla, tmp_path, asked):
    for place, (name, expected) in enumerate((("none", NONE), ("noise", Disturbance()), ("recovery", RECOVERIES))):
        out = tmp_path / str(place)
        assert vla("demos", "--out", out, "--tasks", 0, "--perturb", name, "--paraphrase", "--camera-size", 16)[0] == 0
        assert asked[-1].disturbance == expected and asked[-1].paraphrase
    assert vla("demos", "--out", tmp_path / "x", "--perturb", "violent")[0] == 2
    assert dataclasses.replace(RECOVERIES, slips=0.0, bumps=0.0) == Disturbance()


@pytest.mark.parametrize("form", ["lerobot", "rlds"])
@pytest.mark.parametrize("end", [KeyboardInterrupt, BodyFault("the simulator is broken")])
def test_what_was_stopped_goes_on(vla, tmp_path, monkeypatch, form, end):
    """After a stop with the next episode, after a fault with the first that no finished file has."""
    stops, seen = [3], []

    def generate(config, progress, *, after=None):
        for job in jobs_after(config, after):
            seen.append(job.number)
            if job.number in stops:
                raise end
            if job.number == 1:
                progress(Progress(1, 5, 5, 1, "not solved"))  # given up
            else:
                yield made(config, job)

    monkeypatch.setattr(generating, "generate", generate)
    arguments = ("demos", "--tasks", 0, "--per-task", 5, "--camera-size", 16, "--format", form, "--json")
    kept = end is KeyboardInterrupt
    assert vla(*arguments, "--out", tmp_path / "set")[0] == (130 if kept else 2)
    assert [path.name for path in tmp_path.iterdir()] == ([".set.partial"] if kept else [])
    if kept:
        code, _, err = vla(*arguments, "--out", tmp_path / "set", "--paraphrase")
        assert code == 2 and "other options" in err
    stops.clear()
    seen.clear()
    code, out, _ = vla(*arguments, "--out", tmp_path / "set", "--workers", 1)
    assert code == 0 and seen == ([3, 4] if kept else [0, 1, 2, 3, 4])
    assert json.loads(out)["episodes"] == 4 and json.loads(out)["resumed_at"] == (2 if kept else 0)
    assert json.loads(out)["lost"] == 1
    source = open_source(tmp_path / "set" / ("1.0.0" if form == "rlds" else ""))
    assert [int(episode.state[0, 0]) for episode in source] == [0, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_episodes_that_were_given_up_are_said(vla, tmp_path, asked, monkeypatch):
    whole = generating.generate

    def some(config, progress, *, after=None):
        yield from whole(config, progress)
        progress(Progress(1, 3, 2, 1, "reach episode 1: not solved"))

    monkeypatch.setattr(generating, "generate", some)
    code, out, _ = vla("demos", "--out", tmp_path / "set", "--tasks", 0, "--per-task", 2, "--camera-size", 16)
    assert code == 0 and "1 of 2 episodes given up, the last: reach episode 1: not solved" in " ".join(out.split())
