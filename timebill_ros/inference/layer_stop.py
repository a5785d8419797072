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

"""Stopping a forward pass between two of its layers."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from torch import nn


class Stopped(Exception):
    """The reading of a prompt was stopped. What it wrote to the cache is of no use."""


@contextlib.contextmanager
def stop_before_layers(modules: Iterable[nn.Module], should_stop: Callable[[], bool]) -> Iterator[None]:
    """Ask `should_stop` before each call of each of `modules` inside, and raise Stopped where it says yes."""
    def ask(module, inputs) -> None:
        if should_stop():
            raise Stopped

    hooks = [module.register_forward_pre_hook(ask) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
