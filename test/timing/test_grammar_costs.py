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

"""What masks and forced tokens take, measured on a small model, and what becomes of it in a profile."""
import pytest
import tiny_models
from byte_tokenizers import build

pytest.importorskip('llguidance')
from timebill_ros.inference.grammars.compiler import grammars_of  # noqa: E402
from timebill_ros.inference.model import CausalLM  # noqa: E402
from timebill_ros.timing import grammar_costs  # noqa: E402
from timebill_ros.timing.profiling import make_profile, measure  # noqa: E402


def load(path):
    model = CausalLM(str(path), device='cpu', threads=1)
    model.grammars = grammars_of(model)
    return model


def test_they_are_in_the_profile(tmp_path):
    model = load(build(tmp_path))
    points = measure(model, None, chunk_tokens=64, budget_s=2.0, repeats=1, n_lengths=3)
    assert {'draw:greedy+grammar', 'forced'} <= points.keys()
    times = make_profile(model, None, points, 64).times
    assert times.forced_s > 0 and times.draws['greedy+grammar'] > 0
    assert times.of_sampling('greedy+grammar').step(100) >= times.step(100)


def test_nothing_is_measured_where_there_are_no_grammars():
    model = load(tiny_models.directory('qwen2'))  # its tokenizer writes words
    model.reset()
    logits = model.prefill([7, 8, 9], chunk_tokens=9)
    assert grammar_costs.measure(model, logits, 3, 3, 0.001) == {}


def test_a_full_context_has_no_room_for_several_tokens(tmp_path):
    model = load(build(tmp_path))
    model.reset()
    logits = model.prefill([7, 8, 9], chunk_tokens=9)
    assert 'forced' not in grammar_costs.measure(model, logits, 3, model.max_context - 9, 0.001)
