"""A folder that is filled file by file, appears only when it is complete, and can be gone on with after any end.

::

    .<name>.partial/journal     first line: what is being written; then one line for each lot of finished files
    .<name>.partial/set/        takes the name <name> at the end

A file counts once its line stands in the journal, which is written after the file was closed and flushed to disk: what
a killed process leaves is a prefix of whole files, and whatever else lies there is removed before going on.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vla.datasets.manifest import Sum, file_sum
from vla.errors import ConfigError, DataError

_FORMAT = 3


class PartialFolder:
    """A folder being written.

    Args:
        path: where it will appear; must not exist yet.
        key: what is being written, from which data and with which options: the same key goes on where an earlier
            process ended. None for a folder that is removed when it is not completed.
        close: lets go of files still open below :attr:`folder`; called when writing stops before the end.

    Raises:
        ConfigError: ``path`` exists already, another process is writing it, or what was begun has another key.
        DataError: what was begun is damaged, or the folder cannot be made.
    """

    def __init__(self, path: Path, key: str | None = None, close: Callable[[], None] | None = None):
        self.path, self.key, self._close = Path(path), key, close
        self.commits = 0
        self._journal: BinaryIO | None = None
        self._home: Path | None = None
        self.over = False  # finished or abandoned
        resumed = self.path.parent / f".{self.path.name}.partial"
        if self.path.exists():
            raise ConfigError(f"{self.path} exists already; choose another folder or remove it")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if key is None:
                self._home = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}-"))
            else:
                self._home = resumed
                resumed.mkdir(exist_ok=True)
            self._journal = (self._home / "journal").open("a+b")
            self._lock()
            self.folder.mkdir(exist_ok=True)
            self.folder.chmod(0o755)
            self._go_on()
        except BaseException as error:
            if key is None:
                self.abandon()
            self._release()  # with a key what was begun stays: it may be another process's, or worth more than this one
            if isinstance(error, OSError):
                raise self._disk(error) from error
            raise

    @property
    def folder(self) -> Path:
        """Where the files go."""
        assert self._home is not None
        return self._home / "set"

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What was said about the files so far, in order, each with the number of its lot; read from disk."""
        for lot, line in enumerate(self._lines()):
            for row in line["rows"]:
                yield lot, row

    def sums(self) -> dict[str, Sum]:
        """Size and checksum, when they were closed, of all files that are kept."""
        return {name: (sum[0], sum[1]) for line in self._lines() for name, sum in line["files"].items()}

    def commit(self, files: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> None:
        """From now on these files, closed and below :attr:`folder`, are kept; ``rows`` are JSON values about them."""
        sums: dict[str, Sum] = {}
        for file in files:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            sums[file.relative_to(self.folder).as_posix()] = file_sum(file)
        self._append({"files": sums, "rows": list(rows)})
        self.commits += 1

    def finish(self, names: Mapping[str, str] | None = None) -> None:
        """Give files their last names (old to new, below :attr:`folder`) and the folder its own."""
        if names:
            self._append({"names": dict(names)})
            for old, new in names.items():
                (self.folder / old).rename(self.folder / new)
        self.folder.rename(self.path)
        assert self._home is not None
        shutil.rmtree(self._home, ignore_errors=True)
        self._release()

    def abandon(self) -> None:
        """Stop writing: without a key, or when no file is finished, nothing is left behind."""
        if self.over:
            return
        if self._close is not None:
            with contextlib.suppress(OSError):  # what is still buffered does not fit on a full disk
                self._close()
        if self._home is not None and (self.key is None or not self.commits):
            shutil.rmtree(self._home, ignore_errors=True)
        self._release()

    def check_open(self) -> None:
        """Whether more can be written.

        Raises:
            ConfigError: it is finished or abandoned.
        """
        if self.over:
            raise ConfigError(f"{self.path} is finished: no episode can be added")

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever fails to be written becomes one clear error, after :meth:`abandon`."""
        try:
            yield
        except OSError as error:
            self.abandon()
            raise self._disk(error) from error
        except BaseException:
            self.abandon()
            raise

    def _disk(self, error: OSError) -> DataError:
        found = error.strerror or str(error)
        return DataError(self.path, "disk", expected="a writable folder with space", found=found)

    def _release(self) -> None:
        self.over = True
        if self._journal is not None:
            self._journal.close()  # and with it the lock

    def _lock(self) -> None:
        assert self._journal is not None
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{self.path} is being written by another process") from error

    def _append(self, value: Mapping[str, Any]) -> None:
        assert self._journal is not None
        self._journal.write(json.dumps(value).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def _go_on(self) -> None:
        """Take over what is there: drop the line cut off at the end and all files that no line names."""
        assert self._journal is not None and self._home is not None
        end, kept = self._whole_lines()
        self._journal.truncate(end)
        if not end:
            self._append({"format": _FORMAT, "key": self.key})
        for old, new in self._last_names().items():
            if (self.folder / new).exists():
                (self.folder / new).rename(self.folder / old)
        for name, (size, _) in kept.items():
            file = self.folder / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                place = "nothing there" if found is None else f"{found} bytes"
                raise self._damaged(name, f"{size} bytes as noted in the journal", place)
        for file in sorted(self.folder.rglob("*"), reverse=True):
            if file.is_dir():
                if not any(file.iterdir()):
                    file.rmdir()
            elif str(file.relative_to(self.folder)) not in kept:
                file.unlink()

    def _whole_lines(self) -> tuple[int, dict[str, Sum]]:
        """Where the last whole line ends, and the files that the lines name."""
        assert self._journal is not None
        self._journal.seek(0)
        end, kept = 0, {}
        for number, line in enumerate(self._journal):
            if not line.endswith(b"\n"):
                break
            try:
                value = json.loads(line)
                if number == 0:
                    self._check_key(value["format"], value["key"])
                elif "files" in value:
                    kept |= {name: (int(sum[0]), int(sum[1])) for name, sum in value["files"].items()}
                    self.commits += 1
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise self._damaged(
                    f"journal, line {number + 1}", "JSON as this program writes it", repr(error)
                ) from error
            end += len(line)
        return end, kept

    def _check_key(self, format: int, key: str | None) -> None:
        if (format, key) != (_FORMAT, self.key):
            raise ConfigError(
                f"{self._home} was begun from other data or with other options; "
                "give the same ones to go on, or remove that folder to begin anew"
            )

    def _damaged(self, field: str, expected: str, found: str) -> DataError:
        return DataError(f"{self._home}", f"{field} (remove the folder to begin anew)", expected=expected, found=found)

    def _lines(self) -> Iterator[dict[str, Any]]:
        assert self._home is not None
        with (self._home / "journal").open("rb") as file:
            for line in file:
                value = json.loads(line)
                if "files" in value:
                    yield value

    def _last_names(self) -> dict[str, str]:
        assert self._journal is not None
        names: dict[str, str] = {}
        self._journal.seek(0)
        for line in self._journal:
            value = json.loads(line)
            names |= value.get("names", {})
        self._journal.seek(0, os.SEEK_END)
        return names
