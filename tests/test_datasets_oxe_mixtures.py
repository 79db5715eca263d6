"""The published mixtures: every name is described, and the numbers are those of the published tables."""

import pytest

from vla.datasets.oxe.mixtures import MIXTURES, mixture
from vla.datasets.oxe.registry import oxe_description, oxe_files
from vla.errors import UnknownName

COUNTS = {  # data sets and the sum of their weights, added up from the published tables, duplicates once
    "bridge": (1, 1.0),
    "rtx": (11, 19.37497585143),
    "rtx_franka": (25, 41.57497585143),
    "oxe_magic_soup": (25, 30.77497585143),
    "oxe_magic_soup_openvla": (23, 29.57497585143),
    "oxe_magic_soup_plus": (27, 31.03497585143),
    "oxe_magic_soup_plus_minus": (25, 31.3341046294),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_every_data_set_of_a_mixture_is_described(name):
    files = [oxe_files()[data_set] for data_set in mixture(name)]
    assert len(set(files)) == len(files)  # no data set under two of its names
    for data_set in mixture(name):
        assert data_set in oxe_description(data_set).names


@pytest.mark.parametrize("name", MIXTURES)
def test_weights_are_those_published(name):
    weights = mixture(name)
    count, total = COUNTS[name]
    assert len(weights) == count
    assert sum(weights.values()) == pytest.approx(total, abs=1e-9)
    assert all(weight > 0 for weight in weights.values())
    assert len(MIXTURES[name][0]) > 20


def test_what_tells_the_soups_apart():
    octo, plus, minus = (mixture(f"oxe_magic_soup{end}") for end in ("", "_plus", "_plus_minus"))
    assert set(octo) - set(plus) == {"bridge_dataset", "nyu_door_opening_surprising_effectiveness"}
    assert set(plus) - set(octo) == {"bridge_orig", "fmb_dataset", "dobbe", "droid"}
    assert set(plus) - set(minus) == {"language_table", "droid"}
    assert (plus["fractal20220817_data"], minus["fractal20220817_data"]) == (0.54087122203, 1.0)


def test_mixture_is_a_copy_and_unknown_ones_are_answered():
    mixture("bridge")["bridge_dataset"] = 9.0
    assert mixture("bridge") == {"bridge_dataset": 1.0}
    with pytest.raises(UnknownName, match="closest: oxe_magic_soup"):
        mixture("oxe_magic_soap")
