"""``vla demos`` as a command, with a stand-in for the simulator's processes where that is enough."""

import dataclasses
import json

import numpy as np
import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.experience import Episode
from vla.plugins import open_source
from vla.sim.expert import generate as generating
from vla.sim.expert.generate import GenerateConfig, Progress
from vla.sim.expert.record import NONE, RECOVERIES, Disturbance


@pytest.fixture
def asked(monkeypatch) -> list[GenerateConfig]:
    """What the command asks the expert for; one episode of three steps comes back."""
    configs: list[GenerateConfig] = []

    def generate(config, progress):
        configs.append(config)
        spec = libero_panda(config.camera_size)
        pictures = [np.zeros((config.camera_size, config.camera_size, 3), dtype=np.uint8)] * 3
        numbers = np.zeros((3, 8), dtype=np.float32)
        info = {"subtasks": [[0, "reach", "bowl_1", "plate_1"]], "keyframes": [2]}
        progress(Progress(1, 5, 2, 1, "not solved"))
        yield Episode(
            spec=spec,
            state=numbers,
            action=numbers[:, :7],
            images=dict.fromkeys(spec.camera_names, pictures),
            time=np.arange(3) / 20.0,
            instruction="put the bowl on the plate",
            success=True,
            source="here",
            info=info,
        )

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


def test_a_stop_says_that_nothing_was_written(vla, tmp_path, asked, monkeypatch):
    """Unlike trainings and evaluations, which go on."""
    whole = generating.generate

    def stopped(config, progress):
        yield from whole(config, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(generating, "generate", stopped)
    code, _, err = vla("demos", "--out", tmp_path / "set", "--tasks", 0, "--camera-size", 16)
    assert code == 130 and "nothing was written" in err and not list(tmp_path.iterdir())


def test_episodes_that_were_given_up_are_said(vla, tmp_path, asked, monkeypatch):
    whole = generating.generate

    def some(config, progress):
        yield from whole(config, progress)
        progress(Progress(1, 3, 2, 1, "reach episode 1: not solved"))

    monkeypatch.setattr(generating, "generate", some)
    code, out, _ = vla("demos", "--out", tmp_path / "set", "--tasks", 0, "--camera-size", 16)
    assert code == 0 and "1 of 2 episodes given up, the last: reach episode 1: not solved" in out
