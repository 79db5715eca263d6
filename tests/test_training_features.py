"""The store of frozen features: computed once, found again, whole after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vla.training.augment import shifted
from vla.training.chance import numpy_chance
from vla.training.features import FeatureStore


class Extract:
    """The mean colour and the first row; counts pictures."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        self.seen += len(images)
        return images.float().mean((1, 2)) / 255, images[:, 0].float() / 255


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def open_store(folder: Path, extract: Extract, name: str = "x") -> FeatureStore:
    return FeatureStore(folder, extract, name, image_size=8, versions=2, shift=2)


def test_features_are_computed_once_for_each_distinct_picture(tmp_path: Path):
    extract, images = Extract(), pictures(5)
    store = open_store(tmp_path, extract)
    rows = store.add(np.concatenate([images, images[:2]]))
    assert rows.tolist() == [0, 1, 2, 3, 4, 0, 1] and extract.seen == 1 + 5 * 3
    mean, first = store.read(rows[:5], np.zeros(5, dtype=np.int64))
    assert torch.allclose(mean.float(), torch.from_numpy(images).float().mean((1, 2)) / 255, atol=1e-3)
    assert first.shape == (5, 8, 3) and first.dtype == torch.float16
    again = Extract()
    assert open_store(tmp_path, again).add(images[::-1]).tolist() == [4, 3, 2, 1, 0]
    assert again.seen == 1  # the blank picture that tells the shapes
    assert len(open_store(tmp_path, Extract(), "other weights")) == 0


def test_shifted_versions_depend_on_the_picture_alone(tmp_path: Path):
    images = pictures(4)
    first, second = open_store(tmp_path / "a", Extract()), open_store(tmp_path / "b", Extract())
    rows, turned = first.add(images), second.add(images[::-1])[::-1]
    for version in range(3):
        chosen = np.full(4, version)
        assert torch.equal(first.read(rows, chosen)[1], second.read(turned, chosen)[1])
    assert not torch.equal(first.read(rows, np.zeros(4, int))[1], first.read(rows, np.ones(4, int))[1])


@pytest.mark.parametrize("name", ["keys.bin", "0.f16", "1.f16"])
def test_what_a_kill_cut_off_is_computed_anew(tmp_path: Path, name: str):
    images = pictures(4)
    store = open_store(tmp_path, Extract())
    whole = store.read(store.add(images), np.zeros(4, dtype=np.int64))
    path = store.folder / name
    path.write_bytes(path.read_bytes()[:-3])
    again = open_store(tmp_path, Extract())
    assert len(again) == 3
    read = again.read(again.add(images), np.zeros(4, dtype=np.int64))
    assert all(torch.equal(a, b) for a, b in zip(read, whole, strict=True))


def test_a_shift_moves_pixels_and_repeats_edges():
    image = pictures(1)
    moved = shifted(np.repeat(image, 200, 0), 2, numpy_chance(0))
    assert moved.shape == (200, 8, 8, 3)
    padded = np.pad(image[0], ((2, 2), (2, 2), (0, 0)), mode="edge")
    places = [(top, left) for top in range(5) for left in range(5)]
    windows = {padded[top : top + 8, left : left + 8].tobytes() for top, left in places}
    assert {item.tobytes() for item in moved} == windows
    assert shifted(image, 0, numpy_chance(0)) is image
