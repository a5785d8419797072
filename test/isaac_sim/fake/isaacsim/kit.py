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

"""Stand-ins for Kit: the application's loop, its timeline and its extensions."""
from __future__ import annotations

import sys
import time
import types


def module(name: str, **contents) -> types.ModuleType:
    """Make a module that can be imported from now on, with the packages around it."""
    parts = name.split('.')
    for n in range(1, len(parts) + 1):
        path = '.'.join(parts[:n])
        if path not in sys.modules:
            made = sys.modules[path] = types.ModuleType(path)
            made.__path__ = []
            if n > 1:
                setattr(sys.modules['.'.join(parts[:n - 1])], parts[n - 1], made)
    vars(sys.modules[name]).update(contents)
    return sys.modules[name]


class Timeline:
    """The main timeline. What it is told counts from the next update on."""

    def __init__(self):
        self._state = self._told = 'stopped'
        self._time_s, self._end_s, self._loops, self._codes = 0.0, 100 / 24, True, 24.0

    def play(self):
        self._told = 'playing'

    def pause(self):
        if self._told == 'playing':
            self._told = 'paused'

    def stop(self):
        self._told = 'stopped'

    def is_playing(self):
        return self._state == 'playing'

    def is_stopped(self):
        return self._state == 'stopped'

    def get_current_time(self):
        return self._time_s

    def set_end_time(self, end_time):
        self._end_s = float(end_time)

    def set_looping(self, looping):
        self._loops = bool(looping)

    def set_time_codes_per_second(self, codes):
        self._codes = float(codes)

    def advance(self, dt_s: float) -> tuple[str, float]:
        """Take over what was told -> (state, seconds to simulate)."""
        if self._told == 'stopped':
            self._time_s = 0.0
        self._state = self._told
        if self._state != 'playing':
            return self._state, 0.0
        self._time_s += dt_s
        if self._time_s > self._end_s:
            if not self._loops:
                self._told = 'stopped'
            self._time_s = 0.0
        return self._state, dt_s


class Loop:
    """The loop runner: dt of an update is a step that was set, or else the real time since the last one."""

    def __init__(self):
        self._manual, self._step_s, self._last_s = False, 0.01667, time.monotonic()

    def set_manual_mode(self, enabled=True, name=''):
        self._manual = bool(enabled)

    def set_manual_step_size(self, dt=0.01667, name=''):
        self._step_s = float(dt)

    def dt_s(self) -> float:
        now = time.monotonic()
        real_s, self._last_s = now - self._last_s, now
        return self._step_s if self._manual else real_s


class Extensions:
    """The extension manager. An extension that is enabled brings its modules and node types."""

    known = {'isaacsim.core.nodes', 'isaacsim.core.experimental.prims', 'isaacsim.ros2.bridge'}

    def __init__(self):
        self.missing, self._enabled, self.on_enabled = '', set(), {}

    def set_extension_enabled_immediate(self, name, enabled):
        if name not in self.known or name == self.missing or not enabled:
            return False
        if name not in self._enabled:
            self._enabled.add(name)
            self.on_enabled.get(name, lambda: None)()
        return True

    def is_extension_enabled(self, name):
        return name in self._enabled


class App:
    """The application. `subsystems`: what each update computes, called with (state of the timeline, seconds)."""

    def __init__(self):
        self.subsystems = []

    def get_extension_manager(self):
        return extensions

    def update(self):
        state, dt_s = timeline.advance(loop.dt_s())
        for subsystem in self.subsystems:
            subsystem(state, dt_s)


timeline, loop, extensions, app = Timeline(), Loop(), Extensions(), App()


def install() -> None:
    module('omni.kit.app', get_app=lambda: app)
    module('omni.kit.loop._loop', acquire_loop_interface=lambda: loop)
    module('omni.timeline', get_timeline_interface=lambda: timeline)
