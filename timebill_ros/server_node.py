"""The ROS shell: a lifecycle node with the action server, the status topic, the estimate service and diagnostics.

It translates, enqueues and publishes. Which goal runs and how it ends is dispatch.py's business; models live in the
worker process. The engine's files know nothing of ROS, and no torch is imported anywhere in this process.
"""
from __future__ import annotations

import math
import signal
import sys
import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from timebill_ros import admission, goal_handle, parameters, ros_logging, translation
from timebill_ros.action import Generate
from timebill_ros.clock_follower import ClockFollower
from timebill_ros.diagnostics import report
from timebill_ros.dispatch import Dispatcher
from timebill_ros.estimates import ESTIMATE_TIMEOUT_S
from timebill_ros.job import Job
from timebill_ros.msg import RequestStatus
from timebill_ros.request import ErrorCode, FinishReason, GoalError, Outcome, Phase, Request, Timing, Verdict
from timebill_ros.srv import EstimateTime
from timebill_ros.worker_process import WorkerProcess

DRAIN_S = 1.5  # how long deactivate and shutdown wait for results to be set
DELIVERY_S = 0.2  # how long they leave to DDS for carrying them
FOREVER_S = 1e9
# ROS's default keeps 10 requests and drops the oldest: a client that cancels 20 goals at once would lose half of them.
SERVICE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


@dataclass
class _Goal:
    """An accepted goal: rclpy's handle and our job. `executing`: its execute callback has been called for."""

    handle: object
    job: Job
    executing: bool = False


class TimebillNode(LifecycleNode):
    """`~/generate`, `~/status`, `~/estimate_time` and `/diagnostics`. configure loads and profiles, activate accepts
    goals, deactivate ends those it holds with INACTIVE, cleanup frees the model."""

    def __init__(self, **kwargs):
        super().__init__('timebill', automatically_declare_parameters_from_overrides=True, **kwargs)
        parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings: dict = {}
        self._dispatcher: Dispatcher | None = None
        self._server: ActionServer | None = None
        self._estimate_service = None
        self._status = None
        self._clock_follower: ClockFollower | None = None
        self._state, self._accepting = 'unconfigured', False
        self._description, self._missed_before = '', 0
        self._lock = threading.Lock()  # enqueueing, canceling and the beginning of a drain take turns
        self._canceled_early: set[str] = set()  # goals whose cancel came before they were enqueued
        self._released: dict[int, float] = {}  # id of a goal request -> release; rclpy gives goal_callback no UUID
        self._goals: dict[str, _Goal] = {}  # by request id: accepted and not yet concluded
        self._delivery_s: deque[float] = deque(maxlen=64)  # from the worker's end to the result being set
        # One group each, so that a blocked callback of one kind delays no other kind.
        self._action_group = ReentrantCallbackGroup()
        self._service_group = MutuallyExclusiveCallbackGroup()
        self._timer_group = MutuallyExclusiveCallbackGroup()
        self._clock_group = MutuallyExclusiveCallbackGroup()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        # In real time: ROS time may stand still, which is what they then have to tell.
        self.create_timer(1.0, self._publish_diagnostics, callback_group=self._timer_group,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        ros_logging.bridge(self.get_logger())

    # -- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state) -> TransitionCallbackReturn:
        try:
            self._settings = parameters.values(self)
            python = self._settings['worker_python']
            self._dispatcher = Dispatcher(lambda on_event: WorkerProcess(python, on_event), dict(self._settings),
                                          self._on_change, self._publish_health)
            self._description = self._wait_for_worker(self._dispatcher.configure())
            self.get_logger().info(f'ready: {self._description}')
            self._create_interfaces()
        except Exception as error:  # rclpy swallows what a transition callback raises; here it becomes a log line
            self.get_logger().error(f'configure failed: {error}')
            self._free()
            return TransitionCallbackReturn.FAILURE
        self._state = 'inactive'
        return super().on_configure(state)

    def _wait_for_worker(self, configured: Future) -> str:
        timeout = self._settings['worker_start_timeout_s']
        try:
            return configured.result(timeout)
        except FutureTimeout:
            raise RuntimeError(f'the worker was not ready within {timeout:.0f} s (worker_start_timeout_s)') from None

    def _create_interfaces(self) -> None:
        self._status = self.create_lifecycle_publisher(
            RequestStatus, '~/status', QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE))
        self._server = ActionServer(
            self, Generate, '~/generate', execute_callback=self._execute, goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted, cancel_callback=self._on_cancel,
            callback_group=self._action_group, goal_service_qos_profile=SERVICE_QOS,
            result_service_qos_profile=SERVICE_QOS, cancel_service_qos_profile=SERVICE_QOS,
            result_timeout=int(math.ceil(self._settings['result_timeout_s'])))
        self._estimate_service = self.create_service(EstimateTime, '~/estimate_time', self._on_estimate,
                                                     callback_group=self._service_group)
        self._clock_follower = ClockFollower(self, self._settings, self._dispatcher.renew_deadlines, self._clock_group)

    def on_activate(self, state) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self._canceled_early.clear()
        self._state, self._accepting = 'active', True
        return result

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        self._drain('the server was deactivated')
        self._state = 'inactive'
        return super().on_deactivate(state)  # after the last statuses: it silences their publisher

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        self._free()
        self._state = 'unconfigured'
        return super().on_cleanup(state)

    def on_shutdown(self, state) -> TransitionCallbackReturn:
        self._drain('the server shut down')
        self._free()
        self._state = 'finalized'
        return super().on_shutdown(state)

    def _drain(self, message: str) -> None:
        """End every goal held, wait until each result is set, and leave DDS a moment to carry them."""
        with self._lock:
            self._accepting = False
        dispatcher = self._dispatcher
        if dispatcher is None or not self._goals:
            return
        until = time.monotonic() + DRAIN_S
        dispatcher.end_all(ErrorCode.INACTIVE, message).wait(DRAIN_S)
        while self._goals and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(DELIVERY_S)

    def _free(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()
            self._dispatcher = None
        if self._server is not None:
            self._server.destroy()
            self._server = None
        if self._clock_follower is not None:
            self._clock_follower.destroy()
            self._clock_follower = None
        if self._estimate_service is not None:
            self.destroy_service(self._estimate_service)
            self._estimate_service = None
        if self._status is not None:
            self.destroy_lifecycle_publisher(self._status)
            self._status = None

    def stop(self) -> None:
        """Ctrl-C or SIGTERM: end open goals with a result, stop the worker."""
        self._drain('the server shut down')
        dispatcher = self._dispatcher
        if dispatcher is not None:
            dispatcher.close()

    # -- goals ---------------------------------------------------------------------------------------------------

    def _on_goal(self, goal: Generate.Goal) -> GoalResponse:
        if not self._accepting:
            # A rejection carries no reason, so it is kept for the one thing that needs none.
            self.get_logger().warning(f'goal rejected: the node is {self._state}, not active')
            return GoalResponse.REJECT
        self._released[id(goal)] = time.monotonic()
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle) -> None:
        """Only enqueues; a goal that cannot be tried is concluded at once, with its reason."""
        now = time.monotonic()
        release_s = self._released.pop(id(handle.request), now)
        request_id = bytes(handle.goal_id.uuid).hex()
        request = None
        try:
            deadline_s = translation.seconds(handle.request.deadline)
            left_s = self._clock_follower.left_s(deadline_s) if deadline_s else 0.0
            if left_s is None:
                raise GoalError(ErrorCode.INVALID_GOAL, f'deadline {deadline_s:.3f} is in simulated time, and no '
                                '/clock message has come yet')
            request = translation.to_request(
                handle.request, request_id, release_s=release_s, ros_now_s=deadline_s - left_s - (now - release_s),
                settings=self._settings, margin_s=self._delivery_margin_s())
            admission.check_time(request)
            self._enqueue(handle, self._job(request, handle.request))
        except GoalError as error:
            self._refuse(handle, request_id, error, release_s, request)

    def _refuse(self, handle, request_id: str, error: GoalError, release_s: float, request: Request | None) -> None:
        """End a goal that is not even enqueued, here and now: its budget may be of milliseconds."""
        outcome = Outcome(error.code, str(error), '', FinishReason.ERROR, Timing())
        timing, ended = outcome.timing, threading.Event()

        def result(_) -> Generate.Result:  # rclpy sends what this returns, once a thread is free
            ended.wait(1.0)
            return translation.to_result(outcome)

        goal_handle.start_executing(handle, result)
        goal_handle.conclude(handle, outcome)
        self._canceled_early.discard(request_id)
        now = time.monotonic()
        timing.response_time_s = now - release_s
        if request is not None:
            timing.time_budget_s, timing.tardiness_s = request.time_budget_s, max(0.0, now - request.deadline_s)
        if error.code is ErrorCode.INFEASIBLE:
            timing.verdict = Verdict.INFEASIBLE
        ended.set()
        self._publish_status(translation.to_status(request_id, Phase.DONE, timing, outcome=outcome,
                                                   ros_now_s=self._ros_now_s()))

    def _job(self, request: Request, goal: Generate.Goal) -> Job:
        job = Job(request)
        if self._clock_follower.moves and translation.seconds(goal.deadline):
            job.ros_deadline_s = translation.seconds(goal.deadline)
            job.clock_epoch = self._clock_follower.time.epoch
            budget_s = translation.seconds(goal.time_budget)
            job.budget_deadline_s = request.release_s + budget_s if budget_s else math.inf
        return job

    def _enqueue(self, handle, job: Job) -> None:
        request = job.request
        with self._lock:
            if not self._accepting:
                raise GoalError(ErrorCode.INACTIVE, 'the server was deactivated')
            self._goals[request.request_id] = _Goal(handle, job)
            self._publish_job(job)
            self._dispatcher.submit(job)
            if request.request_id in self._canceled_early:
                self._canceled_early.remove(request.request_id)
                self._dispatcher.cancel(job)

    def _on_cancel(self, handle) -> CancelResponse:
        request_id = bytes(handle.goal_id.uuid).hex()
        with self._lock:
            goal, dispatcher = self._goals.get(request_id), self._dispatcher
            if goal is None:
                self._canceled_early.add(request_id)  # the client knows of its acceptance before _on_accepted does
            elif dispatcher is not None:
                dispatcher.cancel(goal.job)
        return CancelResponse.ACCEPT

    def _on_change(self, job: Job) -> None:
        """From the dispatcher's thread: a goal started, was planned, moved on or ended."""
        goal = self._goals.get(job.request.request_id)
        if goal is not None and not goal.executing and (job.phase is Phase.PREFILL or job.outcome is not None):
            goal.executing = True
            goal_handle.start_executing(goal.handle)
        self._publish_job(job)

    def _execute(self, handle) -> Generate.Result:
        """Runs while a goal runs (or just at its end, if it ended while queued): feedback, then the result."""
        request_id = bytes(handle.goal_id.uuid).hex()
        job = self._goals[request_id].job
        sent = ''
        try:
            while not job.ended.wait(1.0 / self._settings['feedback_rate']):
                if len(job.text) > len(sent) or not job.n_tokens:
                    sent += self._publish_feedback(handle, job, job.text[len(sent):])
            outcome = job.outcome
            if outcome.text.startswith(sent) and len(outcome.text) > len(sent):
                self._publish_feedback(handle, job, outcome.text[len(sent):])  # so that the deltas make up the text
            goal_handle.conclude(handle, outcome)
            set_s = time.monotonic()
            outcome.timing.response_time_s = set_s - job.request.release_s
            outcome.timing.tardiness_s = max(0.0, set_s - job.request.deadline_s)
            if outcome.finish_reason.is_natural or outcome.finish_reason is FinishReason.DEADLINE:
                self._delivery_s.append(set_s - job.finished_s)
            return translation.to_result(outcome)
        finally:
            self._goals.pop(request_id, None)

    def _publish_feedback(self, handle, job: Job, delta: str) -> str:
        now = time.monotonic()
        expected_s, worst_s = job.remaining_s(now)
        phase = job.phase if job.phase in (Phase.QUEUED, Phase.PREFILL) else Phase.DECODE
        handle.publish_feedback(Generate.Feedback(
            phase=int(phase), text_delta=delta, generated_tokens=job.n_tokens,
            estimated_time_remaining_s=expected_s, slack_s=job.request.deadline_s - now - worst_s))
        return delta

    def _delivery_margin_s(self) -> float:
        """The parameter, or what carrying a result has lately taken, whichever is more (within reason)."""
        floor = self._settings['delivery_margin_s']
        return min(max([floor, *self._delivery_s]), max(0.25, floor))

    # -- status, estimates, diagnostics ----------------------------------------------------------------------------

    def _ros_now_s(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _publish_job(self, job: Job) -> None:
        now = time.monotonic()
        self._publish_status(translation.to_status(
            job.request.request_id, job.phase, job.timing, ros_now_s=self._ros_now_s(),
            time_left_s=job.request.deadline_s - now, remaining_s=job.remaining_s(now), outcome=job.outcome,
            timing_factor=self._dispatcher.tracked['timing_factor'], degraded=self._is_degraded(),
            pace=self._clock_follower.time.factor if self._clock_follower else 1.0))

    def _is_degraded(self) -> bool:
        return not self._dispatcher.is_ready or bool(self._clock_follower and self._clock_follower.warning)

    def _publish_health(self) -> None:
        """The worker was lost or is back: a status that concerns no request."""
        if self._accepting:
            self._publish_status(translation.to_health(self._is_degraded(), self._ros_now_s()))

    def _publish_status(self, message: RequestStatus) -> None:
        if self._status is not None:
            self._status.publish(message)

    def _on_estimate(self, goal: EstimateTime.Request, response: EstimateTime.Response) -> EstimateTime.Response:
        response.wcet_without_eviction_s = response.wcet_with_eviction_s = response.eviction_ratio = math.nan
        try:
            if not self._accepting:
                raise GoalError(ErrorCode.INACTIVE, f'the node is {self._state}, not active')
            now = time.monotonic()
            budget_s = translation.seconds(goal.time_budget)
            request: Request = translation.to_request(
                Generate.Goal(prompt=goal.prompt, messages=goal.messages, max_new_tokens=goal.max_new_tokens,
                              time_budget=goal.time_budget),
                'estimate', release_s=now, ros_now_s=0.0, margin_s=self._delivery_margin_s(),
                settings={**self._settings, 'default_time_budget_s': FOREVER_S})
            answer = self._dispatcher.estimate(request).result(ESTIMATE_TIMEOUT_S + 1.0)
        except GoalError as error:
            response.error_code, response.error_msg = int(error.code), str(error)
            return response
        except FutureTimeout:  # the dispatcher was closed meanwhile
            response.error_code, response.error_msg = int(ErrorCode.INACTIVE), 'the node is shutting down'
            return response
        plan, whole, prefill_s = answer['plan'], answer['whole'], answer['prefill_s']
        response.verdict = int(plan.verdict if budget_s > 0 else Verdict.UNKNOWN)
        response.predicted_tokens, response.pessimistic_tokens = plan.predicted_tokens, plan.pessimistic_tokens
        response.wcet_without_eviction_s = prefill_s + whole.decode_wcet_s
        response.wcet_with_eviction_s = prefill_s + plan.decode_wcet_s
        response.eviction_ratio = plan.eviction_ratio
        return response

    def _publish_diagnostics(self) -> None:
        dispatcher = self._dispatcher
        message = DiagnosticArray(status=report(
            self._state, dispatcher, self._description, self._missed_before,
            self._clock_follower.warning if self._clock_follower else ''))
        message.header.stamp = self.get_clock().now().to_msg()
        self._missed_before = dispatcher.counts['missed'] if dispatcher is not None else 0
        self._diagnostics.publish(message)

    def _on_set_parameters(self, changes) -> SetParametersResult:
        try:
            changed = parameters.check_change(changes, configured=self._dispatcher is not None)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings.update(changed)
        if self._dispatcher is not None and changed:
            self._dispatcher.update(changed)
        return SetParametersResult(successful=True)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. The handlers are ours: rclpy's would invalidate the context at once, and
    no open goal would get its result."""
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl, for arguments or files that it cannot read
        print(f'timebill: {error}', file=sys.stderr)
        return 1
    signals: list[int] = []  # not an Event: setting one in a handler can deadlock with the wait that it interrupts
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: signals.append(number))
    try:
        node = TimebillNode()
    except (InvalidParameterTypeException, InvalidParameterValueException, RuntimeError) as error:
        # RuntimeError: of rcl, where the node may not be made, for instance under a security policy without it.
        print(f'timebill: {error}', file=sys.stderr)
        rclpy.shutdown()
        return 1
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    threads = [threading.Thread(target=_spin, args=(executor, node.get_logger()), name='executor', daemon=True)]
    if node.get_parameter('autostart').value:
        threads.append(threading.Thread(target=_autostart, args=(node,), name='autostart', daemon=True))
    for thread in threads:
        thread.start()
    while not signals:
        time.sleep(0.1)  # short, because the kernel may hand the signal to a thread that does not wake this one
    node.get_logger().info('stopping')
    node.stop()
    executor.shutdown(timeout_sec=2.0)
    for thread in threads:
        thread.join(2.0)  # one that is still in rclpy while the interpreter ends would abort the process
    node.destroy_node()
    rclpy.shutdown()
    return 0


def _spin(executor: MultiThreadedExecutor, logger) -> None:
    """Until the executor is shut down: a callback that raises ends rclpy's own spin, and must not end the node's."""
    while True:
        try:
            executor.spin()
            return
        except ExternalShutdownException:
            return
        except Exception:
            logger.error(f'a callback failed: {traceback.format_exc()}')
            time.sleep(0.05)


def _autostart(node: TimebillNode) -> None:
    if node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
        node.trigger_activate()


if __name__ == '__main__':
    sys.exit(main())
