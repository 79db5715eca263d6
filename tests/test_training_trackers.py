"""Numbers arrive where they are tracked."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training_evaluations import Examiner
from test_training_loop import SHORT, losses, run

from vla.errors import DependencyMissing
from vla.training.trackers import make_trackers


def test_tensorboard_has_every_step_and_evaluation(tmp_path: Path):
    run(tmp_path, tmp_path / "features", replace(SHORT, steps=4), examiner=Examiner({2: 0.5, 4: 1.0}))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in board.Scalars("train/loss")]
    assert shown == [(step, pytest.approx(loss)) for step, loss, _ in losses(tmp_path)]
    assert [(event.step, event.value) for event in board.Scalars("evaluation/score")] == [(2, 0.5), (4, 1.0)]


def test_wandb_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path / "run", tmp_path / "features", replace(SHORT, steps=2, track=("wandb",)))
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert folder.name.endswith((tmp_path / "run" / "wandb.id").read_text())
    (log,) = folder.glob("*.wandb")
    assert b"train/loss" in log.read_bytes() and b"learning_rate" in log.read_bytes()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_wandb_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[wandb\]"):
        make_trackers(["wandb"], tmp_path, 0, {})
    assert make_trackers([], tmp_path, 0, {}) == []
