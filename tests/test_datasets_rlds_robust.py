"""Broken records, missing shards and fields, and passes that were stopped: named, and set aside only when asked."""

import itertools
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from rlds_files import episode, framed, picture, shard, tiny_features, write_set

from vla.datasets import rlds_index
from vla.datasets.checksum import masked_crc32c
from vla.datasets.rlds import Config
from vla.datasets.rlds_source import RldsSource
from vla.errors import ConfigError, DataError, UnknownName
from vla.quirks import QuirksFound


def config(folder: Path, **options) -> Config:
    settings = {"description": folder / "tiny.toml", "cache": folder.parent / "cache", "workers": 1} | options
    return Config(folder, **settings)


def first_actions(source: RldsSource) -> list[float]:
    return [float(source[number].action[0, 0]) for number in range(len(source))]


def damaged(folder: Path, place: int, number: int = 0, count: int = 1) -> None:
    """Flip a bit of one shard."""
    file = shard(folder, number, count)
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    file.write_bytes(data)


@pytest.fixture
def five(tmp_path) -> Path:
    """Five episodes in two shards."""
    return write_set(tmp_path / "set", {"train": [[episode(0), episode(1), episode(2)], [episode(3), episode(4)]]})


LENGTH = len(framed(episode(0)))


def test_all_are_read_in_order(five):
    source = config(five).make()
    assert first_actions(source) == [0, 100, 200, 300, 400]
    assert source[4].instruction == "task 4" and source[4].source == "tiny/train[4]"
    assert source[3].info == {"metadata": {"episode_metadata/file_path": "file 3"}}
    assert source.quirks == ()


def test_fixes_are_canonical_and_raw_is_as_stored(five):
    fixed, raw = config(five).make()[0], config(five, fixes=False).make()[0]
    assert raw.action[:, 1].tolist() == [1, 3, 5] and raw.spec.action.gripper is not None
    assert fixed.spec.action.gripper is not None and fixed.spec.action.gripper.opened == 1.0
    np.testing.assert_allclose(fixed.action[:, 1], (1 - raw.action[:, 1]) / 2)


@pytest.mark.parametrize("place", [LENGTH + 12, LENGTH + 40, 2 * LENGTH - 1], ids=["first byte", "inside", "its CRC"])
def test_a_record_with_a_wrong_checksum(five, place):
    damaged(five, place, 0, 2)
    with pytest.raises(DataError) as caught:
        config(five).make()
    error = caught.value
    assert error.file == str(shard(five, 0, 2)) and error.field == f"record 1 of the split at byte {LENGTH}"
    assert "masked CRC-32C" in error.expected and "--skip-broken" in error.found
    source = config(five, skip_broken=True).make()
    assert first_actions(source) == [0, 200, 300, 400]
    assert source[1].source == "tiny/train[2]", "records keep their numbers"
    (quirk,) = source.quirks
    assert (quirk.kind, quirk.file) == ("broken-record", error.file) and quirk.remedy == "1 record set aside"
    assert first_actions(config(five, tolerate=("broken-record",)).make()) == [0, 200, 300, 400]


def test_a_wrong_length_loses_the_rest_of_its_shard(five):
    damaged(five, LENGTH + 2, 0, 2)
    with pytest.raises(DataError, match=r"2 records from here to the end of the file cannot be found again"):
        config(five).make()
    source = config(five, skip_broken=True).make()
    assert first_actions(source) == [0, 300, 400]
    assert [quirk.remedy for quirk in source.quirks] == ["2 records set aside"]
    assert first_actions(config(five, split="train[3:]").make()) == [300, 400], "that part of the split is whole"
    with pytest.raises(DataError, match="cannot be found again"):
        config(five, split="train[2:]").make()


def test_slices_count_records_that_are_set_aside(five):
    damaged(five, LENGTH + 40, 0, 2)
    assert first_actions(config(five, split="train[:40%]", skip_broken=True).make()) == [0]
    assert first_actions(config(five, split="train[2:]").make()) == [200, 300, 400]
    assert first_actions(config(five, split="train[4:]+train[:1]").make()) == [400, 0]


def test_a_file_cut_off_within_a_record(five):
    file = shard(five, 1, 2)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"expected record of \d+ bytes and its CRC, found only \d+ bytes before"):
        config(five).make()
    assert first_actions(config(five, skip_broken=True).make()) == [0, 100, 200, 300]


def test_a_missing_shard(five):
    shard(five, 0, 2).unlink()
    with pytest.raises(DataError, match=r"00000-of-00002: shard: expected a file, found No such file.*--skip-broken"):
        config(five).make()
    source = config(five, skip_broken=True).make()
    assert first_actions(source) == [300, 400] and source[0].source == "tiny/train[3]"
    assert [(quirk.kind, quirk.remedy) for quirk in source.quirks] == [("missing-shard", "3 records set aside")]


def test_more_records_than_said(five):
    file = shard(five, 1, 2)
    file.write_bytes(file.read_bytes() + framed(episode(9)))
    with pytest.raises(DataError, match=r"expected 2 records as in dataset_info\.json, found more"):
        config(five).make()
    assert first_actions(config(five, skip_broken=True).make()) == [0, 100, 200, 300, 400]


BROKEN = {
    "missing": ({"steps__action": None}, "steps/action", "only "),
    "kind": ({"steps__action": [1] * 6}, "steps/action", "a int64 list"),
    "short": ({"steps__action": [1.0] * 5}, "steps/action", "5 numbers"),
    "nan": ({"steps__action": [1.0] * 5 + [float("nan")]}, "steps/action", "nan] in step 2"),
    "infinite": ({"steps__observation__state": [float("inf")] * 6}, "steps/observation/state", "inf"),
    "pictures": ({"steps__observation__image": [picture(0)] * 2}, "steps/observation/image", "2"),
    "picture": ({"steps__observation__image": [picture(0), b"no", picture(0)]}, "steps/observation/image", "2 bytes"),
    "cut picture": ({"steps__observation__image": [picture(0)[:9]] * 3}, "steps/observation/image", "9 bytes"),
    "size": ({"steps__observation__image": [picture(0, size=9)] * 3}, "steps/observation/image", "9x9"),
    "text": ({"steps__language_instruction": [b"\xff"] * 3}, "steps/language_instruction", "0xff"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_record_that_does_not_fit(tmp_path, name):
    changes, field, found = BROKEN[name]
    folder = write_set(tmp_path / "set", {"train": [[episode(0), episode(1, **changes), episode(2)]]})
    with pytest.raises(DataError) as caught:
        config(folder).make()
    assert f"record 1 of the split at byte {LENGTH}: {field}" in caught.value.field and found in caught.value.found
    source = config(folder, skip_broken=True).make()
    assert first_actions(source) == [0, 200] and len(source.quirks) == 1
    assert source[1].images["front"][2].shape == (8, 8, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 40, b"\x0a\x05hello", b"\x0a\x7f" * 100_000, episode(0)[:-30], episode(0, 0)],
    ids=["empty", "noise", "text", "nested", "cut", "no steps"],
)
def test_a_record_that_is_no_example(tmp_path, data):
    folder = write_set(tmp_path / "set", {"train": [[episode(0), data, episode(2)]]})
    with pytest.raises(DataError, match="record 1 of the split"):
        config(folder).make()
    assert first_actions(config(folder, skip_broken=True).make()) == [0, 200]


def test_a_field_that_nobody_reads_may_be_wrong(tmp_path):
    records = [episode(0), episode(1, episode_metadata__file_path=None), episode(2)]
    folder = write_set(tmp_path / "set", {"train": [records]})
    source = config(folder).make()
    assert first_actions(source) == [0, 100, 200]
    assert source[1].info == {} and source[2].info["metadata"] == {"episode_metadata/file_path": "file 2"}
    wrong = write_set(tmp_path / "two", {"train": [[episode(0, steps__observation__image=None)]]})
    blind = wrong / "tiny.toml"
    blind.write_text(blind.read_text()[: blind.read_text().index("[[cameras]]")])
    assert first_actions(config(wrong).make()) == [0]


def test_a_huge_length_allocates_nothing(tmp_path):
    folder = write_set(tmp_path / "set", {"train": [[episode(0), episode(1)]]})
    length = struct.pack("<Q", 2**62)
    whole = shard(folder).read_bytes()
    shard(folder).write_bytes(whole[:LENGTH] + length + struct.pack("<I", masked_crc32c(length)) + whole[LENGTH + 12 :])
    with pytest.raises(DataError, match=f"record of {2**62} bytes"):
        config(folder).make()


@pytest.mark.parametrize("lengths", ['["99999999999"]', '["-1"]', '["1e9"]', "7", '[["2"]]', "[null]", "[1e999]"])
def test_shard_lengths_that_are_none(tmp_path, lengths):
    folder = write_set(tmp_path / "set", {"train": [[episode(0), episode(1)]]})
    text = (folder / "dataset_info.json").read_text()
    (folder / "dataset_info.json").write_text(text.replace('["2"]', lengths))
    with pytest.raises(DataError):
        config(folder).make()


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "vla.json"])
@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, "1e999", "NaN", '"x"', "\xff\xfe"])
def test_json_that_is_nothing(tmp_path, name, text):
    folder = write_set(tmp_path / "set", {"train": [[episode(0)]]})
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=name):
        config(folder, description=None).make()


def test_features_within_features_without_end(tmp_path):
    folder = write_set(tmp_path / "set", {"train": [[episode(0)]]})
    feature: dict = {"pythonClassName": "a.Tensor"}
    for _ in range(50):
        feature = {"pythonClassName": "x.FeaturesDict", "featuresDict": {"features": {"a": feature}}}
    (folder / "features.json").write_text(json.dumps(feature))
    with pytest.raises(DataError, match="more than 32 levels"):
        config(folder).make()


def test_nobody_knows_the_fields(five):
    with pytest.raises(DataError) as caught:
        config(five, description=None).make()
    text = str(caught.value)
    assert "--description FILE" in text and "datasets/oxe/tiny.toml" in text
    assert "steps/observation/state: 2 float32" in text and "steps/observation/image: picture 8x8" in text
    assert "episode_metadata/file_path: text" in text


def test_a_description_that_does_not_fit(five):
    file = five / "tiny.toml"
    file.write_text(file.read_text().replace('"x y"', '"x y z"'))
    with pytest.raises(DataError, match=r"observation/state: expected at least 3 numbers"):
        config(five).make()
    file.write_text(file.read_text().replace('"x y z"', '"x y"').replace("language_instruction", "task"))
    with pytest.raises(DataError, match=r"features\.json: task: expected a field of text"):
        config(five).make()


def test_a_camera_that_is_described_but_not_there(five):
    file = five / "tiny.toml"
    file.write_text(file.read_text() + '[[cameras]]\nname = "wrist"\nfield = "observation/wrist"\n')
    with pytest.raises(QuirksFound, match=r"(?s)missing-camera: .*observation/wrist.*--tolerate missing-camera"):
        config(five).make()
    source = config(five, tolerate=("missing-camera",)).make()
    assert source.spec.camera_names == ("front",) and len(source.quirks) == 1
    assert config(five, cameras=("front",)).make().quirks == ()
    with pytest.raises(UnknownName, match="wrist"):
        config(five, cameras=("wrist",)).make()


def test_an_instruction_of_the_whole_episode(five):
    file = five / "tiny.toml"
    file.write_text(file.read_text().replace('"language_instruction"', '"episode_metadata/file_path"'))
    assert config(five).make()[3].instruction == "file 3"


def test_swapped_colours_are_put_right(five):
    file = five / "tiny.toml"
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    plain = config(five).make()[0].images["front"]
    file.write_text(file.read_text() + "bgr = true\n")
    swapped = config(five).make()[0].images["front"]
    assert np.array_equal(swapped[1], plain[1][..., ::-1]) and len(swapped[1:]) == 2
    assert not hasattr(swapped, "encoded") and plain.encoded(1).startswith(b"\xff\xd8")  # type: ignore[attr-defined]


def test_bad_splits(five):
    with pytest.raises(ConfigError, match="is not written as"):
        config(five, split="train[").make()
    with pytest.raises(UnknownName, match="known: train"):
        config(five, split="test").make()
    with pytest.raises(DataError, match="at least one episode"):
        config(five, split="train[2:2]").make()


def test_several_splits_are_one_source(tmp_path):
    folder = write_set(tmp_path / "set", {"train": [[episode(0), episode(1)]], "val": [[episode(2, 5)]]})
    source = config(folder, split="val+train[50%:]").make()
    assert source.lengths.tolist() == [5, 3] and first_actions(source) == [200, 100]
    assert [source[number].source for number in (0, 1, -1)] == ["tiny/val[0]", "tiny/train[1]", "tiny/train[1]"]
    assert first_actions(pickle.loads(pickle.dumps(source))) == [200, 100]  # noqa: S301 - our own
    with pytest.raises(IndexError):
        source[2]
    assert config(folder, split="all").make().lengths.tolist() == [3, 3, 5]


def test_content_follows_the_files_and_the_settings_but_not_the_place(tmp_path):
    sets = {name: write_set(tmp_path / name, {"train": [[episode(0), episode(1)]]}) for name in ("a", "b")}
    contents = [config(folder).make().content for folder in sets.values()]
    assert contents[0] == contents[1]
    others = [
        config(sets["a"], fixes=False),
        config(sets["a"], split="train[:1]"),
        config(sets["a"], cameras=("front",)),
    ]
    found = [other.make().content for other in others]
    assert contents[0] not in found[:2] and found[2] == contents[0]
    write_set(sets["b"], {"train": [[episode(0), episode(7)]]})
    assert config(sets["b"]).make().content != contents[0]
    assert len(list((tmp_path / "cache").glob("*.columns"))) == 3, "those of an index that is no more are gone"


def test_processes_make_the_same_index(tmp_path):
    folder = write_set(tmp_path / "set", {"train": [[episode(2 * n), episode(2 * n + 1, 4)] for n in range(3)]})
    done: list[tuple[int, int]] = []
    alone = config(folder, progress=lambda *counts: done.append(counts)).make()
    read, episodes = ([each for each in done if each[1] == total] for total in dict.fromkeys(each[1] for each in done))
    for counts in (read, episodes):
        assert all(low[0] <= high[0] for low, high in itertools.pairwise(counts)) and counts[-1][0] == counts[-1][1]
    together = config(folder, workers=2, cache=tmp_path / "other").make()
    assert together.content == alone.content
    one, two = (rlds_index.RldsIndex.open(source.pieces[0].index).arrays for source in (alone, together))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_pass_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "set", {"train": [[episode(0)], [episode(1)], [episode(2)]]})
    real, read = rlds_index.index_shard, []

    def interrupted(job, told=lambda count: None):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(job.shard.place)
        return real(job, told)

    monkeypatch.setattr(rlds_index, "index_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        config(folder).make()
    read.clear()
    assert first_actions(config(folder).make()) == [0, 100, 200]
    assert len(read) == 1, "two of three shards had been read"
    assert not list((tmp_path / "cache").glob("*.parts"))


def test_pictures_are_not_in_memory_while_indexing(tmp_path):
    """The part of a shard holds numbers, texts and places only."""
    folder = write_set(tmp_path / "set", {"train": [[episode(0, 40)]]})
    source = config(folder).make()
    assert source.pieces[0].index.stat().st_size < shard(folder).stat().st_size / 2


def test_the_listing_says_what_is_not_read(tmp_path):
    import tensorflow_datasets as tfds

    kinds = tfds.features
    features = tiny_features()
    step = {
        "embedding": kinds.Tensor(shape=(512,), dtype=np.float32),
        "depth": kinds.Image(shape=(4, 4, 1), dtype=np.uint16, encoding_format="png"),
        "ragged": kinds.Sequence(np.int64),
        "action": kinds.Tensor(shape=(2,), dtype=np.float32),
    }
    features = kinds.FeaturesDict({"steps": kinds.Dataset(step)})
    folder = write_set(tmp_path / "set", {"train": [[episode(0)]]}, features)
    with pytest.raises(DataError) as caught:
        config(folder, description=None).make()
    text = str(caught.value)
    assert "steps/embedding: not read: 512 numbers, where at most 256 are kept" in text
    assert "steps/depth: not read: a picture of uint16" in text and "steps/ragged: not read: ragged" in text
