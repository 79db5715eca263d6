"""Batches made by processes are those made in this one, in the same order, from any number on; and nothing is left."""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from batch_makers import broken, odd, pids_of, squares, unreadable
from two_arms import Arms, encoder_of

from vla.errors import ConfigError, DataError, VlaError
from vla.training.config import TrainConfig
from vla.training.examples import ExampleReader
from vla.training.loader import LiveLoader
from vla.training.prepare import workers_of
from vla.training.read_ahead import read_ahead
from vla.training.shard import Shard


def alive(pids: set[int]) -> set[int]:
    """Those that run; one that nobody has waited for yet does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        running |= {pid} if state not in "ZX" else set()
    return running


def gone(pids: set[int], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while (left := alive(pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not left


def test_order_memory_and_the_end():
    handles = os.listdir("/proc/self/fd")
    results = read_ahead(squares, 5, workers=2)
    made = list(itertools.islice(results, 12))
    assert [int(one["value"][99, 49]) for one in made] == [number**2 for number in range(5, 17)], "all of them kept"
    workers, leaders = ({one[key] for one in made} for key in ("pid", "parent"))
    assert len(workers) == 2 and len(leaders) == 1 and os.getpid() not in workers | leaders
    assert not any(one["torch"] for one in made)
    made.clear()
    places, last = set(), 0
    for one in itertools.islice(results, 40):
        places.add(one["value"].__array_interface__["data"][0])
        last = int(one["value"][0, 0])
    assert last == 56**2 and len(places) <= 14, "memory goes round"
    results.close()
    assert gone(workers | leaders)
    del one
    assert len(os.listdir("/proc/self/fd")) <= len(handles) + 1, "the tracker of multiprocessing may have been started"


def test_an_error_comes_when_its_turn_does_and_as_it_was():
    results = read_ahead(broken, 4, workers=2)
    assert [next(results) for _ in range(3)] == [4, 5, 6]
    with pytest.raises(DataError, match="shard: record 7: expected a picture, found none"):
        next(results)


def test_an_error_that_cannot_travel_becomes_its_text():
    with pytest.raises(VlaError, match="Odd: 3 and 2"):
        next(read_ahead(odd, 3, workers=1))


def test_an_error_of_the_system_is_not_taken_for_a_lost_process():
    with pytest.raises(PermissionError, match="shard 3"):
        next(read_ahead(unreadable, 3, workers=1))


def test_what_cannot_go_to_another_process_is_refused():
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="use threads"):
        next(read_ahead(lambda number, _: number, 0, workers=1))
    assert len(os.listdir("/proc/self/fd")) <= before + 1, "the tracker of multiprocessing may have been started"


@pytest.mark.parametrize(
    ("said", "device", "share", "workers"),
    [(None, "cpu", 64, 0), (None, "cuda", 2, 0), (None, "cuda", 6, 5), (None, "cuda", 64, 8), (3, "cpu", 2, 3)],
)
def test_processes_decode_beside_a_gpu(said, device, share, workers):
    assert workers_of(TrainConfig(steps=1, workers=said), device, share) == workers


@pytest.mark.parametrize("victim", ["pid", "parent"])
def test_a_killed_process_is_one_clear_error(victim):
    results = read_ahead(squares, 0, workers=2)
    first = next(results)
    pids = pids_of(results, 2)
    os.kill(first[victim], signal.SIGKILL)
    with pytest.raises(VlaError, match=r"a process that makes batches died \(SIGKILL\)"):
        for _ in range(20):
            next(results)
    assert gone(pids)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, None])
def test_nothing_is_left_of_a_training_that_ends(stop):
    """Killed, interrupted by Ctrl-C (which goes to all its processes), or ended with the iterator still open."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from batch_makers import pids_of, squares\n"
        "from vla.training.read_ahead import read_ahead\n"
        "if __name__ == '__main__':\n"
        "    results = read_ahead(squares, 0, workers=2)\n"
        "    print(*pids_of(results, 4), flush=True)\n"
        "    if sys.argv[2] == 'wait':\n"
        "        for _ in results: pass\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), "end" if stop is None else "wait"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stderr is not None
    pids = set(map(int, process.stdout.readline().split()))
    assert len(pids) == 3
    if stop is signal.SIGINT:
        os.killpg(process.pid, stop)
    elif stop is not None:
        process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert gone(pids)
    if stop is None:
        assert process.returncode == 0 and not errors.strip()
    if stop is signal.SIGINT:
        assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors


def test_a_training_gets_the_same_batches_and_resumes_in_the_middle_of_an_epoch():
    source, shard = Arms(), Shard(5, 1, 2)  # 18 windows an epoch: no batch ends where one does
    encoder = encoder_of(source)

    def batches(start: int, count: int, **settings: Any) -> list[Any]:
        config = TrainConfig(steps=1, seed=5)
        return list(itertools.islice(LiveLoader(source, encoder, config, shard, **settings).batches(start), count))

    alone = batches(0, 7)
    assert all(map(same, batches(0, 7, workers=2), alone))
    assert all(map(same, batches(3, 4, workers=3), alone[3:]))
    assert not same(alone[0], alone[1])


def same(one: Any, two: Any) -> bool:
    """Two batches, bit for bit."""
    names = ("images", "image_mask", "tokens", "token_mask", "state", "embodiment")
    pairs = [(getattr(one.inputs, name), getattr(two.inputs, name)) for name in names]
    return all(torch.equal(*pair) for pair in [*pairs, (one.actions, two.actions), (one.valid, two.valid)])


def test_what_reads_a_training_s_data_is_free_of_torch():
    reader = ExampleReader(Arms(), encoder_of(Arms()).without_words(), TrainConfig(steps=1), Shard(4))
    code = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); reader = pickle.load(sys.stdin.buffer)\n"
        "print(len(reader(0).sentences), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, input=pickle.dumps(reader), capture_output=True, check=True)
    assert done.stdout.split() == [b"4", b"False"]
