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

"""The store of prompts, set up while loading: how it is used, how large it is, and which prompts never leave it."""
from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from timebill_ros import admission
from timebill_ros.codes import GoalError
from timebill_ros.engine import Engine
from timebill_ros.inference import prefix_check
from timebill_ros.inference.asides import Asides
from timebill_ros.inference.devices import device_name, library_versions
from timebill_ros.inference.free_memory import free_bytes
from timebill_ros.inference.memory import size
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.prefix_store import PrefixStore, block_bytes
from timebill_ros.inference.prompt_reading import read_ahead
from timebill_ros.inference.start_progress import READING_ON, this_start
from timebill_ros.inference.turns_watch import TurnsWatch
from timebill_ros.request import Request
from timebill_ros.timing.execution_time import FRESH
from timebill_ros.timing.profile import Profile
from timebill_ros.worker import tuning

log = logging.getLogger(__name__)

AUTO = -1  # of prefix_cache_mib
AUTO_BYTES, AUTO_CONTEXTS = 256 << 20, 2  # AUTO takes at most so much, and at most as many prompts of full length
AUTO_SHARE = 0.1  # of the memory that is free
LARGEST_FILE = 16 << 20  # bytes of a file of pinned_prefixes
FOREVER_S = 1e9
_CANNOT = '{name}, which pinned_prefixes names, cannot be used: {error}'


def add_store(settings: dict, model: CausalLM, chunk_tokens: int, directory: Path) -> None:
    """Have the model keep what it reads, as prefix_cache_mib says; the log says what comes of it.

    `directory`: where it is kept how that goes on this device (tuning.kept). ModelError where memory is too short for
    what the parameter asks.
    """
    mib = settings['prefix_cache_mib']
    if mib == 0:
        return
    if model.cache is None:
        log.info('every prompt is read from its beginning, because %s', model.eviction_refusal)
        return
    facts = [model.fingerprint, model.variant, str(model.dtype), device_name(model.device), str(model.prefill_threads),
             str(chunk_tokens), str(model.max_context), f'near {prefix_check.NEAR} {prefix_check.NEAR_TOKEN}',
             *library_versions().values()]
    exact = settings['exact_prefixes']
    if not exact:
        facts.append('near')
    found = tuning.kept(directory, 'prefixes', facts, prefix_check.WAYS, lambda: _try_ways(model, chunk_tokens, exact))
    way = found['chosen']
    prefix_check.use_way(model, way)
    unit = prefix_check.unit_of(way, chunk_tokens)
    if not unit:
        log.info('every prompt is read from its beginning: going on after a known one would change answers (%s)',
                 found.get('why', ''))
        return
    n_blocks = _blocks(mib, model, unit)
    if n_blocks:
        model.prefixes = PrefixStore(model.cache, unit, n_blocks)
        model.prefixes.turns = TurnsWatch(model.tokenizer)
        model.asides = Asides(model)
        log.info('prompts are kept up to %d tokens (%s), and may be gone on with at every %d tokens%s', n_blocks * unit,
                 size(n_blocks * block_bytes(model.cache, unit)), unit,
                 f' (not: {found["why"]})' if found.get('why') else '')
        if exact and way == 'chunks' and model.device.type == 'cpu':
            log.info('with exact_prefixes: false they may be gone on with at every %d tokens here, where rounding may '
                     'change a token of an answer', prefix_check.TILE)


def _try_ways(model: CausalLM, chunk_tokens: int, exact: bool) -> dict:
    this_start.begin(READING_ON)
    started = time.perf_counter()
    way, why = prefix_check.choose_way(model, chunk_tokens, exact=exact)
    return {'chosen': way, 'seconds': {way: time.perf_counter() - started}, 'why': why}


def _blocks(mib: int, model: CausalLM, unit: int) -> int:
    """Return how many blocks of `unit` tokens the store holds. ModelError where memory is too short for them."""
    each, free = block_bytes(model.cache, unit), free_bytes(model.device)
    if mib == AUTO:
        wanted = min(AUTO_BYTES, AUTO_CONTEXTS * each * model.max_context // unit)
        if free is not None and wanted > AUTO_SHARE * free:
            wanted = int(AUTO_SHARE * free)
            log.info('what is kept of prompts takes %s, because %s are free; set prefix_cache_mib to have another size',
                     size(wanted), size(free))
        return wanted // each
    wanted = mib << 20
    if wanted < each:
        raise ModelError(f'prefix_cache_mib ({mib}) holds no prompt: {unit} tokens of this model take {size(each)}. '
                         f'Set it to {2 + (each >> 20)} at least, or to 0, and no prompt is kept')
    if free is not None and wanted > free:
        raise ModelError(f'OUT_OF_MEMORY: prefix_cache_mib ({mib}) is more than the {size(free)} that are free on '
                         f'{model.device} beside the model and its KV cache. Set it to {free >> 20} at most, or to 0, '
                         'and no prompt is kept')
    return wanted // each


def lacks_prefixes(profile: Profile, model: CausalLM) -> bool:
    """Whether a profile does not tell what known beginnings of prompts save, though it was long enough to measure that.

    An earlier version of this package made it, or it was made without a store.
    """
    store = model.prefixes
    return store is not None and not profile.times.knows_prefixes and any(
        n > FRESH + store.unit for n, _ in profile.points.get('prefill', []))


def pin_prefixes(settings: dict, engine: Engine) -> int:
    """Read the prompts that pinned_prefixes names; return the characters of the longest.

    ModelError, naming the file, for one that cannot be had.
    """
    longest = 0
    store = engine.model.prefixes
    if store is not None:
        store.clear()  # what measuring a profile has read
    for name, request in pinned(settings):
        try:
            n_x, ready = read_ahead(engine.model, request, chunk_tokens=engine.prefill_chunk_tokens, pin=True)
        except (ValueError, GoalError) as error:
            raise ModelError(_CANNOT.format(name=name, error=error)) from error
        if ready < n_x // store.unit * store.unit:
            raise ModelError(f'{name}, which pinned_prefixes names, has {n_x} tokens, and prefix_cache_mib leaves room '
                             f'for {ready} of them: raise it, or name fewer prefixes')
        longest = max(longest, request.characters)
        log.info('the first %d tokens of %s are kept for good', ready, name)
    return longest


def pinned(settings: dict) -> list[tuple[str, Request]]:
    """Return the files that pinned_prefixes names, with their prompts. ModelError for one that holds none."""
    found = []
    for name in filter(None, (part.strip() for part in settings['pinned_prefixes'].split(','))):
        try:
            found.append((name, _request(Path(name).expanduser(), settings)))
        except json.JSONDecodeError as error:
            raise ModelError(_CANNOT.format(name=name, error=f'it is no JSON: {error}')) from error
        except (OSError, ValueError, RecursionError, GoalError) as error:
            raise ModelError(_CANNOT.format(name=name, error=error)) from error
    return found


def _request(path: Path, settings: dict) -> Request:
    """Return the prompt of a file: messages as a JSON list of {"role": ..., "content": ...}, or plain text.

    OSError, ValueError or GoalError for a file that holds none.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f'it has {size(path.stat().st_size)}, more than {size(LARGEST_FILE)}')
    text = path.read_text(encoding='utf-8')
    if not text.strip():
        raise ValueError('it is empty')
    now = time.monotonic()
    if path.suffix != '.json':
        request = Request('prefix', now, now + FOREVER_S, prompt=text)
    else:
        messages = json.loads(text)
        if not isinstance(messages, list) or not all(
                isinstance(m, dict) and isinstance(m.get('role'), str) and isinstance(m.get('content'), str)
                for m in messages):
            raise ValueError('it must hold a JSON list of messages, as [{"role": "system", "content": "..."}]')
        request = Request('prefix', now, now + FOREVER_S,
                          messages=[{'role': m['role'], 'content': m['content']} for m in messages])
    admission.check(request, max_prompt_characters=settings['max_prompt_characters'])
    return request
