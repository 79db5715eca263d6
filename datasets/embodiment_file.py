"""``vla.json``: what the numbers of a data set mean that this project wrote, beside the format's own description."""

import json

from vla.embodiment import EmbodimentSpec

NAME = "vla.json"
FORMAT = 2
FORMATS = (1, 2)
"""Those that are read; from 2 on a list of the files with their checksums is beside it."""


def embodiment_text(spec: EmbodimentSpec) -> str:
    """Contents of the file."""
    return json.dumps({"format": FORMAT, "fingerprint": spec.fingerprint, "embodiment": spec.to_json()}, indent=1)
