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

"""What to install, and for which Python, where the worker's lacks a library. Only the standard library is used."""
from __future__ import annotations

import re
import sys

# What pip installs for the parameter `worker`.
PACKAGES = {'model': ('torch>=2.5', 'transformers>=4.56', 'safetensors', 'numpy', 'pyyaml'),
            'scripted': ('numpy', 'pyyaml')}
NAMES = {'yaml': 'pyyaml'}  # of the package, where it is not that of the module


def missing_library(error: BaseException, settings: dict) -> str:
    """Return the sentence for a library that this Python lacks or cannot import; empty where `error` is another one.

    `settings`: the node's parameters, of which worker_python has named this Python.
    """
    module = (getattr(error, 'name', None) or '').partition('.')[0]
    if not isinstance(error, ImportError) or module == 'timebill_ros':
        return ''
    lacks = f'lacks the library {module}' if isinstance(error, ModuleNotFoundError) and module else \
        f'cannot import what inference takes ({error})'
    python = settings.get('worker_python')
    which = f'worker_python {python!r}' if python else \
        f'worker_python is not set, and the Python of the node, {sys.executable},'
    packages = PACKAGES.get(settings.get('worker'), PACKAGES['model'])
    package = NAMES.get(module, module)
    if package and package not in (re.split('[<>=]', known)[0] for known in packages):
        packages = (*packages, package)
    quoted = ' '.join(f'"{name}"' if '>' in name else name for name in packages)
    return f'{which} {lacks}: {python or sys.executable} -m pip install {quoted}, or name a Python that has them all'
