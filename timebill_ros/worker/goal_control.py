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

"""The control of a goal that runs: what is told to the node of it, and how other goals are served in between."""
from __future__ import annotations

from collections.abc import Callable

from timebill_ros.codes import Phase
from timebill_ros.deadline import Deadline
from timebill_ros.dispatch.channel import Channel
from timebill_ros.inference.control import Control
from timebill_ros.request import Plan, Request, Timing, to_dict
from timebill_ros.worker.streamer import Streamer


def control_of(request: Request, channel: Channel, streamer: Streamer, serve_one: Callable[[], None]) -> Control:
    """Return the control of a goal that begins, which tells the node what becomes of it.

    Where the goal gives way to others, `serve_one` serves one command after the other, inside of the goal's own call,
    until the goal is to go on or is canceled. So the goal that gave way last goes on first.
    """
    name = request.request_id
    control = Control(Deadline(request.deadline_s), request.delivery_margin_s, request.max_overrun_s)

    def on_phase(phase: Phase) -> None:
        channel.send({'event': 'phase', 'id': name, 'phase': phase})

    def on_plan(plan: Plan, timing: Timing) -> None:
        channel.send({'event': 'plan', 'id': name, 'plan': to_dict(plan), 'timing': to_dict(timing)})

    def on_pause() -> None:
        streamer.catch_up()
        control.paused = True  # from now on a cancel wakes this thread
        channel.send({'event': 'paused', 'id': name})
        while control.paused and not control.canceled:
            serve_one()
        control.paused = False

    def on_refused(why: str) -> None:
        channel.send({'event': 'refused', 'id': name, 'why': why})

    control.on_phase, control.on_plan, control.on_pause, control.on_refused = on_phase, on_plan, on_pause, on_refused
    return control
