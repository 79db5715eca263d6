"""How an embodiment is laid out as LeRobot v3.0 features, and the three files that we add to ``meta/``.

::

    meta/info.json, stats.json, tasks.parquet, episodes/    LeRobot's own
    meta/vla.json                                           the EmbodimentSpec and its fingerprint
    meta/vla_episodes.jsonl                                 success, source and info of each episode, in order
    meta/vla_manifest.json                                  sizes and checksums of all other files
    data/chunk-000/file-000.parquet                         one row a step, one row group an episode
    videos/<camera>/chunk-000/file-000.mp4                  only if pictures are stored as video
"""

from pathlib import Path
from typing import Any, Literal

from vla.datasets.manifest import MANIFEST
from vla.embodiment import EmbodimentSpec

STATE, ACTION, TIME = "observation.state", "action", "time"
CAMERA_PREFIX = "observation.images."
INFO_FILE = Path("meta/info.json")
SPEC_FILE = Path("meta/vla.json")
EPISODES_FILE = Path("meta/vla_episodes.jsonl")
MANIFEST_FILE = Path("meta", MANIFEST)
STATS_FILE, TASKS_FILE = Path("meta/stats.json"), Path("meta/tasks.parquet")
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK_FILES = 1000
"""Files in a folder."""
INDEX_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": (1,), "names": None},
    "frame_index": {"dtype": "int64", "shape": (1,), "names": None},
    "episode_index": {"dtype": "int64", "shape": (1,), "names": None},
    "index": {"dtype": "int64", "shape": (1,), "names": None},
    "task_index": {"dtype": "int64", "shape": (1,), "names": None},
}
"""What LeRobot adds to the columns of every data set."""

ImageStorage = Literal["image", "video"]


def camera_key(camera: str) -> str:
    """Feature name of a camera's pictures."""
    return CAMERA_PREFIX + camera


def features_of(spec: EmbodimentSpec, storage: ImageStorage) -> dict[str, dict[str, Any]]:
    """LeRobot's description of each column; the names of the numbers are the channels' names."""
    features: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": (len(spec.state),), "names": list(spec.state_names)},
        ACTION: {"dtype": "float32", "shape": (spec.action.size,), "names": list(spec.action.names)},
        TIME: {"dtype": "float64", "shape": (1,), "names": None},
    }
    if not spec.state:
        del features[STATE]
    for camera in spec.cameras:
        shape = (camera.height, camera.width, 3)
        names = ["height", "width", "channels"]
        features[camera_key(camera.name)] = {"dtype": storage, "shape": shape, "names": names}
    return features
