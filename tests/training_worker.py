"""Run by tests as one of several ranks: the trainings of a JSON list, one after the other.

Each is a list of a run's folder, the folder of its features, changes of the settings and whether it is resumed.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import test_training_loop as here

from vla.training.ranks import joined


def main(trainings: str) -> None:
    with joined("cpu"):
        for out, cache, changes, resume in json.loads(trainings):
            here.run(Path(out), Path(cache), replace(here.SHORT, **changes), resume=resume)


if __name__ == "__main__":
    main(sys.argv[1])
