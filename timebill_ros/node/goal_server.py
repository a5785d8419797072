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

"""The action server: takes goals, hands them to the dispatcher, and gives each its feedback and its one result."""
from __future__ import annotations

import math
import threading
import time
import traceback
from dataclasses import dataclass

from rclpy.action import CancelResponse, GoalResponse
from rclpy.qos import QoSProfile, ReliabilityPolicy

from timebill_ros import admission
from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Part, Phase, Verdict
from timebill_ros.dispatch.delivery_margin import DeliveryMargin
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.job import Job
from timebill_ros.node import goal_handle, translation
from timebill_ros.node.action_server import HandingActionServer
from timebill_ros.node.client_watch import ClientWatch, programs_with_a_client
from timebill_ros.node.clock_follower import ClockFollower
from timebill_ros.node.goal_senders import GoalSenders
from timebill_ros.node.unasked_results import UnaskedResults
from timebill_ros.request import Outcome, Request, Timing

DRAIN_S = 1.5  # how long deactivate and shutdown wait for results to be set
NOT_REACHED = 'its acceptance could not be sent; the client is gone, or ROS has not discovered it yet'
UNASKED = ('nobody has asked for its result since: its client does not want it, or has not received the acceptance and '
           'does not know that the goal runs')
CLIENT_GONE = 'its client is gone (cancel_abandoned)'
DELIVERY_S = 0.2  # how long they then leave DDS to carry the results
IN_ORDER = (Part.REASONING, Part.TEXT, Part.TOOL_CALL)  # as they come in an answer
# ROS's default keeps 10 requests and drops the oldest: a client that cancels 20 goals at once would lose half of them,
# and one that stands still for a moment pieces of its text.
SERVICE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


@dataclass
class _Goal:
    """An accepted goal: rclpy's handle and our job. `executing`: rclpy was told to call its execute callback."""

    handle: object
    job: Job
    executing: bool = False


class GoalServer:
    """`~/generate` of one configured node.

    `publish_job(job)` and `publish_refused(goal, request_id, outcome, release_s, due_s)` publish on the status topic;
    `due_s` is the goal's deadline, a monotonic instant, NaN where it has none. The node calls `on_change` with each
    change that the dispatcher reports.
    """

    def __init__(self, node, settings: dict, dispatcher: Dispatcher, clock: ClockFollower, publish_job, publish_refused,
                 callback_group):
        self._node, self._settings, self._dispatcher, self._clock = node, settings, dispatcher, clock
        self._publish_job, self._publish_refused = publish_job, publish_refused
        self.is_accepting = False
        self._lock = threading.Lock()  # makes enqueueing, canceling and the beginning of a drain take turns
        self._canceled_early: set[str] = set()  # goals whose cancel came before they were enqueued
        self._goals: dict[str, _Goal] = {}  # by request id: goals accepted and not yet concluded
        self._margin = DeliveryMargin()
        self._others = 0  # other servers of this action, when it was last looked for them
        self._server = HandingActionServer(
            node, Generate, '~/generate', execute_callback=self._execute, goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted, handle_unanswered_callback=self._on_unanswered,
            cancel_callback=self._on_cancel, callback_group=callback_group,
            goal_service_qos_profile=SERVICE_QOS, result_service_qos_profile=SERVICE_QOS,
            cancel_service_qos_profile=SERVICE_QOS, feedback_pub_qos_profile=SERVICE_QOS,
            result_timeout=int(math.ceil(settings['result_timeout_s'])))
        self._senders = GoalSenders(node, self._server, '~/generate')
        self._server.on_request = self._senders.note
        self._unasked = UnaskedResults()
        self._server.on_result_request = self._unasked.ask
        self._clients = ClientWatch(lambda: programs_with_a_client(node, '~/generate'), self._senders.read)

    def start(self) -> None:
        self._canceled_early.clear()
        self.is_accepting = True

    def drain(self, message: str) -> None:
        """Accept no more goals, end every goal held, and wait until each result is set and DDS has had time for it."""
        with self._lock:
            self.is_accepting = False
        if not self._goals:
            return
        until = time.monotonic() + DRAIN_S
        self._dispatcher.end_all(ErrorCode.INACTIVE, message).wait(DRAIN_S)
        while self._goals and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(DELIVERY_S)

    def destroy(self) -> None:
        self._server.destroy()
        self._senders.destroy()

    def delivery_margin_s(self) -> float:
        """Return the time that a goal released now keeps free for its result: the parameter, or more where learned."""
        return self._margin.value_s(self._settings['delivery_margin_s'])

    def look_for_clients(self) -> None:
        """Cancel goals whose client is gone; tell of those that it may not know of. To be called about every second."""
        for request_id in self._unasked.overdue():
            self._node.get_logger().warning(f'goal {request_id} was accepted, and {UNASKED}')
        for request_id in self._clients.abandoned():
            goal = self._goals.get(request_id)
            if self._settings['cancel_abandoned'] and goal is not None and not goal.job.canceled:
                self._node.get_logger().warning(f'goal {request_id} is canceled: {CLIENT_GONE}')
                self._dispatcher.cancel(goal.job, CLIENT_GONE)

    def look_for_servers(self) -> str:
        """Look for other servers of this action; return a sentence about them, empty where there are none.

        rclpy counts no action servers, but each publishes the topic of goal states.
        """
        others = self._node.count_publishers('~/generate/_action/status') - 1
        name = f'{self._node.get_fully_qualified_name()}/generate'
        text = f'{others} more of the name serve {name}, so each goal runs several times, and its feedback is mixed;' \
               ' give each node a name of its own (-r __node:=NAME); one that was killed is seen for 20 s more' \
            if others > 0 else ''
        if others > self._others:
            self._node.get_logger().warning(text)
        self._others = others
        return text

    # -- a goal comes in -----------------------------------------------------------------------------------------

    # An exception in a callback of the action server is a bug. rclpy would then send no answer, or an empty result with
    # error NONE. So the callbacks here catch everything, and the goal ends with UNKNOWN.

    def _failed(self, what: str, error: Exception) -> str:
        """Log a bug with its traceback; return the sentence for the client."""
        self._node.get_logger().error(f'{what} failed: {traceback.format_exc()}')
        return f'the node failed: {type(error).__name__}: {error}'

    def _guarded(self, what: str, step, *arguments) -> bool:
        """Call `step`; whether it ended without an exception."""
        try:
            step(*arguments)
            return True
        except Exception as error:
            self._failed(what, error)
            return False

    def _on_goal(self, goal: Generate.Goal) -> GoalResponse:
        if not self.is_accepting:
            # A rejection carries no reason, so it is kept for the one case that needs none.
            self._node.get_logger().warning('goal rejected: the node is not active', throttle_duration_sec=5.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_unanswered(self, handle, release_s: float) -> None:
        """End a goal whose client was not reached with the acceptance; it may have asked again meanwhile."""
        request_id = bytes(handle.goal_id.uuid).hex()
        self._node.get_logger().warning(f'goal {request_id} is canceled: {NOT_REACHED}')
        try:
            due_s = self._due_s(handle.request, release_s, self.deadline_in_s(handle.request.deadline, release_s))
        except GoalError:  # it is not to be had from simulated time, and the goal ends in any case
            due_s = self._due_s(handle.request, release_s, None)
        self._refuse(handle, request_id, GoalError(ErrorCode.CANCELED, NOT_REACHED), release_s, due_s, None)

    def _on_accepted(self, handle, release_s: float) -> None:
        """Enqueue the goal, or conclude it at once, with the reason why it cannot be tried."""
        request_id = bytes(handle.goal_id.uuid).hex()
        self._unasked.accept(request_id)
        request, due_s = None, math.nan
        try:
            epoch = self._clock.time.epoch
            deadline_in_s = self.deadline_in_s(handle.request.deadline, release_s)
            due_s = self._due_s(handle.request, release_s, deadline_in_s)
            request = translation.to_request(
                handle.request, request_id, release_s=release_s, deadline_in_s=deadline_in_s, settings=self._settings,
                margin_s=self.delivery_margin_s(), model_sampling=self._dispatcher.facts.sampling)
            admission.check_time(request)
            self._enqueue(handle, self._job(request, handle.request, epoch))
            self._guarded('looking for the client of a goal', self._watch, request_id)
        except GoalError as error:
            self._refuse(handle, request_id, error, release_s, due_s, request)
        except Exception as error:
            self._goals.pop(request_id, None)
            self._refuse(handle, request_id, GoalError(ErrorCode.UNKNOWN, self._failed('taking a goal', error)),
                         release_s, due_s, request)

    def deadline_in_s(self, deadline, release_s: float) -> float | None:
        """Return the seconds from release to an absolute deadline (a Time message), None for the zero one: no deadline.

        GoalError where ROS time is not known yet.
        """
        deadline_s = translation.seconds(deadline)
        if not deadline_s:
            return None
        left_s, now = self._clock.left_s(deadline_s), time.monotonic()
        if left_s is None:
            raise GoalError(ErrorCode.INVALID_GOAL, f'deadline {deadline_s:.3f} is in simulated time, and no '
                            '/clock message has come yet')
        return left_s + now - release_s

    def _due_s(self, goal: Generate.Goal, release_s: float, deadline_in_s: float | None) -> float:
        """Return the instant at which a goal is due, also one that lies in the past; NaN where the goal names none."""
        budget_s = translation.seconds(goal.time_budget)
        named = ([budget_s] if budget_s > 0 else []) + ([] if deadline_in_s is None else [deadline_in_s])
        return release_s + min(named or [self._settings['default_time_budget_s'] or math.nan])

    def _refuse(self, handle, request_id: str, error: GoalError, release_s: float, due_s: float,
                request: Request | None) -> None:
        """End a goal that is not even enqueued. It is done here and now, because the budget may be of milliseconds.

        `request` is None where the goal could not be read. `due_s` is its deadline all the same, if it names one.
        """
        reason = FinishReason.CANCELED if error.code is ErrorCode.CANCELED else FinishReason.ERROR
        outcome = Outcome(error.code, str(error), '', reason, Timing())
        timing, ended = outcome.timing, threading.Event()

        def result(_) -> Generate.Result:  # rclpy sends what this returns, once a thread is free
            ended.wait(1.0)
            return translation.to_result(outcome)

        self._guarded('starting a goal', goal_handle.start_executing, self._server, handle, result)
        self._guarded('setting the state of a goal', lambda: goal_handle.conclude(
            self._server, handle, outcome, by_client=False))
        self._canceled_early.discard(request_id)
        now = time.monotonic()
        timing.response_time_s = now - release_s
        if not math.isnan(due_s):
            due_s_at_least = max(due_s, release_s)  # a deadline that had passed leaves no time; the sentence says more
            timing.time_budget_s, timing.tardiness_s = due_s_at_least - release_s, max(0.0, now - due_s_at_least)
        if request is not None:
            self._margin.ended(request, outcome, self._settings['delivery_margin_s'])
        if error.code is ErrorCode.INFEASIBLE:
            timing.verdict = Verdict.INFEASIBLE
        ended.set()
        self._guarded('publishing a status', self._publish_refused, handle.request, request_id, outcome, release_s,
                      due_s)

    def _job(self, request: Request, goal: Generate.Goal, epoch: int) -> Job:
        """Return the job of a goal whose deadline was read in this `epoch` of the ROS clock.

        If ROS time has jumped back since, the epoch is an old one, and the deadline stays where it is.
        """
        job = Job(request)
        if self._clock.moves and translation.seconds(goal.deadline):
            job.ros_deadline_s = translation.seconds(goal.deadline)
            job.clock_epoch = epoch
            budget_s = translation.seconds(goal.time_budget)
            job.budget_deadline_s = request.release_s + budget_s if budget_s else math.inf
        return job

    def _enqueue(self, handle, job: Job) -> None:
        request_id = job.request.request_id
        with self._lock:
            if not self.is_accepting:
                raise GoalError(ErrorCode.INACTIVE, 'the server was deactivated')
            self._goals[request_id] = _Goal(handle, job)
            self._guarded('publishing a status', self._publish_job, job)  # before anything else is told of this goal
            self._dispatcher.submit(job)
            if request_id in self._canceled_early:
                self._canceled_early.remove(request_id)
                self._dispatcher.cancel(job)

    def _watch(self, request_id: str) -> None:
        """Note whose goal it is. The goal may have ended meanwhile, and then nobody else would forget it."""
        self._clients.add(request_id)
        if request_id not in self._goals:
            self._clients.forget(request_id)

    def _on_cancel(self, handle) -> CancelResponse:
        request_id = bytes(handle.goal_id.uuid).hex()
        with self._lock:
            goal = self._goals.get(request_id)
            if goal is None:
                self._canceled_early.add(request_id)  # a client learns of the acceptance before _on_accepted runs
            elif not self._guarded('canceling a goal', self._dispatcher.cancel, goal.job):
                return CancelResponse.REJECT
        return CancelResponse.ACCEPT

    # -- it runs and ends ----------------------------------------------------------------------------------------

    def on_change(self, job: Job) -> None:
        """Have rclpy execute a goal that has started or ended; called from the dispatcher's thread."""
        goal = self._goals.get(job.request.request_id)
        if goal is not None and not goal.executing and (job.phase is Phase.PREFILL or job.outcome is not None):
            goal.executing = self._guarded('starting a goal', goal_handle.start_executing, self._server,
                                           goal.handle)

    def _execute(self, handle) -> Generate.Result:
        """Publish feedback while the goal runs, then return its result.

        rclpy calls this when the goal starts, or when it ends without having started.
        """
        request_id = bytes(handle.goal_id.uuid).hex()
        try:
            return self._run(handle, self._goals[request_id].job)
        except Exception as error:
            if handle.is_active:
                self._guarded('setting the state of a goal', handle.abort)
            return translation.failure(self._failed('a goal', error))
        finally:
            self._goals.pop(request_id, None)
            self._clients.forget(request_id)

    def _run(self, handle, job: Job) -> Generate.Result:
        sent = dict.fromkeys(IN_ORDER, '')
        hears = True  # feedback is an extra: where publishing it fails, the goal goes on without
        while not job.ended.wait(1.0 / self._settings['feedback_rate']):
            written = job.written()
            new = [(part, written[part][len(sent[part]):]) for part in IN_ORDER
                   if len(written.get(part, '')) > len(sent[part])]
            for part, delta in new or ([] if job.n_tokens and not job.is_contested else [(Part.TEXT, '')]):
                hears = hears and self._guarded('feedback', self._publish_feedback, handle, job, delta, part)
                sent[part] += delta
        outcome = job.outcome
        for part, whole in ((Part.REASONING, outcome.reasoning), (Part.TEXT, outcome.text)):
            if hears and whole.startswith(sent[part]) and len(whole) > len(sent[part]):  # so that deltas add up to it
                self._guarded('feedback', self._publish_feedback, handle, job, whole[len(sent[part]):], part)
        result = translation.to_result(outcome)  # before the state is set, because it might raise
        goal_handle.conclude(self._server, handle, outcome, by_client=not job.cancel_reason)
        set_s = time.monotonic()
        outcome.timing.response_time_s = result.timing.response_time_s = set_s - job.request.release_s
        outcome.timing.tardiness_s = result.timing.tardiness_s = max(0.0, set_s - job.request.deadline_s)
        if outcome.finish_reason.is_natural or outcome.finish_reason is FinishReason.DEADLINE:
            self._margin.observe(set_s - job.finished_s)
        self._margin.ended(job.request, outcome, self._settings['delivery_margin_s'])
        return result

    @staticmethod
    def _publish_feedback(handle, job: Job, delta: str, part: Part) -> None:
        now = time.monotonic()
        expected_s, worst_s = job.remaining_s(now)
        phase = job.phase if job.phase in (Phase.QUEUED, Phase.PREFILL) else Phase.DECODE
        handle.publish_feedback(Generate.Feedback(
            phase=int(phase), text_delta=delta, part=int(part), generated_tokens=job.n_tokens,
            estimated_time_remaining_s=expected_s, slack_s=job.request.deadline_s - now - worst_s))
