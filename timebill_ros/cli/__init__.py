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

"""The `timebill` command: one file per subcommand, and the demonstration.

This is the top room: it may import every other room.

A file of a subcommand has one function `add(commands)`, which adds its parser and sets the default `run`: a function
that takes the parsed options and returns the exit status. A subcommand that talks to a node, and so needs rclpy and no
torch, also sets `talks`. What `run` needs is imported when it runs: asking a node a question loads no torch, measuring
a model needs no ROS, and `timebill --help` is quick.
"""
