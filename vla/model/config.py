"""What a model is, as frozen values that a checkpoint stores as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

from vla.embodiment import EmbodimentSpec, Role
from vla.errors import ConfigError
from vla.model.backbone_config import (
    BACKBONE_CONFIGS,
    BackboneConfig,
    Fit,
    HfConfig,
    LoraConfig,
    NanoConfig,
    OfflineConfig,
)
from vla.model.head_config import HEAD_CONFIGS, MEAN_STD, FlowConfig, HeadConfig, WordConfig
from vla.normalize import NormalizeSpec

__all__ = [
    "BodyShape",
    "CAMERA_SLOTS",
    "ExpertConfig",
    "Fit",
    "HfConfig",
    "LoraConfig",
    "NanoConfig",
    "OfflineConfig",
    "VlaConfig",
    "distinct_specs",
    "fit_to",
]

CAMERA_SLOTS: tuple[Role, ...] = ("primary", "wrist", "secondary")
"""Pictures enter by what they show, so that data sets with different camera names share an input."""

STATE = replace(MEAN_STD, clip=5.0)


@dataclass(frozen=True)
class ExpertConfig:
    """The action expert: own weights for each of the backbone's layers, own width.

    Three published experts as values of these fields (see ``vla.model.presets``):

    =============  ==========  ========  =====  ===========  ======  ======
    .              norm        state     joint  activation   causal  places
    =============  ==========  ========  =====  ===========  ======  ======
    pi0            gemma       token     1      gelu         no      no
    pi0.5          adaptive    prompt    1      gelu         no      no
    SmolVLA        llama       prefix    2      silu         yes     no
    =============  ==========  ========  =====  ===========  ======  ======

    Attributes:
        width: of its tokens.
        mlp: hidden units of its gated feed-forward part.
        heads: query heads; None for as many as the backbone has.
        norm: before each part. ``adaptive``: RMSNorm that the flow's time scales, shifts and gates (pi0.5). ``gemma``
            (gain 1 + w) and ``llama`` (gain w) are plain, and an MLP fuses the time into the action tokens (pi0).
        epsilon: of the norms.
        activation: of the feed-forward part; ``gelu`` in its tanh form.
        state: where the state enters: as the expert's first token, as the last token of the backbone's prefix, written
            out in the prompt, or nowhere (``absent``).
        joint_every: layer i attends to the prefix and the expert's own tokens together if i is a multiple of this;
            the other layers attend to the prefix alone, through projections of their own. 1: every layer is joint.
        causal: an action sees earlier actions only.
        places: each action of a chunk has a learned position beside the rotary one.

    Raises:
        ConfigError: a setting is out of its range.
    """

    width: int = 128
    mlp: int = 256
    heads: int | None = None
    norm: Literal["adaptive", "gemma", "llama"] = "adaptive"
    epsilon: float = 1e-6
    activation: Literal["gelu", "silu"] = "gelu"
    state: Literal["token", "prefix", "prompt", "absent"] = "token"
    joint_every: int = 1
    causal: bool = False
    places: bool = True

    def __post_init__(self):
        if self.width % 2 or self.width < 2 or self.joint_every < 1:
            raise ConfigError(f"expert: width {self.width} must be even and joint_every {self.joint_every} at least 1")


@dataclass(frozen=True)
class BodyShape:
    """How many state and action channels an embodiment really has."""

    name: str
    state: int
    action: int


@dataclass(frozen=True)
class VlaConfig:
    """A whole model; ``bodies`` and ``cameras`` come from the data (:func:`fit_to`).

    Attributes:
        backbone: see there.
        expert: see there.
        horizon: actions in a chunk.
        head: how actions are made; see there.
        insulate: the head's gradient stops at the cache (knowledge insulation).
        recompute: activations of the layers are computed again in the backward pass instead of kept in memory.
        backbone_loss: actions as words that the backbone learns to write beside the head, in training only.
        padded: sizes that state and action are padded to; the padding takes part in the flow as noise (pi0, whose
            chunks always have 32 numbers). None: the largest embodiment's, and padding stays zero.
        bodies: embodiments in the order that ``Inputs.embodiment`` counts.
        cameras: roles in the order of ``Inputs.images``.
        state_norm: rule for states; clipped, because a policy may meet what the data never showed.

    Raises:
        ConfigError: two settings exclude each other, or an embodiment does not fit into ``padded``.
    """

    backbone: BackboneConfig
    expert: ExpertConfig = ExpertConfig()
    horizon: int = 12
    head: HeadConfig = field(default_factory=FlowConfig)
    insulate: bool = False
    recompute: bool = False
    backbone_loss: WordConfig | None = None
    padded: tuple[int, int] | None = None
    bodies: tuple[BodyShape, ...] = ()
    cameras: tuple[Role, ...] = ()
    state_norm: NormalizeSpec = STATE

    def __post_init__(self):
        words = isinstance(self.head, WordConfig)
        if words and (self.insulate or self.backbone_loss is not None):
            raise ConfigError(f"the {self.head.kind} head is the backbone's own: nothing to insulate or to add")
        if self.backbone_loss is not None and self.backbone_loss.action_norm != self.head.action_norm:
            raise ConfigError("head and backbone_loss must normalise actions alike: -1..1, as words need")

    @property
    def action_norm(self) -> NormalizeSpec:
        """Rule for actions: the head's."""
        return self.head.action_norm

    @property
    def action_words(self) -> int:
        """Words of the backbone's vocabulary that stand for actions."""
        return max((part.words for part in (self.head, self.backbone_loss) if isinstance(part, WordConfig)), default=0)

    @property
    def state_size(self) -> int:
        """Of the padded state."""
        largest = max((body.state for body in self.bodies), default=0)
        return largest if self.padded is None else _at_least(self.padded[0], largest, "state")

    @property
    def action_size(self) -> int:
        """Of the padded action."""
        largest = max((body.action for body in self.bodies), default=0)
        return largest if self.padded is None else _at_least(self.padded[1], largest, "action")

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :meth:`from_json` reads back to an equal config."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "VlaConfig":
        """The config that :meth:`to_json` wrote.

        Raises:
            ConfigError: a field is missing or unknown, or has a value that it cannot have.
        """
        try:
            fields = dict(value)
            fields["state_norm"] = _norm(fields["state_norm"])
            fields["head"] = _head(fields["head"])
            fields["backbone_loss"] = None if fields["backbone_loss"] is None else _head(fields["backbone_loss"])
            fields["backbone"] = _whole(BACKBONE_CONFIGS[fields["backbone"]["kind"]], _with_lora(fields["backbone"]))
            fields["expert"] = _whole(ExpertConfig, fields["expert"])
            fields["padded"] = None if fields["padded"] is None else tuple(fields["padded"])
            fields["bodies"] = tuple(_whole(BodyShape, body) for body in fields["bodies"])
            fields["cameras"] = tuple(fields["cameras"])
            return _whole(cls, fields)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"model config: {error} does not fit its fields") from error


def _at_least(size: int, needed: int, what: str) -> int:
    if size < needed:
        raise ConfigError(f"model config: padded {what} of {size} numbers, but an embodiment has {needed}")
    return size


def _head(value: Mapping[str, Any]) -> Any:
    return _whole(HEAD_CONFIGS[value["kind"]], {**value, "action_norm": _norm(value["action_norm"])})


def _with_lora(backbone: Mapping[str, Any]) -> dict[str, Any]:
    lora = backbone.get("lora")
    if lora is None:
        return dict(backbone)
    return {**backbone, "lora": _whole(LoraConfig, {**lora, "targets": tuple(lora["targets"])})}


def _norm(value: Mapping[str, Any]) -> NormalizeSpec:
    return _whole(NormalizeSpec, {**value, "skip": tuple(value["skip"])})


def _whole[T](kind: type[T], fields: Mapping[str, Any]) -> T:
    """The value with exactly these fields: what a file leaves out is not for today's defaults to fill in.

    A word that is none of those that the field knows is no other word either.
    """
    wanted = {field.name: field.type for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    if fields.keys() != wanted.keys():
        raise KeyError(f"{', '.join(sorted(wanted.keys() ^ fields.keys()))} of {kind.__name__}")
    for name, hint in wanted.items():
        if get_origin(hint) is Literal and fields[name] not in get_args(hint):
            raise ConfigError(f"{kind.__name__}: {name} {fields[name]!r} is none of {', '.join(get_args(hint))}")
    return kind(**fields)


def fit_to(config: VlaConfig, specs: Sequence[EmbodimentSpec]) -> VlaConfig:
    """The config for these embodiments: their channel counts, and the camera slots that any of them fills.

    Raises:
        ConfigError: there is none, or one name stands for two different embodiments.
    """
    distinct = distinct_specs(specs)
    roles = {camera.role for spec in distinct for camera in spec.cameras}
    return replace(
        config,
        bodies=tuple(BodyShape(spec.name, len(spec.state), spec.action.size) for spec in distinct),
        cameras=tuple(role for role in CAMERA_SLOTS if role in roles),
    )


def distinct_specs(specs: Sequence[EmbodimentSpec]) -> tuple[EmbodimentSpec, ...]:
    """Each embodiment once, in the order of first appearance.

    Raises:
        ConfigError: there is none, or one name stands for two different embodiments.
    """
    found: dict[str, EmbodimentSpec] = {}
    for spec in specs:
        if found.setdefault(spec.name, spec).fingerprint != spec.fingerprint:
            raise ConfigError(f"two different embodiments are both named {spec.name!r}; give one of them another name")
    if not found:
        raise ConfigError("a model needs at least one embodiment")
    return tuple(found.values())
