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


def add_model_options(command: argparse.ArgumentParser, but: tuple[str, ...] = ()) -> None:
    """The node's parameters that choose model, device and cache, under the same names, without `but`."""
    for name in (name for name in settings.OF_MODELS if name not in but):
        parameter = settings.BY_NAME[name]
        command.add_argument('--' + name.replace('_', '-'), dest=name, type=type(parameter.default),
                             default=parameter.default, choices=parameter.choices or None,
                             help=parameter.description.replace('%', '%%'))


def model_settings(options: argparse.Namespace, but: tuple[str, ...] = ()) -> dict:
    """The node's parameters among the options, but for those that mean something else here."""
    return settings.check({name: value for name, value in vars(options).items()
                           if name in settings.BY_NAME and name not in but})
