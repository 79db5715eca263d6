"""LeRobot v3.0 as others leave it: gaps, ranges and videos that disagree; and what lerobot itself reads from it."""

import json
import multiprocessing
import operator
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq
import pytest

from vla.datasets.lerobot_v3 import Config, Writer
from vla.datasets.manifest import MANIFEST, folder_sums, manifest_text
from vla.embodiments.libero_panda import libero_panda
from vla.errors import DataError
from vla.experience import Episode
from vla.quirks import QuirksFound

SPEC = libero_panda(32)
LENGTHS = (5, 8, 3, 6)


def episode(seed: int, steps: int) -> Episode:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    pictures = {
        name: [np.stack([x * 4 + 17 * step, y * 6, x + y + 40 * seed], -1).astype(np.uint8) for step in range(steps)]
        for name in SPEC.camera_names
    }
    return Episode(
        spec=SPEC,
        state=rng.normal(size=(steps, len(SPEC.state))).astype(np.float32),
        action=rng.normal(size=(steps, SPEC.action.size)).astype(np.float32),
        images=pictures,
        time=np.arange(steps) / 20,
        instruction=f"task {seed % 2}",
        success=True,
        source=f"here[{seed}]",
    )


@pytest.fixture(scope="module", params=["image", "video"])
def stored(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lerobot") / request.param
    with Writer(path, SPEC, request.param) as writer:
        for seed, steps in enumerate(LENGTHS):
            writer.add(episode(seed, steps))
    return path


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def copy(stored, tmp_path) -> Path:
    shutil.copytree(stored, tmp_path / "set")
    return tmp_path / "set"


def test_lerobot_reads_the_same_numbers_and_pictures(stored, tmp_path, monkeypatch):
    import datasets.config
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    deltas = {"action": [step / 20 for step in range(4)]}
    theirs = LeRobotDataset("local/set", root=stored, delta_timestamps=deltas, video_backend="pyav")
    ours = Config(stored).make()
    rows = np.random.default_rng(0).permutation(sum(LENGTHS)).tolist()
    ends = np.cumsum(LENGTHS)
    for row in rows:
        number = int(np.searchsorted(ends, row, side="right"))
        step = row - int(ends[number] - LENGTHS[number])
        item: Any = theirs[row]
        window = ours[number].window(step, 4)
        assert np.array_equal(item["action"].numpy(), window.actions)
        assert np.array_equal(item["observation.state"].numpy(), window.observation.state)
        assert item["task"] == window.observation.instruction
        assert (~item["action_is_pad"].numpy() == window.valid).all()
        for name in SPEC.camera_names:
            picture = item[f"observation.images.{name}"].numpy().transpose(1, 2, 0) * 255
            assert np.array_equal(picture.round().astype(np.uint8), window.observation.images[name])


def test_a_spawned_worker_reads_the_same(stored):
    source = Config(stored).make()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for number, step in ((3, 5), (1, 7)):
            theirs = pool.submit(operator.itemgetter(number), source).result()
            assert np.array_equal(theirs.action, source[number].action)
            picture = pool.submit(operator.itemgetter(step), theirs.images["agentview"]).result()
            assert np.array_equal(picture, source[number].images["agentview"][step])


def change_episodes(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    (path,) = (folder / "meta/episodes").rglob("*.parquet")
    pq.write_table(change(pq.read_table(path)), path)


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def change_info(folder: Path, **changes: Any) -> None:
    value = json.loads((folder / "meta/info.json").read_text()) | changes
    (folder / "meta/info.json").write_text(json.dumps(value))


def unlist(folder: Path, number: int) -> None:
    """As tools leave a set that delete an episode from the table only."""
    change_episodes(folder, lambda table: table.filter(compute.field("episode_index") != number))
    count, frames = len(LENGTHS) - 1, sum(LENGTHS) - LENGTHS[number]
    change_info(folder, total_episodes=count, total_frames=frames, splits={"train": f"0:{count}"})
    lines = (folder / "meta/vla_episodes.jsonl").read_text().splitlines(keepends=True)
    (folder / "meta/vla_episodes.jsonl").write_text("".join(lines[:number] + lines[number + 1 :]))


def kinds(folder: Path) -> list[str]:
    """Quirks of a set that was changed by a program that also keeps our list of its files."""
    (folder / "meta" / MANIFEST).unlink()
    (folder / "meta" / MANIFEST).write_text(manifest_text(folder_sums(folder, {})))
    with pytest.raises(QuirksFound) as caught:
        Config(folder).make()
    return [quirk.kind for quirk in caught.value.quirks]


@pytest.mark.parametrize("number", [0, 2])
def test_an_episode_that_is_no_longer_listed(copy, number):
    unlist(copy, number)
    assert kinds(copy) == ["episode-gap", "unlisted-rows"]
    source = Config(copy, tolerate=("episode-gap", "unlisted-rows")).make()
    left = [seed for seed in range(4) if seed != number]
    assert source.lengths.tolist() == [LENGTHS[seed] for seed in left]
    for index, seed in enumerate(left):
        want = episode(seed, LENGTHS[seed])
        assert np.array_equal(source[index].action, want.action) and source[index].source == f"here[{seed}]"
        error = np.abs(source[index].images["agentview"][2].astype(int) - want.images["agentview"][2])
        assert error.mean() < 8  # the codec's; another episode's picture is off by 40


def test_an_episode_in_the_table_alone(copy):
    (path,) = (copy / "data").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.filter(compute.field("episode_index") != 3), path)
    assert kinds(copy) == ["missing-rows", "wrong-total"]
    assert Config(copy, tolerate=("all",)).make().lengths.tolist() == list(LENGTHS[:3])


def test_ranges_that_are_wrong(copy):
    def shifted(table: pa.Table) -> pa.Table:
        for name in ("dataset_from_index", "dataset_to_index"):
            table = with_column(table, name, [value + 2 for value in table[name].to_pylist()])
        return table

    change_episodes(copy, shifted)
    assert kinds(copy) == ["wrong-range"]
    source = Config(copy, tolerate=("wrong-range",)).make()
    assert np.array_equal(source[2].action, episode(2, 3).action)


def test_statistics_of_other_numbers(copy):
    key = "stats/action/mean"
    change_episodes(copy, lambda table: with_column(table, key, table[key].to_pylist()[::-1]))
    assert kinds(copy) == ["wrong-statistics"]
    assert np.array_equal(Config(copy, tolerate=("all",)).make()[2].action, episode(2, 3).action)


def test_a_video_that_ends_before_its_episode(copy):
    if "video_path" not in (info := json.loads((copy / "meta/info.json").read_text())) or not info["video_path"]:
        pytest.skip("no videos in this storage")
    key = "videos/observation.images.agentview/to_timestamp"

    def cut(table: pa.Table) -> pa.Table:
        return with_column(table, key, [end - 0.1 * (row == 1) for row, end in enumerate(table[key].to_pylist())])

    change_episodes(copy, cut)
    assert kinds(copy) == ["short-video"]
    source = Config(copy, tolerate=("short-video",)).make()
    assert source.lengths.tolist() == [5, 6, 3, 6] and len(source[1].images["agentview"]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: with_column(table, "length", [5, 9, 3, 6]), "dataset_from_index and dataset_to_index 9 apart"),
        (lambda table: with_column(table, "episode_index", [0, 1, 1, 3]), "episode_index: expected each once"),
        (lambda table: with_column(table, "data/file_index", [-1, 0, 0, 0]), "data/file_index: expected 0 or more"),
        (lambda table: with_column(table, "length", [None, 8, 3, 6]), "length: expected no missing values"),
        (lambda table: table.drop(["dataset_to_index"]), "expected columns dataset_to_index"),
        (lambda table: table.slice(0, 0), "at least one, found none"),
    ],
)
def test_a_table_that_contradicts_itself(copy, change, message):
    change_episodes(copy, change)
    with pytest.raises(DataError, match=message):
        Config(copy, tolerate=("all",)).make()


def test_rows_of_an_episode_must_stand_together(copy):
    (path,) = (copy / "data").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take([*range(5, 13), *range(3), 13, 14, 15, 3, 4, *range(16, 22)]), path)
    with pytest.raises(DataError, match="side by side"):
        Config(copy, tolerate=("all",)).make()


def test_numbers_are_mapped_not_read(stored):
    index = Config(stored).make()._index
    for values in (*index.columns.values(), index.time, index.steps):
        assert not values.flags.owndata and not values.flags.writeable
