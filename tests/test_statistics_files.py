"""Statistics that others published, read, pooled and converted; and files that others can read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.embodiment import Channel, EmbodimentSpec, Gripper
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda
from vla.errors import ConfigError, DataError, SpecMismatch, StatisticsMissing, UnknownName
from vla.normalize import FIELDS, Normalize, NormalizeSpec, Statistics
from vla.statistics_convert import convert_statistics
from vla.statistics_estimator import StatisticsEstimator
from vla.statistics_files import (
    read_lerobot,
    read_lerobot_episodes,
    read_openpi,
    read_openvla,
    write_lerobot,
    write_openpi,
    write_openvla,
)
from vla.transforms import action_map

# the public LeRobot set has the environment's own numbers: [-1, 1], gripper -1 = open
LEROBOT_LIBERO = replace(libero_panda(), action=RAW_ACTION)
_openvla_channels = (*RAW_ACTION.channels[:6], Channel("gripper", "1", "gripper", 0.0, 1.0))
OPENVLA_LIBERO = replace(libero_panda(), action=replace(RAW_ACTION, channels=_openvla_channels, gripper=Gripper(0, 1)))

SUITES = {"libero_10": range(0, 10), "libero_goal": range(10, 20), "libero_object": range(20, 30)}
SUITES |= {"libero_spatial": range(30, 40)}  # the tasks of the public set, in its own order


@pytest.fixture(scope="module")
def reference(shared_data) -> Path:
    return shared_data / "libero_reference"


def suite_episodes(reference: Path, suite: str) -> frozenset[int]:
    meta = reference / "lerobot_v21_meta"
    tasks = [json.loads(line) for line in (meta / "tasks.jsonl").read_text().splitlines()]
    texts = {row["task"] for row in tasks if row["task_index"] in SUITES[suite]}
    episodes = [json.loads(line) for line in (meta / "episodes.jsonl").read_text().splitlines()]
    return frozenset(row["episode_index"] for row in episodes if row["tasks"][0] in texts)


@pytest.mark.parametrize("suite", SUITES)
def test_pooled_libero_statistics_are_those_that_openvla_published(reference: Path, suite: str):
    """1,693 per-episode statistics of one program give the statistics that another computed from all frames.

    Measured, at most: mean 7e-7 for actions and 8e-6 for the state, std 3.5e-5, min and max equal. One published
    number is wrong by more: the std of the gripper, which as a number of zeros and ones follows from its mean, is up
    to 2.5e-4 off it. Summing float32 one after the other, as ``actions.std(0)`` does, gives errors of that size.
    """
    path = reference / "lerobot_v21_meta" / "episodes_stats.jsonl"
    stored = read_lerobot_episodes(
        path, LEROBOT_LIBERO, state="state", action="actions", episodes=suite_episodes(reference, suite)
    )
    ours = convert_statistics(stored, LEROBOT_LIBERO, OPENVLA_LIBERO)
    published_file = reference / "openvla_libero_no_noops_dataset_statistics.json"
    theirs = read_openvla(published_file, OPENVLA_LIBERO, data_set=f"{suite}_no_noops")
    compared = [name for name in theirs.channels if name in ours.channels]
    assert set(OPENVLA_LIBERO.action.names) <= set(compared)
    for name in compared:
        one, other = ours.channels[name], theirs.channels[name]
        assert one.count == other.count, "the same frames"
        assert one.mean == pytest.approx(other.mean, abs=1e-5 if name in OPENVLA_LIBERO.state_names else 1e-6), name
        assert one.std == pytest.approx(other.std, abs=3e-4 if name == "gripper" else 4e-5), name
        assert one.min == other.min, name
        assert one.max == other.max, name
        assert one.q01 is None and one.q99 is None, "quantiles cannot be pooled and are not made up"
    gripper = ours.channels["gripper"]
    assert gripper.std == pytest.approx(np.sqrt(gripper.mean * (1 - gripper.mean)), abs=5e-8)
    # without the conversion the gripper would be upside down
    wrong = stored.channels["gripper"]
    assert abs(wrong.mean - theirs.channels["gripper"].mean) > 0.3 and wrong.min == -1.0


def test_pooled_statistics_cannot_stand_in_for_quantiles(reference: Path):
    path = reference / "lerobot_v21_meta" / "episodes_stats.jsonl"
    few = read_lerobot_episodes(path, LEROBOT_LIBERO, state="state", action="actions", episodes=frozenset({0, 1}))
    names = LEROBOT_LIBERO.action.names
    with pytest.raises(StatisticsMissing, match=r"no q01 for dx, .* compute them from the data"):
        Normalize.build(NormalizeSpec("quantile"), few, names)
    assert Normalize.build(NormalizeSpec("mean_std"), few, names).names == names


def test_published_openpi_file(reference: Path):
    numbers = read_openpi(reference / "openpi_pi05_libero_norm_stats.json", LEROBOT_LIBERO, count=273_465)
    gripper, x = numbers.channels["gripper"], numbers.channels["x"]
    assert gripper.mean == pytest.approx(-0.0457155816257) and gripper.min is None and gripper.count == 273_465
    assert (x.q01, x.q99) == (-0.3992278680294752, 0.13532010269463068) and x.quantile_error is None
    turned = convert_statistics(numbers, LEROBOT_LIBERO, libero_panda())
    dx = numbers.channels["dx"]
    assert turned.channels["dx"].std == pytest.approx(0.05 * dx.std), "raw 1 is 0.05 m"
    assert turned.channels["gripper"].mean == pytest.approx((1 + 0.0457155816257) / 2)


@pytest.fixture(scope="module")
def made() -> Statistics:
    spec = libero_panda()
    names = (*spec.state_names, *spec.action.names)
    estimator = StatisticsEstimator(names)
    estimator.add(np.random.default_rng(0).uniform(-1, 1, (100, len(names))))
    return estimator.finish()


def numbers_of(statistics: Statistics, fields: tuple[str, ...] = FIELDS) -> dict[str, list[float | None]]:
    return {name: [getattr(channel, key) for key in fields] for name, channel in statistics.channels.items()}


def test_each_file_gives_back_what_it_was_given(made: Statistics, tmp_path: Path):
    spec, path = libero_panda(), tmp_path / "stats.json"
    write_openpi(path, made, spec)
    moments = ("mean", "std", "q01", "q99")
    assert numbers_of(read_openpi(path, spec, count=100), moments) == numbers_of(made, moments)
    write_openvla(path, made, spec, data_set="made", episodes=3)
    assert numbers_of(read_openvla(path, spec)) == numbers_of(made)
    table = json.loads(path.read_text())["made"]
    assert table["action"]["mask"] == [True] * 6 + [False]
    assert (table["num_transitions"], table["num_trajectories"]) == (100, 3)
    path.unlink()
    write_lerobot(path, made, spec)
    assert numbers_of(read_lerobot(path, spec)) == numbers_of(made)
    assert read_lerobot(path, spec).channels["x"].count == 100


def test_keys_are_those_of_the_published_files(made: Statistics, tmp_path: Path, reference: Path):
    path = tmp_path / "stats.json"
    write_openpi(path, made, libero_panda())
    theirs = json.loads((reference / "openpi_pi05_libero_norm_stats.json").read_text())["norm_stats"]
    ours = json.loads(path.read_text())["norm_stats"]
    assert {key: set(value) for key, value in ours.items()} == {key: set(value) for key, value in theirs.items()}
    write_openvla(path, made, libero_panda(), data_set="made", episodes=3)
    published = json.loads((reference / "openvla_libero_no_noops_dataset_statistics.json").read_text())
    theirs, ours = published["libero_spatial_no_noops"], json.loads(path.read_text())["made"]
    assert ours.keys() == theirs.keys()
    assert all(set(ours[key]) == set(theirs[key]) for key in ("action", "proprio"))


def test_lerobot_itself_reads_it_and_keeps_its_other_features(made: Statistics, tmp_path: Path):
    from lerobot.datasets.io_utils import load_stats

    path = tmp_path / "meta" / "stats.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"timestamp": {"mean": [1.0]}, "action": {"mean": [9.0]}}))
    write_lerobot(path, made, libero_panda())
    loaded = load_stats(tmp_path)
    assert loaded is not None and loaded["timestamp"]["mean"].tolist() == [1.0]
    names = libero_panda().action.names
    for key, vector in made.arrays(names).items():
        np.testing.assert_array_equal(loaded["action"][key], vector)


def test_what_a_file_lacks_is_not_written_as_something_else(made: Statistics, tmp_path: Path):
    spec, path = libero_panda(), tmp_path / "stats.json"
    without = Statistics({name: replace(channel, q01=None, q99=None) for name, channel in made.channels.items()})
    for write in (write_openpi, lambda *given: write_openvla(*given, data_set="made", episodes=1)):
        with pytest.raises(StatisticsMissing, match="no q01"):
            write(path, without, spec)
        assert not path.exists()
    write_lerobot(path, without, spec)
    assert "q01" not in json.loads(path.read_text())["action"]
    assert read_lerobot(path, spec).channels["x"].q01 is None
    raw = replace(spec, action=RAW_ACTION)
    with pytest.raises(ConfigError, match="1 open"):
        write_openvla(path, made, raw, data_set="made", episodes=1)


def test_converting_there_and_back(made: Statistics):
    raw = replace(libero_panda(), action=RAW_ACTION)
    back = convert_statistics(convert_statistics(made, libero_panda(), raw), raw, libero_panda())
    assert back.channels.keys() == made.channels.keys()
    for name, channel in made.channels.items():
        np.testing.assert_allclose(
            [getattr(back.channels[name], key) for key in FIELDS], [getattr(channel, key) for key in FIELDS], rtol=1e-9
        )


def test_converted_statistics_are_those_of_converted_data():
    raw = replace(libero_panda(), action=RAW_ACTION)
    values = np.random.default_rng(0).uniform(-1, 1, (500, 7)).astype(np.float32)
    one, two = StatisticsEstimator(RAW_ACTION.names), StatisticsEstimator(RAW_ACTION.names)
    one.add(values)
    two.add(action_map(RAW_ACTION, libero_panda().action)(values))
    converted = convert_statistics(one.finish(), raw, libero_panda())
    for key, vector in two.finish().arrays(RAW_ACTION.names).items():
        np.testing.assert_allclose(converted.arrays(RAW_ACTION.names)[key], vector, atol=1e-7)


def euler(spec: EmbodimentSpec) -> EmbodimentSpec:
    return replace(spec, action=replace(spec.action, rotation="euler_xyz"))


def test_what_cannot_be_converted(made: Statistics):
    with pytest.raises(StatisticsMissing, match="axis_angle to euler_xyz"):
        convert_statistics(made, libero_panda(), euler(libero_panda()))
    with pytest.raises(SpecMismatch):
        convert_statistics(made, libero_panda(), bridge_widowx())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "JSON"),
        ("[1]", "a JSON object"),
        ("{}", "norm_stats"),
        ('{"norm_stats": {"state": 3}}', "state"),
        ('{"norm_stats": {"state": {"std": [1]}}}', "mean and std"),
        ('{"norm_stats": {"state": {"mean": [1], "std": [1]}}}', "8 numbers, found 1 of them"),
        ('{"norm_stats": {"state": {"mean": [0,0,0,0,0,0,0,NaN], "std": [1]}}}', "that float32 holds"),
        ('{"norm_stats": {"state": {"mean": [0,0,0,0,0,0,0,1e200], "std": [1]}}}', "that float32 holds"),
        ('{"norm_stats": {"state": {"mean": [0,0,0,0,0,0,0,1' + "0" * 400 + '], "std": [1]}}}', "hundreds of digits"),
        ('{"norm_stats": {"state": {"mean": "12345678", "std": [1]}}}', "8 numbers"),
        ("[" * 100_000, "JSON"),
        ("\udcff", "text"),
    ],
)
def test_damaged_files_are_named(text: str, match: str, tmp_path: Path):
    path = tmp_path / "norm_stats.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=match) as caught:
        read_openpi(path, libero_panda(), count=1)
    assert str(path) in str(caught.value)


def test_what_the_caller_must_say(made: Statistics, tmp_path: Path):
    spec, path = libero_panda(), tmp_path / "stats.json"
    write_openvla(path, made, spec, data_set="made", episodes=3)
    both = json.loads(path.read_text())
    path.write_text(json.dumps(both | {"other": both["made"]}))
    with pytest.raises(UnknownName, match="made"):
        read_openvla(path, spec)
    with pytest.raises(UnknownName, match="made"):
        read_openvla(path, spec, data_set="mode")
    table = {key: {"mean": [0] * size, "std": [1] * size} for key, size in (("observation.state", 8), ("action", 7))}
    path.write_text(json.dumps(table))  # as LeRobot v2.0 wrote it
    with pytest.raises(DataError, match="count"):
        read_lerobot(path, spec)
    assert read_lerobot(path, spec, count=7).channels["x"].count == 7
    with pytest.raises(DataError, match="No such file"):
        read_lerobot(tmp_path / "absent.json", spec)
    lines = tmp_path / "episodes_stats.jsonl"
    stats = {key: value | {"min": value["mean"], "max": value["mean"], "count": [3]} for key, value in table.items()}
    lines.write_text(json.dumps({"episode_index": 0, "stats": stats}) + "\n")
    assert read_lerobot_episodes(lines, spec).channels["dx"].count == 3
    with pytest.raises(DataError, match="none with number 4"):
        read_lerobot_episodes(lines, spec, episodes=frozenset({0, 4}))
    with pytest.raises(StatisticsMissing, match="no episode"):
        read_lerobot_episodes(lines, spec, episodes=frozenset())


def test_counts_that_are_none(made: Statistics, tmp_path: Path):
    write_lerobot(tmp_path / "stats.json", made, libero_panda())
    text = (tmp_path / "stats.json").read_text()
    value = json.loads(text)
    for count in (0, 10**30, -(10**30)):
        value["action"]["count"] = [count]
        (tmp_path / "stats.json").write_text(json.dumps(value))
        with pytest.raises(DataError, match="action: count"):
            read_lerobot(tmp_path / "stats.json", libero_panda())
