"""The contestants of ``loading.py`` that run in this project's environment, one a process.

``rlds`` and ``lerobot``: a mixture over our reader, read ahead. ``lerobot_own``: ``LeRobotDataset`` with torch's
``DataLoader``, as its training script has them. ``ceiling``: the same JPEGs in memory, decoded by as many processes as
there are cores and thrown away, which no loader can beat.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loading_turns import serve


class Batches:
    """Windows of a step as arrays, from a mixture; called by many threads at once."""

    def __init__(self, mixture: Any, size: int):
        self.mixture, self.size = mixture, size

    def __call__(self, step: int) -> tuple[Any, ...]:
        """The batch of one step."""
        windows = [self.mixture[index] for index in range(step * self.size, (step + 1) * self.size)]
        return (
            np.stack([next(iter(window.observation.images.values())) for window in windows]),
            np.stack([window.observation.state for window in windows]),
            np.stack([window.actions for window in windows]),
            np.stack([window.valid for window in windows]),
            [window.observation.instruction for window in windows],
        )


def ours(options: argparse.Namespace) -> Iterator[int]:
    """Our reader and loader; the order is a full shuffle."""
    from vla.datasets.mixture import Mixture
    from vla.plugins import open_source
    from vla.training.read_ahead import read_ahead

    settings: dict[str, Any] = {"cache": Path(options.cache)} if options.cache else {}
    mixture = Mixture([open_source(options.path, **settings)], horizon=options.horizon, seed=0)
    for batch in read_ahead(
        Batches(mixture, options.batch), 0, workers=options.workers, threads=options.threads or None
    ):
        yield len(batch[0])


def lerobot_own(options: argparse.Namespace) -> Iterator[int]:
    """LeRobot's data set and torch's loader, shuffled in full, a worker a core."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from vla.training.read_ahead import cores

    steps = {"action": [step / options.rate for step in range(options.horizon)]}
    data = LeRobotDataset("local/set", options.path, delta_timestamps=steps, video_backend=options.video_backend)
    loader = torch.utils.data.DataLoader(
        data, batch_size=options.batch, shuffle=True, num_workers=cores(), drop_last=True, prefetch_factor=2
    )
    while True:
        for batch in loader:
            yield len(batch["action"])


def ceiling(options: argparse.Namespace) -> Iterator[int]:
    """Counts what the decoding processes have done."""
    from loading_frames import Size, jpeg_bytes

    from vla.training.read_ahead import cores

    pictures = jpeg_bytes(Size(options.steps, options.steps, options.pixels))
    context = multiprocessing.get_context("fork")
    counts = [context.Value("q", 0) for _ in range(cores())]
    running = context.Event()
    for count in counts:
        context.Process(target=_decode, args=(pictures, count, running), daemon=True).start()
    seen = 0
    while True:
        running.set()
        time.sleep(0.02)
        now = sum(count.value for count in counts)
        yield now - seen
        seen = now


def _decode(pictures: list[bytes], count: Any, running: Any) -> None:
    from simplejpeg import decode_jpeg

    while True:
        running.wait()
        for picture in pictures[:64]:
            decode_jpeg(picture)
        count.value += 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["rlds", "lerobot", "lerobot_own", "ceiling"])
    parser.add_argument("--path", default="")
    parser.add_argument("--cache", default="")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--video-backend", default="pyav")
    options = parser.parse_args()
    kinds = {"rlds": ours, "lerobot": ours, "lerobot_own": lerobot_own, "ceiling": ceiling}
    begun = time.perf_counter()
    serve(kinds[options.kind](options), begun)


if __name__ == "__main__":
    main()
