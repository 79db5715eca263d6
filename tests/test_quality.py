"""Every check fires on the defect planted for it and is silent on clean data."""

import dataclasses
import json

import numpy as np
import pytest
from fake_recordings import SPEC, Fake, changed, clean, lagging, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from vla import rotation
from vla.embodiment import Gripper, RotationForm
from vla.errors import DataError, StatisticsMissing
from vla.quality import check_source
from vla.quality_findings import Finding, Findings
from vla.quality_pictures import Sampling, blank, same
from vla.quirks import Quirk


def found(episodes, **options):
    """Findings as (check, severity, channel) to those kept."""
    quality = check_source(Fake(episodes), **options)
    return {(group.check, group.severity, group.channel): group.kept for group in quality.findings}


def only(episodes, check, severity, channel="", **options):
    """The findings, if they are of that one kind."""
    groups = found(episodes, **options)
    assert list(groups) == [(check, severity, channel)]
    return groups[check, severity, channel]


def planted(column, values, *, part="action", episode=2, count=6, **options):
    """A clean set but for some numbers of one episode; ``values`` maps steps to what is written there."""
    episodes = clean(count, **options)
    numbers = getattr(episodes[episode], part).copy()
    for steps, value in values:
        numbers[steps, column] = value
    episodes[episode] = changed(episodes[episode], **{part: numbers})
    return episodes


def test_clean_data_has_no_finding_and_grade_a():
    quality = check_source(Fake(clean()))
    assert list(quality.findings) == [] and quality.grade == "A" and quality.sound
    assert quality.measures["alignment"]["lag"] == 0
    assert quality.measures["gripper"]["gripper"]["verdict"] == "agrees"
    assert json.loads(json.dumps(quality.to_json(), allow_nan=False))["grade"] == "A"


def test_an_action_out_of_range_is_named_with_episode_and_step():
    (finding,) = only(planted(1, [(57, -69.0), (60, 2.0)], noise=0), "range", "error", "dy")[:1]
    assert (finding.episode, finding.steps) == (2, (57, 61)) and "-69 at step 57" in finding.found
    assert "-0.05 and 0.05" in finding.expected


def test_a_range_counts_in_the_units_of_its_channel():
    raw = tuple(
        dataclasses.replace(channel, scale=0.05) if channel.kind == "position" else channel
        for channel in SPEC.action.channels
    )
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, channels=raw))
    episodes = []
    for episode in clean():
        action = episode.action.copy()
        action[:, :3] /= 0.05
        episodes.append(changed(episode, spec=spec, action=action))
    assert found(episodes) == {}
    episodes[0].action[3, 0] = 1.5
    (finding,) = only(episodes, "range", "error", "dx")
    assert "1.5 at step 3" in finding.found and "between -1 and 1" in finding.expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("part", "column", "channel"), [("state", 2, "z"), ("action", 4, "dry")])
def test_numbers_that_are_not_finite(part, column, channel, value):
    groups = found(planted(column, [(10, value)], part=part))
    assert groups["finite", "error", channel][0].steps == (10, 11)
    assert {check for check, _, _ in groups} <= {"finite", "range", "jump"}


def test_a_state_that_hangs_while_motion_is_asked_for():
    episodes = planted(slice(0, 6), [(slice(40, 80), clean(3)[2].state[40, :6])], part="state")
    groups = found(episodes)
    (finding,) = groups["stuck", "error", "state"]
    assert (finding.episode, finding.steps) == (2, (40, 80))
    assert {check for check, _, _ in groups} <= {"stuck", "jump"}


def test_one_number_that_hangs():
    (finding,) = only(planted(1, [(slice(40, 70), clean(3)[2].state[40, 1])], part="state"), "stuck", "warning", "y")[
        :1
    ]
    assert finding.steps == (40, 70)


def test_actions_that_repeat():
    episodes = planted(slice(0, 6), [(slice(30, 70), clean(3)[2].action[30, :6])])
    (finding,) = found(episodes)["stuck", "warning", "action"]
    assert finding.steps == (30, 70)


def test_standing_still_is_not_stuck():
    episodes = planted(slice(0, 6), [(slice(30, 70), 0.0)])
    episodes[2].state[31:71, :6] = episodes[2].state[31, :6]
    assert not [key for key in found(episodes) if key[0] == "stuck"]


def test_a_channel_that_never_changes_is_noted():
    episodes = [changed(e, action=np.where(np.arange(7) == 4, 0.0, e.action).astype(np.float32)) for e in clean()]
    groups = found(episodes)
    assert "dry" in groups["constant", "note", ""][0].found


@given(column=st.integers(0, 2), step=st.integers(3, 110), size=st.floats(0.6, 1.5), sign=st.sampled_from([-1, 1]))
@settings(max_examples=15)
def test_a_jump_is_found_where_it_is(column, step, size, sign):
    episodes = planted(column, [], part="state", pictures=False)
    episodes[2].state[step:, column] += sign * size / 2
    groups = found(episodes)
    kept = groups["jump", "warning", "xyz"[column]]
    assert [(f.episode, f.steps) for f in kept] == [(2, (step - 1, step + 1))]


def test_a_leap_of_the_rotation_is_a_jump_but_not_one_of_its_name():
    episodes = clean(pictures=False)
    for episode in episodes:  # turned to where the axis-angle passes pi
        turned = rotation.to_matrix(np.array([0.0, 0.0, 2.9]), "axis_angle")
        matrices = turned @ rotation.to_matrix(episode.state[:, 3:6], "axis_angle")
        episode.state[:, 3:6] = rotation.from_matrix(matrices, "axis_angle")
    groups = found(episodes)
    assert ("wrap", "note", "rx") in groups and not [key for key in groups if key[0] == "jump"]
    episodes[1].state[50:, 3:6] = rotation.compose(episodes[1].state[50:, 3:6], np.array([1.5, 0, 0]), "axis_angle")
    assert ("jump", "warning", "rx rotation") in found(episodes)


def test_time_gaps_rates_and_order():
    episode = clean()[0]
    gap = changed(episode, time=episode.time + 0.5 * (np.arange(len(episode)) > 30))
    assert only([gap, *clean()[1:]], "gap", "warning")[0].steps == (30, 31)
    slow = [changed(e, time=e.time * 2) for e in clean()]
    assert "10 Hz" in only(slow, "rate", "error")[0].found
    back = changed(episode, time=np.where(np.arange(len(episode)) == 40, 0.1, episode.time))
    assert only([back, *clean()[1:]], "time", "error")[0].place == "episode 0, step 40"


@pytest.mark.parametrize("lag", [-6, -3, -2, -1, 1, 2, 3, 5, 8])
def test_a_planted_lag_is_found_as_what_it_is(lag):
    episodes = [lagging(episode, lag) for episode in clean(pictures=False)]
    quality = check_source(Fake(episodes))
    assert quality.measures["alignment"]["lag"] == lag
    (group,) = [group for group in quality.findings if group.check == "lag"]
    assert group.severity == ("error" if lag < 0 else "note" if lag <= 3 else "warning")
    assert f"best lag {lag} ({50 * lag:+d} ms)" in group.kept[0].found


def test_one_episode_that_lags():
    episodes = clean(pictures=False)
    episodes[4] = lagging(episodes[4], -5)
    (finding,) = only(episodes, "lag", "warning")
    assert finding.episode == 4 and "best lag -5" in finding.found


def absolute(episode, spec):
    """The same motion as targets."""
    action = episode.action.copy()
    action[:-1, :6] = episode.state[1:, :6]
    action[-1, :6] = episode.state[-1, :6]
    return changed(episode, spec=spec, action=action)


def test_targets_are_compared_with_the_next_state():
    channels = tuple(
        dataclasses.replace(channel, name=f"target_{channel.name[1:]}", low=-9, high=9)
        if channel.kind != "gripper"
        else channel
        for channel in SPEC.action.channels
    )
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, channels=channels, mode="absolute"))
    assert found([absolute(episode, spec) for episode in clean()]) == {}
    late = [lagging(absolute(episode, spec), 4) for episode in clean()]
    assert "best lag 4" in found(late)["lag", "warning", ""][0].found
    deltas = [changed(episode, spec=spec) for episode in clean()]
    assert "deltas" in found(deltas)["mode", "error", ""][0].found
    wide = tuple(dataclasses.replace(channel, low=-9, high=9) for channel in SPEC.action.channels)
    said = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, channels=wide))
    assert "targets" in found([absolute(episode, said) for episode in clean()])["mode", "error", ""][0].found


def test_actions_in_the_tools_frame():
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, frame="tool"))
    episodes = []
    for episode in clean():
        inverse = np.swapaxes(rotation.to_matrix(episode.state[:, 3:6], "axis_angle"), 1, 2)
        action = episode.action.copy()
        for columns in (slice(0, 3), slice(3, 6)):
            action[:, columns] = np.einsum("nij,nj->ni", inverse, episode.action[:, columns])
        episodes.append(changed(episode, spec=spec, action=action))
    quality = check_source(Fake(episodes))
    assert quality.measures["alignment"]["lag"] == 0 and quality.measures["alignment"]["correlation"] > 0.95


def test_swapped_and_mirrored_axes():
    swapped = [changed(e, action=e.action[:, [1, 0, 2, 3, 4, 5, 6]]) for e in clean()]
    groups = found(swapped)
    assert "dy should" in groups["axes", "error", "dx"][0].found and ("axes", "error", "dy") in groups
    mirrored = [changed(e, action=e.action * np.array([1, 1, -1, 1, 1, 1, 1], np.float32)) for e in clean()]
    only(mirrored, "sign", "error", "dz")


def test_another_unit():
    wide = tuple(dataclasses.replace(channel, low=-9, high=9) for channel in SPEC.action.channels)
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, channels=wide))
    scaled = [changed(e, spec=spec, action=e.action * np.array([100] * 3 + [1] * 4, np.float32)) for e in clean()]
    assert "0.01 times" in found(scaled)["scale", "warning", ""][0].found
    state = tuple(dataclasses.replace(channel, low=-9999, high=9999) for channel in SPEC.state)
    far = [changed(e, spec=dataclasses.replace(SPEC, state=state), state=e.state * 1000) for e in clean()]
    assert ("units", "error", "x") in found(far)


def test_a_flipped_gripper_is_found():
    flipped = [changed(e, action=np.where(np.arange(7) == 6, 1 - e.action, e.action)) for e in clean()]
    (finding,) = only(flipped, "gripper", "error", "gripper")
    assert "closes when it is told to open" in finding.found
    spec = dataclasses.replace(SPEC, action=dataclasses.replace(SPEC.action, gripper=Gripper(closed=1.0, opened=0.0)))
    assert found([changed(e, spec=spec) for e in flipped]) == {}


def test_a_gripper_state_without_unit_is_judged_by_habits_or_not_at_all():
    channels = (*SPEC.state[:-1], dataclasses.replace(SPEC.state[-1], unit="1", low=-9, high=9))
    spec = dataclasses.replace(SPEC, state=channels)

    def held(episode, widths):  # the closed hand stops at what it holds
        state = episode.state.copy()
        state[:, 6] = 1 - 25 * np.maximum(state[:, 6], widths) if widths else 25 * state[:, 6]
        return changed(episode, spec=spec, state=state)

    grasping = [held(e, 0.005 + 0.004 * place) for place, e in enumerate(clean())]
    quality = check_source(Fake(grasping))
    assert quality.measures["gripper"]["gripper"]["verdict"] == "agrees"
    flipped = [changed(e, action=np.where(np.arange(7) == 6, 1 - e.action, e.action)) for e in grasping]
    assert "begin" in only(flipped, "gripper", "warning", "gripper")[0].found
    still = [changed(e, action=np.where(np.arange(7) == 6, 1, e.action).astype(np.float32)) for e in grasping]
    assert "cannot tell" in found(still)["gripper", "note", "gripper"][0].found


def test_rotations_that_are_not_in_their_form():
    episodes = clean()
    episodes[3].state[:, 3:6] *= 20
    assert found(episodes)["rotation", "error", "rx"][0].episode == 3
    forms: tuple[tuple[RotationForm, int], ...] = (("quat_xyzw", 4), ("rot6d", 6))
    for form, names in forms:
        turned = tuple(dataclasses.replace(SPEC.state[3], name=f"r{i}", unit="1") for i in range(names))
        spec = dataclasses.replace(SPEC, state=(*SPEC.state[:3], *turned, SPEC.state[6]), state_rotation=form)
        converted = []
        for episode in clean():
            values = rotation.convert(episode.state[:, 3:6], "axis_angle", form)
            state = np.column_stack([episode.state[:, :3], values, episode.state[:, 6]]).astype(np.float32)
            converted.append(changed(episode, spec=spec, state=state))
        assert found(converted) == {}
        converted[1].state[20, 3 : 3 + names] *= 1.1
        assert found(converted)["rotation", "error", "r0"][0].steps == (20, 21)


def test_what_an_episode_is_about():
    episodes = clean()
    assert only([changed(episodes[0], instruction=" "), *episodes[1:]], "instruction", "warning")[0].episode == 0
    assert only([*episodes, recording(9, steps=4)], "short", "warning")[0].episode == 6
    assert only([*episodes, recording(9, steps=20)], "short", "warning")[0].expected.endswith("the median")
    again = changed(episodes[1], state=episodes[1].state + np.float32(1e-7))
    assert only([*episodes, again], "duplicate", "warning")[0].found == "the same as episode 1"


def test_noops():
    first = planted(slice(0, 6), [], count=6)
    for episode in first:
        episode.action[0, :6] = 0
    assert "all 6 episodes" in only(first, "noop-first", "warning")[0].found
    lazy = clean()
    for episode in lazy:
        episode.action[20:90, :6] = 0
        episode.state[21:91, :6] = episode.state[20, :6]
    assert "57 %" in found(lazy)["noop", "note", ""][0].found


def test_quirks_and_broken_episodes_are_findings():
    class Broken(Fake):
        def __getitem__(self, index):
            if index == 2:
                raise DataError("shard-3", "record at byte 12", expected="a record", found="zeros")
            return self.episodes[index]

    source = Broken(clean(), (Quirk("missing-camera", "info.json", "egoview", "a video", "none", "left out"),))
    groups = {(g.check, g.severity, g.channel): g.kept for g in check_source(source).findings}
    assert groups["read", "error", ""][0].source == "shard-3"
    assert groups["quirk", "warning", "missing-camera"][0].found == "none; left out"
    ragged = clean()
    ragged[1] = changed(ragged[1], time=ragged[1].time[:-1])
    assert only(ragged, "length", "error", "time")[0].found == "119"


def test_blank_and_frozen_and_twin_cameras():
    episodes = clean()
    black = [np.zeros((32, 32, 3), np.uint8)] * 120
    episodes[1] = changed(episodes[1], images={"front": black, "wrist": episodes[1].images["wrist"]})
    assert only(episodes, "blank", "warning", "front")[0].look == (("front", 0),)
    episodes = clean()
    wrist = list(episodes[2].images["wrist"])
    wrist[30:95] = [wrist[30]] * 65
    episodes[2] = changed(episodes[2], images={"front": episodes[2].images["front"], "wrist": wrist})
    (finding,) = only(episodes, "frozen", "error", "wrist")
    assert finding.steps is not None and 30 <= finding.steps[0] < finding.steps[1] <= 95
    (finding,) = only(episodes, "frozen", "error", "wrist", sampling=Sampling(thorough=True))
    assert finding.steps == (30, 95)
    episodes = clean()
    episodes[0] = changed(episodes[0], images=dict.fromkeys(("front", "wrist"), episodes[0].images["front"]))
    only(episodes, "twin", "warning", "wrist")


def test_some_blank_pictures_are_an_error_and_found_when_all_are_looked_at():
    episodes = clean()
    front = list(episodes[0].images["front"])
    front[50] = np.full_like(front[50], 127)
    episodes[0] = changed(episodes[0], images={"front": front, "wrist": episodes[0].images["wrist"]})
    (finding,) = only(episodes, "blank", "error", "front", sampling=Sampling(thorough=True))
    assert finding.steps == (50, 51) and found(episodes) == {}


def test_a_camera_that_sees_nothing_new_because_nothing_moves():
    episodes = clean()
    still = changed(
        episodes[0],
        state=np.repeat(episodes[0].state[:1], 120, axis=0),
        action=np.repeat(episodes[0].action[:1] * np.array([0] * 6 + [1], np.float32), 120, axis=0),
        images={name: [frames[0]] * 120 for name, frames in episodes[0].images.items()},
    )
    assert not [key for key in found([still, *episodes[1:]]) if key[0] == "frozen"]


def test_pictures_are_told_apart():
    rng = np.random.default_rng(0)
    picture = rng.integers(30, 200, (64, 64, 3), dtype=np.uint8)
    coded = np.clip(picture.astype(int) + rng.integers(0, 2, picture.shape) * (rng.random(picture.shape) < 0.3), 0, 255)
    moved = picture.copy()
    moved[20:24, 20:24] = 255  # a small thing somewhere else
    assert same(picture, coded.astype(np.uint8)) and not same(picture, moved)
    noise = rng.integers(0, 3, (64, 64, 3), dtype=np.uint8)
    assert blank(noise) and blank(np.full((64, 64, 3), (10, 200, 30), np.uint8)) and not blank(picture)


def test_only_as_many_pictures_are_decoded_as_said():
    quality = check_source(Fake(clean(10, steps=60)), sampling=Sampling(frames=4, episodes=5))
    assert quality.measures["pictures"] == {"episodes": 5, "decoded": 40}
    quality = check_source(Fake(clean(3)), sampling=Sampling(episodes=0))
    assert quality.measures["pictures"]["decoded"] == 0


def test_only_the_chosen_episodes_are_read():
    class Counting(Fake):
        def __getitem__(self, index):
            read.append(index)
            return self.episodes[index]

    read: list[int] = []
    quality = check_source(Counting(clean()), episodes=[1, 4])
    assert read == [1, 4] and quality.measures["episodes"] == 2
    with pytest.raises(StatisticsMissing):
        check_source(Fake(clean()), episodes=[])


def test_findings_stay_few_and_the_grade_follows():
    findings = Findings(1000)
    assert findings.grade == "A"
    findings.add(Finding("a", "note", "", "", episode) for episode in range(1000))
    assert findings.grade == "A"
    findings.add(Finding("a", "warning", "", "", episode) for episode in range(50))
    assert findings.grade == "B" and findings.touched("warning") == 50
    findings.add(Finding("b", "warning", "", "", episode) for episode in range(500) for _ in range(2))
    assert findings.grade == "C"
    (largest, *_) = [group for group in findings if group.check == "b"]
    assert (largest.count, largest.episodes, len(largest.kept)) == (1000, 500, 20)
    findings.add([Finding("c", "error", "", "", 3)])
    assert findings.grade == "D"
    findings.add([Finding("d", "error", "", "")])
    assert findings.grade == "E"


def test_listed_episodes_are_the_odd_ones():
    episodes = [changed(episode, instruction="") for episode in clean()]
    episodes[3].action[7, 0] = 4.0
    assert check_source(Fake(episodes)).listed() == [3]
