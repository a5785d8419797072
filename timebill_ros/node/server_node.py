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

"""The ROS shell: a lifecycle node with the action server, status and stats topics, the estimate service, diagnostics.

The node translates, enqueues and publishes. Which goal runs and how it ends is decided in dispatch/; models live in the
worker process. No torch is imported anywhere in this process.
"""
from __future__ import annotations

import contextlib
import gc
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy

from timebill_ros.action import Generate
from timebill_ros.codes import Phase
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.load import position_of
from timebill_ros.dispatch.supervisor import ShuttingDownError
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.msg import RequestStatus
from timebill_ros.node import answering, parameters, qos_overrides, real_time, ros_logging, translation
from timebill_ros.node.bond import Bond
from timebill_ros.node.clock_follower import ClockFollower
from timebill_ros.node.diagnostics import report
from timebill_ros.node.estimate_service import EstimateService
from timebill_ros.node.goal_server import GoalServer
from timebill_ros.node.prepare_service import PrepareService
from timebill_ros.node.stats import Stats, StatsPublisher
from timebill_ros.request import Outcome, Timing
from timebill_ros.settings import STRATEGIES


class TimebillNode(LifecycleNode):
    """`~/generate`, `~/status`, `~/stats`, `~/estimate_time`, `~/prepare` and `/diagnostics`.

    configure loads and profiles the model. activate starts to accept goals. deactivate ends the goals held, with
    INACTIVE. cleanup frees the model.
    """

    def __init__(self, **kwargs):
        super().__init__('timebill', automatically_declare_parameters_from_overrides=True, **kwargs)
        parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings: dict = {}
        self._dispatcher: Dispatcher | None = None
        self._goals: GoalServer | None = None
        self._estimates: EstimateService | None = None
        self._preparing: PrepareService | None = None
        self._bond: Bond | None = None
        self._status = None
        self._clock_follower: ClockFollower | None = None
        self._state = 'unconfigured'
        self._is_stopping = False  # Ctrl-C or SIGTERM has come: no worker is started and no goal accepted any more
        self._stop_lock = threading.Lock()  # makes stop() and the beginning of configure and activate take turns
        self._description, self._told_degraded = '', False
        # One group each, so that a blocked callback of one kind delays no other kind.
        self._action_group = ReentrantCallbackGroup()
        self._service_group = MutuallyExclusiveCallbackGroup()
        self._prepare_group = MutuallyExclusiveCallbackGroup()
        self._timer_group = MutuallyExclusiveCallbackGroup()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1,
                                                  qos_overriding_options=qos_overrides.OPTIONS)
        # In real time: simulated time may stand still, and diagnostics are what reports that.
        self.create_timer(1.0, self._publish_diagnostics, callback_group=self._timer_group,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        stats = Stats()
        StatsPublisher(self, lambda now: stats.report(self._state, self._dispatcher, self._is_degraded(), now),
                       self._timer_group)
        answering.separate_groups(self)
        answering.answer_always(self)
        ros_logging.bridge(self.get_logger())

    # -- lifecycle -----------------------------------------------------------------------------------------------

    def on_configure(self, state) -> TransitionCallbackReturn:
        try:
            self._settings = parameters.values(self)
            if refused := real_time.run_at(self._settings['node_realtime_priority']):
                self.get_logger().warning(refused)
            # The dispatcher gives up a start that does not get on; this waits for as long as it does.
            self._description = self._start_worker().result()
            self.get_logger().info(f'ready: {self._description}')
            self._create_interfaces()
            # What is there now stays, so that Python's collector need not walk through it (40,000 objects) again. That
            # stops every thread for 20 to 30 ms, and a goal that comes meanwhile is accepted late.
            gc.unfreeze()  # what an earlier configure left
            gc.collect()
            gc.freeze()
        except Exception as error:  # rclpy swallows what a transition callback raises, so it is logged here
            self._log_failure('configure', error, '')
            with contextlib.suppress(Exception):  # it is logged
                self._free()
            return TransitionCallbackReturn.FAILURE
        self._state = 'inactive'
        return super().on_configure(state)

    def _start_worker(self) -> Future[str]:
        python = self._settings['worker_python']
        with self._stop_lock:  # stop() closes the dispatcher after this, or else this sees that it came first
            self._check_not_stopping()
            self._dispatcher = Dispatcher(lambda on_event: WorkerProcess(python, on_event), dict(self._settings),
                                          self._on_change, self._publish_health)
            return self._dispatcher.configure()

    def _check_not_stopping(self) -> None:
        if self._is_stopping:
            raise ShuttingDownError

    def _create_interfaces(self) -> None:
        self._status = self.create_lifecycle_publisher(
            RequestStatus, '~/status', QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE),
            qos_overriding_options=qos_overrides.OPTIONS)
        self._clock_follower = ClockFollower(self, self._settings, self._dispatcher.renew_deadlines)
        self._goals = GoalServer(self, self._settings, self._dispatcher, self._clock_follower, self._publish_job,
                                 self._publish_refused, self._action_group)
        self._estimates = EstimateService(self, self._settings, self._dispatcher, self._goals, lambda: self._state,
                                          self._service_group)
        self._preparing = PrepareService(self, self._settings, self._dispatcher, self._goals, lambda: self._state,
                                         self._prepare_group)
        self._bond = Bond(self, self._settings['bond_topic'])

    def on_activate(self, state) -> TransitionCallbackReturn:
        return self._attempt('activate', self._activate, state, undo=self._become_inactive)

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        return self._attempt('deactivate', self._become_inactive, state, undo=self._activate)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        return self._attempt('cleanup', self._clean_up, state)

    def on_shutdown(self, state) -> TransitionCallbackReturn:
        return self._attempt('shutdown', self._shut_down, state)

    def _attempt(self, name: str, do: Callable, state, undo: Callable | None = None) -> TransitionCallbackReturn:
        """Do a transition's work. Where it raises: log, undo it, and return FAILURE; the node stays in its state.

        rclpy would swallow the exception and finalize the node.
        """
        try:
            return do(state)
        except Exception as error:
            self._log_failure(name, error, f'\n{traceback.format_exc()}')
        try:
            if undo is not None:
                undo(state)
        except Exception as error:
            self.get_logger().error(f'the state before {name} could not be restored: {error}')
        return TransitionCallbackReturn.FAILURE

    def _log_failure(self, name: str, error: Exception, where: str) -> None:
        if isinstance(error, ShuttingDownError):  # nobody has to mend anything
            self.get_logger().info(f'{name} is given up: {error}')
        else:
            self.get_logger().error(f'{name} failed: {error}{where}')

    def _activate(self, state) -> TransitionCallbackReturn:
        if self._goals is None:
            raise RuntimeError('the model is gone, because a cleanup failed; clean up again and configure')
        result = super().on_activate(state)
        with self._stop_lock:
            self._check_not_stopping()
            self._state, self._told_degraded = 'active', False
            self._goals.start()
        self._bond.start()
        return result

    def _become_inactive(self, state) -> TransitionCallbackReturn:
        self._drain('the server was deactivated')
        if self._bond is not None:
            self._bond.stop()
        self._state = 'inactive'
        return super().on_deactivate(state)  # after the last statuses, because this silences their publisher

    def _clean_up(self, state) -> TransitionCallbackReturn:
        self._free()
        self._state = 'unconfigured'
        return super().on_cleanup(state)

    def _shut_down(self, state) -> TransitionCallbackReturn:
        self._state = 'finalized'
        try:
            self._drain('the server shut down')
        finally:
            self._free()
        return super().on_shutdown(state)

    def _drain(self, message: str) -> None:
        if self._goals is not None:
            self._goals.drain(message)

    def _free(self) -> None:
        """Free all that configure made. What cannot be freed keeps nothing else; its exception is raised at the end."""
        failed = None
        for name, free in (('_dispatcher', Dispatcher.close), ('_goals', GoalServer.destroy),
                           ('_clock_follower', ClockFollower.destroy), ('_estimates', EstimateService.destroy),
                           ('_preparing', PrepareService.destroy), ('_bond', Bond.stop),
                           ('_status', self.destroy_lifecycle_publisher)):
            part = getattr(self, name)
            try:
                if part is not None:
                    free(part)
            except Exception as error:
                self.get_logger().error(f'{name[1:]} could not be freed: {traceback.format_exc()}')
                failed = error
            setattr(self, name, None)
        if failed is not None:
            raise failed

    def stop(self) -> None:
        """End open goals with a result and stop the worker, after Ctrl-C or SIGTERM; callbacks may still run."""
        with self._stop_lock:
            self._is_stopping = True
        self._drain('the server shut down')
        dispatcher = self._dispatcher
        if dispatcher is not None:
            dispatcher.close()

    def destroy_node(self) -> None:
        """Join the threads that use rclpy, then destroy the node. Call it when no callback runs any more."""
        with contextlib.suppress(Exception):  # it is logged
            self._free()
        super().destroy_node()

    # -- status, diagnostics, parameters ---------------------------------------------------------------------------

    def _on_change(self, job: Job) -> None:
        """Hear of a change; called from the dispatcher's thread. The goal's result goes before its status."""
        if self._goals is not None:
            self._goals.on_change(job)
        try:
            self._publish_job(job)
        except Exception:
            self.get_logger().error(f'publishing a status failed: {traceback.format_exc()}')

    def _ros_now_s(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _publish_job(self, job: Job) -> None:
        now, request = time.monotonic(), job.request
        self._publish_request(request.request_id, job.phase, job.timing, outcome=job.outcome,
                              age_s=now - request.release_s, time_left_s=request.deadline_s - now,
                              remaining_s=job.remaining_s(now), strategy=request.strategy, priority=request.priority,
                              queue_position=position_of(job, self._dispatcher.held((job,))) if job.waits else 0)

    def _publish_refused(self, goal: Generate.Goal, request_id: str, outcome: Outcome, release_s: float,
                         due_s: float) -> None:
        """Publish the end of a goal that never became a job; `due_s`: see GoalServer."""
        now = time.monotonic()
        self._publish_request(
            request_id, Phase.DONE, outcome.timing, outcome=outcome, age_s=now - release_s, time_left_s=due_s - now,
            remaining_s=(0.0, 0.0), priority=goal.priority,
            strategy=goal.overrun_strategy or STRATEGIES[self._settings['default_overrun_strategy']])

    def _publish_request(self, request_id: str, phase: Phase, timing: Timing, **known) -> None:
        """Publish the status of a request; `known`: see translation.to_status."""
        self._publish_status(translation.to_status(
            request_id, phase, timing, ros_now_s=self._ros_now_s(),
            timing_factor=self._dispatcher.facts.tracked['timing_factor'], degraded=self._is_degraded(),
            pace=self._clock_follower.time.factor if self._clock_follower else 1.0, **known))

    def _is_active(self) -> bool:
        return self._goals is not None and self._goals.is_accepting

    def _is_degraded(self) -> bool:
        """Whether promises are weaker: the worker or /clock is in trouble. A node that is not configured is not."""
        dispatcher, clock = self._dispatcher, self._clock_follower  # once, because a cleanup may set them to None
        return dispatcher is not None and self._state != 'unconfigured' and bool(
            not dispatcher.is_ready or clock is not None and clock.warning)

    def _publish_health(self) -> None:
        """Publish a status that concerns no request, once each time the worker or /clock was lost or is back."""
        if self._is_active() and self._is_degraded() is not self._told_degraded:
            self._told_degraded = degraded = not self._told_degraded
            self._publish_status(translation.to_health(degraded, self._ros_now_s()))

    def _publish_status(self, message: RequestStatus) -> None:
        if self._status is not None:
            self._status.publish(message)

    def _publish_diagnostics(self) -> None:
        dispatcher = self._dispatcher
        goals, clock = self._goals, self._clock_follower  # once, because a cleanup may set them to None
        if goals is not None:
            goals.look_for_clients()
        warnings = [goals.look_for_servers() if goals is not None else '', clock.warning if clock is not None else '']
        message = DiagnosticArray(status=report(
            self.get_fully_qualified_name(), self._state, dispatcher, self._description, time.monotonic(),
            '; '.join(filter(None, warnings))))
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        if dispatcher is not None:
            self._publish_health()  # a clock that stands still sends no event, so it is looked for here

    def _on_set_parameters(self, changes) -> SetParametersResult:
        try:
            changed = parameters.check_change(changes, configured=self._dispatcher is not None,
                                              declared=self.has_parameter)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings.update(changed)
        if self._dispatcher is not None and changed:
            self._dispatcher.update(changed)
        return SetParametersResult(successful=True)
