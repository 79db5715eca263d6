"""Measured once a content: what the cache gives is what a new pass would."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from vla.embodiment import EmbodimentSpec
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, StatisticsMissing
from vla.experience import Episode
from vla.quirks import Quirk
from vla.statistics_cache import measured, pooled


@dataclass(frozen=True)
class Counted:
    """Random episodes that count how often they are read."""

    steps: tuple[int, ...]
    content: str = "a1"
    seed: int = 0
    spec: EmbodimentSpec = field(default_factory=lambda: bridge_widowx(()))
    broken: int | None = None
    read: list[int] = field(default_factory=list)
    quirks: tuple[Quirk, ...] = ()

    @property
    def lengths(self) -> np.ndarray:
        return np.array(self.steps, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Episode:
        self.read.append(index)
        values = np.random.default_rng([self.seed, index]).normal(size=(self.steps[index], 14)).astype(np.float32)
        if index == self.broken:
            values[1, 9] = np.nan
        time = np.arange(self.steps[index]) / 5
        return Episode(self.spec, values[:, :7], values[:, 7:], {}, time, "", source=f"made[{index}]")

    def values(self) -> np.ndarray:
        episodes = [self[index] for index in range(len(self))]
        return np.concatenate([np.c_[one.state, one.action] for one in episodes]).astype(np.float64)


def names(source: Counted) -> tuple[str, ...]:
    return (*source.spec.state_names, *source.spec.action.names)


def test_the_second_time_nothing_is_read(tmp_path: Path):
    source, told = Counted((3000, 40, 2000, 5)), []
    first = pooled([source], cache=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert source.read == [0, 1, 2, 3] and told[-1] == (5045, 5045) and told == sorted(told)
    source.read.clear()
    assert pooled([source], cache=tmp_path) == first and source.read == []
    assert pooled([source]) == first and source.read == [0, 1, 2, 3], "without a cache the same, read anew"
    np.testing.assert_allclose(first.arrays(names(source))["mean"], source.values().mean(0), atol=1e-9)


def test_other_content_is_measured_anew(tmp_path: Path):
    one, two = Counted((30,)), Counted((30,), content="b2", seed=1)
    assert pooled([one], cache=tmp_path) != pooled([two], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_pooled_from_the_cache_equals_one_pass(tmp_path: Path):
    one, two = Counted((300, 20)), Counted((70,), content="b2", seed=1)
    measured(one, cache=tmp_path)
    both = pooled([one, two], cache=tmp_path)
    assert both == pooled([one, two])
    whole = np.concatenate([one.values(), two.values()])
    numbers = both.arrays(names(one))
    np.testing.assert_allclose(numbers["std"], whole.std(0), rtol=1e-9)
    np.testing.assert_allclose(numbers["q99"], np.quantile(whole, 0.99, axis=0), rtol=1e-9)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_cache_costs_a_pass_and_nothing_else(tmp_path: Path, damage):
    source = Counted((30,))
    first = pooled([source], cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert pooled([source], cache=tmp_path) == first


def test_a_number_that_is_not_finite_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"made\[1\]: step 1, channel dz: expected a finite number, found nan"):
        pooled([Counted((5, 5, 5), broken=1)], cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_the_next_pass(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    assert pooled([Counted((5,))], cache=tmp_path / "file") == pooled([Counted((5,))])
    (said,) = caplog.messages
    assert "not kept for the next time" in said and str(tmp_path / "file") in said


def test_embodiments_are_not_mixed_but_cameras_may_differ():
    one = Counted((5,))
    assert pooled([one, replace(one, spec=bridge_widowx(("image_0",)))]).channels["x"].count == 10
    with pytest.raises(ConfigError, match=r"bridge_widowx .* libero_panda"):
        pooled([one, replace(one, spec=libero_panda())])
    with pytest.raises(ConfigError, match="no source"):
        pooled([])
    with pytest.raises(StatisticsMissing, match="no values"):
        pooled([Counted(())])
