"""Windows of two arms in turns, and an encoder for them; processes that read them need no torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vla.embodiment import CameraSpec
from vla.experience import Window
from vla.model.config import NanoConfig, VlaConfig, fit_to
from vla.training.fake import FakeWindows, fake_embodiment
from vla.window_batch import WindowBatch, batched

if TYPE_CHECKING:
    from vla.model.encode import Encoder


class Arms(FakeWindows):
    """Every third window is of a second arm with another camera size and one camera more; some lack a picture."""

    def __init__(self):
        super().__init__(count=12)
        cameras = (CameraSpec("a", 32, 32), CameraSpec("b", 48, 48, role="wrist"))
        self.__dict__["twin"] = FakeWindows(count=6, spec=replace(fake_embodiment("twin"), cameras=cameras))

    @property
    def specs(self) -> Any:
        return (self.spec, self.__dict__["twin"].spec)

    def __getitem__(self, index: int) -> Window:
        if index % 3 < 2:
            return super().__getitem__(index)
        window = self.__dict__["twin"][index]
        images = {name: image for name, image in window.observation.images.items() if index % 2 or name == "b"}
        return replace(window, observation=replace(window.observation, images=images))

    def batch(self, indices: Sequence[int]) -> list[WindowBatch]:
        return batched([self[index] for index in indices])


def encoder_of(source: Any, side: int = 32) -> "Encoder":
    """Normalises with the statistics of made-up numbers."""
    from vla.model.encode import Encoder
    from vla.training.prepare import make_text

    config = fit_to(VlaConfig(NanoConfig(image_size=side, vocabulary=64), horizon=8), source.specs)
    statistics = {spec.name: next(iter(FakeWindows(count=9, spec=spec).statistics().values())) for spec in source.specs}
    return Encoder(config, source.specs, statistics, make_text(config, ["reach"]), side)
