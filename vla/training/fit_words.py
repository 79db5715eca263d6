"""FAST's words, fitted to the chunks that a run will train on."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32

from vla.experience import Place
from vla.model.encode import Encoder
from vla.model.fast import FastCodec
from vla.model.head_fast import held
from vla.model.vla_model import VlaModel
from vla.protocols import WindowSource
from vla.training.horizon import check_horizon

CHUNKS = 20_000
"""At most so many chunks are looked at, evenly spaced over the data: which pairs are frequent is known by then."""


def fit_words(
    model: VlaModel, encoder: Encoder, source: WindowSource, progress: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Give the model's FAST part its words if it has none yet; a model without such a part is left alone.

    Args:
        model: to be trained.
        encoder: normalises the actions.
        source: of the windows; no picture is read.
        progress: told the number of chunks so far, and of all.
    """
    if model.fast is None or model.fast.codec is not None:
        return
    settings = model.fast.config
    places = list(source.frames())
    places = places[:: max(1, -(-len(places) // CHUNKS))]
    model.fast.codec = FastCodec.fit(
        _chunks(encoder, source, places, progress),
        horizon=model.config.horizon,
        scale=settings.scale,
        vocabulary=settings.vocabulary,
    )


def _chunks(
    encoder: Encoder, source: WindowSource, places: list[Place], progress: Callable[[int, int], None]
) -> Iterator[Float32[np.ndarray, "h _"]]:
    for count, place in enumerate(places, 1):
        window = source.window(place, images=False)
        check_horizon(len(window.actions), encoder.config.horizon)
        actions = encoder.actions(encoder.index(window.spec.name), window.actions)
        yield held(actions[:, : window.spec.action.size], window.valid)
        progress(count, len(places))
