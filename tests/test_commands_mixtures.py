from pathlib import Path

import numpy as np
import pytest
from random_episodes import SPEC, episode
from test_datasets_views import InMemory

from vla.commands.mixtures import mixture_data, only_human, open_data, training_mixture
from vla.datasets.oxe.mixtures import mixture
from vla.errors import ConfigError, UnknownName
from vla.plugins import open_source

OXE = Path(__file__).parent.parent / "datasets/oxe"


def lay_out(root, names):
    for name in names:
        for version in ("0.1.0", "0.10.0", "0.9.0"):
            (root / name / version).mkdir(parents=True)
        (root / name / "notes").mkdir()


def test_the_newest_version_of_each_set_with_its_weight(tmp_path):
    weights = mixture("rtx")
    lay_out(tmp_path, weights)
    places, found = mixture_data("rtx", str(tmp_path))
    assert places == tuple(str(tmp_path / name / "0.10.0") for name in weights)
    assert found == tuple(weights.values())


def test_a_set_under_its_other_name_is_found(tmp_path):
    lay_out(tmp_path, ["bridge_orig" if name == "bridge_dataset" else name for name in mixture("rtx")])
    places, _ = mixture_data("rtx", tmp_path.as_uri())
    assert any("bridge_orig/0.10.0" in place for place in places) and all("://" in place for place in places)


def test_missing_sets_are_listed_or_left_out(tmp_path):
    lay_out(tmp_path, ["kuka", "viola"])
    with pytest.raises(ConfigError, match=r"has no .*fractal20220817_data.*toto"):
        mixture_data("rtx", str(tmp_path))
    places, weights = mixture_data("rtx", str(tmp_path), partly=True)
    assert len(places) == 2 and weights == (mixture("rtx")["kuka"], mixture("rtx")["viola"])
    with pytest.raises(ConfigError, match="has no"):
        mixture_data("rtx", str(tmp_path / "empty"), partly=True)


def test_an_unknown_mixture(tmp_path):
    with pytest.raises(UnknownName, match="oxe_magic_soup"):
        mixture_data("oxe_magic_soop", str(tmp_path))


def test_a_mixture_as_the_command_makes_it(shared_data, tmp_path):
    bridge = shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0"
    sources = [open_source(bridge, split=split, cache=tmp_path) for split in ("train", "val")]

    def mixture(**options):
        return training_mixture(sources, **options, horizon=4, seed=0, stride=1)

    whole = mixture()
    few = mixture(sample=("5", "20%"))
    assert few.windows[0] < whole.windows[0] and len({place.episode for place in few.frames() if not place.source}) == 5
    assert mixture(sample=("5",)).windows == mixture(sample=("5", "5")).windows
    assert mixture(weights=(1, 3)).order != whole.order
    assert mixture(weights=(1, 1), kind="times-size").order == whole.order
    with pytest.raises(ConfigError, match="3 samples"):
        mixture(sample=("1", "2", "3"))
    with pytest.raises(ConfigError, match="times-size"):
        mixture(weights=(1, 3), temperature=2.0)


@pytest.mark.usefixtures("own_cache")
def test_a_description_counts_for_the_sets_that_it_names(shared_data, tmp_path):
    text = (OXE / "bridge_dataset.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('"bridge_widowx"', '"lab_arm"').replace('"bridge_orig"', '"x.y"'))
    (tmp_path / "other.toml").write_text(text.replace('"bridge_dataset", "bridge_orig"', '"other"'))
    bridge = str(shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0")
    (source,) = open_data([bridge], descriptions=[tmp_path / "mine.toml"])
    assert source.spec.name == "lab_arm"
    (source,) = open_data([bridge])
    assert source.spec.name == "bridge_widowx"
    with pytest.raises(ConfigError, match=r"other.toml describes none of .*: bridge_dataset"):
        open_data([bridge], descriptions=[tmp_path / "other.toml"])


def test_of_a_rollout_only_what_a_person_did_is_learned_and_no_window_leaves_it():
    def recorded(seed, steps, label):
        return episode(seed, steps, info={"human": label} if label else {})

    demonstrations = InMemory(SPEC, [recorded(9, 6, [])], content="1")
    rollout = InMemory(SPEC, [recorded(0, 5, []), recorded(1, 10, [[1, 3], [5, 10]])], content="2")
    corrected = rollout.episodes[1].action
    paths = ("mine", "corrected")
    sources = only_human([demonstrations, rollout], paths, ["corrected"])
    assert sources[0] is demonstrations and sources[1].lengths.tolist() == [2, 5]
    drawn = training_mixture(sources, horizon=4, seed=0, stride=1)
    assert drawn.windows == (6, 7)
    seen = set()
    for window in (drawn[index] for index in range(100)):
        if window.origin.source == 1:
            (first,) = (step for step in range(10) if np.array_equal(corrected[step], window.actions[0]))
            stop = 3 if first < 3 else 10
            assert window.valid.tolist() == [first + ahead < stop for ahead in range(4)]
            assert np.array_equal(window.actions[window.valid], corrected[first : min(stop, first + 4)])
            seen.add(first)
    assert seen == {1, 2, 5, 6, 7, 8, 9}
    for human, said in ((["mine"], "mine: no step is labelled"), (["other"], "other is none of the data sets: mine")):
        with pytest.raises(ConfigError, match=said):
            only_human([demonstrations, rollout], paths, human)
