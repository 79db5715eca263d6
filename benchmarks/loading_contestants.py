"""The contestants of ``loading.py`` that run in this project's environment, one a process.

``rlds`` and ``lerobot``: a mixture over our reader, read ahead. ``lerobot_own``: ``LeRobotDataset`` with torch's
``DataLoader``, as its training script has them. ``ceiling``: some of the same JPEGs, in memory, decoded by as many
processes as there are cores into one batch each that is used again and again, which no loader can beat.
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
    """Windows of a step as arrays, from a mixture; called by many threads at once, or in many processes.

    As ``vla/training/examples.py`` makes them for a model, without the model's normalisation and random shifts.
    """

    def __init__(self, mixture: Any, size: int):
        self.mixture, self.size = mixture, size

    def __call__(self, step: int, empty: Any) -> tuple[Any, ...]:
        """The batch of one step."""
        from vla.window_batch import pictures_into

        spec = self.mixture.specs[0]
        camera, horizon = spec.cameras[0], self.mixture.horizon
        images = empty((self.size, camera.height, camera.width, 3), np.uint8)
        state = np.empty((self.size, len(spec.state)), np.float32)
        actions = np.empty((self.size, horizon, spec.action.size), np.float32)
        valid, texts = np.empty((self.size, horizon), bool), [""] * self.size
        for batch in self.mixture.batch(range(step * self.size, (step + 1) * self.size)):
            state[batch.rows], actions[batch.rows], valid[batch.rows] = batch.state, batch.actions, batch.valid
            pictures_into(batch.images[camera.name], 0, [images[row] for row in batch.rows])
            for row, text in zip(batch.rows.tolist(), batch.instructions, strict=True):
                texts[row] = text
        return images, state, actions, valid, texts


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
    from vla.training.read_ahead import cores

    pictures = typical(options, 64)
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


def typical(options: argparse.Namespace, count: int) -> list[bytes]:
    """Encoded pictures from all over the data set, as large and as small as its pictures are."""
    from vla.plugins import open_source

    settings: dict[str, Any] = {"cache": Path(options.cache)} if options.cache else {}
    source = open_source(options.path, **settings)
    camera, chance = source.spec.cameras[0].name, np.random.default_rng(0)
    drawn: list[bytes] = []
    for episode in chance.integers(len(source), size=32 * count).tolist():
        frames: Any = source[episode].images[camera]
        drawn.append(frames.encoded(int(chance.integers(len(frames)))))
    drawn.sort(key=len)
    chosen = drawn[16::32]
    chance.shuffle(chosen)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return chosen


def _decode(pictures: list[bytes], count: Any, running: Any) -> None:
    from simplejpeg import decode_jpeg

    from vla.training.slot import empty_for_pictures

    batch = list(empty_for_pictures((len(pictures), *decode_jpeg(pictures[0]).shape), np.uint8))
    while True:
        running.wait()
        for picture, place in zip(pictures, batch, strict=True):
            decode_jpeg(picture, buffer=place)
        count.value += len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["rlds", "lerobot", "lerobot_own", "ceiling"])
    parser.add_argument("--path", default="")
    parser.add_argument("--cache", default="")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--video-backend", default="pyav")
    options = parser.parse_args()
    kinds = {"rlds": ours, "lerobot": ours, "lerobot_own": lerobot_own, "ceiling": ceiling}
    begun = time.perf_counter()
    serve(kinds[options.kind](options), begun)


if __name__ == "__main__":
    main()
