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

"""One goal on a time axis, as a Chrome trace: what `timebill ask --trace` writes, for Perfetto or chrome://tracing.

What is known is what result, feedback and status topic carry, and when they came. Times are seconds since the goal was
sent, by the client's clock; in the file they are microseconds ("Trace Event Format", Google, 2016). Where the account
of the goal leaves a place open, this file says how it is filled in. Where the goal gave way to others, what it did is
drawn in pieces, around the times for which others ran (goal_pauses.py). Needs neither rclpy nor torch.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from timebill_ros.cli.goal_pauses import Pauses
from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict, name_of

TRACKS = ('client', 'node', 'inference', 'length prediction', 'tokens', 'status')


@dataclass
class Seen:
    """What the client saw of one goal; seconds since it was sent, but for the ROS times."""

    sent_ros_s: float  # the client's own ROS time when it was sent
    accepted_s: float = 0.0
    received_s: float = 0.0
    texts: list[tuple[float, int]] = field(default_factory=list)  # of each feedback: when it came, tokens by then
    statuses: list = field(default_factory=list)  # messages of the status topic


def trace(result, seen: Seen) -> dict:
    """Return the trace of a goal with this result of the action, as JSON-ready data."""
    events = [{'name': 'thread_name', 'ph': 'M', 'pid': 1, 'tid': track, 'args': {'name': name}}
              for track, name in enumerate(TRACKS)]
    events += [{'name': 'thread_sort_index', 'ph': 'M', 'pid': 1, 'tid': track, 'args': {'sort_index': track}}
               for track in range(len(TRACKS))]
    return {'traceEvents': events + sorted(_events(result, seen), key=lambda event: event['ts']),
            'displayTimeUnit': 'ms',
            'otherData': {'verdict': name_of(Verdict, result.timing.verdict), 'error': name_of(
                ErrorCode, result.error_code), 'finish_reason': name_of(FinishReason, result.finish_reason)}}


def released_s(seen: Seen) -> float:
    """Return when the server received the goal: by its stamp, as far as both clocks agree, before the acceptance."""
    stamps = [_ros_s(message.release) for message in seen.statuses]
    return min(max(stamps[0] - seen.sent_ros_s, 0.0), seen.accepted_s) if stamps else seen.accepted_s


def _events(result, seen: Seen) -> Iterator[dict]:
    timing, release = result.timing, released_s(seen)
    answered = min(release + _known(timing.response_time_s, seen.received_s - release), seen.received_s)
    yield _span('client', 'goal', 0.0, seen.received_s, text=result.text[:200], error_msg=result.error_msg)
    yield _span('client', 'sending', 0.0, release)
    yield _span('client', 'delivery', answered, seen.received_s)
    if not math.isnan(timing.time_budget_s):
        yield _moment('node', 'deadline', release + timing.time_budget_s)
    begin = min(release + _known(timing.queue_s, answered - release), answered)
    yield _span('node', 'queue', release, begin)
    phases = [(_at_s(message, release), message.phase) for message in seen.statuses]
    pauses = Pauses.told_by(phases, answered)
    if begin < answered:
        yield from _inference(timing, seen, release, begin, answered, pauses)
    for number, (start, end) in enumerate(pauses.spans, 1):
        yield _span('node', 'gave way', start, end, number=number)
    untold_s = _known(timing.paused_s) - pauses.total_s
    if timing.preemptions > len(pauses.spans) and untold_s > 0:  # statuses were lost
        yield _span('node', 'gave way', max(answered - untold_s, begin), answered, when='before: no status tells it')
    yield from _statuses(seen, release)


def _inference(timing, seen: Seen, release: float, begin: float, answered: float, pauses: Pauses) -> Iterator[dict]:
    """Yield what the inference process did for the goal from `begin` to `answered`.

    Its account has lengths of time, and of all instants only the first token's and, by the status topic, the plan's.
    Here instants are without the time of pauses, which the lengths do not hold either; `drawn` puts it back.
    """
    def drawn(track: str, name: str, start: float, end: float, **about) -> Iterator[dict]:
        return (_span(track, name, *piece, **about) for piece in pauses.around(start, end))

    begin, answered = pauses.without(begin), pauses.without(answered)
    prefill_s, predict_s = _known(timing.prefill_s), _known(timing.prediction_s)
    waited_s = max(0.0, predict_s - _known(timing.hidden_prediction_s))  # prefill was over, and prediction was not
    decoding = pauses.without(release + timing.time_to_first_token_s)  # NaN: it did not come so far
    decodes = not math.isnan(decoding)
    decoding = min(decoding, answered) if decodes else answered
    room_s = decoding - begin - prefill_s - waited_s
    # Evictions while decoding are in eviction_s too; before the first token there is no more than this room.
    evict_s = min(_known(timing.eviction_s), max(room_s, 0.0)) if decodes else 0.0
    planned = pauses.without(_planned_s(seen, release))
    latest = decoding - evict_s if decodes else answered
    read = min(max(begin + prefill_s, planned - waited_s), latest - waited_s) if not math.isnan(planned) else \
        latest - waited_s if decodes else begin + prefill_s  # a prompt that was never read whole: from the beginning on
    read = max(read, begin + prefill_s)
    yield from drawn('inference', 'tokenize', begin, read - prefill_s)
    yield from drawn('inference', 'prefill', read - prefill_s, read, prompt_tokens=timing.prompt_tokens)
    yield from drawn('length prediction', 'prediction', read - prefill_s, read - prefill_s + predict_s,
                     predicted_tokens=timing.predicted_tokens, pessimistic_tokens=timing.pessimistic_tokens)
    yield from drawn('inference', 'wait for the prediction', read, read + waited_s)
    if not decodes:
        return
    yield from drawn('inference', 'plan', read + waited_s, decoding - evict_s,
                     verdict=name_of(Verdict, timing.verdict), wcet_s=_json(timing.wcet_s),
                     length_cap=timing.length_cap)
    yield from drawn('inference', 'eviction', decoding - evict_s, decoding, kept_tokens=timing.kept_tokens,
                     eviction_ratio=_json(timing.eviction_ratio))
    decoded = min(decoding + _known(timing.decode_s), answered)
    yield from drawn('inference', 'decode', decoding, decoded, generated_tokens=timing.generated_tokens,
                     variant=timing.variant, evicted_meanwhile_s=max(0.0, _known(timing.eviction_s) - evict_s))
    yield from drawn('node', 'result', decoded, answered)
    yield from _tokens([(pauses.without(came), n) for came, n in seen.texts], decoding, drawn)


def _tokens(texts: Sequence[tuple[float, int]], decoding: float, drawn: Callable[..., Iterator[dict]]
            ) -> Iterator[dict]:
    """Yield the steps as far as feedback tells them: how many tokens came between two messages."""
    since, before = decoding, 0
    for came, n in texts:
        if n > before:
            name = f'token {n}' if n == before + 1 else f'tokens {before + 1} to {n}'
            pieces = list(drawn('tokens', name, since, came, per_token_ms=1e3 * (came - since) / (n - before)))
            yield from pieces
            ended_us = round(pieces[-1]['ts'] + pieces[-1]['dur'], 1)
            yield {'name': 'tokens', 'ph': 'C', 'pid': 1, 'ts': ended_us, 'args': {'tokens': n}}
            since, before = max(came, since), n


def _statuses(seen: Seen, release: float) -> Iterator[dict]:
    for message in seen.statuses:
        yield _moment('status', name_of(Phase, message.phase), _at_s(message, release),
                      verdict=name_of(Verdict, message.verdict), slack_s=_json(message.slack_s),
                      wcet_s=_json(message.wcet_s), generated_tokens=message.generated_tokens)


def _planned_s(seen: Seen, release: float) -> float:
    """Return when the first plan was published after prefill had begun; NaN where no status says it."""
    return next((_at_s(message, release) for message in seen.statuses
                 if message.phase == Phase.PREFILL and message.verdict and message.pessimistic_tokens), math.nan)


def _at_s(message, release: float) -> float:
    """Return when a status was published."""
    return release + _ros_s(message.header.stamp) - _ros_s(message.release)


def _span(track: str, name: str, start: float, end: float, **about) -> dict:
    return {'name': name, 'ph': 'X', 'pid': 1, 'tid': TRACKS.index(track), 'ts': _us(start),
            'dur': max(0.0, _us(end) - _us(start)), 'args': about}


def _moment(track: str, name: str, at: float, **about) -> dict:
    return {'name': name, 'ph': 'i', 's': 't', 'pid': 1, 'tid': TRACKS.index(track), 'ts': _us(at), 'args': about}


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 1)


def _known(value: float, otherwise: float = 0.0) -> float:
    return otherwise if math.isnan(value) else value


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ros_s(time) -> float:
    return time.sec + 1e-9 * time.nanosec
