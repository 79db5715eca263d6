"""Synthetic episodes of an arm that does what it is told, to plant defects in; and a source that holds them."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from vla import rotation
from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.experience import Episode
from vla.quirks import Quirk

RATE = 20.0
SPEC = EmbodimentSpec(
    name="fake_arm",
    state=(
        *(Channel(name, "m", "position", -2.0, 2.0) for name in "xyz"),
        *(Channel(name, "rad", "rotation") for name in ("rx", "ry", "rz")),
        Channel("finger", "m", "gripper", -0.001, 0.041),
    ),
    state_rotation="axis_angle",
    action=ActionSpec(
        channels=(
            *(Channel(name, "m", "position", -0.05, 0.05) for name in ("dx", "dy", "dz")),
            *(Channel(name, "rad", "rotation", -0.5, 0.5) for name in ("drx", "dry", "drz")),
            Channel("gripper", "1", "gripper", 0.0, 1.0),
        ),
        mode="delta",
        frame="base",
        rotation="axis_angle",
        gripper=Gripper(),
        rate=RATE,
    ),
    cameras=(CameraSpec("front", 32, 32, "upright", "primary"), CameraSpec("wrist", 32, 32, "upright", "wrist")),
)


@dataclass
class Fake:
    """A source whose episodes are in memory."""

    episodes: list[Episode]
    quirks: tuple[Quirk, ...] = ()
    content: str = "0"

    @property
    def spec(self):
        return self.episodes[0].spec

    @property
    def lengths(self):
        return np.array([len(episode) for episode in self.episodes])

    def __len__(self):
        return len(self.episodes)

    def __getitem__(self, index):
        return self.episodes[index]


def smooth(rng, steps, width, size):
    """Motion that comes and goes within half a second."""
    raw = rng.normal(size=(steps + 12, width))
    window = np.hanning(9)
    return size * np.stack(
        [np.convolve(raw[:, i], window / window.sum(), "valid")[:steps] for i in range(width)], axis=1
    )


def recording(seed, *, steps=120, spec=SPEC, noise=2e-4, pictures=True):
    """One clean episode: the state carries out every action within its step, with a little noise of the sensor."""
    rng = np.random.default_rng(seed)
    action = np.zeros((steps, 7))
    action[:, :3] = np.clip(smooth(rng, steps, 3, 0.03), -0.05, 0.05)
    action[:, 3:6] = np.clip(smooth(rng, steps, 3, 0.06), -0.5, 0.5)
    opened = np.ones(steps)
    opened[steps // 3 : 2 * steps // 3] = 0.0
    action[:, 6] = opened
    position = np.array([0.3, 0.0, 0.2]) + np.concatenate([np.zeros((1, 3)), np.cumsum(action[:-1, :3], axis=0)])
    matrices = [rotation.to_matrix(np.array([0.3, 0.1, -0.2]), "axis_angle")]
    for turn in rotation.to_matrix(action[:-1, 3:6], "axis_angle"):
        matrices.append(turn @ matrices[-1])
    angle = rotation.from_matrix(np.array(matrices), "axis_angle")
    finger = [0.04]
    for target in opened[:-1]:
        finger.append(finger[-1] + 0.3 * (0.04 * target - finger[-1]))
    state = np.column_stack([position, angle, finger])
    state[:, :6] += rng.normal(scale=noise, size=(steps, 6))
    images = {}
    if not pictures:
        spec = dataclasses.replace(spec, cameras=())
    else:
        scene = rng.integers(40, 220, (2, 32, 32, 3))
        moving = np.clip(scene[:, None] + 3 * np.arange(steps)[None, :, None, None, None] % 35, 0, 255)
        images = {"front": list(moving[0].astype(np.uint8)), "wrist": list(moving[1].astype(np.uint8))}
    return Episode(
        spec=spec,
        state=state.astype(np.float32),
        action=action.astype(np.float32),
        images=images,
        time=np.arange(steps) / RATE,
        instruction="move the cup",
        source=f"fake[{seed}]",
    )


def clean(count=6, **options):
    """A set without a defect."""
    return [recording(seed, **options) for seed in range(count)]


def changed(episode, **fields):
    """The episode with other columns."""
    return dataclasses.replace(episode, **fields)


def lagging(episode, lag):
    """The same recording with the action moved against the state, ``lag`` > 0: the state follows so much later."""
    steps = len(episode) - abs(lag)
    return changed(
        episode,
        state=episode.state[max(0, -lag) :][:steps],
        action=episode.action[max(0, lag) :][:steps],
        time=episode.time[:steps],
        images={name: frames[max(0, -lag) :][:steps] for name, frames in episode.images.items()},
    )


GR1 = """
robot = "gr1"
rate = 20.0
instruction = "annotation.human.action.task_description"

[state]
columns = [{{ field = "observation.state", channels = "{state}" }}]

[action]
mode = "absolute"
frame = "joint"
columns = [{{ field = "action", channels = "{action}" }}]

[[cameras]]
name = "ego_view"
field = "observation.images.ego_view"
role = "primary"

[[cameras]]
name = "egoview"
field = "observation.images.egoview"
"""


def gr1_toml():
    """What the numbers of the GR1 sample mean."""
    names = {part: " ".join(f"{part}_{i}" for i in range(44)) for part in ("joint", "joint_target")}
    return GR1.format(state=names["joint"], action=names["joint_target"])
