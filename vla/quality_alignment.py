"""Check that actions and states belong together: the best lag, the axes, the sign, the size and the mode of motion.

Commanded and measured motion (:mod:`vla.quality_motion`) are correlated at each lag over the whole set; sums of
products are all that is kept. Lag 0 is right: action t against state t + 1 - state t. A late arm gives a small positive
lag, rows shifted against each other any lag, a negative one means that the state moves before it is told to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.embodiment import EmbodimentSpec
from vla.experience import Episode
from vla.quality_findings import Finding, Severity
from vla.quality_motion import motions, pairs
from vla.quality_numbers import as_commanded

LATENCY_S = 0.15
"""An arm's own delay: up to this (and always up to one step) a positive lag is only noted."""
MARGIN = 0.05
"""How much better the best lag's correlation must be than lag 0's to be told apart from it."""
CLEAR = 0.5
"""Correlation below which nothing is said about the lag: the motion does not show."""
GAINS = (0.04, 6.0)
"""Measured over commanded motion: a compliant controller gives 0.1 to 1 (LIBERO's 0.2), wrong units 0.01 or 1000."""
MIN_ROWS = 60
"""Fewer steps show nothing."""
ODD_LAG = 3
"""Steps by which one episode's best lag differs from the set's when it is told apart."""
ODD_MARGIN = 0.15
_KEPT = 20


@dataclass
class _Sums:
    """Sums of two groups of series and their products; enough for all correlations between them."""

    n: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray

    @classmethod
    def empty(cls, width: int) -> "_Sums":
        x, y, xx, yy = np.zeros((4, width))
        return cls(0.0, x, y, xx, yy, np.zeros((width, width)))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.n += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += (x * x).sum(0)
        self.yy += (y * y).sum(0)
        self.xy += x.T @ y

    @property
    def covariance(self) -> np.ndarray:
        return self.xy / self.n - np.outer(self.x / self.n, self.y / self.n)

    @property
    def variance(self) -> tuple[np.ndarray, np.ndarray]:
        """Of x and of y; 0 where only rounding is left."""
        pairs = ((self.xx, self.x), (self.yy, self.y))
        raw = [(squares / self.n, (sums / self.n) ** 2) for squares, sums in pairs]
        first, second = (np.where(a - b > 1e-10 * a + 1e-16, a - b, 0.0) for a, b in raw)
        return first, second

    @property
    def correlation(self) -> np.ndarray:
        x, y = self.variance
        size = np.sqrt(np.outer(x, y))
        return np.where(size > 0, self.covariance / np.where(size > 0, size, 1.0), 0.0)


class Alignment:
    """The correlations of one set."""

    def __init__(self, spec: EmbodimentSpec):
        self._spec, self._pairs = spec, pairs(spec)
        reach = int(np.clip(round(0.5 * spec.action.rate), 4, 12))
        self.lags = np.arange(-reach, reach + 1)
        width = len(self._pairs.names)
        self._sums = [_Sums.empty(width) for _ in self.lags]
        self._levels, self._changes = (_Sums.empty(len(self._pairs.action)) for _ in range(2))
        self._odd: dict[int, list[tuple[int, str, np.ndarray]]] = {}

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Take in one episode."""
        found = motions(self._pairs, episode)
        if found is not None:
            commanded, measured = found
            alone = [_Sums.empty(len(self._pairs.names)) for _ in self.lags]
            for lag, sums, own in zip(self.lags, self._sums, alone, strict=True):
                rows = len(commanded) - abs(int(lag))
                if rows > 0:
                    x, y = commanded[max(0, -lag) :][:rows], measured[max(0, lag) :][:rows]
                    sums.add(x, y)
                    own.add(x, y)
            self._add_levels(episode)
            if len(commanded) >= MIN_ROWS:
                curve = _curve(alone)
                kept = self._odd.setdefault(int(self.lags[curve.argmax()]), [])
                if len(kept) < _KEPT:
                    kept.append((place, episode.source, curve))
        yield from ()

    def finish(self) -> Iterator[Finding]:
        """What does not fit, over the whole set."""
        facts = self.facts()
        yield from self._mode(max(facts["curve"].values(), default=0.0))
        if facts["lag"] is None:
            return
        yield from self._lag(facts)
        yield from self._odd_episodes(facts["lag"])
        sums = self._sums[int(np.flatnonzero(self.lags == facts["lag"])[0])]
        swapped = list(self._axes(sums))
        yield from swapped
        if not swapped:
            yield from self._gain(facts)

    def facts(self) -> dict[str, Any]:
        """Best lag [steps], its correlation, that of lag 0 and the gain, or why nothing can be said; a JSON value."""
        nothing = {"lag": None, "correlation": None, "correlation_at_0": None, "gain": None, "curve": {}}
        if not self._pairs.names:
            return nothing | {"why": "no action channel is paired with a state channel"}
        if min(sums.n for sums in self._sums) < MIN_ROWS:
            return nothing | {"why": "too few steps"}
        curve = _curve(self._sums)
        best = int(curve.argmax())
        lags = {str(lag): round(float(value), 4) for lag, value in zip(self.lags, curve, strict=True)}
        if curve[best] < CLEAR:
            return nothing | {
                "curve": lags,
                "why": f"commanded and measured motion correlate by {curve[best]:.2f} only",
            }
        zero = float(curve[len(self.lags) // 2])
        lag = int(self.lags[best]) if curve[best] - zero > MARGIN else 0
        chosen = self._sums[int(np.flatnonzero(self.lags == lag)[0])]
        correlation = float(curve[int(np.flatnonzero(self.lags == lag)[0])])
        gain = self._gain_of(chosen)
        return {
            "lag": lag,
            "correlation": correlation,
            "correlation_at_0": zero,
            "gain": gain,
            "curve": lags,
            "why": "",
        }

    def _add_levels(self, episode: Episode) -> None:
        if self._pairs.action:
            scale = np.array([channel.scale for channel in self._spec.state])[list(self._pairs.state)]
            action = as_commanded(self._spec, episode.action)[:-1, self._pairs.action]
            state = episode.state[:, self._pairs.state].astype(np.float64) * scale
            self._levels.add(action, state[1:])
            self._changes.add(action, np.diff(state, axis=0))

    def _lag(self, facts: dict[str, Any]) -> Iterator[Finding]:
        lag, rate = facts["lag"], self._spec.action.rate
        if lag == 0:
            return
        allowed = max(1, round(LATENCY_S * rate))
        severity: Severity = "error" if lag < 0 else "note" if lag <= allowed else "warning"
        meaning = "the state moves before the action" if lag < 0 else "the state follows late"
        yield Finding(
            "lag",
            severity,
            "best lag 0 (action t against state t + 1 - state t)",
            f"best lag {lag} ({1000 * lag / rate:+.0f} ms): correlation {facts['correlation']:.2f}, "
            f"{facts['correlation_at_0']:.2f} at lag 0; {meaning}",
        )

    def _odd_episodes(self, usual: int) -> Iterator[Finding]:
        place_of = {int(lag): i for i, lag in enumerate(self.lags)}
        for lag, kept in sorted(self._odd.items()):
            if abs(lag - usual) < ODD_LAG:
                continue
            for episode, source, curve in kept:
                best, at_usual = curve[place_of[lag]], curve[place_of[usual]]
                if best > CLEAR and best - at_usual > ODD_MARGIN:
                    found = f"best lag {lag}: correlation {best:.2f}, {at_usual:.2f} at lag {usual}"
                    expected = f"lag {usual} as in the whole set"
                    yield Finding("lag", "warning", expected, found, episode, source=source)

    def _axes(self, sums: _Sums) -> Iterator[Finding]:
        """Channels that move another state channel than their own, or their own backwards."""
        correlation, names = sums.correlation, self._pairs.names
        kinds = [self._spec.action.channels[column].kind for column in self._pairs.action]
        kinds += [f"turn {i // 3}" for i in range(len(names) - len(kinds))]
        for i, name in enumerate(names):
            kin = [j for j in range(len(names)) if kinds[j] == kinds[i]]
            own = correlation[i, i]
            other = max(kin, key=lambda j: abs(correlation[i, j]))
            if own < -CLEAR:
                expected = "a state that moves as commanded"
                yield Finding(
                    "sign", "error", expected, f"it moves the other way (correlation {own:.2f})", channel=name
                )
            elif other != i and abs(correlation[i, other]) > 0.7 and abs(correlation[i, other]) > abs(own) + 0.3:
                found = f"it moves what {names[other]} should (correlation {correlation[i, other]:.2f}, own {own:.2f})"
                yield Finding("axes", "error", "a state channel of its own", found, channel=name)

    def _mode(self, best: float) -> Iterator[Finding]:
        """Delta actions that are targets, or targets that are deltas."""
        if self._levels.n < MIN_ROWS or not self._pairs.action:
            return
        level, change = (float(np.median(np.diag(sums.correlation))) for sums in (self._levels, self._changes))
        delta = self._spec.action.mode == "delta"
        if delta and level > 0.95 and level > best + 0.2:
            found = f"actions that equal the next state (correlation {level:.2f}): targets"
            yield Finding("mode", "error", "delta actions", found)
        elif not delta and level < CLEAR and change > 0.6 and change > best + 0.1:
            found = f"actions that equal the change of the state (correlation {change:.2f}): deltas"
            yield Finding("mode", "error", "absolute actions", found)

    def _gain_of(self, sums: _Sums) -> float | None:
        count = len(self._pairs.action)
        x, y = sums.variance
        used = (np.diag(sums.correlation) > 0.6)[:count] & (x[:count] > 0) & (y[:count] > 0)
        if not used.any():
            return None
        return float(np.median((np.diag(sums.covariance)[:count] / np.where(x[:count] > 0, x[:count], 1))[used]))

    def _gain(self, facts: dict[str, Any]) -> Iterator[Finding]:
        gain = facts["gain"]
        if gain is not None and not GAINS[0] <= gain <= GAINS[1]:
            expected = f"{GAINS[0]:g} to {GAINS[1]:g} of the commanded motion"
            found = f"the state moves {gain:.3g} times as far: the unit or the scale is another"
            yield Finding("scale", "warning", expected, found)


def _curve(sums: list[_Sums]) -> Float[np.ndarray, "l"]:
    """Mean absolute correlation of the pairs that show motion, at each lag."""
    diagonals = np.array([np.abs(np.diag(one.correlation)) if one.n > 2 else np.zeros(len(one.x)) for one in sums])
    shown = diagonals.max(0) > 0.3
    return diagonals[:, shown].mean(1) if shown.any() else np.zeros(len(sums))
