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

"""`timebill bench offboard`: what a server besides is worth, and costs, on a network that fails.

A real node with a real model asks a real server of OpenAI's API through a proxy that is at random as quick as the
server, slower, gone or silent, stalls after the first token, cuts the connection, sends nonsense or half a character
(fault_proxy.py). Every goal is a task with a budget, and is answered in three ways, in an order drawn anew:

    both      the node, with `allow_offboard`
    on board  the same node, without
    server    the server alone, through the same fault; a plain client has what came by its deadline

With a speed, the server is one on another machine: it answers every task once before the goals, and the proxy tells its
streams again, so many times as fast (recorded_streams.py). Otherwise it answers while the goals run.

What a client holds at its deadline is scored by the task's own metric. Every finished goal is a line in a file beside
the result, from which a run that was stopped goes on.
"""
from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from timebill_ros import settings
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.bench import offboard_rows
from timebill_ros.bench.fault_proxy import FAULTS, NONE, SLOW, FaultProxy
from timebill_ros.bench.host import environment, write
from timebill_ros.bench.measurement_progress import MeasurementProgress
from timebill_ros.bench.node_under_load import Node
from timebill_ros.bench.offboard_rows import BOTH, ONBOARD, SERVER, WAYS
from timebill_ros.bench.recorded_streams import RecordedStreams
from timebill_ros.codes import ErrorCode, FinishReason, Tier, Verdict
from timebill_ros.dispatch.offboard.call import ServerCall, client_for
from timebill_ros.dispatch.offboard.question import question
from timebill_ros.request import Request
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.tasks.text_tasks import in_turns
from timebill_ros.training.journal import Journal, beside

FAULT_SHARE, SLOW_SHARE = 0.4, 0.2  # of goals; the others meet the server as it is
LOST_S = 30.0  # a result that has not come so long after its deadline is lost
WARM_UP_S = 60.0


@dataclass(frozen=True)
class Goal:
    """A task with its budget in seconds, the fault that its calls of the server meet, and the order of its ways."""

    number: int
    task: ScoredTask
    budget_s: float
    fault: str
    ways: tuple[str, ...]


def goals(tasks: list[ScoredTask], n: int, budgets_s: tuple[float, float], seed: int) -> list[Goal]:
    """Return `n` goals, the same in every run: the tasks one after the other, budgets log-uniform between the two."""
    made = []
    for number in range(n):
        draw = random.Random(f'offboard {seed} {number}')
        budget_s = math.exp(draw.uniform(*map(math.log, budgets_s)))
        kind = draw.random()
        fault = NONE if kind > FAULT_SHARE + SLOW_SHARE else SLOW if kind > FAULT_SHARE else \
            draw.choice([name for name in FAULTS if name not in (NONE, SLOW)])
        made.append(Goal(number, tasks[number % len(tasks)], budget_s, fault, tuple(draw.sample(WAYS, len(WAYS)))))
    return made


class Asking:
    """Asks the node, and the server alone; one goal after the other."""

    def __init__(self, node: Node, url: str, model: str):
        self._node, self._model = node, model
        self._loop = asyncio.new_event_loop()
        self._http = client_for(url, '', 1)

    def close(self) -> None:
        """Close the connections to the server."""
        self._loop.run_until_complete(self._http.aclose())
        self._loop.close()

    def ask(self, goal: Goal, way: str) -> dict:
        """Answer one goal in one way, and return what became of it, as a line."""
        found = self._of_server(goal) if way == SERVER else self._of_node(goal, allow_offboard=way == BOTH)
        held = found['text'] if found['took_s'] <= goal.budget_s else ''
        return {'number': goal.number, 'task': goal.task.key, 'family': goal.task.family, 'way': way,
                'budget_s': goal.budget_s, 'fault': goal.fault, **found,
                'score': goal.task.score(held) if held else 0.0}

    def _of_node(self, goal: Goal, *, allow_offboard: bool) -> dict:
        pending = self._node.client.ask(goal.task.messages, goal.budget_s, timeout_s=goal.budget_s + LOST_S,
                                        max_new_tokens=goal.task.max_new_tokens, allow_offboard=allow_offboard)
        try:
            answer = pending.answer()
        except ServerUnavailable as error:
            return {'text': '', 'took_s': goal.budget_s + LOST_S, 'error': str(error), 'lost': True, 'late': False,
                    'asked': False, 'tier': Tier.NONE.name}
        result, timing = answer.result, answer.result.timing
        return {'text': result.text, 'took_s': answer.received_s, 'error': ErrorCode(result.error_code).name,
                'finish': FinishReason(result.finish_reason).name, 'lost': False, 'late': timing.tardiness_s > 0,
                'asked': not math.isnan(timing.offboard_s), 'tier': Tier(timing.tier).name,
                'verdict': Verdict(timing.verdict).name, 'offboard_verdict': Verdict(timing.offboard_verdict).name}

    def _of_server(self, goal: Goal) -> dict:
        request, heard = _request(goal), []
        now = request.release_s
        self._loop.run_until_complete(
            ServerCall(self._http, self._model, request, heard.append).run(request.deadline_s))
        end = heard[-1]
        text = ''.join(message.get('delta', '') for message in heard)
        return {'text': text, 'took_s': min(time.monotonic() - now, goal.budget_s), 'error': end.get('message', ''),
                'finish': end.get('finish', ''), 'lost': False, 'late': False, 'asked': True,
                'tier': Tier.OFFBOARD.name}


def _request(goal: Goal) -> Request:
    """Return a goal as it stands when it is asked now."""
    now = time.monotonic()
    return Request(f'goal {goal.number}', now, now + goal.budget_s, messages=goal.task.messages,
                   max_new_tokens=goal.task.max_new_tokens)


def run(values: dict, out: Path, *, source: TaskSource, n_goals: int, url: str, model: str, quality: float,
        budgets_s: tuple[float, float], seed: int, speed: float = 0.0) -> int:
    """Ask `n_goals` goals in all three ways, print a table, write the result; 1 where a goal was late or lost.

    `url`, `model`: of the server. `quality`: the parameter offboard_quality. `values`: the node's other parameters.
    `speed`: how many times as fast the server's recorded streams are told again; at 0 it answers itself.
    """
    asked = goals(in_turns(source.load()), n_goals, budgets_s, seed)
    changed = {name: value for name, value in values.items() if value != settings.BY_NAME[name].default}
    parameters = {**changed, 'keep_state': False, 'offboard_model': model, 'offboard_quality': quality}
    facts = {'bench': 'offboard', 'tasks': source.name, 'budgets_s': list(budgets_s), 'seed': seed,
             'speed': speed, 'parameters': parameters}
    streams = {'bench': 'offboard, streams of the server', 'model': model}
    with Journal(beside(out), facts) as journal, \
            Journal(out.with_suffix('.streams.jsonl'), streams) if speed else nullcontext() as kept:
        finished = {(piece['number'], piece['way']) for piece in journal.entries}
        missing = [(goal, way) for goal in asked for way in goal.ways if (goal.number, way) not in finished]
        recorded = _recorded(RecordedStreams(kept, speed), [goal for goal, _ in missing], url, model) if kept else None
        with MeasurementProgress('asking') as progress:
            progress.begin(len(asked) * len(WAYS), len(asked) * len(WAYS) - len(missing))
            if missing:
                _ask(missing, url, model, parameters, recorded, lambda line: (journal.add(line), progress.advance()))
        numbers = {goal.number for goal in asked}
        pieces = [piece for piece in journal.entries if piece['number'] in numbers]
    result = {'environment': environment(), 'parameters': parameters, 'tasks': source.name, 'goals': n_goals,
              'budgets_s': list(budgets_s), 'seed': seed, 'speed': speed, **offboard_rows.result_of(pieces)}
    offboard_rows.show(result)
    write(out, result)
    return 1 if result['late'] or result['lost'] else 0


def _recorded(recorded: RecordedStreams, goals: list[Goal], url: str, model: str) -> RecordedStreams:
    """Have the server answer what it has not been asked yet, one question after the other; return all its answers."""
    questions = {goal.task.key: question(_request(goal), model) for goal in goals}
    missing = [(path, body) for path, body in questions.values() if body not in recorded]
    with MeasurementProgress('recording the server') as progress:
        progress.begin(len(questions), len(questions) - len(missing))
        for path, body in missing:
            recorded.record(url, path, body)
            progress.advance()
    return recorded


def _ask(missing: list[tuple[Goal, str]], url: str, model: str, parameters: dict, recorded: RecordedStreams | None,
         add) -> None:
    """Ask the server itself and the node once without a fault, then what is missing."""
    fault = [NONE]  # of the goal that is asked now
    with FaultProxy(url, lambda asked: fault[0], recorded) as proxy, \
            Node({**parameters, 'offboard_url': proxy.url}) as node:
        asking = Asking(node, proxy.url, model)
        try:
            first = Goal(-1, missing[0][0].task, WARM_UP_S, NONE, WAYS)
            for way in (SERVER, ONBOARD):
                if not (warm := asking.ask(first, way))['text']:
                    raise OSError(f'{way}: no answer without a fault ({warm["error"]})')
            for goal, way in missing:
                fault[0] = goal.fault
                line = asking.ask(goal, way)
                if recorded and recorded.unknown:
                    raise OSError(f'{goal.task.key} was asked as it was not recorded; this is a mistake of the bench')
                add(line)
        finally:
            asking.close()
