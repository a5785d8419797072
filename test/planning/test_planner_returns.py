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

"""Entries that come back by plans made again: over the situations, rules and times that all plans are tested on."""
import random
from dataclasses import replace

from hypothesis import given
from test_planner import (
    BY_STEEP,
    RULES,
    SECONDS,
    SEEDS,
    SITUATIONS,
    TIMES,
    known,
    often,
    planner_of,
    some_revision,
)

from timebill_ros.codes import Verdict
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Progress


@often
@given(SEEDS, SITUATIONS, RULES, SECONDS)
def test_entries_come_back_only_by_quality_and_where_a_promise_holds_with_them(seed, situation, rule, left_s):
    case = some_revision(seed, situation, rule, left_s)
    if case is None:
        return
    both, plan, situation, now, left_s, without = case
    most = random.Random(seed).choice([now.n_keep, situation.n_x])
    now = now._replace(latest=now.factor)  # where the last steps were quicker, only that is planned with less
    revised = both.revise(plan, situation, now._replace(most=most), left_s)
    if revised.n_keep <= now.n_keep:
        assert revised == without or rule.brings_back and revised.verdict is without.verdict
        return
    assert both.brings_back and now.n_keep < revised.n_keep <= most and revised.verdict.is_promise
    assert revised.evict_after == 0 and revised.variant == plan.variant
    assert without.verdict.is_promise and without.n_keep == now.n_keep, 'it holds without them too'
    bounds, seconds = situation.bounds, TIMES.restore(now.n_kv + revised.n_keep - now.n_keep)
    n_w = bounds.length.pessimistic(situation.distribution, situation.n_max, now.n)
    steps = both.times_of(plan.variant).steps.scaled(now.factor * bounds.time_bound)
    needed_s = seconds * now.factor * bounds.time_bound + bounds.reserve_s + steps.decode(
        now.n_kv + revised.n_keep - now.n_keep, n_w - now.n + 1)
    assert needed_s <= revised.decode_wcet_s + 1e-9 <= left_s + 2e-9
    done = Progress(now.n, now.n_kv + revised.n_keep - now.n_keep, revised.n_keep, now.factor, most, now.factor)
    again = both.revise(revised, situation, done, left_s - seconds * now.factor)
    assert again.n_keep >= revised.n_keep, 'what came back is not evicted again at once'


def test_on_a_device_that_has_recovered_entries_come_back_and_nothing_else_is_planned_for_less():
    """51 more tokens over 500 entries take 0.78 s, over the whole cache 1.02 s; by the feared factor twice as long."""
    one = planner_of(BY_STEEP, ['float32'])
    plan = replace(one.plan(known(), 2.0), verdict=Verdict.FITS_WITH_EVICTION, n_keep=500, eviction_ratio=0.5,
                   timing_factor=2.0)
    now = Progress(10, 509, 500, 2.0, 1000, 1.0)
    back = one.revise(plan, known(), now, 1.6)
    assert (back.n_keep, back.verdict, back.timing_factor) == (1000, Verdict.FITS, 1.0)
    assert one.revise(plan, known(), now._replace(latest=2.0), 1.6) is plan
    feared = one.revise(plan, known(), now._replace(most=0), 0.8)
    assert one.revise(plan, known(), now, 0.8) == feared and feared.timing_factor == 2.0


def test_whether_entries_may_come_back_is_the_rules_and_the_profiles():
    never = replace(TIMES, r_1=0.0, r_0=0.0)
    assert [Planner(times, ['float32'], rule).brings_back for times in (TIMES, never)
            for rule in (BY_STEEP, PaperRule())] == [True, False, False, False]
