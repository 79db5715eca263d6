import pytest

from vla.sim import libero_suites
from vla.sim.expert.paraphrases import MOST, paraphrases


@pytest.mark.parametrize("suite", ["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"])
def test_every_task_has_several_wordings_with_the_original_first(suite):
    for task in libero_suites.tasks(suite):
        wordings = paraphrases(task.instruction)
        assert wordings[0] == task.instruction
        assert 3 <= len(wordings) == len(set(wordings)) <= MOST
        for wording in wordings:  # no place or thing gets lost
            assert {*"".join(wordings[0].split("close")).split()} - KNOWN_VERBS <= {*wording.split()}


KNOWN_VERBS = {"pick", "up", "and", "place", "it", "put", "open", "turn", "push", "stack", "on"}


def test_wordings_are_read_as_english():
    assert paraphrases("put the bowl on the plate") == (
        "put the bowl on the plate",
        "place the bowl on the plate",
        "set the bowl on the plate",
        "pick up the bowl and put it on the plate",
    )
    assert "put the bowl on the stove on the plate" not in paraphrases(
        "pick up the bowl on the stove and place it on the plate"
    )
    both = paraphrases("open the top drawer and put the yellow and white mug inside")
    assert "pull the top drawer open and place the yellow and white mug inside" in both
    assert paraphrases("juggle the bowls") == ("juggle the bowls",)
