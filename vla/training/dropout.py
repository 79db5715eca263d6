"""Hiding pictures and instructions in training, so that a policy leans on neither alone."""

from dataclasses import replace

from vla.model.batch import Batch
from vla.model.noise import Noise, uniform
from vla.training.config import TrainConfig


def drop(batch: Batch, config: TrainConfig, noise: Noise) -> Batch:
    """The batch with some cameras masked and some instructions cut down to their first token, which starts every one.

    A state that is written into the prompt goes with the instruction.

    Args:
        batch: of a step.
        config: probabilities, of each camera of each example, and of each example's instruction.
        noise: of the examples.
    """
    if not config.image_dropout and not config.language_dropout:
        return batch
    inputs = batch.inputs
    camera = uniform(inputs.image_mask.shape, noise)
    words = uniform((len(inputs.tokens), 1), noise)
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
