"""Starting from another run: what fits is taken, what does not is listed, words keep their meaning."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loop import MODEL, SHORT, SOURCE, run

from vla.errors import ConfigError, DataError
from vla.model.checkpoint import load, trainable
from vla.model.config import ExpertConfig, fit_to
from vla.model.encode import Encoder
from vla.model.text import Text, word_tokenizer
from vla.model.vla_model import VlaModel, build
from vla.training.fake import FakeWindows, fake_embodiment
from vla.training.initial import start_from
from vla.training.loop import train

WORDS = ["Reach the red square.", "Reach the blue square."]
TABLE = "backbone.trunk.embed_tokens.weight"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("before")
    run(out, tmp_path_factory.mktemp("features"), replace(SHORT, steps=2))
    return out


def model_and_encoder(config: Any = MODEL, source=SOURCE, sentences=WORDS) -> tuple[VlaModel, Encoder]:
    model = build(fit_to(config, source.specs), seed=99)
    text = Text(word_tokenizer(sentences, config.backbone.vocabulary), config.backbone.text_length)
    return model, Encoder(model.config, source.specs, source.statistics(), text, model.backbone.image_size)


def test_the_same_model_takes_everything_that_was_averaged(before: Path, tmp_path: Path):
    model, encoder = model_and_encoder()
    start = start_from(before, model, encoder, tmp_path)
    assert not (start.other_shape or start.not_here or start.new or start.notes)
    theirs = load(before, "ema").model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert len(json.loads((tmp_path / "init.json").read_text())["taken"]) == len(theirs)


def test_what_does_not_fit_is_listed_and_keeps_its_new_weights(before: Path):
    arm = fake_embodiment("another_arm", cameras=("front", "hand"))
    source = FakeWindows(count=8, spec=arm)
    other = replace(MODEL, backbone=replace(MODEL.backbone, layers=1), expert=ExpertConfig(width=16, mlp=64))
    model, encoder = model_and_encoder(other, source)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    start = start_from(before, model, encoder, None)
    now, theirs = model.state_dict(), load(before, "ema").model.state_dict()
    assert set(start.taken) | start.other_shape.keys() | set(start.new) == now.keys()
    assert any("trunk.layers.1" in name for name in start.not_here)
    assert any("cameras.1" in name for name in start.new)
    assert all(torch.equal(now[name], theirs[name]) for name in start.taken)
    assert all(torch.equal(now[name], fresh[name]) for name in (*start.other_shape, *start.new))
    said = start.summary()
    assert "fake_arm there, another_arm here" in said and "primary there, primary, wrist here" in said
    assert "backbone.cameras" in said and "of another shape" in said


def test_rows_of_the_word_table_go_by_word(before: Path):
    model, encoder = model_and_encoder(sentences=["a square", "blue", "Reach for it"])
    fresh = model.state_dict()[TABLE].clone()
    start = start_from(before, model, encoder, None)
    checkpoint = load(before, "ema")
    known, new = (one.text.tokenizer.get_vocab() for one in (checkpoint.encoder, encoder))
    table, theirs = model.state_dict()[TABLE], checkpoint.model.state_dict()[TABLE]
    assert new["square"] != known["square"]
    for word, row in new.items():
        assert torch.equal(table[row], theirs[known[word]] if word in known else fresh[row])
    assert start.notes == ("word table: 6 words taken, 3 new: a, for, it",)


def test_a_run_starts_from_another_once_and_resumes_as_itself(before: Path, tmp_path: Path):
    cache, other = tmp_path / "features", replace(SHORT, steps=1, seed=8)
    run(tmp_path / "fresh", cache, other)
    run(tmp_path / "run", cache, other, init=before)
    assert (tmp_path / "run" / "init.json").exists()
    after, fresh, start = (weights(path) for path in (tmp_path / "run", tmp_path / "fresh", before))
    assert (after - start).norm() < 0.1 * (after - fresh).norm()
    run(tmp_path / "run", cache, other, init=before, resume=True)  # is over: nothing is taken again
    assert torch.equal(weights(tmp_path / "run"), after)


def weights(path: Path) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in trainable(load(path).model).values()])


def test_nothing_that_fits_or_no_checkpoint_is_an_error(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="checkpoint"):
        train(SHORT, MODEL, SOURCE, SOURCE.statistics(), tmp_path / "run", init=tmp_path / "nowhere", quiet=True)
    model, encoder = model_and_encoder()
    monkeypatch.setattr(model, "state_dict", lambda: {"none.of.these": torch.zeros(1)})
    with pytest.raises(ConfigError, match="nothing of"):
        start_from(before, model, encoder, None)
