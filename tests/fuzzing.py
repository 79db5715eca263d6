"""Seeded damage to files, and a reader process that is watched while it meets them."""

import contextlib
import json
import random
import select
import struct
import subprocess
import sys
from pathlib import Path

HANG_S = 60.0


def corrupt(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """The bytes damaged in one way, and its name; never the same bytes."""
    while True:
        kind = chance.choice(_KINDS)
        damaged = kind(bytearray(data), chance)
        if bytes(damaged) != data:
            return bytes(damaged), kind.__name__.strip("_")


def _flipped_bits(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _random_bytes(data: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    count = chance.choice((1, 4, 64, 1024))
    data[start : start + count] = chance.randbytes(len(data[start : start + count]))
    return bytes(data)


def _zeroed(data: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    count = len(data[start : start + chance.choice((4, 512, 4096))])
    data[start : start + count] = bytes(count)
    return bytes(data)


def _truncated(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data) + 1)])


def _cut_out(data: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 8, 100))]
    return bytes(data)


def _doubled(data: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 8, 100))]
    return bytes(data[:start] + piece + data[start:])


def _huge_number(data: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    value = chance.choice((2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
    piece = struct.pack("<Q", value)[: chance.choice((4, 8))]
    data[start : start + len(piece)] = piece
    return bytes(data)


def _deep_nesting(data: bytearray, chance: random.Random) -> bytes:
    """Brackets of JSON by the hundred thousand; for others a run of bytes that may mean a message in a message."""
    opening = chance.choice((b"[", b'{"a":', b"\x0a\x7f", b"\x1c"))
    start = chance.randrange(len(data) + 1)
    return bytes(data[:start]) + opening * chance.choice((100, 100_000)) + bytes(data[start:])


def _other_value(data: bytearray, chance: random.Random) -> bytes:
    """For JSON: a number, a word or a bracket replaced by something else that may be valid."""
    text = bytes(data)
    old = chance.choice((b"1", b"0", b"3", b"[", b"{", b'"', b"float32", b"int64", b":", b"train"))
    new = chance.choice((b"-1", b"1e999", b"null", b"[]", b"{}", b'"x"', b"9999999999999", b"NaN", b"true"))
    places = [place for place in range(len(text)) if text.startswith(old, place)]
    if not places:
        return _flipped_bits(data, chance)
    place = chance.choice(places)
    return text[:place] + new + text[place + len(old) :]


_KINDS = (
    _flipped_bits,
    _random_bytes,
    _zeroed,
    _truncated,
    _cut_out,
    _doubled,
    _huge_number,
    _deep_nesting,
    _other_value,
)


class Reader:
    """A process that reads data sets; replaced when it dies or hangs."""

    def __init__(self):
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def read(self, path: Path, options: dict | None = None, what: str = "data") -> dict:
        """What came of reading something (see fuzz_worker.py), ``crashed`` or ``hung``."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"what": what, "path": str(path), "options": options or {}}) + "\n")
            process.stdin.flush()
        return self._answer()

    def _start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        answer = self._answer()
        assert answer["outcome"] == "ready", answer

    def _answer(self) -> dict:
        process = self._process
        assert process is not None and process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], HANG_S)
        if not ready:
            self._kill()
            return {"outcome": "hung"}
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            return {"outcome": "crashed", "error": f"exit code {code}"}
        return json.loads(line)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
