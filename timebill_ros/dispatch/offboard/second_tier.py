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

"""Asks the server for goals that allow it, beside the worker, and decides whose answer a goal gets.

The worker runs such a goal as any other, so its promise does not depend on a network. The better answer that is there
at the deadline is the goal's: a complete one before one that is cut, and of two complete ones that of the better
quality (`offboard_quality`, against what the plan expects on board). While it is open whose answer it will be, no text
is shown. A complete answer that nothing better can follow is delivered at once, and the other tier is stopped.

All methods are called from the dispatcher's thread. None waits for the network, which only the process on the other
side of the line sees.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Callable

from timebill_ros.codes import FinishReason, Phase, Verdict
from timebill_ros.deadline import Clock
from timebill_ros.dispatch.event_loop import guarded
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.offboard.breaker import Breaker
from timebill_ros.dispatch.offboard.kept_times import KeptTimes
from timebill_ros.dispatch.offboard.line import Line
from timebill_ros.dispatch.offboard.question import suits
from timebill_ros.dispatch.offboard.race import FINAL, Race
from timebill_ros.dispatch.offboard.served_times import ServedTimes
from timebill_ros.request import Outcome, to_dict

log = logging.getLogger(__name__)

ASKED, BROKEN = 1, 2  # DeadlineStats.OFFBOARD_*
HOPELESS = 8  # of so many goals that it is not expected to answer in time, the server is sent one: it may be quicker
LAST_S = 1.0  # the process gives a goal up so long after the node should have canceled it
ENDS = {'stop': FinishReason.EOS, 'length': FinishReason.LENGTH}


class SecondTier:
    """The server of `offboard_url`, as the dispatcher sees it.

    `start_process`, `post`: see Line. `conclude(job, outcome)` ends a goal, and stops it on board; `tell(job)` reports
    a change. `settings` are shared with the dispatcher, which updates them.
    """

    def __init__(self, start_process: Callable, settings: dict, post: Callable,
                 conclude: Callable[[Job, Outcome], None], tell: Callable[[Job], None], clock: Clock):
        self._settings, self._conclude, self._tell, self._clock = settings, conclude, tell, clock
        self._post = post
        self._line = Line(start_process, settings, post, self._hear, clock)
        self._breaker, self._kept = Breaker(clock), KeptTimes(settings, clock)
        self._times = self._kept.load()
        self._races: dict[str, Race] = {}  # by request id
        self._heard_s = -math.inf  # when the server said something last
        self._n_hopeless = 0
        self._is_refusal_told = False  # since the server answered last
        self.asked = 0
        self.configure = self._line.configure

    # -- what the node tells --------------------------------------------------------------------------------------

    @property
    def state(self) -> int:
        return BROKEN if self._breaker.is_open or not self._line.is_up else ASKED

    @property
    def running(self) -> int:
        """Goals for which the server is being asked; may be called from any thread."""
        return sum(race.finish is None for race in list(self._races.values()))

    @property
    def seconds(self) -> float:
        return self._times.usual_s

    @property
    def held(self) -> list[Job]:
        """The goals that have ended on board, and wait for the server."""
        return [race.job for race in self._races.values() if race.held is not None]

    # -- what the dispatcher tells ---------------------------------------------------------------------------------

    def begin(self, job: Job) -> None:
        """Ask the server for a goal that has come, where that may be and makes sense."""
        guarded(self._begin, job)

    def _begin(self, job: Job) -> None:
        self._forget_if_asked()
        request, timing, now = job.request, job.timing, self._clock()
        if not suits(request) or not self._line.is_up or self.running >= self._settings['offboard_goals']:
            return
        silence_s = now - self._heard_s
        known = self._times.expect(request.characters, silence_s, request.max_new_tokens, self._settings['miss_rate'])
        verdict = known.verdict(request.deadline_s - request.delivery_margin_s - now)
        race = Race(job, now, silence_s, known.expected_s, self._settings['offboard_model'])
        if now >= race.limit_s or not self._breaker.allows(race.limit_s - now):
            return
        timing.offboard_verdict, timing.offboard_wcet_s = verdict, known.wcet_s
        self._n_hopeless += verdict is Verdict.INFEASIBLE
        if verdict is Verdict.INFEASIBLE:
            if self._n_hopeless % HOPELESS:
                return
            race.expected_s = known.least_s  # so that it is waited for where none has shown yet how long answers are
        race.is_try = self._breaker.sent()
        self._races[request.request_id] = race
        job.is_contested = True
        self.asked += 1
        self._line.ask({'op': 'ask', 'request': to_dict(request), 'until_s': race.limit_s + LAST_S})

    def decide(self, job: Job, outcome: Outcome) -> Outcome | None:
        """Return how a goal ends that has ended with `outcome` on board; None: not yet, the server may do better."""
        race = self._races.get(job.request.request_id)
        if race is None:
            return outcome
        try:
            return self._decided(race, outcome)
        except Exception:  # a bug; the goal must end
            log.exception('the answers of two tiers could not be compared')
            self.forget(job)
            return outcome

    def _decided(self, race: Race, outcome: Outcome) -> Outcome | None:
        quality = self._settings['offboard_quality']
        if race.finish is None and outcome.error_code not in FINAL and self._clock() < race.limit_s \
                and race.is_worth_waiting(outcome, quality):
            race.held = outcome
            race.job.phase = Phase.DECODE  # so that nobody takes it for one that waits for the worker
            return None
        better = outcome if outcome.error_code in FINAL else race.better(outcome, quality)
        self._close(race)
        return better

    def forget(self, job: Job) -> None:
        """Leave a goal to the model on board, whose text may be shown from now on."""
        race = self._races.get(job.request.request_id)
        if race is not None:
            self._close(race)
            job.is_contested = False

    def _close(self, race: Race) -> None:
        """Take a goal out of the race, and stop the server's call. Its end may still be open, and shows no text."""
        request_id = race.job.request.request_id
        del self._races[request_id]
        if race.finish is None:
            self._line.cancel(request_id)
            race.job.timing.offboard_s = waited_s = self._clock() - race.asked_s
            self._post(self._learn_of_silence, race, waited_s)  # once the goal is delivered, which may be urgent

    def stop(self) -> None:
        """End the process that calls the server, and write down what was learned."""
        self._line.stop()
        guarded(self._keep, True)

    def _keep(self, ends: bool = False) -> None:
        self._forget_if_asked()
        self._kept.save(self._times, ends=ends)

    def _forget_if_asked(self) -> None:
        if self._kept.is_to_forget():
            self._times = ServedTimes()
            log.info('what the server of offboard_url taught is forgotten, as asked')

    def next_timer_s(self) -> float:
        return min((self._line.next_timer_s(), *(race.next_timer_s for race in self._races.values())))

    def check_timers(self) -> None:
        now = self._clock()
        for race in list(self._races.values()):
            if now < race.next_timer_s:
                continue
            outcome = self._at_last(race)
            if outcome is not None:
                self._deliver(race, outcome)
            else:  # it goes on after its deadline, on board
                self.forget(race.job)
                self._tell(race.job)
        self._line.check_timers()

    def _at_last(self, race: Race) -> Outcome | None:
        """Return how a goal ends for which the server has no more time; None: the one on board says."""
        try:
            if race.finish is not None:
                return race.answer(race.job.timing)
            return race.held and race.better(race.held, self._settings['offboard_quality'])
        except Exception:  # a bug; the goal must end
            log.exception('the answers of two tiers could not be compared')
            return race.held

    def _deliver(self, race: Race, outcome: Outcome) -> None:
        self._close(race)
        self._conclude(race.job, outcome)

    # -- what the process tells --------------------------------------------------------------------------------------

    def _hear(self, event: dict) -> None:
        kind = event['event']
        if kind == 'lost':
            for race in [race for race in self._races.values() if race.finish is None]:
                self._lose(race, event['reason'], fault=False)
            return
        race = self._races.get(event.get('id'))
        if race is None or race.finish is not None:
            return
        if kind in ('text', 'done'):
            self._progress(race, event)
        if kind == 'done':
            self._complete(race, event)
        elif kind == 'error':
            if not event['fault']:
                self._tell_refusal(event['message'])
            self._lose(race, event['message'], fault=event['fault'])
        elif kind == 'ended':
            self._lose(race, 'it was out of time', fault=False)
        if kind in ('done', 'error', 'ended'):
            guarded(self._keep)

    def _tell_refusal(self, reason: str) -> None:
        if not self._is_refusal_told:
            self._is_refusal_told = True  # it may be so with all goals, and then nothing else would say it
            log.warning('the server of offboard_url does not take a goal, which is answered on board alone: %s', reason)

    def _progress(self, race: Race, event: dict) -> None:
        self._heard_s = self._clock()
        race.text += event['delta']
        race.n, race.last_s = event['n'], event.get('at_s', self._heard_s)
        if math.isnan(race.first_s):
            race.first_s = max(0.0, event['first_s'] - race.asked_s)
            race.job.timing.offboard_first_token_s = race.first_s
            self._times.first_token(race.job.request.characters, race.silence_s, race.first_s)

    def _complete(self, race: Race, event: dict) -> None:
        """Take the end of the server's answer."""
        job, quality = race.job, self._settings['offboard_quality']
        seconds = max(race.first_s, event['finished_s'] - race.asked_s)
        job.timing.offboard_s = seconds
        if not race.text.strip():
            reason = 'it has sent an answer without text'  # it is well: its limit may have come while it thought
            self._tell_refusal(reason)
            self._lose(race, reason, fault=False)
            return
        race.finish = ENDS[event['finish']]
        self._times.tokens(race.n, seconds - race.first_s)
        self._times.complete(race.n, seconds, at_limit=race.finish is FinishReason.LENGTH)
        self._is_refusal_told = False
        self._answers()
        answer = race.answer(job.timing)
        if answer.error_code:  # of a cut answer nothing is left that the goal would keep
            race.finish = None
            self._lose(race, answer.error_msg, fault=False)
        elif race.held is not None:
            self._deliver(race, race.better(race.held, quality))
        elif race.wins_at_once(quality):
            self._deliver(race, answer)

    def _lose(self, race: Race, reason: str, *, fault: bool) -> None:
        """Go on without the server; `fault`: it is to blame, and left alone where that recurs."""
        job = race.job
        del self._races[job.request.request_id]
        if math.isnan(job.timing.offboard_s):
            job.timing.offboard_s = self._clock() - race.asked_s
        log.debug('goal %s is answered on board alone: %s', job.request.request_id, reason)
        self._blame(race, reason) if fault else self._breaker.dropped(race.is_try)
        if race.held is not None:
            self._conclude(job, race.held)
        else:
            job.is_contested = False
            self._tell(job)

    def _answers(self) -> None:
        if self._breaker.succeeded():
            log.info('the server of offboard_url answers again')

    def _blame(self, race: Race, reason: str, waited_s: float = math.inf) -> None:
        """Count a failure; `waited_s`: it consists in this, that nothing came for so long."""
        self._times.failed(race.silence_s, began=not math.isnan(race.first_s))
        if self._breaker.failed(race.is_try, waited_s):
            log.warning('the server of offboard_url failed several times in a row, and is left alone for a while. The '
                        'last time: %s', reason)
            if not self.running:
                self._line.restart()  # with fresh connections and names

    def _learn_of_silence(self, race: Race, waited_s: float) -> None:
        """Learn from an answer that was waited for so long, and is not any more."""
        began, end_s = not math.isnan(race.first_s), race.asked_s + waited_s
        if began:  # one that is only slow, or long, is known by that: next time it is not expected
            self._times.cut_off(race.n, race.last_s - race.asked_s - race.first_s, end_s - race.last_s)
        flowed = race.flowed(end_s)
        if end_s >= race.due_s and race.is_expected_in_time and not flowed:
            self._blame(race, f'no whole answer within {waited_s:.3f} s', waited_s)
            return
        if race.is_try and flowed:
            self._answers()
        else:
            self._breaker.dropped(race.is_try)
        if not began:
            self._times.none_came(race.job.request.characters, race.silence_s, waited_s)
