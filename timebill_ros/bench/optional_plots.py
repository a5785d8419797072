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

"""Plots where matplotlib is installed; elsewhere a sentence, since the numbers are worth having without a picture."""
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def plots_if_installed(module: str = 'plots') -> ModuleType | None:
    """Return the module of this name in timebill_ros.bench, or None after a sentence on standard error.

    Call it once the numbers are written and shown: importing matplotlib takes seconds, and may fail.
    """
    try:
        return import_module(f'timebill_ros.bench.{module}')
    except ImportError as error:
        print(f'no picture was drawn, which takes matplotlib ({error}): install it with "pip install matplotlib" or '
              '"apt install python3-matplotlib"', file=sys.stderr)
        return None
