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

"""What the worker tells the node about costs, so that the node can estimate a goal while the worker is busy.

Plain data for JSON; dispatch/bound_estimate.py reads it.
"""
from __future__ import annotations

import functools

from timebill_ros.codes import GoalError, Thinking
from timebill_ros.engine import Engine
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.request import SAMPLING_KINDS, Request

_TOOL = '[{"type": "function", "function": {"name": "a"}}]'
SLACK_TOKENS = 2  # where a content and the template meet, the tokenizer may cut otherwise than it does for each alone


def cost_facts(engine: Engine) -> dict:
    """Return what does not change while the worker runs. Times are as profiled, in seconds, lengths in tokens.

    prefill, step, eviction:  tables of (count, seconds) from 0 to the context, to be read as straight lines. The true
                              curves lie on or below these.
    draws:                    for each kind of sampling, by how much a draw takes longer than a greedy one.
    window:                   prompts of at most so many tokens are kept whole; null: nothing is ever evicted.
    min_kept, max_ratio:      what the planner evicts at most for a promise, whatever a goal allows.
    template_tokens:          tokens that a prompt has beside its text, once; message_tokens: for each message;
                              tools_tokens: where there are tools.
    thinks, closing_tokens:   values of Thinking with which an answer has a thinking section, and what ends one.
    """
    times, longest, rule = engine.times, engine.model.max_context, engine.planner.rule
    counts = sorted({0, *(2 ** i for i in range(longest.bit_length())), times.knee, longest})
    counts = [n for n in counts if n <= longest]
    draws = {kind: times.draw_extra(kind) for kind in SAMPLING_KINDS}
    once, each = _template_tokens(engine.model)
    # A chunk more than the line says may have been begun between two counts.
    return {'prefill': [(n, times.prefill(n) + times.d) for n in counts], 'step': [(n, times.step(n)) for n in counts],
            'eviction': [(n, times.eviction(n)) for n in counts], 'draws': draws, 'max_context': longest,
            'min_kept': rule.min_kept, 'max_ratio': rule.promised_ratio(engine.model.variant),
            'window': MAX_WINDOW if engine.model.supports_eviction else None,
            'template_tokens': once, 'message_tokens': each, 'tools_tokens': _tools_tokens(engine.model),
            'thinks': _thinks(engine.model), 'closing_tokens': len(engine.closing.ids) if engine.closing else 0}


def pause_table(engine: Engine) -> list[tuple[int, float]]:
    """Return (cached entries, seconds): what giving way costs, up to as many entries as there may be room for.

    It is empty where no request can give way.
    """
    model = engine.model
    if model.asides is None:
        return []
    return [(n, engine.times.pause(n)) for n in (0, min(model.max_context, model.asides.room))]


def learned_facts(engine: Engine) -> dict:
    """Return what finished requests have taught: factors and bounds of times, and lengths that hold for any prompt.

    `predicted_tokens` and `pessimistic_tokens` are null where nothing predicts lengths: every length that a goal allows
    is as likely as any other then, as far as the node knows.
    """
    bounds, longest = engine.tracker.bounds(), engine.model.max_context
    facts = {'prefill_factor': engine.tracker.prefill_factor, 'timing_factor': bounds.timing_factor,
             'timing_factors': {kind: engine.tracker.bounds(kind).timing_factor for kind in SAMPLING_KINDS},
             'time_bound': bounds.time_bound, 'reserve_s': bounds.reserve_s,
             'predicted_tokens': None, 'pessimistic_tokens': None}
    told = bounds.told or bounds
    facts['told'] = {'time_bound': told.time_bound, 'reserve_s': told.reserve_s, 'pessimistic_tokens': None}
    if engine.predictor is not None:
        distribution = engine.predictor.marginal()
        facts.update(predicted_tokens=distribution.median(),
                     pessimistic_tokens=bounds.length.pessimistic(distribution, longest))
        facts['told']['pessimistic_tokens'] = told.length.pessimistic(distribution, longest)
    return facts


def _rendered(model, *roles: str, **fields) -> str:
    """Return a conversation of short messages as the template writes it; empty where there is none, or it refuses."""
    try:
        return model.render(Request('template', 0.0, 1.0, messages=[{'role': role, 'content': 'a'} for role in roles],
                                    **fields))
    except GoalError:
        return ''


def _count(model, *roles: str, **fields) -> int:
    text = _rendered(model, *roles, **fields)
    return len(model.tokenize(text, is_chat=True)) if text else 0


def _tools_tokens(model) -> int:
    """Return how many tokens the template writes around tools; those of one short tool are among them."""
    if not model.chat.shows_tools:
        return 0
    return max(0, _count(model, 'user', tools=_TOOL) - _count(model, 'user')) + SLACK_TOKENS


def _thinks(model) -> list[int]:
    """Return the values of Thinking with which the answer to messages begins in a thinking section."""
    section = model.chat.thinking
    return [] if section is None else [int(value) for value in Thinking
                                       if section.is_open(_rendered(model, 'user', thinking=value))]


def _template_tokens(model) -> tuple[int, int]:
    """Return (tokens that the model's template writes once, tokens that it writes for each message), not too few."""
    count = functools.partial(_count, model)

    one = count('user')
    grown = [count('user', 'assistant', 'user') - one, count('system', 'user') - one]
    each = max(0, -(-grown[0] // 2), grown[1]) + SLACK_TOKENS
    # With thinking switched off, some templates write an empty section.
    once = max(count('user', thinking=value) for value in Thinking)
    return max(once, 1) + SLACK_TOKENS, each
