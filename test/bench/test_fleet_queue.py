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

"""The queue of a server that robots share: by hand where that can be done, and against what queueing theory says."""
import numpy as np
import pytest

from timebill_ros.bench.fleet_queue import POLICIES, Kind, Policy, _ask_server, arrivals, simulate

ALONE, CANCELED, BESIDE, BACKING_OFF, ON_BOARD = POLICIES
QUICK = Kind(server_s=0.5, onboard_s=0.9, read_s=0.3)


def fleet(policy: Policy, kind: Kind = QUICK, **changed):
    given = {'robots': 10, 'places': 4, 'deadline_s': 1.0, 'period_s': 10.0, 'network_s': 0.0, 'seconds': 2000.0}
    return simulate([kind], policy, **{**given, **changed}).row()


def test_questions_come_as_often_as_they_should():
    times, who, what = arrivals(50, 10.0, 1000.0, 3, np.random.default_rng(0))
    assert len(times) == pytest.approx(5000, rel=0.05) and (np.diff(times) >= 0).all()
    assert set(who) == set(range(50)) and set(what) == {0, 1, 2}
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05), 'exponential, as of a Poisson process'


def test_who_came_first_is_served_first_by_the_place_that_is_free_first():
    server = [0.0, 0.0]
    done = [_ask_server(server, at_s, at_s + 9.0, takes_s, 0.0, True) for at_s, takes_s in
            ((0.0, 3.0), (1.0, 1.0), (1.0, 2.0), (1.0, 1.0))]
    assert done == [3.0, 2.0, 4.0, 4.0]


def test_what_is_canceled_takes_no_place():
    server = [5.0]
    assert _ask_server(server, 0.0, 4.0, 1.0, 0.0, True) == float('inf') and server == [5.0]
    assert _ask_server(server, 2.0, 6.0, 3.0, 0.0, True) == 8.0 and server == [6.0], 'it was cut at its deadline'
    assert _ask_server(server, 2.0, 6.0, 3.0, 0.0, False) == 9.0 and server == [9.0]


@pytest.mark.parametrize('load', [0.3, 0.6])
def test_one_place_is_found_free_as_often_as_theory_says(load):
    """With a deadline as long as the service, an answer is in time where it need not wait: 1 - rho of them (PASTA)."""
    shares = fleet(ALONE, Kind(1.0, 9.0, 9.0), robots=100, places=1, period_s=100.0 / load, seconds=30000.0)
    assert shares['server'] == pytest.approx(1 - load, abs=0.02)


def test_a_server_that_is_not_asked_much_answers_all():
    for policy in (ALONE, CANCELED, BESIDE, BACKING_OFF):
        assert fleet(policy)['server'] > 0.99


def test_a_server_that_is_full_answers_nobody_and_what_is_on_board_stays():
    full = {'robots': 1000, 'seconds': 300.0}
    assert fleet(ALONE, **full)['on_time'] < 0.05
    onboard = fleet(ON_BOARD, **full)['on_time']
    assert onboard > 0.8
    for policy in (BESIDE, BACKING_OFF):
        assert fleet(policy, **full)['on_time'] >= onboard


def test_robots_that_back_off_leave_the_server_time_for_whole_answers():
    full = {'robots': 1000, 'seconds': 600.0}
    pressing, backing_off = fleet(BESIDE, **full), fleet(BACKING_OFF, **full)
    assert backing_off['asked'] < 0.5 < pressing['asked'] == 1.0
    assert backing_off['server'] > pressing['server']


@pytest.mark.parametrize(('kind', 'found'), [
    (Kind(9.0, 0.9, 0.1), 'onboard'), (Kind(9.0, 5.0, 0.1), 'cut'), (Kind(9.0, 5.0, 2.0), 'nothing'),
    (Kind(0.5, 0.2, 0.1), 'server')])
def test_what_becomes_of_a_question(kind, found):
    shares = fleet(BESIDE, kind, robots=1, period_s=1000.0, seconds=100000.0)
    assert shares[found] == 1.0 and shares['questions'] > 50


def test_shares_add_up_and_the_same_seed_gives_the_same():
    for policy in POLICIES:
        shares = fleet(policy, robots=300)
        assert shares['server'] + shares['onboard'] + shares['cut'] + shares['nothing'] == pytest.approx(1.0)
        assert shares['on_time'] == pytest.approx(shares['server'] + shares['onboard'])
        assert fleet(policy, robots=300) == shares


def test_the_way_to_the_server_counts():
    assert fleet(CANCELED, network_s=0.4)['server'] > 0.99 and fleet(CANCELED, network_s=0.6)['server'] == 0.0
