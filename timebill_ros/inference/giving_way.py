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

"""A request that gives way to others in the middle, and goes on where it stopped.

The call that runs it stays where it is, with all that it has drawn, planned and measured. Only what others would change
is saved: what is in the cache and what belongs to it, and what the chain shares with others. So others run inside of
this call, in their own. No torch: the engine gives way with this on a scripted model too.
"""
from __future__ import annotations

from timebill_ros.deadline import Clock
from timebill_ros.inference.control import Control
from timebill_ros.request import Timing


class GivingWay:
    """Has one request give way. `model`: a CausalLM or what stands for one; `timing`: the request's, which is told."""

    def __init__(self, model, control: Control, timing: Timing, clock: Clock):
        self._model, self._control, self._timing, self._clock = model, control, timing, clock
        self.is_over = False  # the request was canceled meanwhile: the cache holds what others have left

    def clock(self) -> float:
        """Return the time as it would be if the request had never given way, in seconds."""
        return self._clock() - self._timing.paused_s

    def __call__(self, chain=None) -> bool:
        """Give way if that is asked for; return whether the request goes on, False where nobody has asked.

        To be called between two tokens of `chain`, all of which have been read, or with None between two chunks of
        prefill. Where the sequence cannot be kept, the request is canceled.
        """
        control = self._control
        if control.canceled or not control.pausing:
            return False
        asides, control.pausing = self._model.asides, False
        started = self._clock()
        try:
            if asides is None:
                raise RuntimeError('no prompt is kept either: prefix_cache_mib is 0, or the log of the start says why')
            aside = asides.put()
        except Exception as error:  # there is no room, or even a bug: the request ends, and others run
            control.canceled = True
            control.on_refused(str(error))
            return False
        try:
            row = chain.save() if chain is not None else None
            control.on_pause()
            self.is_over = control.canceled
            if not self.is_over:
                asides.take_up(aside)
                if chain is not None:
                    chain.restore(row)
                self._model.synchronize()
        finally:
            asides.let_go(aside)
        self._timing.preemptions += 1
        paused_s = self._clock() - started
        self._timing.paused_s += paused_s
        control.gave_way(paused_s)
        return not control.canceled
