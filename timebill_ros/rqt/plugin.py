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

"""The plugin as rqt loads it: plugin.xml names this class. Needs rqt; `timebill monitor` needs none."""
from __future__ import annotations

import argparse

try:
    from rqt_gui_py.plugin import Plugin
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'timebill_ros.rqt.plugin is for rqt to load, and there is no {error.name}: install '
                              'ros-<distribution>-rqt-gui-py, or use "timebill monitor", which needs no Qt',
                              name=error.name) from error

from timebill_ros.monitoring.subscription import servers, subscribe
from timebill_ros.rqt.axes import AXES
from timebill_ros.rqt.watch import Watch
from timebill_ros.rqt.widget import DeadlinesWidget

DEFAULT_SERVER = '/timebill'


class Deadlines(Plugin):
    """Goals of one node as bars against their deadlines. Arguments, after rqt's `--args`: `--server NAME`."""

    def __init__(self, context):
        super().__init__(context)
        self.setObjectName('Deadlines')
        self._node = context.node
        asked = _arguments(context.argv())
        self._is_asked = bool(asked.server)
        self._widget = DeadlinesWidget(self._listen, lambda: servers(self._node), asked.server or DEFAULT_SERVER)
        if context.serial_number() > 1:
            self._widget.setWindowTitle(f'{self._widget.windowTitle()} ({context.serial_number()})')
        context.add_widget(self._widget)

    def shutdown_plugin(self):
        self._widget.stop()

    def save_settings(self, plugin_settings, instance_settings):
        instance_settings.set_value('server', self._widget.server)
        instance_settings.set_value('bars', self._widget.axes.currentText())

    def restore_settings(self, plugin_settings, instance_settings):
        if not self._is_asked:  # what the command line says counts more than what was shown the last time
            self._widget.set_server(str(instance_settings.value('server', self._widget.server)))
        bars = str(instance_settings.value('bars', ''))
        if bars in AXES:
            self._widget.axes.setCurrentText(bars)

    def _listen(self, server: str, watch: Watch):
        """Have a Watch hear a node; return what ends this."""
        subscriptions = subscribe(self._node, server, watch.hear_status, watch.hear_stats)

        def stop() -> None:
            for subscription in subscriptions:
                self._node.destroy_subscription(subscription)

        return stop


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='rqt --standalone timebill_ros/Deadlines --args', add_help=False)
    parser.add_argument('--server', default='')
    return parser.parse_known_args(arguments)[0]
