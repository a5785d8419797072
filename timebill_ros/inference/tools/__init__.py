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

"""Tools that a model may call: how its chat template shows them and writes calls, and what a call must be.

`call_format.py` finds out how calls are written, `conversation.py` turns a goal's messages and tools into what
templates take, `answer_calls.py` takes answers apart. What an answer with calls may hold is a grammar:
grammars/tool_form.py.
"""
