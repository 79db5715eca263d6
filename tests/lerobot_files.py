"""A small LeRobot v2 data set for tests, written by PyArrow and FFmpeg as others would, and changes to it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PilImage

from vla.datasets.lerobot_source import LeRobotSource
from vla.datasets.lerobot_v2 import Config
from vla.protocols import EpisodeSource

ARM = """
names = ["arm"]
robot = "arm"
rate = 10.0
[state]
rotation = "euler_xyz"
columns = [
  { field = "observation.position", channels = "x y z" },
  { field = "observation.rotation", channels = "roll_x pitch_y yaw_z" },
]
[action]
mode = "delta"
frame = "base"
gripper = { closed = 1.0, open = -1.0 }
columns = [
  { field = "action.arm", channels = "_ dx dy dz", scale = 0.5 },
  { field = "action.gripper", channels = "gripper" },
]
[[cameras]]
name = "film"
field = "observation.images.film"
[[cameras]]
name = "still"
field = "observation.images.still"
bgr = true
"""
LENGTHS = (6, 4, 9)


def write_arm(folder: Path, version: str = "v2.1") -> list[dict[str, np.ndarray]]:
    """A set of three episodes with one camera as video and one in the tables; what is in it."""
    rng = np.random.default_rng(3)
    episodes, first = [], 0
    for number, steps in enumerate(LENGTHS):
        y, x = np.mgrid[:32, :48]
        film = [np.stack([x * 2 + 9 * step, y * 3, x + y + number * 20], -1).astype(np.uint8) for step in range(steps)]
        columns = {
            "observation.position": rng.normal(size=(steps, 3)).astype(np.float32),
            "observation.rotation": rng.normal(size=(steps, 3)),
            "action.arm": rng.normal(size=(steps, 4)).astype(np.float32),
            "action.gripper": rng.choice([-1.0, 1.0], steps).astype(np.float32),
            "film": np.stack(film),
            "still": rng.integers(0, 256, (steps, 8, 12, 3), dtype=np.uint8),
        }
        table = {
            name: list(values) if values.ndim > 1 else values
            for name, values in columns.items()
            if name not in ("film", "still")
        }
        table["observation.images.still"] = [{"bytes": png(picture), "path": None} for picture in columns["still"]]
        table |= {
            "timestamp": (np.arange(steps) / 10).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(first, first + steps),
            "task_index": np.minimum(np.arange(steps) // 5, 1) * (number == 2),
        }
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        columns["film"] = write_film(folder, number, film)
        episodes.append(columns)
        first += steps
    numbers = {
        "observation.position": 3,
        "observation.rotation": 3,
        "action.arm": 4,
        "action.gripper": 1,
        "timestamp": 1,
        "task_index": 1,
        "episode_index": 1,
    }
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [width], "names": None} for name, width in numbers.items()
    }
    features["observation.images.film"] = {
        "dtype": "video",
        "shape": [3, 32, 48],
        "names": ["channels", "height", "width"],
    }
    features["observation.images.still"] = {
        "dtype": "image",
        "shape": [8, 12, 3],
        "names": ["height", "width", "channels"],
    }
    info = {
        "codebase_version": version,
        "robot_type": "arm",
        "fps": 10,
        "chunks_size": 1000,
        "total_episodes": 3,
        "total_frames": first,
        "total_tasks": 2,
        "total_videos": 3,
        "total_chunks": 1,
        "splits": {"train": "0:2", "test": "2:3"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (folder / "meta").mkdir()
    (folder / "meta/info.json").write_text(json.dumps(info))
    lines(
        "meta/episodes.jsonl",
        folder,
        [{"episode_index": i, "length": n, "tasks": ["a"]} for i, n in enumerate(LENGTHS)],
    )
    lines("meta/tasks.jsonl", folder, [{"task_index": 0, "task": "wipe"}, {"task_index": 1, "task": "dry"}])
    lines("meta/episodes_stats.jsonl", folder, [{"episode_index": i, "stats": {}} for i in range(3)])
    (folder / "meta/stats.json").write_text(json.dumps({key: {} for key in numbers}))
    (folder.parent / "arm.toml").write_text(ARM)
    return episodes


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_film(folder: Path, number: int, pictures: list[np.ndarray]) -> np.ndarray:
    path = folder / f"videos/chunk-000/observation.images.film/episode_{number:06d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"g": "4"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return decoded(path)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(pictures)


def lines(name: str, folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def every(source: EpisodeSource) -> list[Any]:
    return [source[index] for index in range(len(source))]


def all_of(path: Path, **options: Any) -> LeRobotSource:
    """Both splits, which the fixture's info.json names."""
    value = json.loads((path / "meta/info.json").read_text())
    value["splits"] = {"train": "0:3"}
    (path / "meta/info.json").write_text(json.dumps(value))
    return Config(path, description=path.parent / "arm.toml", **options).make()


def change_info(folder: Path, **changes: Any) -> None:
    value = json.loads((folder / "meta/info.json").read_text()) | changes
    (folder / "meta/info.json").write_text(json.dumps(value))


def change_table(folder: Path, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))
