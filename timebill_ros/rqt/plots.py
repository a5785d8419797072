# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Two plots over the last minutes: the miss rate against epsilon, and the timing factors. No Qt.

Places are from 0 to 1: from left to right, and from the bottom to the top.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.monitoring import wording
from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt.axes import Tick, step
from timebill_ros.rqt.stats_history import KEPT_S, Point

SPANS_S = (60.0, 120.0, 300.0, KEPT_S)  # the shortest that shows all
RATE_TOP = 4.0  # the least that a plot of rates shows, as a multiple of the allowed rate
FACTOR_TOP = 1.6
HEADROOM = 1.4  # above the highest point: the names of the lines


@dataclass(frozen=True)
class Line:
    """A line of a plot: pieces of points (x, y), and its name, which colours.py knows."""

    name: str
    pieces: tuple[tuple[tuple[float, float], ...], ...]
    is_dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot. `said`: its heading."""

    said: list[Said]
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def miss_rate_plot(points: Sequence[Point], stats, now_s: float) -> Plot:
    """Return the share of promises missed, in percent, and the share that may be; `now_s`: ROS time."""
    top = max([RATE_TOP * point.allowed for point in points] + [point.miss_rate or 0.0 for point in points] + [0.01])
    top = HEADROOM * top
    lines = (_line('allowed', points, now_s, top, lambda point: point.allowed, is_dashed=True),
             _line('missed', points, now_s, top, lambda point: point.miss_rate))
    rate = wording.miss_rate(stats)
    text = 'no promised goal ended lately' if rate.rate is None else \
        f'{rate.missed} of the last {rate.promised}, {100 * rate.rate:.3g} %'
    return Plot([Said('promises missed: '), Said(text, wording.promises(stats).tone),
                 Said(f' ({100 * rate.allowed:.3g} % may)')], lines, _x_ticks(points, now_s),
                tuple(tick for tick in _y_ticks(top, lambda value: f'{100 * value:.3g} %') if tick.place * top <= 1.0))


def timing_plot(points: Sequence[Point], stats, now_s: float) -> Plot:
    """Return how many times as long as profiled steps and prefill take; `now_s`: ROS time."""
    top = HEADROOM * max([FACTOR_TOP] + [max(point.step_factor, point.prefill_factor) for point in points])
    lines = (_line('as profiled', points, now_s, top, lambda point: 1.0, is_dashed=True),
             _line('prefill', points, now_s, top, lambda point: point.prefill_factor),
             _line('steps', points, now_s, top, lambda point: point.step_factor))
    said = [Said(f'time over profile: steps {stats.timing_factor:.2f}, prefill {stats.prefill_factor:.2f}')]
    if stats.tokens_per_second:
        tone = Tone.PLAIN if stats.tokens_per_second_is_current else Tone.FAINT
        said.append(Said(f'; {stats.tokens_per_second:.1f} tokens/s', tone))
    return Plot(said, lines, _x_ticks(points, now_s), _y_ticks(top, lambda value: f'{value:g}'))


def span_s(points: Sequence[Point], now_s: float) -> float:
    """Return how far back a plot of these points goes."""
    age_s = now_s - points[0].at_s if points else 0.0
    return next((span for span in SPANS_S if age_s <= span), SPANS_S[-1])


def _line(name: str, points: Sequence[Point], now_s: float, top: float, value, *, is_dashed: bool = False) -> Line:
    """Return a line through the values that are known; a piece ends where one is not."""
    span = span_s(points, now_s)
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        y = value(point)
        x = 1.0 - (now_s - point.at_s) / span
        if y is None or not 0.0 <= x <= 1.0:
            pieces.append([])
        else:
            pieces[-1].append((x, y / top))
    return Line(name, tuple(tuple(piece) for piece in pieces if piece), is_dashed)


def _x_ticks(points: Sequence[Point], now_s: float) -> tuple[Tick, ...]:
    span = span_s(points, now_s)
    unit_s, unit = (60.0, 'min') if span > SPANS_S[1] else (1.0, 's')
    return tuple(Tick(1.0 - back, f'-{back * span / unit_s:g} {unit}' if back else 'now') for back in (1.0, 0.5, 0.0))


def _y_ticks(top: float, label) -> tuple[Tick, ...]:
    distance = step(2.0 * top)  # about three labels
    return tuple(Tick(i * distance / top, label(i * distance)) for i in range(int(top / distance) + 1))
