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

"""What a model's generation config says: how it wants tokens drawn, and what this node does not do."""
from __future__ import annotations

import logging
import math

from timebill_ros.admission import PENALTIES

log = logging.getLogger(__name__)

# How tokens are drawn: the value that `model.generate` takes where the config has none, and the values that may be.
_SAMPLING = {'temperature': (1.0, 0.0, math.inf), 'top_p': (1.0, 1e-6, 1.0), 'top_k': (50, 0, 2 ** 32 - 1),
             'min_p': (0.0, 0.0, 1.0), 'repetition_penalty': (1.0, *PENALTIES)}
_GREEDY = {'temperature': 0.0, 'top_p': 1.0, 'top_k': 0, 'min_p': 0.0}
# Settings that change answers and that nothing here follows, with the value that changes nothing.
_IGNORED = {'no_repeat_ngram_size': 0, 'bad_words_ids': None, 'suppress_tokens': None, 'begin_suppress_tokens': None,
            'forced_bos_token_id': None, 'forced_eos_token_id': None, 'sequence_bias': None,
            'exponential_decay_length_penalty': None, 'min_length': 0, 'min_new_tokens': None, 'num_beams': 1,
            'penalty_alpha': None, 'typical_p': 1.0, 'stop_strings': None, 'top_h': None, 'epsilon_cutoff': 0.0,
            'eta_cutoff': 0.0, 'encoder_repetition_penalty': 1.0}


def sampling(name: str, generation_config) -> dict[str, float]:
    """Return how `model.generate` would draw tokens of model `name`: fields of request.Sampling by name.

    It draws greedily unless the config has `do_sample`. A value that makes no sense is left out, with a warning. The
    log says what the config asks for, and what of it is not done.
    """
    found = {}
    for field, (usual, low, high) in _SAMPLING.items():
        value = getattr(generation_config, field, None)
        value = usual if value is None else value
        if not (isinstance(value, (int, float)) and low <= value <= high and value < math.inf):
            log.warning('the generation config of %s has %s %r, which is not used', name, field, value)
            value = usual
        found[field] = type(usual)(value)
    if not getattr(generation_config, 'do_sample', False):
        found |= _GREEDY
    _tell(name, found, generation_config)
    return found


def _tell(name: str, found: dict[str, float], generation_config) -> None:
    neutral = {**_GREEDY, 'repetition_penalty': 1.0}
    if wanted := {key: value for key, value in found.items() if value != neutral[key]}:
        log.info('the generation config of %s asks for %s: goals that leave temperature open are answered so where the '
                 'parameter sampling_defaults is model', name, _list(wanted))
    ignored = {key: value for key, usual in _IGNORED.items()
               if (value := getattr(generation_config, key, None)) not in (None, usual)}
    if ignored:
        log.info('the generation config of %s asks for %s, which is not used', name, _list(ignored))


def _list(values: dict) -> str:
    return ', '.join(f'{key} {value}' for key, value in values.items())
