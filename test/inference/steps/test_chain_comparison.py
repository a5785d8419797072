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

"""Graphs that do something else between two steps than they should are refused, each fault by its own test."""
from __future__ import annotations

import pytest
import torch
from test_captured import capturer
from test_compiled import IDS, load

from timebill_ros.inference.steps import captured as captured_steps
from timebill_ros.inference.steps import captured_draws
from timebill_ros.inference.steps.chain_comparison import check
from timebill_ros.inference.steps.comparison import StepDiffers
from timebill_ros.inference.steps.device_state import DeviceState
from timebill_ros.inference.token_chain import Arrivals


def make(monkeypatch):
    one = load(directory=None, max_context_tokens=128)
    monkeypatch.setattr(captured_steps, 'capturer', capturer)
    with torch.inference_mode():
        one.prefill(IDS, chunk_tokens=64)
        return captured_steps.CapturedStep(one.steps['float32'], one.cache), one.cache


def test_right_graphs_are_not_refused(monkeypatch):
    step, cache = make(monkeypatch)
    check(step, cache, len(IDS))
    assert cache.lengths == [len(IDS)] * len(cache.layers)
    for n in (cache.capacity, cache.capacity - 1):
        check(step, cache, n)


def _after(method, change):
    """Return `method` of DeviceState followed by `change`(state)."""
    whole = getattr(DeviceState, method)

    def changed(self, *arguments):
        whole(self, *arguments)
        change(self)
    return {method: changed}


FAULTS = {
    'another token goes in': _after('finish', lambda state: state.token.fill_(3)),
    'the position is not counted on': _after('finish', lambda state: state.position.sub_(1)),
    'the slot is not counted on': _after('finish', lambda state: state.slot.sub_(1)),
    'the count is not counted on': _after('finish', lambda state: state.count.sub_(1)),
    'the host is told nothing': _after('_tell', lambda state: state.arrivals.host.zero_()),
    'the host is told the token before': _after('_tell', lambda state: state.arrivals.host.copy_(
        state.arrivals.host.roll(1))),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_between_two_steps_is_refused(fault, monkeypatch):
    for name, method in FAULTS[fault].items():
        monkeypatch.setattr(DeviceState, name, method)
    with pytest.raises(StepDiffers, match='tokens of kind'):
        check(*make(monkeypatch), len(IDS))


@pytest.mark.parametrize('kind', captured_draws.DRAWS)
def test_a_draw_that_ignores_the_random_number_is_refused(kind, monkeypatch):
    step, cache = make(monkeypatch)
    draw, state = step.draws[kind], step.state

    def always_with_the_same():
        random, state.random = state.random, torch.full_like(state.random, 0.5)
        draw()
        state.random = random

    step.draws[kind] = always_with_the_same
    with pytest.raises(StepDiffers, match=f'tokens of kind {kind}'):
        check(step, cache, len(IDS))


def test_a_token_that_is_read_before_it_is_there_is_refused(monkeypatch):
    step, cache = make(monkeypatch)
    read = Arrivals.read
    monkeypatch.setattr(Arrivals, 'read', lambda self: read(self) if self._read else read(self) + 1)
    with pytest.raises(StepDiffers):
        check(step, cache, len(IDS))
