"""Pictures embedded in Parquet: one read each where the column is plain, unpacked once where it is not."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from vla.datasets import lerobot_frames
from vla.datasets.lerobot_frames import ParquetFrames, SwappedFrames
from vla.datasets.picture import Encoded
from vla.errors import DataError

COLUMN, SIZE, ROWS = "observation.images.top", (24, 40), 50
PLAIN: list[dict[str, Any]] = [
    {"compression": "none", "use_dictionary": False},
    {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
    {"compression": "none", "use_dictionary": False, "write_batch_size": 3, "data_page_size": 4000},
    {"compression": "none", "use_dictionary": False, "row_group_size": 7},
    {"compression": "none", "use_dictionary": False, "row_group_size": 9, "write_page_checksum": True},
    {"compression": "none", "use_dictionary": False, "data_page_version": "2.0", "write_page_checksum": True},
]
PACKED: list[dict[str, Any]] = [
    {"compression": "snappy"},
    {"compression": "zstd", "row_group_size": 11, "data_page_version": "2.0"},
    {"compression": "none", "use_dictionary": True},
    {"compression": "gzip", "use_dictionary": False, "write_page_checksum": True},
]


def pictures(form: str = "PNG") -> list[bytes]:
    rng = np.random.default_rng(0)
    result = []
    for _ in range(ROWS):
        buffer = io.BytesIO()
        PilImage.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(buffer, form)
        result.append(buffer.getvalue())
    return result


def table(values: list[bytes | None]) -> pa.Table:
    rows = [{"bytes": value, "path": f"{number}.png"} for number, value in enumerate(values)]
    return pa.table({"index": list(range(len(values))), COLUMN: rows, "after": [[0.5, 1.5]] * len(values)})


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(lerobot_frames, "_found", lerobot_frames._Ranges(lerobot_frames._LIMIT))


def frames(tmp_path: Path, first: int = 0, steps: int = ROWS) -> ParquetFrames:
    return ParquetFrames(tmp_path / "a.parquet", COLUMN, first, steps, SIZE, tmp_path / "cache")


@pytest.mark.parametrize("options", [*PLAIN, *PACKED], ids=str)
def test_every_layout_gives_the_stored_bytes(tmp_path, options):
    stored = pictures()
    pq.write_table(table([*stored]), tmp_path / "a.parquet", **options)
    have = frames(tmp_path)
    for row in np.random.default_rng(1).permutation(ROWS).tolist():
        assert have.encoded(row) == stored[row]
    assert np.array_equal(have[7], np.array(PilImage.open(io.BytesIO(stored[7]))))
    assert len(have[3:9:2]) == 3 and np.array_equal(have[-1], have[ROWS - 1])
    part = frames(tmp_path, 10, 5)
    assert len(part) == 5 and part.encoded(4) == stored[14]
    with pytest.raises(IndexError):
        part[5]
    assert isinstance(have, Encoded) and not isinstance(SwappedFrames(have), Encoded)
    assert bool(list((tmp_path / "cache").rglob("*.bin"))) == (options in PACKED)


@pytest.mark.parametrize("options", [PLAIN[4], *PACKED], ids=str)
def test_checking_and_unpacking_happen_once(tmp_path, options, monkeypatch):
    stored = pictures()
    pq.write_table(table([*stored]), tmp_path / "a.parquet", **options)
    assert frames(tmp_path).encoded(3) == stored[3]
    monkeypatch.setattr(lerobot_frames, "_found", lerobot_frames._Ranges(lerobot_frames._LIMIT))
    with monkeypatch.context() as patch:
        patch.setattr(lerobot_frames, "open_parquet", lambda _: pytest.fail("the file is looked through again"))
        assert frames(tmp_path).encoded(5) == stored[5]
    pq.write_table(table([*reversed(stored)]), tmp_path / "a.parquet", **options)
    os.utime(tmp_path / "a.parquet", ns=(1, 1))
    assert frames(tmp_path).encoded(3) == stored[-4]
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.write_bytes(b"damaged")
    monkeypatch.setattr(lerobot_frames, "_found", lerobot_frames._Ranges(lerobot_frames._LIMIT))
    assert frames(tmp_path).encoded(3) == stored[-4]


def test_one_picture_does_not_read_the_row_group(tmp_path, monkeypatch):
    stored = pictures()
    pq.write_table(table([*stored]), tmp_path / "a.parquet", **PLAIN[0])
    assert frames(tmp_path).encoded(0) == stored[0] and not (tmp_path / "cache").exists()
    read, real = [0], os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        read[0] += count
        return real(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert frames(tmp_path)[20].shape == (*SIZE, 3)
    assert read[0] == len(stored[20])


def test_what_is_kept_is_bounded(tmp_path):
    pq.write_table(table([*pictures()]), tmp_path / "a.parquet", **PLAIN[0])
    few = lerobot_frames._Ranges(limit=3 * ROWS * 16)
    for number in range(8):
        (tmp_path / f"{number}.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
        few.find(tmp_path / f"{number}.parquet", COLUMN, 0, tmp_path)
    assert len(few._known) == 3 and few._size == 3 * ROWS * 16


@pytest.mark.parametrize("options", [PLAIN[0], PACKED[0]], ids=str)
def test_missing_pictures_are_errors(tmp_path, options):
    pq.write_table(table([*pictures()[:4], None]), tmp_path / "a.parquet", **options)
    with pytest.raises(DataError, match="embedded pictures"):
        frames(tmp_path)[2]
    pq.write_table(table([*pictures()[:4]]), tmp_path / "a.parquet", **options)
    with pytest.raises(DataError, match="only 4 rows"):
        frames(tmp_path)[4]
    with pytest.raises(DataError, match="expected a picture of 25x40, found 24x40"):
        ParquetFrames(tmp_path / "a.parquet", COLUMN, 0, 4, (25, 40), tmp_path / "cache")[0]
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"a\.parquet"):
        frames(tmp_path)[0]


@pytest.mark.parametrize("options", [PLAIN[0], PLAIN[2], PLAIN[4], PLAIN[5], PACKED[1], PACKED[3]], ids=str)
def test_corrupted_files_give_the_stored_bytes_or_an_error(tmp_path, options):
    """Where the file has checksums, never other bytes than were stored."""
    stored = pictures("JPEG")
    pq.write_table(table([*stored]), tmp_path / "a.parquet", **options)
    data, rng, wrong = (tmp_path / "a.parquet").read_bytes(), np.random.default_rng(5), 0
    for case in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 1 + case % 3):
            changed[place] ^= 1 << int(rng.integers(8))
        if case % 5 == 4:
            changed = changed[: int(rng.integers(len(data)))]
        (tmp_path / "a.parquet").write_bytes(bytes(changed))
        os.utime(tmp_path / "a.parquet", ns=(case, case))
        for row in (0, 17, ROWS - 1):
            try:
                wrong += frames(tmp_path).encoded(row) != stored[row]
            except DataError:
                continue
    assert not (options.get("write_page_checksum") and wrong)


def test_swapped_colours(tmp_path):
    pq.write_table(table([*pictures()]), tmp_path / "a.parquet", **PLAIN[0])
    have, swapped = frames(tmp_path), SwappedFrames(frames(tmp_path))
    assert len(swapped) == ROWS and np.array_equal(swapped[3], have[3][..., [2, 1, 0]])
    assert np.array_equal(swapped[1:3][1], swapped[2]) and swapped[0].flags.c_contiguous
