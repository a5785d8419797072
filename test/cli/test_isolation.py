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

"""What a command starts hears nobody else's nodes."""
import os

from timebill_ros.cli.isolation import isolate


def test_discovery_is_kept_to_this_machine_and_a_domain_of_its_own(monkeypatch):
    for name in ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY', 'ROS_DOMAIN_ID'):
        monkeypatch.setenv(name, '')
    isolate()
    assert (os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'], os.environ['ROS_LOCALHOST_ONLY']) == ('LOCALHOST', '1')
    assert 1 <= int(os.environ['ROS_DOMAIN_ID']) <= 100
