"""How fast are demonstrations written? Frames a second of our two writers and of LeRobot's own, one JSON line.

The same generated camera pictures (smooth, with a moving texture), two cameras, for all of them::

    OMP_NUM_THREADS=1 python benchmarks/writing.py --frames 600 --size 224
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from vla.datasets import lerobot_writer, rlds_writer
from vla.embodiments.libero_panda import libero_panda
from vla.experience import Episode, Image

EPISODE = 100  # steps


class Jpegs(Sequence[Image]):
    """Pictures that are JPEG already, as readers of such data sets have them."""

    def __init__(self, pictures: list[Image]):
        self.data = []
        for picture in pictures:
            buffer = io.BytesIO()
            PilImage.fromarray(picture).save(buffer, "JPEG", quality=95)
            self.data.append(buffer.getvalue())

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index):
        return np.asarray(PilImage.open(io.BytesIO(self.data[index])))

    def encoded(self, index: int) -> bytes:
        """One picture as it is stored."""
        return self.data[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    spec = libero_panda(options.size)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: options.size, : options.size]
    texture = rng.normal(0, 4, (options.size, options.size, 1))
    pictures = [
        np.clip(np.stack([x + step, y, (x + y) / 2], -1) * 0.8 + np.roll(texture, step, 1), 0, 255).astype(np.uint8)
        for step in range(EPISODE)
    ]
    episode = Episode(
        spec,
        rng.normal(size=(EPISODE, 8)).astype(np.float32),
        rng.normal(size=(EPISODE, 7)).astype(np.float32),
        dict.fromkeys(spec.camera_names, pictures),
        np.arange(EPISODE) / 20.0,
        "put the bowl on the plate",
    )
    stored = Episode(
        spec, episode.state, episode.action, dict.fromkeys(spec.camera_names, Jpegs(pictures)), episode.time, "same"
    )
    count = max(1, options.frames // EPISODE)

    def ours(module, given: Episode, **settings) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with module.Writer(path, spec, **settings) as writer:
                for _ in range(count):
                    writer.add(given)

        return write

    runs = {
        "lerobot_png": ours(lerobot_writer, episode),
        "lerobot_jpeg": ours(lerobot_writer, episode, storage="jpeg"),
        "lerobot_passed_through": ours(lerobot_writer, stored),
        "lerobot_video_h264": ours(lerobot_writer, episode, storage="video"),
        "rlds_png": ours(rlds_writer, episode),
        "rlds_passed_through": ours(rlds_writer, stored),
        "theirs_png": lambda path: _theirs(path, episode, count, video=False),
        "theirs_video_av1": lambda path: _theirs(path, episode, count, video=True),
    }
    import lerobot.datasets.lerobot_dataset  # noqa: F401 - imported before the clock runs

    result: dict[str, object] = {"frames": count * EPISODE, "cameras": 2, "size": options.size}
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            run(Path(folder) / "set")
            seconds = time.perf_counter() - begin
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        result[name] = {"frames_per_s": round(count * EPISODE / seconds, 1), "kb_a_frame": round(size / count / 1e5, 1)}
    print(json.dumps(result))


def _theirs(path: Path, episode: Episode, count: int, *, video: bool) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from vla.datasets.lerobot_layout import features_of

    features = features_of(episode.spec, "video" if video else "image")
    del features["time"]
    theirs = LeRobotDataset.create("local/set", 20, features, root=path, use_videos=video)
    for _ in range(count):
        for step in range(len(episode)):
            frame = {f"observation.images.{name}": frames[step] for name, frames in episode.images.items()}
            frame |= {"observation.state": episode.state[step], "action": episode.action[step]}
            theirs.add_frame(frame | {"task": episode.instruction})
        theirs.save_episode()
    theirs.finalize()


if __name__ == "__main__":
    main()
