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

"""Options that choose a model: there and back."""
import argparse

from timebill_ros import settings
from timebill_ros.cli.model_options import PARAMETERS, add_model_options, model_arguments, model_settings


def parse(*arguments: str, but: tuple[str, ...] = ()) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser, but)
    return parser.parse_args(arguments)


def test_options_have_the_parameters_defaults():
    assert vars(parse()) == {name: settings.BY_NAME[name].default for name in PARAMETERS}
    assert model_settings(parse()) == settings.check({})


def test_what_is_left_out_keeps_its_default():
    options = parse('--threads', '3', but=('model',))
    assert not hasattr(options, 'model')
    assert model_settings(options)['threads'] == 3 and model_settings(options, but=('threads',))['threads'] == 0


def test_arguments_parse_into_the_values_that_they_were_made_of():
    values = settings.check({'model': '/m', 'threads': 2, 'dtype': 'bfloat16', 'max_context_tokens': 512})
    assert model_settings(parse(*model_arguments(values))) == values


def test_a_bench_keeps_no_prompts():
    options = parse()
    options.bench = 'budgets'
    assert model_settings(options)['prefix_cache_mib'] == 0 and model_settings(parse())['prefix_cache_mib'] == -1
