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

"""How many threads compute: by request, by the size of the weights, and beside a prediction."""
import os
import subprocess
import sys

import pytest
import tiny_models
import torch

from timebill_ros.inference import threads
from timebill_ros.inference.model import CausalLM


@pytest.mark.parametrize(('requested', 'weight_bytes', 'cores', 'n'), [
    (0, threads.SMALL_WEIGHTS, 8, 1), (0, threads.SMALL_WEIGHTS + 1, 8, 8), (3, 1, 8, 3), (3, 10 ** 9, 8, 3),
])
def test_decoding(requested, weight_bytes, cores, n, monkeypatch):
    monkeypatch.setattr(threads, 'available_cores', lambda: cores)
    assert threads.for_decoding(requested, weight_bytes) == n


@pytest.mark.parametrize(('own', 'beside', 'cores', 'n'), [(8, 1, 8, 7), (1, 1, 2, 1), (2, 1, 2, 1), (2, 4, 2, 1),
                                                           (4, 1, 8, 4)])
def test_prefill_leaves_the_predictor_its_cores(own, beside, cores, n, monkeypatch):
    monkeypatch.setattr(threads, 'available_cores', lambda: cores)
    assert threads.for_prefill(own, beside) == n


def test_prefill_and_decoding_each_use_theirs():
    before = torch.get_num_threads()
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=2)
    used = []
    model.model.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    try:
        model.prefill_threads = 1
        model.reset()
        logits = model.prefill([5, 6, 7, 8], chunk_tokens=2)
        model.step(logits.argmax(), 4)
        assert used == [1, 1, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(('given', 'found'), [
    ({}, ['PASSIVE', '400']), ({'OMP_WAIT_POLICY': 'ACTIVE'}, ['ACTIVE', 'None']),
    ({'GOMP_SPINCOUNT': '0'}, ['PASSIVE', '0'])])
def test_waiting_threads_soon_sleep_unless_told_otherwise(given, found):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')}
    code = 'from timebill_ros.inference.threads import *; wait_briefly(); import os, sys; ' \
           'print(os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)'
    printed = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, check=True,
                             env={**environment, **given}).stdout
    assert printed.split() == [*found, 'False']
