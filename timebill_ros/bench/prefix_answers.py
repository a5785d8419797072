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

"""Conversations through the engine, each goal with the store and without: first tokens, and whether texts are equal.

Where many goals would have to be read from nothing, as many of them are as the time allows, evenly spread; the others
are answered with the store alone. llama.cpp reads the same tokens, in the order of the goals.
"""
from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Generator
from statistics import median

from timebill_ros.bench.llama_peer import KeepingPeer
from timebill_ros.bench.prefix_goals import COMMON, LOG, SCENARIOS, Goal
from timebill_ros.bench.prefix_ways import NOTHING, REUSED, without_store
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Outcome, Request

BUDGET_S = 3600.0
MOST_GOALS = {COMMON: 20}  # fewer than asked for: its goals are all alike


def answer(engine: Engine, goal: Goal) -> Outcome:
    """Run one goal without haste; return its outcome."""
    now = time.monotonic()
    request = Request('bench', now, now + BUDGET_S, messages=goal.messages, max_new_tokens=goal.max_new_tokens)
    return engine.run(request, Control(Deadline(request.deadline_s)))


def ids_of(engine: Engine, messages: list[dict[str, str]]) -> list[int]:
    """Return the tokens of a conversation, as the engine reads them."""
    model = engine.model
    return model.tokenize(model.render(Request('count', 0.0, 1.0, messages=messages)), is_chat=True)


def _next(goals: Generator[Goal, str, None], text: str | None) -> Goal | None:
    """Return the goal that follows an answer; None where there is no more."""
    try:
        return goals.send(text)
    except StopIteration:
        return None


class Progress:
    """Says which of the goals are read from nothing too: all, or as many as fit into `seconds`."""

    def __init__(self, n_goals: int, seconds: float):
        self._n_goals, self._seconds = n_goals, seconds
        self._spent_s, self._next = 0.0, 0

    def compares(self, i: int) -> bool:
        """Whether goal `i`, from 0, is read from nothing too."""
        return i >= self._next or i == self._n_goals - 1

    def took(self, i: int, seconds: float) -> None:
        """Take note of what reading goal `i` from nothing took: so much at least the later ones will take."""
        self._spent_s += seconds
        left_s, left = self._seconds - self._spent_s, self._n_goals - i - 1
        fitting = max(1.0, left_s / seconds)
        self._next = i + max(1, math.ceil(left / fitting))


def measure_goals(engine: Engine, name: str, n_goals: int, peers: dict[str, KeepingPeer], *, seconds: float,
                  longest: int, draw: random.Random) -> dict:
    """Return the row of one of SCENARIOS, whose prompts have at most `longest` tokens."""
    model, rows, errors = engine.model, [], []
    n_goals = min(n_goals, MOST_GOALS.get(name, n_goals))
    model.prefixes.clear()
    for peer in peers.values():
        peer.forget()
    goals = SCENARIOS[name](n_goals, lambda messages: len(ids_of(engine, messages)),
                            min(longest, model.max_context))
    progress, text = Progress(n_goals, seconds), ''
    while (goal := _next(goals, text if rows else None)) is not None:
        found, i = {}, len(rows)
        ways = [NOTHING, REUSED] if progress.compares(i) else [REUSED]
        for way in draw.sample(ways, len(ways)):
            started = time.monotonic()
            with without_store(model, tiles=True) if way == NOTHING else contextlib.nullcontext():
                found[way] = answer(engine, goal)
            if way == NOTHING:
                progress.took(i, time.monotonic() - started)
        errors = [outcome.error_msg for outcome in found.values() if outcome.error_code]
        if errors:
            break
        timing, text = found[REUSED].timing, found[REUSED].text
        rows.append({'tokens': timing.prompt_tokens, 'reused': timing.reused_tokens,
                     'first_s': timing.time_to_first_token_s, 'prefill_s': timing.prefill_s,
                     'estimated_s': engine.times.prefill(timing.prompt_tokens, timing.reused_tokens),
                     **_of_nothing(found.get(NOTHING), text), 'llama_s': _of_peers(engine, goal, text, peers)})
        if len(rows) % 10 == 0:
            print(f'{len(rows)} goals', flush=True)
    if not rows:
        raise RuntimeError(f'the first goal of "{name}" failed: {errors[0]}')
    return {'scenario': name, 'goals': len(rows), 'errors': errors, **summary(rows)}


def _of_nothing(outcome: Outcome | None, text: str) -> dict:
    """Return what is noted of a goal that was read from nothing too."""
    if outcome is None:
        return {}
    return {'same': outcome.text == text, 'first_from_nothing_s': outcome.timing.time_to_first_token_s}


def _of_peers(engine: Engine, goal: Goal, text: str, peers: dict[str, KeepingPeer]) -> dict[str, float]:
    """Have llama.cpp read a goal and hold our answer afterwards; return the seconds to its first token."""
    if not peers:
        return {}
    ids, found = ids_of(engine, goal.messages), {}
    written = engine.model.tokenizer(text, add_special_tokens=False)['input_ids']
    for name, peer in peers.items():
        found[name] = peer.first_token(ids)
        peer.go_on(list(written))
    return found


def summary(rows: list[dict]) -> dict:
    """Return medians over the goals but the first, of which nothing is known."""
    compared = [row for row in rows if 'same' in row]
    later = [row for row in rows[1:] if 'same' in row] or compared
    known = rows[1:] or rows
    first_s = median(row['first_s'] for row in known)
    peers = {name: median(row['llama_s'][name] for row in known) for name in known[0]['llama_s']}
    return {'tokens': [rows[0]['tokens'], rows[-1]['tokens']], 'compared': len(compared),
            'same_texts': sum(row['same'] for row in compared),
            'reused_share': median(row['reused'] / row['tokens'] for row in known), 'first_s': first_s,
            'first_from_nothing_s': median(row['first_from_nothing_s'] for row in later),
            'quicker': median(row['first_from_nothing_s'] / row['first_s'] for row in later),
            'measured_over_estimated': median(row['prefill_s'] / row['estimated_s'] for row in known),
            'llama': [{'precision': name, 'first_s': seconds,
                       'quicker': median(row['llama_s'][name] / row['first_s'] for row in known)}
                      for name, seconds in peers.items()], 'rows': rows}


def measure(engine: Engine, peers: dict[str, KeepingPeer], *, n_goals: int, seconds: float, longest: int,
            draw: random.Random) -> list[dict]:
    """Return the rows of all SCENARIOS; the log that grows has most of the time, because its prompts are long."""
    shares, rows = {name: 3.0 if name == LOG else 1.0 for name in SCENARIOS}, []
    for name, share in shares.items():
        print(f'goals: {name}', flush=True)
        rows.append(measure_goals(engine, name, n_goals, peers, seconds=seconds * share / sum(shares.values()),
                                  longest=longest, draw=draw))
    return rows
