"""``vla data convert|merge|split|delete``: round trips keep every bit, a killed command goes on, inputs stay."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from random_episodes import SPEC, episode
from rlds_files import DESCRIPTION, write_set
from rlds_files import episode as record

from vla.cli import main
from vla.commands.data_split import deal, parse_shares
from vla.commands.episode_choice import chosen_episodes
from vla.datasets import lerobot_writer, rlds_writer
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError
from vla.experience import Episode
from vla.plugins import open_source
from vla.protocols import EpisodeSource

pytestmark = pytest.mark.usefixtures("own_cache")


def lerobot_set(path: Path, episodes: list[Episode]) -> Path:
    with lerobot_writer.Writer(path, episodes[0].spec) as writer:
        for each in episodes:
            writer.add(each)
    return path


def vla(capsys, *arguments: str | Path) -> dict[str, Any]:
    """Run a command that must succeed; its JSON."""
    with pytest.raises(SystemExit) as left:
        main(["data", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    return json.loads(said.out)


def fails(capsys, *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as left:
        main(["data", *map(str, arguments)])
    assert left.value.code == 2
    return capsys.readouterr().err


def same(have: Episode, want: Episode, *, bytes_too: bool = False) -> None:
    for name in ("state", "action", "time"):
        assert getattr(have, name).tobytes() == getattr(want, name).tobytes()
        assert getattr(have, name).dtype == getattr(want, name).dtype
    for name in ("spec", "instruction", "success", "source"):
        assert getattr(have, name) == getattr(want, name)
    assert dict(have.info) == dict(want.info) and set(have.images) == set(want.images)
    for camera, frames in want.images.items():
        for step in range(len(want)):
            assert np.array_equal(have.images[camera][step], frames[step])
            if bytes_too:
                ours: Any = have.images[camera]
                theirs: Any = frames
                assert ours.encoded(step) == theirs.encoded(step)


def every(source: EpisodeSource) -> list[Episode]:
    return [source[index] for index in range(len(source))]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("raw", [["--raw"], []])
def test_bridge_to_lerobot_and_back_keeps_every_bit(tmp_path, capsys, shared_data, raw):
    """Pictures too: the JPEG bytes pass through both ways."""
    bridge = shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0"
    facts = vla(capsys, "convert", bridge, "--to", "lerobot", "--out", tmp_path / "lerobot", *raw)
    assert facts["episodes"] == {"train": 25} and facts["storage"] == "image"
    vla(capsys, "convert", tmp_path / "lerobot", "--to", "rlds", "--out", tmp_path / "back")
    want = every(open_source(bridge, fixes=not raw))
    for path in (tmp_path / "lerobot", tmp_path / "back/1.0.0"):
        for have, stored in zip(every(open_source(path)), want, strict=True):
            same(have, stored, bytes_too=True)


floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
infos = st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False) | st.integers() | texts, max_size=3)


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(data=st.data())
def test_extreme_numbers_survive_both_formats(tmp_path_factory, capsys, data):
    """Not shrunk: an example is two commands."""
    episodes = []
    for seed in range(data.draw(st.integers(1, 3))):
        steps = data.draw(st.integers(1, 3))
        changes = {
            "state": data.draw(arrays.arrays(np.float32, (steps, 8), elements=floats32)),
            "action": data.draw(arrays.arrays(np.float32, (steps, 7), elements=floats32)),
            "time": data.draw(arrays.arrays(np.float64, steps, elements=st.floats(-1e300, 1e300))),
            "success": data.draw(st.sampled_from([True, False, None])),
            "instruction": data.draw(texts.filter(str.strip)),
            "source": data.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)),
            "info": data.draw(infos),
        }
        episodes.append(episode(seed, steps, **changes))
    folder = tmp_path_factory.mktemp("sets")
    with rlds_writer.Writer(folder / "first", SPEC) as writer:
        for each in episodes:
            writer.add(each)
    vla(capsys, "convert", folder / "first/1.0.0", "--to", "lerobot", "--out", folder / "lerobot")
    vla(capsys, "convert", folder / "lerobot", "--to", "rlds", "--out", folder / "back")
    for path in ("first/1.0.0", "lerobot", "back/1.0.0"):
        for have, want in zip(every(open_source(folder / path)), episodes, strict=True):
            same(have, want)
    first, back = contents(folder / "first/1.0.0"), contents(folder / "back/1.0.0")
    assert {name.replace("back-", "first-") for name in back} == set(first)
    assert all(back[name.replace("first-", "back-")] == data for name, data in first.items() if "tfrecord" in name)


@pytest.mark.parametrize("text", ["", " "])
def test_an_episode_without_an_instruction(tmp_path, text):
    path = lerobot_set(tmp_path / "set", [episode(0, instruction=text)])
    same(open_source(path)[0], episode(0, instruction=text))


def test_through_video_numbers_stay_and_pictures_nearly(tmp_path, capsys):
    y, x = np.mgrid[:64, :64]
    frames = [np.stack([x * 2 + step, y * 2, x + y + 5 * step], -1).astype(np.uint8) // 2 for step in range(6)]
    spec = libero_panda(64)
    smooth = [
        dataclasses.replace(episode(seed, 6), spec=spec, images=dict.fromkeys(spec.camera_names, frames))
        for seed in range(3)
    ]
    path = lerobot_set(tmp_path / "set", smooth)
    vla(capsys, "convert", path, "--out", tmp_path / "video", "--storage", "video")
    facts = vla(capsys, "delete", tmp_path / "video", "--episodes", "1", "--out", tmp_path / "fewer")
    assert facts["storage"] == "video" and list((tmp_path / "fewer").rglob("*.mp4"))
    vla(capsys, "convert", tmp_path / "fewer", "--to", "rlds", "--out", tmp_path / "back")
    for have, want in zip(every(open_source(tmp_path / "back/1.0.0")), (smooth[0], smooth[2]), strict=True):
        same(dataclasses.replace(have, images=want.images), want)
        for step, true in enumerate(frames):
            error = have.images["agentview"][step].astype(float) - true
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 33  # two generations of the codec


def test_convert_chooses_and_drops(tmp_path, capsys):
    still = episode(1, 5)
    action = still.action.copy()
    action[2:4, :6], action[:, 6] = 0, 1
    still = dataclasses.replace(still, action=action)
    path = lerobot_set(tmp_path / "set", [episode(0), still, episode(2), episode(3)])
    facts = vla(capsys, "convert", path, "--out", tmp_path / "new", "--episodes", "1:3", "--drop-noops")
    assert facts["format"] == "lerobot" and facts["steps"] == 3 + 5
    new = every(open_source(tmp_path / "new"))
    same(new[0], still.take(np.array([0, 1, 4])))
    same(new[1], episode(2))


def test_convert_keeps_a_person_s_corrections(tmp_path, capsys):
    corrected = episode(1, 6, info={"human": [[2, 5]]})
    path = lerobot_set(tmp_path / "set", [episode(0), corrected])
    facts = vla(capsys, "convert", path, "--out", tmp_path / "new", "--human")
    assert (facts["episodes"], facts["steps"]) == ({"train": 1}, 3)
    (one,) = every(open_source(tmp_path / "new"))
    assert np.array_equal(one.action, corrected.action[2:5]) and one.info["human"] == [[0, 3]]
    path = lerobot_set(tmp_path / "nobody", [episode(0)])
    assert "no step is labelled" in fails(capsys, "convert", path, "--out", tmp_path / "no", "--human")


def test_convert_to_another_embodiment(tmp_path, capsys):
    path = lerobot_set(tmp_path / "set", [episode(0)])
    wanted = dataclasses.replace(SPEC, cameras=(dataclasses.replace(SPEC.cameras[1], height=8, width=8),))
    (tmp_path / "robot.json").write_text(json.dumps(wanted.to_json()))
    vla(capsys, "convert", path, "--out", tmp_path / "new", "--embodiment", tmp_path / "robot.json")
    have = open_source(tmp_path / "new")
    assert have.spec == wanted and have[0].images["robot0_eye_in_hand"][0].shape == (8, 8, 3)
    (tmp_path / "robot.json").write_text("{}")
    text = fails(capsys, "convert", path, "--out", tmp_path / "no", "--embodiment", tmp_path / "robot.json")
    assert "JSON of an EmbodimentSpec" in text


def test_merge_of_two_formats(tmp_path, capsys):
    first = lerobot_set(tmp_path / "a", [episode(0), episode(1)])
    with rlds_writer.Writer(tmp_path / "b", SPEC) as writer:
        writer.add(episode(2))
    facts = vla(capsys, "merge", tmp_path / "b/1.0.0", first, "--out", tmp_path / "both")
    assert facts["format"] == "rlds" and facts["episodes"] == {"train": 3}
    for have, seed in zip(every(open_source(tmp_path / "both/1.0.0")), (2, 0, 1), strict=True):
        same(have, episode(seed))
    other = dataclasses.replace(SPEC, cameras=SPEC.cameras[:1])
    images = {"agentview": episode(3).images["agentview"]}
    third = lerobot_set(tmp_path / "c", [dataclasses.replace(episode(3), spec=other, images=images)])
    text = fails(capsys, "merge", first, third, "--out", tmp_path / "no")
    assert "SpecMismatch" in text and "camera 'robot0_eye_in_hand' is only in the first" in text
    assert "at least two" in fails(capsys, "merge", first, "--out", tmp_path / "no")


def test_merge_of_sets_that_a_file_describes(tmp_path, capsys):
    paths = []
    for name in ("one", "two"):
        folder = write_set(tmp_path / name / "1.0.0", {"train": [[record(number) for number in range(2)]]}, name=name)
        paths.append(folder)
    file = tmp_path / "both.toml"
    file.write_text('names = ["one", "two"]\n' + DESCRIPTION)
    facts = vla(capsys, "merge", *paths, "--out", tmp_path / "merged", "--description", file)
    assert facts["episodes"] == {"train": 4}
    want = [one for path in paths for one in every(open_source(path, description=file))]
    for have, one in zip(every(open_source(tmp_path / "merged" / "1.0.0")), want, strict=True):
        np.testing.assert_array_equal(have.action, one.action)
    file.write_text('names = ["three"]\n' + DESCRIPTION)
    text = fails(capsys, "merge", *paths, "--out", tmp_path / "no", "--description", file)
    assert "describes none of the data sets: one, two" in text


def test_split_into_folders_and_into_splits(tmp_path, capsys):
    path = lerobot_set(tmp_path / "set", [episode(seed) for seed in range(10)])
    parts = ("--parts", "train=0.7", "val=0.3", "--seed", "3")
    facts = vla(capsys, "split", path, *parts, "--out", tmp_path / "folders")
    assert facts["episodes"] == {"train": 7, "val": 3}
    vla(capsys, "split", path, *parts, "--out", tmp_path / "rlds", "--to", "rlds")
    seeds: list[int] = []
    for name in ("train", "val"):
        folder = every(open_source(tmp_path / "folders" / name))
        for have, want in zip(every(open_source(tmp_path / "rlds/1.0.0", split=name)), folder, strict=True):
            same(have, want)
        seeds += [each.info["seed"] for each in folder]
    assert sorted(seeds) == list(range(10)) and sorted(path.name for path in tmp_path.iterdir()) == [
        "cache",
        "folders",
        "rlds",
        "set",
    ]


def test_one_part_is_a_folder_as_several_are(tmp_path, capsys):
    path = lerobot_set(tmp_path / "set", [episode(seed) for seed in range(5)])
    facts = vla(capsys, "split", path, "--parts", "held=0.2", "--out", tmp_path / "parts")
    assert facts["episodes"] == {"held": 1} and len(open_source(tmp_path / "parts/held")) == 1


def test_delete_writes_a_new_set(tmp_path, capsys):
    path = lerobot_set(tmp_path / "set", [episode(seed) for seed in range(5)])
    before = contents(path)
    facts = vla(capsys, "delete", path, "--episodes", "1", "3:", "--out", tmp_path / "new")
    assert facts["left_out"] == [1, 3, 4] and contents(path) == before
    assert [each.info["seed"] for each in every(open_source(tmp_path / "new"))] == [0, 2]
    assert "some must stay" in fails(capsys, "delete", path, "--episodes", "0:", "--out", tmp_path / "no")
    assert "within" in fails(capsys, "delete", path, "--episodes", "0", "--out", path / "new")
    assert "exists already" in fails(capsys, "delete", path, "--episodes", "0", "--out", tmp_path / "new")
    assert contents(path) == before


@pytest.mark.parametrize("command", [["convert", "--to", "rlds"], ["split", "--parts", "a=0.5", "b=0.5"]])
def test_a_killed_command_goes_on(tmp_path, capsys, command):
    """SIGKILL as soon as the first files are finished; the result is that of a command that nobody killed."""
    path = lerobot_set(tmp_path / "set", [episode(seed, 40) for seed in range(30)])
    whole, out = tmp_path / "whole" / "x", tmp_path / "killed" / "x"
    options = [command[0], str(path), *command[1:], "--file-mb", "0.05", "--out"]
    killed = subprocess.Popen([sys.executable, "-m", "vla.cli", "data", *options, str(out)], stderr=subprocess.PIPE)
    while killed.poll() is None:
        if any(b'"files"' in journal.read_bytes() for journal in out.parent.rglob("journal")):
            killed.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not out.exists(), errors
    assert vla(capsys, *options, out)["resumed_at"] > 0
    assert vla(capsys, *options, whole)["resumed_at"] == 0
    assert contents(out) == contents(whole) and [each.name for each in out.parent.iterdir()] == ["x"]


def test_other_options_do_not_go_on(tmp_path, capsys, monkeypatch):
    path = lerobot_set(tmp_path / "set", [episode(seed) for seed in range(4)])
    real = lerobot_writer.Writer.add

    def stopped(writer, each):
        if writer.episodes == 2:
            raise KeyboardInterrupt
        real(writer, each)

    monkeypatch.setattr(lerobot_writer.Writer, "add", stopped)
    command = ("convert", path, "--out", tmp_path / "new", "--file-mb", "0.001")
    with pytest.raises(SystemExit) as left:
        main(["data", *map(str, command)])
    assert left.value.code == 130 and "goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert "begun from other data or with other options" in fails(capsys, *command, "--episodes", "0:3")
    os.utime(next((path / "data").rglob("*.parquet")), (1, 1))
    assert "begun from other data or with other options" in fails(capsys, *command)


def test_choices_of_episodes():
    assert chosen_episodes(["3", "0:2", "-1", "1:3"], 5) == (3, 0, 1, 4, 2)
    for text in ("x", "", "1:2:3", "5", "-6", "9:"):
        with pytest.raises(ConfigError, match="episode"):
            chosen_episodes([text], 5)


@given(st.integers(2, 50), st.integers(0, 9), st.lists(st.floats(0.05, 1), min_size=1, max_size=3))
def test_dealt_parts_are_disjoint_and_of_their_size(count, seed, weights):
    shares = {f"p{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    if min(shares.values()) * count < 1:
        return
    parts = deal(count, shares, seed)
    assert sorted(number for part in parts.values() for number in part) == list(range(count))
    assert all(abs(len(parts[name]) - share * count) <= 1 for name, share in shares.items())
    assert parts == deal(count, shares, seed)


@pytest.mark.parametrize("text", ["train", "train=x", "train=0", "=0.5", "train=0.6 train=0.2", "a=0.6 b=0.6", "a=nan"])
def test_shares_that_make_no_sense(text):
    with pytest.raises(ConfigError, match="parts"):
        parse_shares(text.split())
