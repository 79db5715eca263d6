"""Drop-out hides whole cameras and whole instructions, as often as asked, and follows its generator."""

from dataclasses import replace

import pytest
import torch

from vla.errors import ConfigError
from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.training.config import TrainConfig
from vla.training.dropout import drop

COUNT = 4000
MASK = torch.tensor([[True, True, False]]).repeat(COUNT, 1)
WORDS = torch.tensor([[True, True, True, False]]).repeat(COUNT, 1)
BATCH = Batch(
    Inputs(None, None, MASK, torch.ones(COUNT, 4).long(), WORDS, torch.zeros(COUNT, 2), torch.zeros(COUNT).long()),
    torch.zeros(COUNT, 1, 1),
    torch.ones(COUNT, 1, dtype=torch.bool),
)


def dropped(images: float, language: float, seed: int = 0) -> Inputs:
    config = TrainConfig(steps=1, image_dropout=images, language_dropout=language)
    return drop(BATCH, config, torch.Generator().manual_seed(seed)).inputs


def test_shares_are_those_asked_for():
    inputs = dropped(0.3, 0.2)
    assert inputs.image_mask.float().mean(0).tolist() == pytest.approx([0.7, 0.7, 0.0], abs=0.03)
    assert not torch.equal(inputs.image_mask[:, 0], inputs.image_mask[:, 1])
    lengths = inputs.token_mask.sum(1)
    assert set(lengths.tolist()) == {1, 3} and inputs.token_mask[:, 0].all()
    assert (lengths == 1).float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_nothing_and_everything():
    untouched = dropped(0.0, 0.0)
    assert untouched is BATCH.inputs
    gone = dropped(1.0, 1.0)
    assert not gone.image_mask.any() and (gone.token_mask.sum(1) == 1).all()


def test_the_generator_decides():
    first, second, other = (dropped(0.5, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first.image_mask, second.image_mask) and torch.equal(first.token_mask, second.token_mask)
    assert not torch.equal(first.image_mask, other.image_mask)


def test_probabilities_are_probabilities():
    for wrong in ({"image_dropout": 1.5}, {"language_dropout": -0.1}):
        with pytest.raises(ConfigError, match="probabilities"):
            replace(TrainConfig(steps=1), **wrong)
