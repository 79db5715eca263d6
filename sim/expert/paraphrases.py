"""An instruction in other words, by rule: the same objects and places, other verbs and forms.

::

    "open the top drawer and put the bowl inside"
     └─ clause ──────────┘     └─ clause ──────┘      each is said in a few ways, then all combinations are joined
"""

import itertools
import re

MOST = 8  # wordings of one instruction
VERBS = ("put", "place", "pick up", "open", "close", "turn on", "turn off", "push", "stack")
PLACES = r"(?:on top of|on|in|under|to)"

_NEXT = re.compile(rf"\s+and\s+(?=(?:{'|'.join(VERBS)})\b)")
_FETCHED = re.compile(r"^pick up (?P<what>.+) and (?:put|place) (?:it|them) (?P<where>\w+ .+)$")
_PUT = re.compile(r"^(?P<verb>put|place) (?P<what>.+)$")
_ONCE = re.compile(rf"^(?P<what>(?:(?!\b{PLACES}\b|\bat\b).)+) (?P<where>{PLACES} (?:(?!\b{PLACES}\b).)+)$")
_PLACED = re.compile(r"\b(?:on|in|under|at|from|between|next to)\b")
_PAIRS = (
    (r"open (?P<what>.+)", ("open {what}", "pull {what} open", "open up {what}")),
    (r"close (?P<what>.+)", ("close {what}", "shut {what}", "push {what} shut")),
    (r"turn (?P<way>on|off) (?P<what>.+)", ("turn {way} {what}", "switch {way} {what}", "turn {what} {way}")),
    (r"push (?P<what>.+?) (?P<where>to .+)", ("push {what} {where}", "slide {what} {where}", "move {what} {where}")),
    (
        r"stack (?P<what>.+?) (?P<where>on .+)",
        ("stack {what} {where}", "put {what} {where}", "place {what} {where}"),
    ),
)


def paraphrases(instruction: str) -> tuple[str, ...]:
    """Wordings of an instruction, itself first, without repetition; at most :data:`MOST`.

    What no rule fits is left as it is, so that an unknown sentence has one wording: its own.
    """
    ways = [_clause(clause) for clause in _clauses(instruction)]
    choices = sorted(itertools.product(*(range(len(way)) for way in ways)), key=lambda choice: (max(choice), choice))
    said = (" and ".join(way[index] for way, index in zip(ways, choice, strict=True)) for choice in choices)
    return tuple(itertools.islice(dict.fromkeys([instruction, *said]), MOST))


def _clauses(instruction: str) -> list[str]:
    """Parts with a verb of their own; fetching a thing and putting it somewhere is one."""
    parts = _NEXT.split(instruction)
    found: list[str] = []
    for part in parts:
        if found and re.match(r"(?:put|place) (?:it|them) ", part) and found[-1].startswith("pick up"):
            found[-1] += f" and {part}"
        else:
            found.append(part)
    return found


def _clause(text: str) -> list[str]:
    """Ways to say one clause, as it is first."""
    if fetched := _FETCHED.match(text):
        what, where = fetched["what"], fetched["where"]
        if _PLACED.search(what):  # "put the bowl on the stove on the plate" would be hard to read
            return [text, f"take {what} and put it {where}", f"grab {what} and place it {where}"]
        return [text, f"put {what} {where}", f"place {what} {where}", f"take {what} and put it {where}"]
    if put := _PUT.match(text):
        what = put["what"]
        ways = [text, f"put {what}", f"place {what}", f"set {what}"]
        once = _ONCE.match(what)
        if once and not re.match(r"(?:both|it|them)\b", what) and " and " not in what:
            ways.append(f"pick up {once['what']} and put it {once['where']}")
        return list(dict.fromkeys(ways))
    for pattern, forms in _PAIRS:
        if match := re.fullmatch(pattern, text):
            return list(dict.fromkeys([text, *(form.format(**match.groupdict()) for form in forms)]))
    return [text]
