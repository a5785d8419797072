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

"""Start rqt with this plugin alone, or say what is missing."""
from __future__ import annotations

import shutil
import subprocess
import sys

PLUGIN = 'timebill_ros/Deadlines'  # package and class name, as in plugin.xml
MISSING = ('rqt is not on the path. It is no dependency of this package, so that robots without a screen need no Qt: '
           'install ros-<distribution>-rqt-gui and ros-<distribution>-rqt-gui-py and source ROS 2, or use "timebill '
           'monitor", which shows the same in a terminal')


def command(rqt: str, server: str) -> list[str]:
    """Return the command that shows the server of that name. rqt looks anew which plugins there are."""
    return [rqt, '--force-discover', '--standalone', PLUGIN, '--args', '--server', server]


def start(server: str) -> int:
    """Show the server in rqt until the window is closed; return rqt's exit status, or 1 where there is no rqt."""
    rqt = shutil.which('rqt')
    if rqt is None:
        print(MISSING, file=sys.stderr)
        return 1
    return subprocess.call(command(rqt, server))
