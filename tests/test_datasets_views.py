"""Views over sources: what they keep, what they refuse, and the published no-op filter against its own few lines."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.views import Chosen, Concatenated, Converted, WithoutNoops, kept_steps, spec_differences
from vla.embodiment import EmbodimentSpec, Gripper
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, SpecMismatch
from vla.experience import Episode
from vla.protocols import EpisodeSource

SPEC = libero_panda(8)
RAW = dataclasses.replace(
    SPEC,
    action=dataclasses.replace(
        SPEC.action,
        channels=tuple(
            dataclasses.replace(channel, scale={"m": 0.05, "rad": 0.5}.get(channel.unit, 1.0))
            for channel in SPEC.action.channels
        ),
    ),
)


@dataclasses.dataclass
class InMemory:
    spec: EmbodimentSpec
    episodes: list[Episode]
    content: str = "0"
    quirks: tuple = ()

    @property
    def lengths(self):
        return np.array([len(episode) for episode in self.episodes], np.int64)

    def __len__(self):
        return len(self.episodes)

    def __getitem__(self, index):
        return self.episodes[index]


def source(lengths=(3, 4, 2), spec=SPEC, seed=0) -> InMemory:
    rng = np.random.default_rng(seed)
    episodes = [
        Episode(
            spec,
            rng.normal(size=(steps, len(spec.state))).astype(np.float32),
            rng.normal(size=(steps, spec.action.size)).astype(np.float32),
            {c.name: list(rng.integers(0, 256, (steps, c.height, c.width, 3), np.uint8)) for c in spec.cameras},
            np.arange(steps) / 20,
            f"{seed}.{number}",
        )
        for number, steps in enumerate(lengths)
    ]
    return InMemory(spec, episodes, str(seed))


def test_chosen():
    view = Chosen(source(), (2, 0))
    assert isinstance(view, EpisodeSource)
    assert [episode.instruction for episode in (view[0], view[1])] == ["0.2", "0.0"]
    assert view.lengths.tolist() == [2, 3] and len(view) == 2
    assert view.content != Chosen(source(), (0, 2)).content
    with pytest.raises(ConfigError, match="episode 3 is not there: the source has 3"):
        Chosen(source(), (3,))


def test_concatenated():
    view = Concatenated((source(), source((5,), seed=1), source((1, 1), seed=2)))
    assert isinstance(view, EpisodeSource)
    assert [view[index].instruction for index in range(len(view))] == ["0.0", "0.1", "0.2", "1.0", "2.0", "2.1"]
    assert view[-1].instruction == "2.1" and view.lengths.tolist() == [3, 4, 2, 5, 1, 1]
    with pytest.raises(IndexError):
        view[6]


def test_a_mismatch_lists_the_differing_channels():
    channels = list(SPEC.action.channels)
    channels[0] = dataclasses.replace(channels[0], name="forward")
    action = dataclasses.replace(SPEC.action, channels=tuple(channels), gripper=Gripper(1.0, -1.0), rate=10.0)
    other = dataclasses.replace(SPEC, action=action, cameras=SPEC.cameras[:1])
    with pytest.raises(SpecMismatch) as caught:
        Concatenated((source(), source(spec=other)))
    text = "\n".join(caught.value.differences)
    for line in (
        "action 'dx' is only in the first",
        "action 'forward' is only in the second",
        "camera 'robot0_eye_in_hand' is only in the first",
        "action rate: 20.0 in the first, 10.0 in the second",
        "action gripper: ",
    ):
        assert line in text
    assert not spec_differences(SPEC, libero_panda(8))
    turned = dataclasses.replace(SPEC, cameras=tuple(reversed(SPEC.cameras)))
    assert spec_differences(SPEC, turned) == [
        "camera: in order agentview, robot0_eye_in_hand in the first, robot0_eye_in_hand, agentview in the second"
    ]


def published(actions: np.ndarray) -> list[int]:
    """OpenVLA's rule on LIBERO's raw actions, as its text has it: step by step against the last action kept."""
    kept: list[int] = []
    for step, action in enumerate(actions):
        small = np.linalg.norm(action[:6]) < 1e-4
        if small and (not kept or action[6] == actions[kept[-1]][6]):
            continue
        kept.append(step)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_noops_as_published(seed, steps):
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, 7)) * rng.choice([0, 3e-5, 1], (steps, 1))
    actions[:, 6] = rng.choice([-1, 1], steps)
    actions = actions.astype(np.float32)
    assert kept_steps(actions, RAW.action).tolist() == published(actions)
    metres = actions * np.array([0.05] * 3 + [0.5] * 3 + [1], np.float32)
    metric = dataclasses.replace(
        RAW.action, channels=tuple(dataclasses.replace(channel, scale=1.0) for channel in RAW.action.channels)
    )
    assert kept_steps(metres, metric).tolist() == published(actions)


def test_noops_leave_times_and_pictures_with_their_steps():
    plain = source((4, 2), RAW)
    action = plain.episodes[0].action.copy()
    action[1:3] = [0, 0, 0, 0, 0, 0, action[0, 6]]
    plain.episodes[0] = dataclasses.replace(plain.episodes[0], action=action)
    still = np.zeros_like(plain.episodes[1].action)
    plain.episodes[1] = dataclasses.replace(plain.episodes[1], action=still)
    view = WithoutNoops(plain)
    assert isinstance(view, EpisodeSource)
    assert len(view) == 1 and view.lengths.tolist() == [2]  # nothing is left of the second
    assert view[0].time.tolist() == [0, 3 / 20]
    assert np.array_equal(view[0].images["agentview"][1], plain[0].images["agentview"][3])


def test_noops_are_known_for_changes_of_pose_only():
    absolute = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, mode="absolute"))
    with pytest.raises(ConfigError, match="no-ops are known only for changes"):
        WithoutNoops(source(spec=absolute))


def test_converted_to_another_embodiment():
    channels = tuple(reversed(SPEC.state[:3])) + SPEC.state[3:]
    action = dataclasses.replace(SPEC.action, gripper=Gripper(closed=1.0, opened=-1.0))
    camera = dataclasses.replace(SPEC.cameras[0], height=4, width=6, orientation="upright")
    given_camera = dataclasses.replace(SPEC.cameras[0], orientation="turned_180")
    given_spec = dataclasses.replace(SPEC, cameras=(given_camera, SPEC.cameras[1]))
    wanted = dataclasses.replace(SPEC, state=channels, action=action, cameras=(camera, SPEC.cameras[1]))
    plain = source(spec=given_spec)
    view = Converted(plain, wanted)
    assert isinstance(view, EpisodeSource) and view.spec == wanted and view.lengths.tolist() == [3, 4, 2]
    have, want = view[1], plain[1]
    assert np.array_equal(have.state[:, :3], want.state[:, 2::-1])
    gripper = SPEC.action.gripper
    assert gripper is not None
    share = (want.action[:, 6] - gripper.closed) / (gripper.opened - gripper.closed)
    np.testing.assert_allclose(have.action[:, 6], 1 - 2 * share, atol=1e-5)
    assert have.images["agentview"][0].shape == (4, 6, 3)
    assert have.images["robot0_eye_in_hand"] is want.images["robot0_eye_in_hand"]
    same = dataclasses.replace(wanted, cameras=(dataclasses.replace(camera, height=8, width=8),))
    turned = Converted(plain, same)[1].images["agentview"][2]
    assert np.array_equal(turned, want.images["agentview"][2][::-1, ::-1])


def test_what_cannot_be_converted_is_listed():
    with pytest.raises(SpecMismatch) as caught:
        Converted(source(), bridge_widowx(("image_0",), 8, 8))
    text = "\n".join(caught.value.differences)
    assert "camera 'image_0' is not among agentview" in text and "rate" in text
