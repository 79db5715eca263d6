"""Ray as far as :mod:`vla.ray_crew` asks for it, in this process: actors of which only so many have a place."""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class OutOfMemoryError(RayError):
    pass


@dataclass(eq=False)
class Call:
    """A reference; ``value`` is there once it is ``done``. ``number`` is its place among all calls."""

    value: Any = None
    done: bool = False
    number: int = field(default_factory=itertools.count().__next__)


@dataclass(eq=False)
class Actor:
    ray: "FakeRay"
    made: Any
    killed: bool = False

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *arguments: self.ray.called(self, name, arguments))


@dataclass
class FakeRay:
    """``places``: actors that the cluster can hold; calls to the others never return."""

    places: int
    actors: list[Actor] = field(default_factory=list)

    @property
    def exceptions(self):
        return SimpleNamespace(RayError=RayError, OutOfMemoryError=OutOfMemoryError)

    def remote(self, cls):
        def make(*arguments):
            self.actors.append(Actor(self, cls(*arguments)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def called(self, actor, name, arguments):
        if [other for other in self.actors if not other.killed].index(actor) >= self.places:
            return Call()
        return Call(getattr(actor.made, name)(*arguments), done=True)

    def wait(self, calls, *, num_returns=1, timeout=None):
        """As Ray's: it returns when ``num_returns`` are there, and tells of no more; here the longest waiting first."""
        assert 1 <= num_returns <= len(calls)
        ready = sorted((call for call in calls if call.done), key=lambda call: call.number)[:num_returns]
        return ready, [call for call in calls if call not in ready]

    def get(self, call):
        assert call.done
        return call.value

    def kill(self, actor):
        actor.killed = True

    def shutdown(self):
        pass
