"""openpi's own client, with the NumPy that it pins, connects and gets chunks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from served import Known, KnownTogether, observation, served

from vla.dialect import openpi_libero
from vla.embodiments.libero_panda import libero_panda
from vla.transforms import connect

PACKAGES = ("openpi-client==0.1.2", "typing-extensions")  # the second is imported there and not declared


@pytest.fixture(scope="module")
def openpi_python(tmp_path_factory) -> Path:
    """An interpreter with openpi's client."""
    if not shutil.which("uv"):
        pytest.skip("uv is not on the path: no environment for openpi-client, which needs NumPy 1")
    folder = tmp_path_factory.mktemp("openpi")
    python = folder / "bin" / "python"
    base = Path(sys.base_prefix) / "bin" / "python3"
    subprocess.run(["uv", "venv", "-q", "--clear", "--python", str(base), str(folder)], check=True)
    install = ["uv", "pip", "install", "-q", "--python", str(python), *PACKAGES]
    made = subprocess.run(install, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"{PACKAGES[0]} cannot be installed: {made.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
def test_openpi_s_client_connects_and_gets_chunks(openpi_python):
    policy = KnownTogether(spec=libero_panda(64))
    script = Path(__file__).parent / "openpi_client_script.py"
    with served(policy, token="open sesame") as server:
        command = [str(openpi_python), str(script), server.address.rsplit(":", 1)[1], "open sesame"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found = json.loads(said.stdout)
    assert found["numpy"].startswith("1.") and {"embodiment", "fingerprint", "fields"} <= set(found["metadata"])
    assert {"infer_ms", "prev_total_ms"} <= set(found["timing"])
    assert found["error"].endswith("FieldError: observation/state: expected float [8], found float64 [7]")
    local, dialect = Known(spec=libero_panda(64)), openpi_libero()
    local.reset("", seed=0)
    seen = observation(spec=local.spec, instruction="pick up the bowl")
    for (name, image), shade in zip(seen.images.items(), (10, 20), strict=True):
        image[:] = shade
        assert name in local.spec.camera_names
    seen.state[:] = np.arange(8) / 10
    to_client = connect(dialect.spec, local.spec)
    for actions in found["actions"]:
        assert np.array_equal(np.array(actions, np.float32), to_client.chunk(local.act(seen)).actions)
