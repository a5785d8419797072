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

"""How a model wants tokens drawn is what `model.generate` would do with its generation config."""
import logging

import pytest
from transformers import GenerationConfig

from timebill_ros.admission import check, resolve_sampling
from timebill_ros.inference.generation_config import sampling
from timebill_ros.request import Request, Sampling

GREEDY = {'temperature': 0.0, 'top_p': 1.0, 'top_k': 0, 'min_p': 0.0, 'repetition_penalty': 1.0}


@pytest.mark.parametrize(('config', 'expected'), [
    ({}, {}),
    ({'temperature': 0.6, 'top_p': 0.9}, {}),  # without do_sample it answers greedily
    ({'repetition_penalty': 1.1}, {'repetition_penalty': 1.1}),  # that holds for greedy answers too
    ({'do_sample': True}, {'temperature': 1.0, 'top_k': 50}),
    ({'do_sample': True, 'top_k': 0, 'temperature': 0.7}, {'temperature': 0.7}),
    ({'do_sample': True, 'temperature': 0.6, 'top_p': 0.95, 'top_k': 20, 'min_p': 0.05, 'repetition_penalty': 1.05},
     {'temperature': 0.6, 'top_p': 0.95, 'top_k': 20, 'min_p': 0.05, 'repetition_penalty': 1.05}),
])
def test_it_is_that_of_generate(config, expected):
    assert sampling('m', GenerationConfig(**config)) == {**GREEDY, **expected}


def test_a_model_without_a_generation_config_is_greedy():
    assert sampling('m', None) == GREEDY


@pytest.mark.parametrize(('field', 'value'), [
    ('top_p', 0.0), ('top_p', 2.0), ('min_p', -1.0), ('repetition_penalty', 1e9), ('temperature', -0.5),
    ('temperature', float('inf')), ('top_k', 'many')])
def test_a_value_that_no_goal_may_have_is_left_out_with_a_warning(field, value, caplog):
    config = GenerationConfig(do_sample=True)
    setattr(config, field, value)
    found = sampling('a/model', config)
    assert f'the generation config of a/model has {field} {value!r}, which is not used' in caplog.text
    asked = resolve_sampling(Sampling(temperature=-1.0), found)
    check(Request('id', 0.0, 1.0, prompt='p', sampling=asked), max_prompt_characters=9)


def test_the_log_says_what_is_wanted_and_what_is_not_done(caplog):
    caplog.set_level(logging.INFO, 'timebill_ros')
    config = GenerationConfig(repetition_penalty=1.1, no_repeat_ngram_size=3, max_length=20)
    sampling('a/model', config)
    wanted, ignored = caplog.messages
    assert 'asks for repetition_penalty 1.1: ' in wanted and 'sampling_defaults' in wanted
    assert 'no_repeat_ngram_size 3, which is not used' in ignored and 'max_length' not in ignored
    caplog.clear()
    sampling('a/model', None)
    assert not caplog.messages
