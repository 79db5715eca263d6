"""Shared fixtures: where real data lie, and quiet numeric libraries."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes depends on who else runs
settings.load_profile("any machine")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data: ``$VLA_SHARED_DATA``, else ``../shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VLA_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set VLA_SHARED_DATA)")
    return folder
