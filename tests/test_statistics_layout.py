"""Statistics of other programs become those of the data set after its fixes, whatever form their file has."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from random_episodes import SPEC, episode
from rich.console import Console

from vla.commands.train import Train
from vla.commands.train_options import DataOptions
from vla.datasets import lerobot_v3
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda
from vla.errors import ConfigError, DataError, UnknownName
from vla.normalize import FIELDS, Statistics
from vla.statistics_estimator import StatisticsEstimator
from vla.statistics_files import write_lerobot, write_openpi, write_openvla
from vla.statistics_layout import read_statistics
from vla.transforms import action_map

CANONICAL = libero_panda()
STORED = replace(CANONICAL, action=RAW_ACTION)  # the gripper is -1 open ... 1 closed


def measured(spec: EmbodimentSpec, rows: np.ndarray) -> Statistics:
    estimator = StatisticsEstimator((*spec.state_names, *spec.action.names))
    estimator.add(rows)
    return estimator.finish()


@pytest.fixture(scope="module")
def pair() -> tuple[Statistics, Statistics]:
    """Of the same steps as they are stored, and after the fixes."""
    state, actions = (np.random.default_rng(0).uniform(-1, 1, (500, n)) for n in (len(CANONICAL.state), 7))
    fixed = action_map(RAW_ACTION, CANONICAL.action)(actions.astype(np.float32))
    parts = [(STORED, np.concatenate([state, actions], 1)), (CANONICAL, np.concatenate([state, fixed], 1))]
    one, two = (measured(spec, rows.astype(np.float32)) for spec, rows in parts)
    return one, two


@pytest.mark.parametrize("layout", ["own", "openvla", "openpi", "lerobot"])
def test_every_form_gives_the_statistics_after_the_fixes(tmp_path: Path, pair, layout):
    stored, canonical = pair
    file = tmp_path / "statistics.json"
    if layout == "own":
        file.write_text(json.dumps(canonical.to_json()))
    elif layout == "openvla":
        write_openvla(file, canonical, CANONICAL, data_set="spatial", episodes=3)
    else:
        (write_openpi if layout == "openpi" else write_lerobot)(file, stored, STORED)
    have = read_statistics(file, stored=STORED, canonical=CANONICAL, count=500)
    assert have.channels.keys() == canonical.channels.keys()
    for name, numbers in canonical.channels.items():
        assert have.channels[name].count == 500
        for field in FIELDS:
            value = getattr(have.channels[name], field)
            if layout == "openpi" and field in ("min", "max"):
                assert value is None
            else:
                assert value == pytest.approx(getattr(numbers, field), abs=2e-3 if field in ("q01", "q99") else 1e-5)


def test_statistics_of_each_episode_are_pooled(tmp_path: Path):
    """As LeRobot v2.1 keeps them: all but the quantiles is that of all steps together."""
    rows = np.random.default_rng(1).uniform(-1, 1, (60, len(CANONICAL.state) + 7)).astype(np.float32)
    lines = []
    for number, part in enumerate((rows[:20], rows[20:])):
        write_lerobot(tmp_path / "one.json", measured(STORED, part), STORED)
        lines.append({"episode_index": number, "stats": json.loads((tmp_path / "one.json").read_text())})
    file = tmp_path / "episodes_stats.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    have = read_statistics(file, stored=STORED, canonical=STORED, count=1)
    for name, numbers in measured(STORED, rows).channels.items():
        assert have.channels[name].count == 60 and have.channels[name].q01 is None
        for field in ("mean", "std", "min", "max"):
            assert getattr(have.channels[name], field) == pytest.approx(getattr(numbers, field), abs=1e-5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "an object of nothing"),
        ({"weights": [1]}, "an object of weights"),
        ({"x": {"mean": 1.0}}, "std"),
        ({"norm_stats": 3}, "norm_stats"),
        ({"action": {"mean": [1.0]}}, "action"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, table, message):
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps(table))
    with pytest.raises(DataError, match=message):
        read_statistics(file, stored=STORED, canonical=CANONICAL, count=500)


def test_an_openvla_file_of_several_data_sets_is_refused(tmp_path: Path, pair):
    file = tmp_path / "statistics.json"
    write_openvla(file, pair[1], CANONICAL, data_set="spatial", episodes=3)
    table = json.loads(file.read_text())
    file.write_text(json.dumps({"goal": table["spatial"], **table}))
    with pytest.raises(UnknownName, match="goal"):
        read_statistics(file, stored=STORED, canonical=CANONICAL, count=500)


@pytest.mark.usefixtures("own_cache")
def test_a_training_takes_them_in_place_of_its_own(tmp_path: Path):
    with lerobot_v3.Writer(tmp_path / "set", SPEC) as writer:
        for seed in range(2):
            writer.add(episode(seed, 6))
    paths = (str(tmp_path / "set"),)
    _, own = Train(tmp_path / "run", DataOptions(paths))._opened(paths, Console(quiet=True))
    file = tmp_path / "norm_stats.json"
    other = own[SPEC.name]
    moved = {name: replace(numbers, mean=numbers.mean + 1) for name, numbers in other.channels.items()}
    write_openpi(file, Statistics(moved), SPEC)
    _, given = Train(tmp_path / "run", DataOptions(paths, statistics=file))._opened(paths, Console(quiet=True))
    assert given.keys() == own.keys()
    for name, numbers in given[SPEC.name].channels.items():
        assert (numbers.mean, numbers.count) == (pytest.approx(other.channels[name].mean + 1), 12)
    with lerobot_v3.Writer(tmp_path / "second", replace(SPEC, name="second")) as writer:
        writer.add(replace(episode(0, 6), spec=replace(SPEC, name="second")))
    both = (*paths, str(tmp_path / "second"))
    with pytest.raises(ConfigError, match="the data sets have several"):
        Train(tmp_path / "run", DataOptions(both, statistics=file))._opened(both, Console(quiet=True))


def test_numbers_that_are_stored_in_several_ways_have_no_statistics_of_a_file(tmp_path: Path, pair, monkeypatch):
    def opened(_: object, **settings: object) -> list[SimpleNamespace]:
        specs = [STORED, CANONICAL] if settings.get("raw") else [CANONICAL, CANONICAL]
        return [SimpleNamespace(spec=spec, lengths=np.array([500])) for spec in specs]

    monkeypatch.setattr("vla.commands.train.open_data", opened)
    train, paths = Train(tmp_path / "run"), ("one", "two")
    file, other = tmp_path / "norm_stats.json", tmp_path / "dataset_statistics.json"
    write_openpi(file, pair[0], STORED)
    write_openvla(other, pair[1], CANONICAL, data_set="spatial", episodes=3)
    with pytest.raises(ConfigError, match="store them in several ways"):
        train._given(file, paths, opened(paths))
    assert train._given(other, paths, opened(paths)).channels.keys() == pair[1].channels.keys()
