"""How many training windows a second, in how much memory, from the same frames?

Contestants: ``rlds`` (a: our RLDS reader); ``tfdata`` (b: tf.data and TFDS as Octo and OpenVLA use them, with a
shuffle buffer as large as a full shuffle needs, ``--buffer`` for a smaller one) and ``tfdata_plain``, the same without
their resizing, which the others do not do; ``lerobot`` (c: our LeRobot reader); ``lerobot_own`` (d: ``LeRobotDataset``
with torch's ``DataLoader``); both again on video if asked for; and ``ceiling``: the same JPEGs, only decoded, on all
cores. Frames are made (``loading_frames.py``) on the first run and kept in ``--folder``. Each contestant is a process
that works only in its turns; figures are medians over the rounds, ratios medians of the rounds' ratios. Memory is the
peak of the proportional set size of all its processes; ``rlds_tenth`` reads a tenth of the frames, to show that memory
does not grow. ``cpu_us`` is processor time for a window, which depends less on what else the machine does.

A trial: ``python benchmarks/loading.py`` (5,000 frames). The full run, on a quiet machine:
``python benchmarks/loading.py --frames 100000 --rounds 5 --seconds 20 --folder <15 GB of space>``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from loading_frames import Size, make_lerobot, make_rlds
from loading_process import Contestant

HERE = Path(__file__).parent
KINDS = ("ceiling", "rlds", "tfdata", "tfdata_plain", "lerobot", "lerobot_own", "rlds_tenth")
VIDEO = ("lerobot_video", "lerobot_own_video")
BATCH, HORIZON = 64, 8
RATIOS = (
    ("rlds", "ceiling"),
    ("rlds", "tfdata"),
    ("rlds", "tfdata_plain"),
    ("lerobot", "ceiling"),
    ("lerobot", "lerobot_own"),
    ("lerobot_video", "lerobot_own_video"),
)
MEMORY = (("tfdata", "rlds"), ("lerobot_own", "lerobot"), ("rlds", "rlds_tenth"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=50, help="of an episode")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--only", nargs="+", choices=KINDS + VIDEO, default=KINDS)
    parser.add_argument(
        "--buffer", type=int, default=0, help="frames in tf.data's shuffle buffer; 0 for a full shuffle"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of our loader; 0 for threads")
    parser.add_argument("--threads", type=int, default=0, help="of our loader; 0 for its own choice")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "vla_benchmark")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    size = Size(options.frames, options.steps, options.pixels)
    contestants: list[Contestant] = []
    try:
        for kind in options.only:
            command = command_of(kind, size, options)
            print(f"starting {kind}", file=sys.stderr)
            contestants.append(Contestant(kind, command, options.folder / f"{kind}.log"))
        read_once(options.folder)
        for number in range(options.rounds):
            for contestant in contestants if number % 2 else contestants[::-1]:
                contestant.turn(options.seconds)
                print(f"round {number}: {contestant.name} {contestant.rates[-1]:.0f}/s", file=sys.stderr)
    finally:
        for contestant in contestants:
            contestant.close()
    print(json.dumps(result_of(contestants, size, options)))


def command_of(kind: str, size: Size, options: argparse.Namespace) -> list[str]:
    """How to start a contestant; makes its data first."""
    folder: Path = options.folder
    shared = ["--batch", str(BATCH), "--horizon", str(HORIZON)]
    if kind.startswith("tfdata"):
        path, buffer = make_rlds(folder, size), options.buffer or size.frames
        shared += ["--path", str(path), "--buffer", str(buffer), "--pixels", str(size.pixels)]
        shared += ["--no-resize"] if kind == "tfdata_plain" else []
        return [str(tensorflow_python(folder)), str(HERE / "loading_tfdata.py"), *shared]
    ours = [sys.executable, str(HERE / "loading_contestants.py")]
    shared += ["--workers", str(options.workers), "--threads", str(options.threads)]
    if kind == "ceiling" or kind.startswith("rlds"):
        part = Size(size.frames // 10, size.steps, size.pixels) if kind == "rlds_tenth" else size
        index(path := make_rlds(folder, part), folder / "cache")
        return [*ours, kind.removesuffix("_tenth"), "--path", str(path), "--cache", str(folder / "cache"), *shared]
    path = make_lerobot(folder, size, "video" if kind.endswith("video") else "image")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    index(path, None)
    return [*ours, kind.removesuffix("_video"), "--path", str(path), *shared]


def read_once(folder: Path) -> None:
    """All files through the page cache, so that no contestant waits for a disk that another one did not."""
    for path in sorted(folder.glob("*_*x*/**/*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def index(path: Path, cache: Path | None) -> None:
    """Open a data set once, so that what is measured afterwards is indexed."""
    from vla.plugins import open_source

    settings: dict[str, Any] = {"cache": cache} if cache else {}
    open_source(path, **settings)


def tensorflow_python(folder: Path) -> Path:
    """The interpreter of an environment with TensorFlow, made with ``uv`` on first use: it is no dependency of ours."""
    environment = folder / "tensorflow"
    python = environment / "bin" / "python"
    if not (environment / "ready").exists():
        base = Path(sys.base_prefix) / "bin" / "python3.12"
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", str(base), str(environment)], check=True)
        packages = ["tensorflow-cpu", "tensorflow-datasets"]
        subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), *packages], check=True)
        (environment / "ready").touch()
    return python


def result_of(contestants: list[Contestant], size: Size, options: argparse.Namespace) -> dict[str, object]:
    """All figures and the ratios that the targets speak of."""
    found: dict[str, object] = {
        one.name: {
            "windows_per_s": round(statistics.median(one.rates), 1),
            "cpu_us": round(1e6 * statistics.median(one.cpu), 1),
            "memory_mib": round(one.peak["Pss"], 1),
            "of_it_file_mib": round(one.peak["Pss_File"], 1),
            "first_batch_s": round(one.facts["first_batch_s"], 3),
            "from_process_start_s": round(one.start_s, 2),
        }
        for one in contestants
    }
    by_name = {one.name: one for one in contestants}
    ratios: dict[str, float] = {}
    for name, other in RATIOS:
        if name in by_name and other in by_name:
            one, two = by_name[name], by_name[other]
            ratios[f"{name}/{other}"] = median_ratio(one.rates, two.rates)
            ratios[f"cpu {other}/{name}"] = median_ratio(two.cpu, one.cpu)
    for name, other in MEMORY:
        if name in by_name and other in by_name:
            ratios[f"memory {name}/{other}"] = round(by_name[name].peak["Pss"] / by_name[other].peak["Pss"], 2)
    return {
        "benchmark": "loading",
        "unit": "training windows per second",
        "frames": size.frames,
        "pixels": size.pixels,
        "batch": BATCH,
        "horizon": HORIZON,
        "tfdata_buffer_frames": options.buffer or size.frames,
        **found,
        "ratios": ratios,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "load": [round(value, 2) for value in os.getloadavg()],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def median_ratio(ones: list[float], others: list[float]) -> float:
    """Median over the rounds."""
    return round(statistics.median(a / b for a, b in zip(ones, others, strict=True)), 3)


if __name__ == "__main__":
    main()
