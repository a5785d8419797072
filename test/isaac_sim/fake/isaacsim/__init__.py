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

"""A stand-in for Isaac Sim: put this folder's parent on PYTHONPATH.

What it holds the cart's program to:

- omni, pxr and isaacsim.core can be imported only once a SimulationApp is there, the extensions' modules and rclpy only
  once their extension is enabled (Isaac Sim brings its own rclpy with the bridge);
- the timeline changes with an update, and ends or loops where it is not told otherwise (kit.py);
- node types, attributes and connections of a graph are checked by name; the bridge publishes only while it is played,
  not at its first tick, and only where somebody listens (graph.py);
- prims are checked as far as the program uses them; boxes move as they are told and stop at one another (world.py).

FAKE_ISAAC_WITHOUT names an extension that cannot be enabled. Facts are from the documentation of Isaac Sim 5.1 and 6.1
and from its published source; see isaac_api.py.
"""
import builtins
import os
import sys

from isaacsim import graph, kit, world

_real_import = builtins.__import__
_built = []


def _guarded(name, *arguments, **keywords):
    if name.split('.')[0] == 'rclpy' and not kit.extensions.is_extension_enabled('isaacsim.ros2.bridge'):
        raise ModuleNotFoundError('No module named rclpy: the ROS 2 bridge of Isaac Sim is not enabled', name='rclpy')
    return _real_import(name, *arguments, **keywords)


builtins.__import__ = _guarded


class SimulationApp:
    """The application. One in a process; `launch_config` may have the keys that are known here."""

    def __init__(self, launch_config=None, experience=''):
        if _built:
            raise RuntimeError('there is a SimulationApp already')
        early = [name for name in sys.modules if name.split('.')[0] in ('omni', 'pxr', 'carb')]
        if early:
            raise RuntimeError(f'imported before SimulationApp was built: {early}')
        unknown = set(launch_config or {}) - {'headless', 'renderer', 'disable_viewport_updates', 'extra_args'}
        if unknown:
            raise RuntimeError(f'unknown keys: {unknown}')
        _built.append(self)
        kit.extensions.missing = os.environ.get('FAKE_ISAAC_WITHOUT', '')
        self._runs = True
        kit.install()
        graph.install()
        world.install()
        kit.app.subsystems += [world.physics, graph.evaluator]

    def update(self):
        kit.app.update()

    def is_running(self):
        return self._runs

    def close(self):
        self._runs = False
        graph.evaluator.close()
        print('Simulation App Shutting Down', flush=True)
        os._exit(0)  # as with fast_shutdown, its default
