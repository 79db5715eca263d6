"""What this project wrote and something changed later is a quirk that names the file, in both formats."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.lerobot_writer import Writer as LeRobotWriter
from vla.datasets.manifest import MANIFEST, changes, file_sum, manifest_text, sum_of
from vla.datasets.rlds_writer import Writer as RldsWriter
from vla.embodiments.libero_panda import libero_panda
from vla.errors import DataError
from vla.experience import Episode
from vla.plugins import open_source
from vla.quirks import QuirksFound

SPEC = libero_panda(16)
KIND = "changed-since-written"


def episode(seed: int) -> Episode:
    chance = np.random.default_rng(seed)
    pictures = [np.full((16, 16, 3), 20 * step + seed, np.uint8) for step in range(4)]
    state, action = (chance.normal(size=(4, n)).astype(np.float32) for n in (len(SPEC.state), SPEC.action.size))
    images = dict.fromkeys(SPEC.camera_names, pictures)
    return Episode(SPEC, state, action, images, np.arange(4) / 20, f"do {seed}", success=True, source=f"from[{seed}]")


@pytest.fixture(params=["rlds", "image", "video"])
def folder(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "set"
    with RldsWriter(path, SPEC) if request.param == "rlds" else LeRobotWriter(path, SPEC, request.param) as writer:
        for seed in range(2):
            writer.add(episode(seed))
    return path / "1.0.0" if request.param == "rlds" else path


def listed(folder: Path) -> Path:
    (file,) = folder.rglob(MANIFEST)
    return file


def quirk(folder: Path):
    with pytest.raises(QuirksFound) as caught:
        open_source(folder)
    found = caught.value.quirks[0]
    assert found.kind == KIND
    return found


def test_the_list_has_all_files_that_have_no_checksums(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unlisted = {name for name in names if MANIFEST in name or ".tfrecord-" in name}  # records have their own
    files = json.loads(listed(folder).read_text())["files"]
    assert set(files) == names - unlisted
    for name, (size, crc) in files.items():
        data = (folder / name).read_bytes()
        assert (size, int(crc, 16)) == (len(data), zlib.crc32(data))


def test_another_source_of_an_episode_is_noticed(folder):
    name = "meta/vla_episodes.jsonl" if (folder / "meta").exists() else "dataset_info.json"
    before, after = ("from[1]", "from[7]") if (folder / "meta").exists() else ("1.0.0", "1.0.1")
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace(before, after))
    found = quirk(folder)
    assert found.field == name and found.file.endswith(MANIFEST)
    source = open_source(folder, tolerate=(KIND,))
    assert len(source) == 2 and [quirk.kind for quirk in source.quirks] == [KIND]


def test_every_byte_after_the_pictures_began_counts(folder):
    for file in [*folder.rglob("*.mp4"), *folder.glob("data/**/*.parquet")]:
        whole = file.read_bytes()
        file.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
        try:
            open_source(folder)
        except QuirksFound as error:
            assert error.quirks[0].kind == KIND and file.name in error.quirks[0].field
        except DataError as error:
            assert file.suffix == ".parquet" and "Parquet" in str(error)  # its footer no longer reads at all
        else:
            pytest.fail(f"{file} changed and nobody noticed")
        file.write_bytes(whole)


def test_several_changes_are_one_quirk_and_a_lost_file_is_one(folder):
    if not (folder / "meta").exists():
        pytest.skip("without its files RLDS is none")
    (folder / "meta/vla_episodes.jsonl").unlink()
    (folder / "meta/stats.json").write_text((folder / "meta/stats.json").read_text() + " ")
    found = quirk(folder)
    assert "1 of the other" in found.found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"files"', '"folds"'), "another JSON value"),
        (lambda text: text[:-9] + "x" + text[-8:], "stands in it"),
        (lambda text: text.replace("1", "2", 3), "stands in it|another JSON value"),
        (lambda text: text[:40], "Unterminated|Expecting|delimiter"),
        (lambda text: "[" * 200_000, "recursion"),
        (None, "nothing there"),
    ],
)
def test_a_list_that_is_damaged_itself(folder, change, message):
    file = listed(folder)
    if change is None:
        file.unlink()
    else:
        file.write_text(change(file.read_text()))
    found = quirk(folder)
    assert found.field == "file"
    assert any(part in found.found for part in message.split("|")), found.found
    assert len(open_source(folder, tolerate=(KIND,))) == 2


def test_sets_from_before_there_were_lists_are_read(folder):
    listed(folder).unlink()
    (file,) = folder.rglob("vla.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 1}))
    assert len(open_source(folder)) == 2


def test_files_that_are_added_do_not_count(folder):
    (folder / "README.md").write_text("of the Hub")
    assert open_source(folder).quirks == ()


@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,8}(/[a-zé]{1,8})?\Z"), st.binary(max_size=40), min_size=1), st.data())
def test_the_first_difference_is_named(files, data):
    text = manifest_text({name: sum_of(content) for name, content in files.items()}).encode()
    sums = {name: sum_of(content) for name, content in files.items()}
    assert changes("list", text, sums.get) is None
    name = data.draw(st.sampled_from(sorted(files)))
    changed = sums | {name: sum_of(files[name] + b"\0")}
    found = changes("list", text, changed.get)
    assert found is not None and found.field == name
    gone = {other: sum for other, sum in sums.items() if other != name}
    assert changes("list", text, gone.get, named_elsewhere=(name,)) is None
    assert changes("list", text, gone.get) is not None


def test_sums_of_a_large_file_are_those_of_its_bytes(tmp_path):
    data = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "file").write_bytes(data)
    assert file_sum(tmp_path / "file") == sum_of(data)
