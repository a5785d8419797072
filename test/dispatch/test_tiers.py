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

"""Without offboard_url there is one tier, of which no goal sees anything."""
import math

import pytest

from timebill_ros.dispatch.offboard.second_tier import SecondTier
from timebill_ros.dispatch.tiers import OneTier, tier_of


@pytest.mark.parametrize(('settings', 'kind'), [
    ({}, OneTier), ({'offboard_url': ''}, OneTier),
    ({'offboard_url': 'http://server/v1', 'offboard_model': 'large'}, SecondTier)])
def test_the_parameter_says_which(settings, kind):
    assert type(tier_of(settings, None, None, None, lambda: 0.0, None)) is kind


def test_one_tier_decides_nothing(harness):
    tier = harness.dispatcher.tier
    assert isinstance(tier, OneTier) and tier.next_timer_s() == math.inf and tier.held == ()
    job = harness.submit(allow_offboard=True)
    assert not job.is_contested and tier.asked == tier.running == 0
    harness.worker.text(job, 'at once', 2)
    harness.sync()
    assert job.written() != {}


def test_every_method_is_there_for_either_tier():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith('_')}
    assert public(OneTier) - public(SecondTier) == {'asked', 'configure'}, 'they are in each SecondTier'
    assert public(SecondTier) <= public(OneTier)
