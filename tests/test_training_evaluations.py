"""Evaluation on the way: at the right steps, once each, the best checkpoint kept, and a run as if there were none."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from test_training_loop import SHORT, losses, run, weights

from vla.errors import ConfigError
from vla.training.checkpoint import saved
from vla.training.journal import read_metrics


@dataclass
class Examiner:
    """Gives scores by step; the first ``broken`` calls are cut off."""

    scores: Mapping[int, float]
    every: int = 2
    broken: int = 0
    seen: list[int] = field(default_factory=list)

    def __call__(self, checkpoint: Path, folder: Path) -> Mapping[str, float]:
        step = int(checkpoint.name)
        self.seen.append(step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows").write_text(f"{step}")
        assert (checkpoint / "model.safetensors").exists() and checkpoint.name == folder.name
        if self.broken:
            self.broken -= 1
            raise KeyboardInterrupt
        return {"score": self.scores[step]}


SCORES = {2: 0.25, 4: 0.75, 6: 0.75, 8: 0.5}
RUN = replace(SHORT, save_every=3, keep=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def evaluated(out: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["score"]) for row in read_metrics(out / "evaluations.jsonl")]


def test_the_best_checkpoint_is_kept_and_the_run_is_the_same(tmp_path: Path, cache: Path):
    examiner = Examiner(SCORES)
    run(tmp_path / "plain", cache, RUN)
    run(tmp_path / "examined", cache, RUN, examiner=examiner)
    assert examiner.seen == [2, 4, 6, 8] and evaluated(tmp_path / "examined") == list(SCORES.items())
    assert (tmp_path / "examined" / "best").readlink() == Path("checkpoints/00000006")  # the later one of two equals
    assert [folder.name for folder in saved(tmp_path / "examined")] == ["00000006", "00000008"]
    assert losses(tmp_path / "examined") == losses(tmp_path / "plain")
    assert weights(tmp_path / "examined") == weights(tmp_path / "plain")


def test_an_evaluation_that_was_cut_off_is_made_good_before_the_next_step(tmp_path: Path, cache: Path):
    run(tmp_path / "plain", cache, RUN)
    examiner = Examiner(SCORES, broken=1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "examined", cache, RUN, examiner=examiner)
    assert len(losses(tmp_path / "examined")) == 2 and not (tmp_path / "examined" / "best").exists()
    assert run(tmp_path / "examined", cache, RUN, examiner=examiner, resume=True).finished
    assert examiner.seen == [2, 2, 4, 6, 8] and evaluated(tmp_path / "examined") == list(SCORES.items())
    assert weights(tmp_path / "examined") == weights(tmp_path / "plain")


def test_the_last_step_is_evaluated_and_a_finished_run_not_again(tmp_path: Path, cache: Path):
    examiner = Examiner({5: 0.1, 8: 0.3}, every=5)
    run(tmp_path, cache, RUN, examiner=examiner)
    run(tmp_path, cache, RUN, examiner=examiner, resume=True)
    assert examiner.seen == [5, 8]
    assert (tmp_path / "best").readlink() == Path("checkpoints/00000008")


def test_what_comes_after_the_step_resumed_from_is_forgotten(tmp_path: Path, cache: Path):
    run(tmp_path, cache, replace(RUN, keep=9), examiner=Examiner(SCORES))
    (tmp_path / "last").unlink()
    (tmp_path / "last").symlink_to("checkpoints/00000004")
    for later in ("00000006", "00000008"):
        (tmp_path / "checkpoints" / later).rename(tmp_path / later)
    examiner = Examiner({6: 0.0, 8: 0.0})
    run(tmp_path, cache, replace(RUN, keep=9), examiner=examiner, resume=True)
    assert examiner.seen == [6, 8] and dict(evaluated(tmp_path)) == {2: 0.25, 4: 0.75, 6: 0.0, 8: 0.0}
    assert (tmp_path / "best").readlink() == Path("checkpoints/00000004")


def test_examiners_that_cannot_be_used(tmp_path: Path, cache: Path):
    with pytest.raises(ConfigError, match="one step apart"):
        run(tmp_path / "a", cache, RUN, examiner=Examiner({}, every=0))

    class Scoreless(Examiner):
        def __call__(self, checkpoint: Path, folder: Path) -> Mapping[str, float]:
            return {"success": 1.0}

    with pytest.raises(ConfigError, match="no score"):
        run(tmp_path / "b", cache, RUN, examiner=Scoreless({}))
