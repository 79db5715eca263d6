"""Conversions between two specs, in pairs that undo each other, and the adapter that joins a policy to a body.

:func:`connect` compares what a body provides with what a policy wants, inserts the conversions that exist
(channel order, scale, gripper numbers, rotation form, picture size and orientation) and raises
:class:`~vla.errors.SpecMismatch` for everything else, before anything moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image as PilImage

from vla import mounting, rotation
from vla.embodiment import ROTATION_SIZE, ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper, RotationForm
from vla.errors import SpecMismatch
from vla.experience import ActionChunk, Image, Observation

_AXES = {"upright": (1, 1), "mirrored": (1, -1), "flipped": (-1, 1), "turned_180": (-1, -1)}


@dataclass(frozen=True)
class _RotationBlock:
    """Columns of one rotation in the source and in the target vector."""

    source: slice
    target: slice
    source_form: RotationForm
    target_form: RotationForm
    source_scale: np.ndarray
    target_scale: np.ndarray


@dataclass(frozen=True)
class VectorMap:
    """One list of channels as another: ``target = source[index] * gain + offset``, rotations apart.

    Attributes:
        index: for each target channel the source column.
        gain: for each target channel.
        offset: for each target channel.
        rotations: the rotations whose form changes.
        notes: one line for each conversion that changes numbers.
    """

    index: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    rotations: tuple[_RotationBlock, ...]
    notes: tuple[str, ...]

    def __call__(self, values: Float[np.ndarray, "*batch source"]) -> Float32[np.ndarray, "*batch target"]:
        """The same quantities in the target's channels."""
        values = np.asarray(values)
        result = values[..., self.index] * self.gain + self.offset
        for block in self.rotations:
            physical = values[..., block.source] * block.source_scale
            converted = rotation.convert(physical, block.source_form, block.target_form)
            result[..., block.target] = converted / block.target_scale
        return result.astype(np.float32)


def vector_map(
    source: Sequence[Channel],
    target: Sequence[Channel],
    *,
    source_rotation: RotationForm | None = None,
    target_rotation: RotationForm | None = None,
    source_gripper: Gripper | None = None,
    target_gripper: Gripper | None = None,
) -> tuple[VectorMap, list[str]]:
    """The map from one list of channels to another, and what stands in its way.

    Channels are matched by name; rotations whose forms differ are matched one by one in their order. Source channels
    that the target does not ask for are left out.

    Returns:
        the map (to be used only if there are no differences) and one line for each difference.
    """
    differences: list[str] = []
    notes: list[str] = []
    places = {channel.name: place for place, channel in enumerate(source)}
    index = np.zeros(len(target), dtype=np.intp)
    gain = np.ones(len(target))
    offset = np.zeros(len(target))
    blocks: list[_RotationBlock] = []
    same_form = source_rotation == target_rotation
    for place, wanted in enumerate(target):
        if wanted.kind == "rotation" and not same_form:
            continue
        if wanted.name not in places:
            differences.append(f"channel {wanted.name!r} [{wanted.unit}] is not among {', '.join(places) or 'none'}")
            continue
        given = source[places[wanted.name]]
        if (given.unit, given.kind) != (wanted.unit, wanted.kind):
            differences.append(
                f"channel {wanted.name!r} is {given.kind} [{given.unit}] here, {wanted.kind} [{wanted.unit}] there"
            )
            continue
        index[place] = places[wanted.name]
        gain[place] = given.scale / wanted.scale
        if wanted.kind == "gripper" and source_gripper and target_gripper:
            gain[place], offset[place] = _gripper_affine(source_gripper, target_gripper)
            if source_gripper != target_gripper:
                notes.append(f"{wanted.name}: {source_gripper} to {target_gripper}")
        elif gain[place] != 1.0:
            notes.append(f"{wanted.name}: scaled by {gain[place]:g}")
    if not same_form:
        blocks, found = _rotation_blocks(source, target, source_rotation, target_rotation)
        differences += found
        notes += [f"rotation: {source_rotation} to {target_rotation}" for _ in blocks]
    if any(index[place] != place for place in range(len(target)) if target[place].kind != "rotation" or same_form):
        notes.append("channels reordered or left out")
    return VectorMap(index, gain, offset, tuple(blocks), tuple(notes)), differences


def action_map(source: ActionSpec, target: ActionSpec) -> VectorMap:
    """The map from actions of one spec to actions of another, which must have the same channels, mode and frame.

    Raises:
        SpecMismatch: something differs that no conversion exists for.
    """
    result, differences = _action_map(source, target)
    if differences:
        raise SpecMismatch(differences, have="the target action", want="the source action")
    return result


def reorient(image: Image, source: CameraSpec, target: CameraSpec) -> Image:
    """The picture as the target camera stores it: turned or mirrored, then resized (bilinear, antialiased)."""
    rows, columns = (a * b for a, b in zip(_AXES[source.orientation], _AXES[target.orientation], strict=True))
    return resize(image[::rows, ::columns], target.height, target.width)


def resize(image: Image, height: int, width: int) -> Image:
    """The picture at another size, aspect ratio not kept; unchanged if the size is right already."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    picture = PilImage.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), PilImage.Resampling.BILINEAR))


def pad_to(image: Image, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """The picture scaled to fit and centred on black, aspect ratio kept (as openpi's ``resize_with_pad``)."""
    ratio = max(image.shape[0] / height, image.shape[1] / width)
    inner = resize(image, max(1, int(image.shape[0] / ratio)), max(1, int(image.shape[1] / ratio)))
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    result = np.zeros((height, width, 3), dtype=np.uint8)
    result[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return result


def to_delta(
    pose: Float[np.ndarray, "*batch n"], target: Float[np.ndarray, "*batch n"], form: RotationForm
) -> Float[np.ndarray, "*batch n"]:
    """The change from ``pose`` to ``target``; both are position [m], then rotation in ``form``, base frame."""
    turn = rotation.to_matrix(target[..., 3:], form) @ np.swapaxes(rotation.to_matrix(pose[..., 3:], form), -1, -2)
    return np.concatenate([target[..., :3] - pose[..., :3], rotation.from_matrix(turn, form)], axis=-1)


def to_absolute(
    pose: Float[np.ndarray, "*batch n"], delta: Float[np.ndarray, "*batch n"], form: RotationForm
) -> Float[np.ndarray, "*batch n"]:
    """The pose that ``delta`` leads to from ``pose``; undoes :func:`to_delta`."""
    turned = rotation.to_matrix(delta[..., 3:], form) @ rotation.to_matrix(pose[..., 3:], form)
    return np.concatenate([pose[..., :3] + delta[..., :3], rotation.from_matrix(turned, form)], axis=-1)


@dataclass(frozen=True)
class Adapter:
    """Joins a policy to a body: observations one way, chunks the other.

    Attributes:
        body: what is provided.
        policy: what is wanted.
        state: body state to policy state.
        action: policy action to body action.
        notes: one line for each conversion inserted; empty if the two are alike.
    """

    body: EmbodimentSpec
    policy: EmbodimentSpec
    state: VectorMap
    action: VectorMap
    notes: tuple[str, ...]

    def observation(self, observation: Observation) -> Observation:
        """The body's observation as the policy wants it."""
        images = {
            camera.name: reorient(observation.images[camera.name], self.body.camera(camera.name), camera)
            for camera in self.policy.cameras
        }
        return replace(observation, images=images, state=self.state(observation.state))

    def chunk(self, chunk: ActionChunk) -> ActionChunk:
        """The policy's chunk as the body takes it."""
        return replace(chunk, actions=self.action(chunk.actions))


def connect(body: EmbodimentSpec, policy: EmbodimentSpec) -> Adapter:
    """The adapter between a body and a policy.

    Raises:
        SpecMismatch: a channel, a camera, the mode, the frame, the rate, the tool centre point or the base frame
            differs and no conversion exists.
    """
    state, differences = vector_map(
        body.state, policy.state, source_rotation=body.state_rotation, target_rotation=policy.state_rotation
    )
    differences = [f"state: {line}" for line in differences]
    action, found = _action_map(policy.action, body.action)
    differences += [f"action: {line}" for line in found]
    notes = [f"state: {line}" for line in state.notes] + [f"action: {line}" for line in action.notes]
    provided = set(body.camera_names)
    for camera in policy.cameras:
        if camera.name not in provided:
            differences.append(f"camera {camera.name!r} is not among {', '.join(body.camera_names) or 'none'}")
            continue
        given = body.camera(camera.name)
        if given.orientation != camera.orientation:
            notes.append(f"camera {camera.name}: {given.orientation} to {camera.orientation}")
        if (given.height, given.width) != (camera.height, camera.width):
            notes.append(f"camera {camera.name}: {given.height}x{given.width} to {camera.height}x{camera.width}")
    differences += mounting.differences(body, policy)
    if differences:
        raise SpecMismatch(differences, have=f"the body {body.name!r}", want=f"the policy for {policy.name!r}")
    return Adapter(body, policy, state, action, (*notes, *mounting.moved_cameras(body, policy)))


def _action_map(source: ActionSpec, target: ActionSpec) -> tuple[VectorMap, list[str]]:
    result, differences = vector_map(
        source.channels,
        target.channels,
        source_rotation=source.rotation,
        target_rotation=target.rotation,
        source_gripper=source.gripper,
        target_gripper=target.gripper,
    )
    kinds = {"rotation"} if source.rotation != target.rotation else set()
    names = {channel.name for channel in target.channels}
    for channel in source.channels:
        if channel.kind not in kinds and channel.name not in names:
            differences.append(f"channel {channel.name!r} would be dropped: it is not among {', '.join(sorted(names))}")
    for field in ("mode", "frame"):
        ours, theirs = getattr(source, field), getattr(target, field)
        if ours != theirs:
            differences.append(f"{field} is {ours!r} here, {theirs!r} there")
    if not np.isclose(source.rate, target.rate, rtol=1e-3):
        differences.append(f"rate is {source.rate:g} Hz here, {target.rate:g} Hz there")
    return result, differences


def _gripper_affine(source: Gripper, target: Gripper) -> tuple[float, float]:
    gain = (target.opened - target.closed) / (source.opened - source.closed)
    return gain, target.closed - gain * source.closed


def _rotation_blocks(
    source: Sequence[Channel],
    target: Sequence[Channel],
    source_form: RotationForm | None,
    target_form: RotationForm | None,
) -> tuple[list[_RotationBlock], list[str]]:
    """Pairs of rotations whose form changes, and why some cannot be paired."""
    if target_form is None:
        return [], []  # nobody asks for the source's rotations
    if source_form is None:
        return [], [f"rotation in {target_form} is wanted, there is none"]
    if target_form == "axis_angle_2pi":
        return [], [f"rotation {source_form} does not determine {target_form}"]
    given, wanted = _rotation_slices(source, source_form), _rotation_slices(target, target_form)
    if len(given) != len(wanted):
        return [], [f"{len(wanted)} rotations are wanted, there are {len(given)}"]
    differences = [
        f"rotation channels {', '.join(names)} are not in the order x, y, z, so their form cannot be converted"
        for channels, slices, form in ((source, given, source_form), (target, wanted, target_form))
        for names in ([channel.name for channel in channels[place]] for place in slices)
        if ROTATION_SIZE[form] == 3 and [name[-1] for name in names] != ["x", "y", "z"]
    ]
    blocks = [
        _RotationBlock(
            ours,
            theirs,
            source_form,
            target_form,
            np.array([channel.scale for channel in source[ours]]),
            np.array([channel.scale for channel in target[theirs]]),
        )
        for ours, theirs in zip(given, wanted, strict=True)
    ]
    return blocks, differences


def _rotation_slices(channels: Sequence[Channel], form: RotationForm) -> list[slice]:
    places = [place for place, channel in enumerate(channels) if channel.kind == "rotation"]
    size = ROTATION_SIZE[form]
    return [slice(places[start], places[start] + size) for start in range(0, len(places), size)]
