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

"""Answers of a given form: JSON that satisfies a schema, one of some choices, or what a regular expression matches.

llguidance, an optional library, says which tokens may come next. `vocabulary.py` tells it the bytes of the model's
tokens, `compiler.py` compiles what a goal asks for, `restricted_answer.py` is one answer while it is written,
`chain.py` draws its tokens, and `completion.py` completes an answer that was cut.
"""
