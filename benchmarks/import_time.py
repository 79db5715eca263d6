"""How long does a process that only drives an arm wait for its imports?

Ours: the whole vocabulary (``vla/*.py`` but for the command line), what every driver and data reader imports.
Peer: lerobot's own base for robots, ``lerobot.robots.robot``, the least a driver there imports.
Fresh interpreters in turns; the ratio is the median of the pairs'.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import vla

PAIRS = 5


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs ``code`` [s]."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    files = Path(vla.__path__[0]).glob("*.py")
    ours = "import " + ", ".join(f"vla.{path.stem}" for path in sorted(files) if path.stem not in ("__init__", "cli"))
    peer = "import lerobot.robots.robot"
    for code in (ours, peer):
        seconds(code)  # the first import of each writes byte code
    pairs = [(seconds(ours), seconds(peer)) for _ in range(PAIRS)]
    result = {
        "question": "import time of the vocabulary",
        "ours_s": round(statistics.median(a for a, _ in pairs), 3),
        "lerobot_s": round(statistics.median(b for _, b in pairs), 3),
        "ratio": round(statistics.median(b / a for a, b in pairs), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
