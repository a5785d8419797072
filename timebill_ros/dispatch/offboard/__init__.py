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

"""The second tier: a server that answers goals beside the model on board, where parameters and goals allow it.

Nothing here is imported unless `offboard_url` is set. `main` is the process that speaks to the server; it needs httpx.
All else runs in the node, in the dispatcher's thread, and never waits for the network.
"""
