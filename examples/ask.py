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

"""Ask the node a question with a deadline. The shortest client: README.md prints it."""
import rclpy

from timebill_ros.client import TimebillClient

rclpy.init()
node = rclpy.create_node('asker')
with TimebillClient(node, '/timebill') as client:
    client.wait_until_active(timeout_s=30.0)
    result = client.ask('log : visit kitchen mug @shelf1 left kitchen task : bring mug', budget_s=2.0).answer().result
print(result.text or result.error_msg)
