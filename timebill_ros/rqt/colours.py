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

"""The colours, on light windows (rqt's grey) and on dark ones. No Qt: '#rrggbb'.

Verdicts differ in lightness as well as in hue, so that people who confuse red and green can tell them apart; what is
late has a shape of its own besides.
"""
from __future__ import annotations

from timebill_ros.codes import Verdict
from timebill_ros.monitoring.wording import Tone

VERDICTS = {Verdict.UNKNOWN: '#8a8a8a', Verdict.FITS: '#2a9d57', Verdict.FITS_WITH_EVICTION: '#1f78b4',
            Verdict.AT_RISK: '#e6a100', Verdict.INFEASIBLE: '#8e44ad'}
LATE = '#d62728'
# Words by how serious they are; None: as the window has it.
LIGHT_TONES = {Tone.PLAIN: None, Tone.FAINT: '#5f5f5f', Tone.GOOD: '#17663a', Tone.WARN: '#8a5a00', Tone.BAD: '#b3141a',
               Tone.ALARM: '#b3141a'}
DARK_TONES = {Tone.PLAIN: None, Tone.FAINT: '#a8a8a8', Tone.GOOD: '#6fd39a', Tone.WARN: '#f0b93a', Tone.BAD: '#ff8a80',
              Tone.ALARM: '#ff8a80'}
LINES = {'allowed': '#5f5f5f', 'as profiled': '#5f5f5f', 'missed': '#d62728', 'steps': '#1f78b4',
         'prefill': '#e6a100'}
DARK_BELOW = 0.4  # the luminance of a window's background below which it is a dark one


def tones(background: str) -> dict[Tone, str | None]:
    """Return the colours of words on a background '#rrggbb'."""
    return DARK_TONES if luminance(background) < DARK_BELOW else LIGHT_TONES


def of_verdict(verdict: int) -> str:
    """Return the colour of a verdict; that of UNKNOWN for one that only a newer node knows."""
    return VERDICTS.get(verdict, VERDICTS[Verdict.UNKNOWN])


def luminance(colour: str) -> float:
    """Return the relative luminance of '#rrggbb', from 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.1; text wants 4.5, shapes 3)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
