"""``vla.json``: what the numbers of a data set mean that this project wrote, beside the format's own description."""

import json

from vla.embodiment import EmbodimentSpec

NAME = "vla.json"
FORMAT = 1


def embodiment_text(spec: EmbodimentSpec) -> str:
    """Contents of the file."""
    return json.dumps({"format": FORMAT, "fingerprint": spec.fingerprint, "embodiment": spec.to_json()}, indent=1)
