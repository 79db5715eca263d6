"""``vla data questions`` writes what training reads as pairs."""

import json
from pathlib import Path

import pytest

from vla.training.pairs import Pairs


@pytest.mark.slow
def test_what_is_asked_can_be_trained_on(vla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hugging face")
    out = tmp_path / "asked.parquet"
    command = ["data", "questions", "--out", out, "--tasks", "0", "--per-task", "2", "--per-picture", "3"]
    code, said, _ = vla(*command, "--camera-size", "64", "--json")
    assert code == 0 and json.loads(said) == {"path": str(out), "questions": 6, "pictures": 2}
    pairs = Pairs([out])
    assert len(pairs) == 6
    first, second = pairs[0], pairs[3]
    assert first.image.shape == (64, 64, 3) and (first.image != second.image).any()
    assert all(pair.question.endswith("?") and pair.answer for pair in (first, second))
    code, _, error = vla(*command)
    assert code == 2 and "exists already" in error
