"""Windows of a batch as the arrays that a model is trained on, each picture decoded into its place in the batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from vla.embodiment import CameraSpec
from vla.experience import Image
from vla.model.encode_numbers import NumberEncoder
from vla.model.pictures import fitted
from vla.protocols import WindowSource
from vla.training.augment import shift_into, shifts
from vla.training.chance import numpy_chance
from vla.training.config import TrainConfig
from vla.training.horizon import check_horizon
from vla.training.shard import Shard
from vla.training.slot import Empty
from vla.window_batch import WindowBatch, pictures_into

_TOGETHER = 8  # pictures that are decoded before they are moved into the batch


class Examples(NamedTuple):
    """What a model is shown in one batch.

    Attributes:
        sentences: instructions.
        images: one for each of the model's camera slots, shifted at random; 0 where the robot has no such camera.
        present: which slots have a picture.
        state: normalised, padded with zeros.
        actions: normalised, padded with zeros.
        valid: False where the episode had already ended.
        body: number of each window's embodiment.
    """

    sentences: list[str]
    images: UInt8[np.ndarray, "n c h w 3"]
    present: Bool[np.ndarray, "n c"]
    state: Float32[np.ndarray, "n s"]
    actions: Float32[np.ndarray, "n h a"]
    valid: Bool[np.ndarray, "n h"]
    body: Int64[np.ndarray, "n"]


@dataclass(frozen=True)
class ExampleReader:
    """Makes the examples of a batch; called by many threads at once, or in processes that have no torch.

    Attributes:
        source: of the windows.
        encoder: of the model.
        config: seed and augmentation.
        shard: which examples each batch holds.
    """

    source: WindowSource
    encoder: NumberEncoder
    config: TrainConfig
    shard: Shard

    def __call__(self, number: int, empty: Empty = np.empty) -> Examples:
        """The examples of the batch of one number.

        Args:
            number: of the batch.
            empty: makes its largest array.

        Raises:
            ConfigError: windows have another horizon than the model.
            DataError: a file is damaged or has changed.
        """
        size, model, side = self.shard.size, self.encoder.config, self.encoder.image_size
        indices = self.shard.places(number)
        examples = Examples(
            [""] * size,
            empty((size, len(model.cameras), side, side, 3), np.uint8),
            np.zeros((size, len(model.cameras)), bool),
            np.empty((size, model.state_size), np.float32),
            np.empty((size, model.horizon, model.action_size), np.float32),
            np.empty((size, model.horizon), bool),
            np.empty(size, np.int64),
        )
        for batch in self.source.batch(indices):
            self._fill(examples, batch, indices)
        examples.images[~examples.present] = 0
        return examples

    def _fill(self, examples: Examples, batch: WindowBatch, indices: range) -> None:
        check_horizon(batch.actions.shape[1], self.encoder.config.horizon)
        body, rows = self.encoder.index(batch.spec.name), batch.rows
        examples.body[rows], examples.valid[rows] = body, batch.valid
        examples.state[rows] = self.encoder.state(body, batch.state)
        examples.actions[rows] = self.encoder.actions(body, batch.actions)
        places = [self._shifts(indices[row]) for row in rows.tolist()]
        for slot, name in enumerate(self.encoder.numbers[body].cameras):
            if name is None or name not in batch.images:
                continue
            examples.present[rows, slot] = True
            pictures = _pictures(batch, batch.spec.camera(name))
            for row, place, picture in zip(rows.tolist(), places, pictures, strict=True):
                square = fitted(picture, self.encoder.image_size, self.encoder.fit)
                shift_into(square, place[slot], examples.images[row, slot])
        for row, sentence in zip(rows.tolist(), batch.instructions, strict=True):
            examples.sentences[row] = sentence

    def _shifts(self, index: int) -> list[list[int]]:
        """How the picture in each slot of an index's window is moved, see :func:`shifts`."""
        slots, largest = len(self.encoder.config.cameras), self.config.shift
        if not largest:
            return [[0, 0]] * slots
        chance = numpy_chance(self.config.seed, index, "shift")
        return shifts(slots, largest, chance).tolist()


def _pictures(batch: WindowBatch, camera: CameraSpec) -> Iterator[Image]:
    """The batch's pictures of one camera, some at a time in the same memory, which stays in the processor's caches."""
    memory = np.empty((_TOGETHER, camera.height, camera.width, 3), np.uint8)
    for first in range(0, len(batch), _TOGETHER):
        some = list(memory[: len(batch) - first])
        pictures_into(batch.images[camera.name], first, some)
        yield from some
