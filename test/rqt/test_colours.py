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

"""Words can be read on rqt's grey and on dark windows, and verdicts can be told apart."""
import itertools

import pytest

from timebill_ros.codes import Verdict
from timebill_ros.monitoring.wording import Tone
from timebill_ros.rqt import colours

GREY, WHITE, DARK = '#efefef', '#ffffff', '#2d2d2d'


def test_contrast_is_that_of_the_standard():
    assert colours.contrast('#000000', '#ffffff') == pytest.approx(21.0)
    assert colours.contrast('#777777', '#ffffff') == pytest.approx(4.48, abs=0.01)  # WCAG's example of too little


@pytest.mark.parametrize('background', [GREY, WHITE, DARK])
@pytest.mark.parametrize('tone', Tone)
def test_words_can_be_read(background, tone):
    colour = colours.tones(background)[tone]
    assert colour is None or colours.contrast(colour, background) >= 4.5


@pytest.mark.parametrize('verdict', Verdict)
def test_bars_show_on_white_and_on_dark(verdict):
    assert colours.contrast(colours.of_verdict(verdict), WHITE) >= 2.0
    assert colours.contrast(colours.of_verdict(verdict), DARK) >= 2.0


def test_every_verdict_and_what_is_late_has_a_colour_of_its_own():
    found = [*(colours.of_verdict(verdict) for verdict in Verdict), colours.LATE]
    assert all(one != other for one, other in itertools.combinations(found, 2))
    assert colours.of_verdict(99) == colours.of_verdict(Verdict.UNKNOWN)  # of a newer node
    assert set(Tone) == set(colours.LIGHT_TONES) == set(colours.DARK_TONES)
