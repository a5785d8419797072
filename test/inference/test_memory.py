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

"""What counts as out of memory, and the sentences that say what is too large."""
from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import torch

from timebill_ros.inference import memory
from timebill_ros.inference.memory import does_not_fit, goal_sentence, is_out_of_memory, loading_sentence


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(('error', 'is_short'), [
    (MemoryError(), True),
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 3 GiB'), True),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: 77 bytes"), True),
    (RuntimeError('std::bad_alloc'), True),
    (RuntimeError("can't start new thread"), True),
    (RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate'), True),
    (OSError(errno.ENOMEM, 'Cannot allocate memory'), True),
    (raised_from(ValueError('the file cannot be read'), MemoryError()), True),
    (RuntimeError('mat1 and mat2 shapes cannot be multiplied'), False),
    (OSError(errno.ENOENT, 'No such file'), False),
    (raised_from(ValueError('a'), KeyError('b')), False),
])
def test_what_counts_as_out_of_memory(error, is_short):
    assert is_out_of_memory(error) is is_short
    assert ('OUT_OF_MEMORY' in loading_sentence(error)) is is_short


def test_an_error_that_is_its_own_cause_ends_the_search():
    error = ValueError('round and round')
    error.__cause__ = error
    assert not is_out_of_memory(error)


def test_the_sentences_hold_the_numbers_and_what_to_change(monkeypatch):
    monkeypatch.setattr(memory.resource, 'getrlimit', lambda which: (2 ** 31, 2 ** 31))
    sentence = does_not_fit('model m', MemoryError(), cache_bytes=3 * 2 ** 30, n_tokens=4096, weight_bytes=2 ** 20,
                            dtype='float16')
    for part in ('OUT_OF_MEMORY', 'model m', '3.00 GiB', '4096 tokens', 'max_context_tokens', '1.0 MiB', 'float16',
                 '2.00 GiB (RLIMIT_AS)', 'smaller dtype', 'MemoryError'):
        assert part in sentence
    assert 'prompt of 900 tokens' in goal_sentence(MemoryError('x' * 9999), 900)
    assert len(goal_sentence(MemoryError('x' * 9999), 900)) < 600


def test_the_cache_of_a_token_is_counted_over_layers_and_heads():
    config = SimpleNamespace(num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, hidden_size=32)
    assert memory.cache_bytes_per_token(config, 4) == 2 * 3 * 2 * (32 // 8) * 4
    assert memory.cache_bytes_per_token(SimpleNamespace(hidden_size=32), 4) == 0
