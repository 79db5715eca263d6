"""kill -9 at any step: the run that goes on gives the same losses, weights, averages and moments, bit for bit."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rank_processes import finish, kill_at, start_ranks
from test_training_loop import SHORT, losses, run, weights


def killed_and_resumed(out: Path, cache: Path, changes: dict[str, Any], *, kills: list[int], ranks: int) -> None:
    """Kill a run at these steps, each time from the last checkpoint on; then let it end."""
    for line in kills:
        assert kill_at(start_ranks([(out, changes, True)], cache, ranks), out / "metrics.jsonl", line)
        assert len(losses(out)) < changes.get("steps", SHORT.steps)
        if (out / "checkpoints").exists():
            (out / "checkpoints" / ".00000099.half").mkdir(exist_ok=True)  # what a kill in the middle of saving leaves
    finish(start_ranks([(out, changes, True)], cache, ranks))
    assert not list((out / "checkpoints").glob(".*"))


def test_one_kill(tmp_path: Path):
    cache = tmp_path / "features"
    run(tmp_path / "whole", cache)
    killed_and_resumed(tmp_path / "killed", cache, {}, kills=[4], ranks=1)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (1, {}),
        (1, {"accumulate": 2}),
        (2, {"accumulate": 2}),
        (2, {"parallel": "fsdp"}),
    ],
    ids=["one rank", "accumulation", "two ranks", "two ranks with FSDP2"],
)
def test_three_kills_at_random_steps(ranks: int, changes: dict[str, Any], tmp_path: Path):
    changes = {"steps": 40, "save_every": 4, **changes}
    cache, seed = tmp_path / "features", random.SystemRandom().randrange(2**32)
    kills = sorted(random.Random(seed).sample(range(2, 38), 3))
    print(f"seed {seed}: killed after steps {kills}")  # shown if the test fails
    if ranks == 1:
        run(tmp_path / "whole", cache, replace(SHORT, **changes))
    else:
        finish(start_ranks([(tmp_path / "whole", changes, False)], cache, ranks))
    killed_and_resumed(tmp_path / "killed", cache, changes, kills=kills, ranks=ranks)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
