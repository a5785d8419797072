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

"""When a goal gave way: pauses as statuses tell them, and what is drawn around them."""
import math

import pytest

from timebill_ros.cli.goal_pauses import Pauses
from timebill_ros.codes import Phase

Q, P, D, DONE = Phase.QUEUED, Phase.PREFILL, Phase.DECODE, Phase.DONE
TWO = Pauses(((2.0, 3.0), (5.0, 7.0)))


@pytest.mark.parametrize(('phases', 'spans'), [
    ([], ()), ([(0, Q), (1, Q), (2, P), (3, D), (9, DONE)], ()),  # it waited, and then ran
    ([(0, Q), (1, P), (2, Q), (2.5, Q), (3, P), (4, D), (9, DONE)], ((2, 3),)),
    ([(0, Q), (1, P), (2, Q), (3, D), (5, Q), (7, D), (9, DONE)], ((2, 3), (5, 7))),
    ([(1, D), (8, Q)], ((8, 9.5),)),  # it went on never
    ([(1, D), (8, Q), (11, DONE)], ((8, 9.5),)), ([(1, D), (10, Q), (11, DONE)], ())])
def test_statuses_tell_when_a_goal_had_given_way(phases, spans):
    assert Pauses.told_by(phases, 9.5).spans == spans


@pytest.mark.parametrize(('at', 'worked'), [(1, 1), (2, 2), (2.5, 2), (3, 2), (4, 3), (6, 4), (9, 6)])
def test_an_instant_without_the_pauses_before_it(at, worked):
    assert TWO.without(at) == worked


def test_what_is_not_known_stays_unknown():
    assert math.isnan(TWO.without(math.nan)) and math.isnan(Pauses().without(math.nan))


@pytest.mark.parametrize(('start', 'end', 'pieces'), [
    (0, 2, [(0, 2)]), (0, 3, [(0, 2), (3, 4)]), (2, 3, [(3, 4)]), (1, 6, [(1, 2), (3, 5), (7, 9)]),
    (4, 4, [(5, 5)]), (4, 5, [(7, 8)]), (5, 6, [(8, 9)])])
def test_what_was_done_is_drawn_around_the_pauses(start, end, pieces):
    assert list(TWO.around(start, end)) == pieces
    assert sum(b - a for a, b in pieces) == end - start
