"""``vla train`` as users meet it: its help, several processes, evaluation in simulation on the way."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vla.commands.evaluate import Evaluate
from vla.commands.train_evaluation import SELECTION_SEED, libero_examiner
from vla.commands.train_options import MachineOptions, StepOptions, WatchOptions
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, SpecMismatch, UnknownName
from vla.model.presets import PRESETS
from vla.model.vla_model import HEADS
from vla.results import Result
from vla.training.config import TrainConfig
from vla.training.fake import fake_embodiment
from vla.training.journal import read_metrics


def test_the_help_fits_two_screens():
    """Of 50 lines, 100 columns wide."""
    command = [sys.executable, "-m", "vla.cli", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) <= 100 and max(map(len, lines)) <= 100
    for group in ("data", "model", "step", "machine", "watch"):
        assert f"{group} options" in done.stdout
    said = re.findall(r"[\w-]+", done.stdout)
    assert not ({*PRESETS, *HEADS, "insulated"} - {*said})


def test_what_is_not_said_is_as_the_trainings_own_settings():
    own = vars(TrainConfig(steps=1)) | {"steps": None}
    for options in (StepOptions(), MachineOptions()):
        assert vars(options).items() <= own.items()


OPTIONS = WatchOptions(eval_every=50, eval_tasks=("0", "3"), eval_sampled=2)


def test_checkpoints_are_chosen_by_scenes_of_no_other_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def run_variant(self: Evaluate, name: str, rows: list) -> list[Result]:
        seen.append((self, rows))
        return [
            Result(row, status) for row, status in zip(rows, ["success", "error", "failure", "success"], strict=True)
        ]

    monkeypatch.setattr(Evaluate, "run_variant", run_variant)
    specs = [fake_embodiment(), libero_panda(128)]
    examiner = libero_examiner(OPTIONS, specs, tmp_path)
    assert examiner is not None and examiner.every == 50
    result = examiner(tmp_path / "checkpoint", tmp_path / "evaluation")
    assert result == {"score": pytest.approx(2 / 3), "successes": 2, "rows": 3, "errors": 1}
    command, rows = seen[0]
    assert (command.checkpoint, command.out) == (tmp_path / "checkpoint", tmp_path / "evaluation")
    assert command.embodiment == libero_panda(128).name
    assert [row.seed for row in rows] == [SELECTION_SEED, SELECTION_SEED + 1] * 2
    inits = libero_examiner(replace(OPTIONS, eval_inits=2), specs, tmp_path)
    assert inits is not None
    assert [row.init for row in inits.evaluation(tmp_path, tmp_path).make_rows()] == [0, 1, 0, 1]


def test_what_cannot_be_evaluated_is_said_before_the_training(tmp_path: Path):
    assert libero_examiner(WatchOptions(), [fake_embodiment()], tmp_path) is None
    with pytest.raises(SpecMismatch):
        libero_examiner(OPTIONS, [fake_embodiment()], tmp_path)
    with pytest.raises(UnknownName, match="libero_spatial"):
        libero_examiner(replace(OPTIONS, eval_suite="libero_spatia"), [libero_panda(128)], tmp_path)
    with pytest.raises(ConfigError):
        libero_examiner(replace(OPTIONS, eval_inits=0, eval_sampled=0), [libero_panda(128)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_give_what_one_does(launcher: str, shared_data: Path, tmp_path: Path):
    bridge = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    starts = {
        "one": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"],
        "accelerate": [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"],
    }
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    options = ["--data", str(bridge), "--steps", "3", "--batch-size", "8", "--device", "cpu", "--json"]
    for name in ("one", launcher):
        command = [*starts[name], "-m", "vla.cli", "train", *options, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["steps"] == 3
    one, two = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("one", launcher))
    assert max((one[name] - two[name]).abs().max().item() for name in one if one[name].numel()) < 1e-5


@pytest.mark.slow
def test_a_policy_is_evaluated_in_simulation_while_it_is_trained(vla, tmp_path: Path):
    demos, out = tmp_path / "demos", tmp_path / "run"
    assert vla("demos", "--out", demos, "--tasks", "0", "--per-task", "2")[0] == 0
    evaluation = ["--eval-every", "3", "--eval-tasks", "0", "--eval-sampled", "2", "--eval-workers", "1"]
    train = ["train", "--data", demos, "--steps", "5", "--batch-size", "8", "--out", out, "--device", "cpu", "--json"]
    code, said, _ = vla(*train, *evaluation)
    rows = read_metrics(out / "evaluations.jsonl")
    assert code == 0 and [row["step"] for row in rows] == [3, 5] and all(row["rows"] == 2 for row in rows)
    assert json.loads(said)["best"] == str((out / "best").resolve())
    assert (out / "evaluations" / "00000003" / "trained" / "results.parquet").exists()
