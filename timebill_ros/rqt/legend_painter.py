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

"""Draws what colours and shapes mean; in a narrow window on more lines. Qt."""
from __future__ import annotations

from collections.abc import Callable

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.wording import Said, Tone
from timebill_ros.rqt import bar_painter, colours
from timebill_ros.rqt.geometry import Box
from timebill_ros.rqt.pens import Pens

COLOUR = '#6f6f6f'  # of phases, which stands for every verdict
CHIP = 3  # characters
INDENT = 8  # characters: what the first entry of a line begins with


def _of_verdict(verdict: Verdict) -> Callable[[Pens, Box], None]:
    return lambda pens, chip: bar_painter.draw_part(pens, _low(chip), Phase.DECODE, colours.of_verdict(verdict))


def _of_phase(phase: Phase) -> Callable[[Pens, Box], None]:
    return lambda pens, chip: bar_painter.draw_part(pens, _low(chip), phase, COLOUR)


def _cut(pens: Pens, chip: Box) -> None:
    low = _low(chip)
    bar_painter.draw_part(pens, low, Phase.DECODE, COLOUR)
    bar_painter.draw_cut(pens, low.right, low.y, low.height)


def _low(chip: Box) -> Box:
    """Return a chip with room to the lines above and below."""
    return Box(chip.x, chip.y + bar_painter.PAD, chip.width, chip.height - 2 * bar_painter.PAD)


# Lines of (heading, entries); an entry: its words, and what draws it.
LINES = (
    (('promise', (('FITS', _of_verdict(Verdict.FITS)),
                  ('FITS_WITH_EVICTION', _of_verdict(Verdict.FITS_WITH_EVICTION)))),
     ('no promise', (('AT_RISK', _of_verdict(Verdict.AT_RISK)), ('INFEASIBLE', _of_verdict(Verdict.INFEASIBLE)),
                     ('no plan', _of_verdict(Verdict.UNKNOWN))))),
    (('bar', (
        ('queue', _of_phase(Phase.QUEUED)), ('prefill', _of_phase(Phase.PREFILL)), ('decode', _of_phase(Phase.DECODE)),
        ('deadline', lambda pens, chip: bar_painter.draw_deadline(pens, chip.at(0.5), chip)), ('cut or late', _cut),
        ('expected end', lambda pens, chip: bar_painter.draw_expected(pens, chip.at(0.5), chip)),
        ('worst case, then slack', lambda pens, chip: bar_painter.draw_worst(pens, chip.x, chip.right, chip,
                                                                             is_late=False)))),),
)


def draw_legend(pens: Pens, box: Box, em: int, line: int) -> None:
    """Draw the legend in `box`, which has room for twice the lines of LINES in a narrow window."""
    y = box.y
    for headings in LINES:
        x = box.x
        for heading, entries in headings:
            x = max(pens.say(Box(x, y, box.right - x, line), [Said(heading, Tone.FAINT)]) + em, box.x + INDENT * em)
            for words, draw in entries:
                wide = CHIP * em + em // 2 + pens.metrics.horizontalAdvance(words)
                if x + wide > box.right and y + 2 * line <= box.bottom:
                    x, y = box.x + INDENT * em, y + line
                draw(pens, Box(x, y, CHIP * em, line))
                x = pens.say(Box(x + CHIP * em + em // 2, y, box.right - x - CHIP * em, line), [Said(words)]) + 2 * em
        y += line
