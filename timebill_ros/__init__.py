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

"""An LLM under hard deadlines, as a ROS 2 action server."""
import pkgutil

# The build puts the generated msg, action and srv into the installed package of this name. With a checkout
# first on sys.path this file would hide them, so look for subpackages in every timebill_ros folder there.
__path__ = pkgutil.extend_path(__path__, __name__)
