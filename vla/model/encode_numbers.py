"""The part of the model's border that needs neither a tokenizer nor torch: numbers normalised, pictures by slot.

Processes that read data for a training have only this part, and so hold some 30 MB instead of 250.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from vla.embodiment import EmbodimentSpec, Role
from vla.errors import SpecMismatch, StatisticsMissing, UnknownName
from vla.model.config import Fit, HfConfig, VlaConfig, distinct_specs
from vla.model.pictures import fitted
from vla.normalize import Normalize, Statistics


@dataclass(frozen=True)
class Numbers:
    """The normalisations of one embodiment and its cameras by slot (None: it has no such view)."""

    spec: EmbodimentSpec
    state: Normalize
    action: Normalize
    cameras: tuple[str | None, ...]


class NumberEncoder:
    """Encodes numbers and pictures for one model.

    Args:
        config: fitted to ``specs``.
        specs: the embodiments; repeats are allowed.
        statistics: by embodiment name.
        image_size: of the backbone.

    Raises:
        StatisticsMissing: of an embodiment or of one of its channels.
        SpecMismatch: an embodiment has other channels than the config was fitted to.
    """

    def __init__(
        self,
        config: VlaConfig,
        specs: Sequence[EmbodimentSpec],
        statistics: Mapping[str, Statistics],
        image_size: int,
    ):
        self.config, self.image_size = config, image_size
        self.fit: Fit = config.backbone.fit if isinstance(config.backbone, HfConfig) else "stretch"
        self.statistics = dict(statistics)
        self.specs = distinct_specs(specs)
        fitted = [(body.name, body.state, body.action) for body in config.bodies]
        given = [(spec.name, len(spec.state), spec.action.size) for spec in self.specs]
        if fitted != given:
            lines = [f"(name, state size, action size): {given} here, {fitted} in the model"]
            raise SpecMismatch(lines, have="the data", want="the model")
        self.numbers = tuple(self._numbers(spec) for spec in self.specs)

    def without_words(self) -> "NumberEncoder":
        """Only this part of a larger encoder: it can go to a process that has no torch."""
        return NumberEncoder(self.config, self.specs, self.statistics, self.image_size)

    def index(self, name: str) -> int:
        """Number of an embodiment.

        Raises:
            UnknownName: the model does not know it.
        """
        names = [spec.name for spec in self.specs]
        if name not in names:
            raise UnknownName("embodiment of this model", name, names)
        return names.index(name)

    def pictures(
        self, body: int, images: Mapping[str, np.ndarray]
    ) -> tuple[UInt8[np.ndarray, "c h w 3"], Bool[np.ndarray, "c"]]:
        """One picture for each slot at the backbone's size; missing ones are 0 and masked."""
        return slot_pictures(self.numbers[body].cameras, self.image_size, images, self.fit)

    def state(self, body: int, state: Float32[np.ndarray, "*n s"]) -> Float32[np.ndarray, "*n padded"]:
        """Normalised, then padded with zeros."""
        return _pad(self.numbers[body].state.encode(state), self.config.state_size)

    def actions(self, body: int, actions: Float32[np.ndarray, "*n a"]) -> Float32[np.ndarray, "*n padded"]:
        """Normalised, then padded with zeros."""
        return _pad(self.numbers[body].action.encode(actions), self.config.action_size)

    def decode(self, body: int, actions: Float32[np.ndarray, "*n padded"]) -> Float32[np.ndarray, "*n a"]:
        """Raw units again. A gripper cannot be more open than open: its numbers are clipped to its two ends."""
        numbers = self.numbers[body]
        raw = numbers.action.decode(actions[..., : numbers.spec.action.size])
        if (gripper := numbers.spec.action.gripper) is not None:
            low, high = sorted((gripper.closed, gripper.opened))
            columns = [place for place, channel in enumerate(numbers.spec.action.channels) if channel.kind == "gripper"]
            raw[..., columns] = np.clip(raw[..., columns], low, high)
        return raw

    def _numbers(self, spec: EmbodimentSpec) -> Numbers:
        if spec.name not in self.statistics:
            present = ", ".join(sorted(self.statistics)) or "none"
            raise StatisticsMissing(f"no statistics for embodiment {spec.name!r}; there are some for {present}")
        statistics = self.statistics[spec.name]
        return Numbers(
            spec,
            Normalize.build(self.config.state_norm, statistics, spec.state_names),
            Normalize.build(self.config.action_norm, statistics, spec.action.names),
            camera_slots(spec, self.config.cameras),
        )


def camera_slots(spec: EmbodimentSpec, roles: Sequence[Role]) -> tuple[str | None, ...]:
    """For each role the name of the first camera that has it, or None."""
    by_role = {camera.role: camera.name for camera in reversed(spec.cameras)}
    return tuple(by_role.get(role) for role in roles)


def slot_pictures(
    slots: Sequence[str | None], side: int, images: Mapping[str, np.ndarray], fit: Fit = "stretch"
) -> tuple[UInt8[np.ndarray, "c side side 3"], Bool[np.ndarray, "c"]]:
    """One picture for each slot, resized; missing ones are 0, and False in the mask."""
    pictures = np.zeros((len(slots), side, side, 3), dtype=np.uint8)
    present = np.zeros(len(slots), dtype=bool)
    for slot, name in enumerate(slots):
        if name is not None and name in images:
            pictures[slot], present[slot] = fitted(images[name], side, fit), True
    return pictures, present


def _pad(values: Float32[np.ndarray, "*n c"], size: int) -> Float32[np.ndarray, "*n padded"]:
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])])
