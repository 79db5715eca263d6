import pytest

from vla.errors import ConfigError
from vla.files import whole_file, whole_folder, write_text


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
