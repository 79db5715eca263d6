"""Hiding pictures and instructions in training, so that a policy leans on neither alone."""

from dataclasses import replace

import torch

from vla.model.batch import Batch
from vla.training.config import TrainConfig


def drop(batch: Batch, config: TrainConfig, generator: torch.Generator) -> Batch:
    """The batch with some cameras masked and some instructions cut down to their first token, which starts every one.

    Args:
        batch: of a step.
        config: probabilities, of each camera of each example, and of each example's instruction.
        generator: of the step; two draws whatever the probabilities are.
    """
    inputs = batch.inputs
    camera = torch.rand(inputs.image_mask.shape, generator=generator)
    words = torch.rand(len(inputs.tokens), 1, generator=generator)
    if not config.image_dropout and not config.language_dropout:
        return batch
    seen = (camera >= config.image_dropout).to(inputs.image_mask.device)
    kept = (words >= config.language_dropout).expand(inputs.token_mask.shape).clone()
    kept[:, 0] = True
    return replace(
        batch,
        inputs=replace(
            inputs,
            image_mask=inputs.image_mask & seen,
            token_mask=inputs.token_mask & kept.to(inputs.token_mask.device),
        ),
    )
