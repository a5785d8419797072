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

"""Keep what a command starts to itself in the ROS graph."""
import os


def isolate() -> None:
    """Keep this process and its children to themselves in the ROS graph. Call it before rclpy.init.

    Discovery is limited to this machine and to a ROS domain that depends on the process id.
    """
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOCALHOST_ONLY'] = '1'  # the same for Humble
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
