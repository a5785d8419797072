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

"""Numbers that whoever uses a model must know too, where torch need not be: the engine with a scripted model."""

NOT_A_TOKEN = -1  # in the place of a token that was drawn from logits which were not finite
MAX_WINDOW = 32  # the largest observation window W, entries: shorter prompts are kept whole
