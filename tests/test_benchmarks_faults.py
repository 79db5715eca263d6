"""A small fault campaign: no limit is violated, and with safety off the same measurement finds violations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("robosuite")

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


def campaign(*options):
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, options)], capture_output=True, text=True)
    return done, json.loads(done.stdout.splitlines()[-1])


def test_three_trials_of_each_kind_violate_nothing_and_are_not_run_again(tmp_path):
    out = tmp_path / "faults.jsonl"
    done, total = campaign("--trials", 45, "--out", out)
    assert done.returncode == 0, done.stderr
    assert total["trials"] == {"lock-step": 45} and total["kinds"] == 15
    assert total["violations"] == total["late"] == 0 and total["measured_steps"] > 20_000
    text = out.read_text()
    out.write_text(text[:-30])  # broken off in the last row
    _, again = campaign("--trials", 45, "--out", out)
    assert out.read_text() == text and again == total  # the same seed gives the same trial


def test_the_measurement_finds_violations_when_safety_is_off(tmp_path):
    done, total = campaign("--trials", 15, "--no-limits", "--out", tmp_path / "off.jsonl")
    assert done.returncode == 0 and total["violations"] >= 10, done.stderr
    assert {"joint_acceleration", "gripper_force"} <= set(total["violated"])
