import numpy as np
import pytest

from vla.errors import ConfigError
from vla.files import read_npz, whole_file, whole_folder, write_text


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "deep" / "x.json"
    with pytest.raises(OSError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert list(target.parent.iterdir()) == []
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two" and list(target.parent.iterdir()) == [target]


def test_a_folder_is_whole_or_not_there(tmp_path):
    target = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as temporary:
        (temporary / "a").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with whole_folder(target) as temporary:
        (temporary / "a").write_text("all")
    assert (target / "a").read_text() == "all" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(ConfigError, match="there already"), whole_folder(target):
        pass


def test_whatever_bit_of_an_npz_file_turns_over_it_is_read_or_refused(tmp_path):
    """Zip, zlib and NumPy have many errors for that; they come as one."""
    path, whole = tmp_path / "a.npz", np.arange(300, dtype=np.int32)
    np.savez_compressed(path, whole=whole)
    assert np.array_equal(read_npz(path)["whole"], whole)
    sound = path.read_bytes()
    refused = 0
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        try:
            read_npz(path)
        except (OSError, ValueError):
            refused += 1
    assert refused > len(sound) // 2
    np.save(tmp_path / "bare.npy", whole)
    for bare in (tmp_path / "bare.npy", tmp_path / "missing.npz"):
        with pytest.raises((OSError, ValueError)):
            read_npz(bare)
