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

"""Command-line options that choose a model, under the names of the node's parameters."""
from __future__ import annotations

import argparse

from timebill_ros import settings

# The node's parameters that choose model, device and cache.
PARAMETERS = ('model', 'model_revision', 'chat_template_args', 'length_predictor', 'device', 'dtype', 'threads',
              'predictor_threads', 'predictor_placement', 'max_context_tokens', 'prefill_chunk_tokens', 'compile_step',
              'eviction_scorer', 'variants')


def add_model_options(command: argparse.ArgumentParser, but: tuple[str, ...] = (), **defaults) -> None:
    """Add an option for each of PARAMETERS that is not in `but`. `defaults`: other ones than the node's."""
    for name in (name for name in PARAMETERS if name not in but):
        parameter = settings.BY_NAME[name]
        command.add_argument(option(name), dest=name, type=type(parameter.default),
                             default=defaults.get(name, parameter.default),
                             choices=parameter.choices or None, help=parameter.description.replace('%', '%%'))


def model_settings(options: argparse.Namespace, but: tuple[str, ...] = ()) -> dict:
    """Return all of the node's parameters, with the values of those that are among the options and not in `but`.

    `but` names options that only share a parameter's name: they mean something else here.

    Benches keep no prompts: they answer the same ones again and again, in several ways, which are to read them alike.
    """
    apart = {'prefix_cache_mib': 0} if hasattr(options, 'bench') else {}
    return settings.check({**{name: value for name, value in vars(options).items()
                              if name in settings.BY_NAME and name not in but}, **apart})


def model_arguments(values: dict) -> list[str]:
    """Return the command-line arguments that `add_model_options` parses into `values` again; empty values have none."""
    return [part for name in PARAMETERS if values[name] for part in (option(name), str(values[name]))]


def option(name: str) -> str:
    """Return the option of a parameter: 'max_context_tokens' -> '--max-context-tokens'."""
    return '--' + name.replace('_', '-')
