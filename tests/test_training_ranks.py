"""Two processes train as one does: the same losses and weights, with DDP, FSDP2, accumulation, and over a resume."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rank_processes import Training, finish, start_ranks
from safetensors.torch import load_file
from test_training_loop import SHORT, losses, run

from vla.errors import ConfigError
from vla.model.checkpoint import load
from vla.training.ranks import joined


def largest_difference(first: Path, second: Path) -> float:
    differences = []
    for name in ("model.safetensors", "ema.safetensors"):
        ours, theirs = load_file(first / name), load_file(second / name)
        assert ours.keys() == theirs.keys()
        differences += [(ours[key] - theirs[key]).abs().max().item() for key in ours if ours[key].numel()]
    return max(differences)


def begun(whole: Path, out: Path) -> Path:
    """A run that was killed after its checkpoint of step 3."""
    shutil.copytree(whole, out, symlinks=True)
    for later in ("00000006", "00000008"):
        shutil.rmtree(out / "checkpoints" / later)
    (out / "last").unlink()
    (out / "last").symlink_to("checkpoints/00000003")
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One process, and pairs of processes in all ways."""
    folder, cache = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("features")
    kept = {"keep": 9}
    run(folder / "one", cache, replace(SHORT, keep=9))
    run(folder / "one accumulated", cache, replace(SHORT, keep=9, accumulate=4))
    trainings: list[Training] = [
        (folder / "ddp", kept, False),
        (folder / "fsdp", kept | {"parallel": "fsdp"}, False),
        (folder / "ddp accumulated", kept | {"accumulate": 2}, False),
        (folder / "fsdp accumulated", kept | {"accumulate": 2, "parallel": "fsdp"}, False),
        (begun(folder / "one", folder / "one, then ddp"), kept, True),
        (begun(folder / "one", folder / "one, then fsdp"), kept | {"parallel": "fsdp"}, True),
    ]
    finish(start_ranks(trainings, cache))
    for how in ("ddp", "fsdp"):
        run(begun(folder / how, folder / f"{how}, then one"), cache, replace(SHORT, keep=9), resume=True)
    return {path.name: path for path in folder.iterdir()}


WAYS = ["ddp", "fsdp", "ddp accumulated", "fsdp accumulated", "one accumulated"]
RESUMED = ["one, then ddp", "one, then fsdp", "ddp, then one", "fsdp, then one"]


@pytest.mark.parametrize("way", WAYS + RESUMED)
def test_losses_and_weights_are_those_of_one_process(runs: dict[str, Path], way: str):
    ours, theirs = losses(runs[way]), losses(runs["one"])
    assert [row[0] for row in ours] == [row[0] for row in theirs] == list(range(1, 9))
    assert [row[1] for row in ours] == pytest.approx([row[1] for row in theirs], abs=1e-5)
    assert largest_difference(runs[way] / "last", runs["one"] / "last") < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_the_checkpoint_is_one_whole_file_that_everything_reads(runs: dict[str, Path], way: str):
    names = {path.name for path in (runs["one"] / "last").iterdir()}
    assert {path.name for path in (runs[way] / "last").iterdir()} == names
    whole, ours = (load_file(runs[key] / "last" / "optimizer.safetensors") for key in ("one", way))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in whole.items()}
    model = load(runs[way]).model
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_ranks_that_cannot_share_a_batch_or_find_each_other_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="multiple of 3"):
        run(tmp_path, tmp_path, replace(SHORT, accumulate=3))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2"), joined("cpu"):
        pass
