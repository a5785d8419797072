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

"""A real node in a process of its own, and a client of it, for the tests of the ROS shell.

The node runs a tiny random-weight model with a hand-made profile, so it starts in seconds and its plans do not depend
on how busy the machine is. conftest.py keeps the ROS domain apart; each node also has a namespace of its own.
"""
from __future__ import annotations

import contextlib
import functools
import itertools
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import rclpy
import yaml
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from timebill_ros.action import Generate
from timebill_ros.client import duration
from timebill_ros.msg import RequestStatus
from timebill_ros.srv import EstimateTime

ROOT = Path(__file__).resolve().parents[1]
CONTEXT_TOKENS = 16384
STEP_S = 1e-3  # the profile's decode step
PREFILL_S = 2e-4  # the profile's prefill, per token
LONG = 16000  # a response that takes many seconds
WAIT_S = 60.0  # for what takes no time on a quiet machine

SUCCEEDED, CANCELED, ABORTED = (GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED)
Result = Generate.Result

_number = itertools.count(1)

# Run once per test session, in a process of its own. "one" is answered with "two three" and the end; any other prompt
# is answered without end. Hidden dimensions 0 to 3 pass through the layers unchanged: 0 is a bias, 1 to 3 are "one",
# "two", "three".
_BUILD = """
import sys
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from timebill_ros import settings
from timebill_ros.timing.execution_time import ExecutionTimes, Profile
from timebill_ros.worker.loading import load_model
from timebill_ros.timing.profiling import identity

directory, context, step_s, prefill_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
special = ['<unk>', '<|im_start|>', '<|im_end|>']
words = special + ['\\n', 'one', 'two', 'three', 'user', 'assistant', 'system'] + [f'w{i}' for i in range(40)]
vocabulary = {word: index for index, word in enumerate(words)}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(' +'), 'removed'), pre_tokenizers.Split('\\n', 'isolated')])
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token='<unk>', eos_token='<|im_end|>', additional_special_tokens=['<|im_start|>'],
    chat_template='{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}'
                  '{% if add_generation_prompt %}<|im_start|>assistant{% endif %}').save_pretrained(directory)

torch.manual_seed(0)
model = Qwen2ForCausalLM(Qwen2Config(
    vocab_size=len(words), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=False,
    eos_token_id=vocabulary['<|im_end|>'], bos_token_id=None, pad_token_id=None))
with torch.no_grad():
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding.normal_()
    head.normal_()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[:4] = layer.mlp.down_proj.weight[:4] = 0
    embedding[:, :4] = head[:, :4] = 0
    embedding[:, 0] = 10
    head[:len(special), 0] = head[[vocabulary[word] for word in ('one', 'two', 'three')], 0] = -1000
    for dimension, (word, following) in enumerate([('one', 'two'), ('two', 'three'), ('three', '<|im_end|>')], 1):
        embedding[vocabulary[word], dimension] = 50
        head[vocabulary[following], dimension] = 2000
model.save_pretrained(directory)

loaded, _ = load_model(settings.check({'model': directory, 'threads': 1, 'compile_step': 'never'}))
Profile(identity(loaded, None), ExecutionTimes(a=0.0, b=prefill_s, c=1e-3, p=0.0, q=step_s), 'today').save(
    directory + '/profile.yaml')
"""


@functools.cache
def tiny_model() -> Path:
    """The model's directory; profile.yaml in it fits."""
    directory = Path(tempfile.mkdtemp(prefix='model_', dir=os.environ['HOME']))  # conftest.py removes it
    subprocess.run([sys.executable, '-c', _BUILD, str(directory), str(CONTEXT_TOKENS), str(STEP_S), str(PREFILL_S)],
                   cwd=ROOT, check=True)
    return directory


def parameters(**changed) -> dict:
    """The parameters of a quick node that plans by its profile alone, whatever it served before. Its steps are not
    compiled: they would be so fast that no answer lasts until a deadline.
    """
    return {'model': str(tiny_model()), 'profile': str(tiny_model() / 'profile.yaml'), 'threads': 1,
            'cache_dir': str(tiny_model() / 'cache'), 'self_profile_s': 1.0, 'max_context_tokens': CONTEXT_TOKENS,
            'prefill_chunk_tokens': 16, 'compile_step': 'never', 'pessimistic_length': 'fixed', 'track_timing': False,
            'keep_state': False, **changed}


def worker_program(script: str, folder: Path) -> str:
    """A program that may be named as worker_python: it runs test/`script` instead of the module it is asked for."""
    path = folder / script.removesuffix('.py')
    path.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{ROOT / "test" / script}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def make_goal(prompt: str = 'w1 w2', budget_s: float | None = WAIT_S, **fields) -> Generate.Goal:
    goal = Generate.Goal(prompt=prompt, **fields)
    if budget_s is not None:
        goal.time_budget = duration(budget_s)
    return goal


def process_exists(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, timeout_s: float = WAIT_S, message: str = ''):
    """The first true value of `condition()`."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, message or f'not within {timeout_s} s'
        time.sleep(0.01)
    return value


def wait_for(future, timeout_s: float = WAIT_S):
    """The result of an rclpy future, which itself never times out."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(timeout_s), f'no answer within {timeout_s} s'
    return future.result()


class Sent:
    """A goal that the node accepted."""

    def __init__(self, handle, feedback: list, sent_s: float):
        self.handle, self.feedback, self.sent_s = handle, feedback, sent_s
        self.id = bytes(handle.goal_id.uuid).hex()
        self.arrived_s: float | None = None  # when the result came, monotonic
        self._done = threading.Event()
        self._future = handle.get_result_async()
        self._future.add_done_callback(self._arrived)

    def _arrived(self, _) -> None:
        self.arrived_s = time.monotonic()
        self._done.set()

    def result(self, timeout_s: float = WAIT_S) -> tuple[int, Generate.Result]:
        """(terminal status, result)"""
        assert self._done.wait(timeout_s), f'no result within {timeout_s} s'
        response = self._future.result()
        return response.status, response.result

    def cancel(self):
        return self.handle.cancel_goal_async()

    @property
    def text(self) -> str:
        return ''.join(message.text_delta for message in self.feedback)


class Client:
    """A ROS node that talks to the node under test."""

    def __init__(self, namespace: str):
        self.statuses: list[RequestStatus] = []
        self.diagnostics: list[tuple[float, DiagnosticArray]] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('client', namespace=namespace, context=self._context)
        # Deep, because the default keeps only the last 10 results that this client has not yet taken.
        deep = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        self.actions = ActionClient(self._node, Generate, 'timebill/generate', goal_service_qos_profile=deep,
                                    result_service_qos_profile=deep, cancel_service_qos_profile=deep)
        self._node.create_subscription(RequestStatus, 'timebill/status', self.statuses.append, 50)
        self._node.create_subscription(DiagnosticArray, 'diagnostics', lambda message:
                                       self.diagnostics.append((time.monotonic(), message)), 10)
        self._services = {kind: self._node.create_client(kind, f'timebill/{service}') for kind, service in (
            (ChangeState, 'change_state'), (GetState, 'get_state'), (SetParameters, 'set_parameters'),
            (EstimateTime, 'estimate_time'))}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        assert self.actions.wait_for_server(WAIT_S)
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    # -- services --------------------------------------------------------------------------------------------------

    def call(self, kind, **fields):
        service = self._services[kind]
        assert service.wait_for_service(WAIT_S), f'no {service.srv_name}'
        return wait_for(service.call_async(kind.Request(**fields)))

    def state(self) -> str:
        return self.call(GetState).current_state.label

    def set_parameter(self, name: str, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.call(SetParameters, parameters=[parameter]).results[0]

    # -- goals -----------------------------------------------------------------------------------------------------

    def send(self, goal: Generate.Goal) -> Sent:
        sent = self.try_send(goal)
        assert sent is not None, 'the goal was rejected'
        return sent

    def try_send(self, goal: Generate.Goal) -> Sent | None:
        """None where the node rejects it."""
        feedback: list[Generate.Feedback] = []
        sent_s = time.monotonic()
        sent: queue.SimpleQueue = queue.SimpleQueue()
        # On the executor's thread: see timebill_ros/client.py.
        self._executor.create_task(lambda: self.actions.send_goal_async(
            goal, feedback_callback=lambda message: feedback.append(message.feedback)).add_done_callback(sent.put))
        handle = sent.get(timeout=WAIT_S).result()
        return Sent(handle, feedback, sent_s) if handle.accepted else None

    def ask(self, goal: Generate.Goal) -> tuple[int, Generate.Result]:
        return self.send(goal).result()

    def phases(self, sent: Sent) -> list[int]:
        return [message.phase for message in list(self.statuses) if message.request_id == sent.id]

    def wait_for_phase(self, sent: Sent, phase: int) -> None:
        wait_until(lambda: phase in self.phases(sent), message=f'phase {phase} not seen, only {self.phases(sent)}')


class NodeProcess(Client):
    """The node as a plain program, and a client beside it. A context manager that leaves no process and fails the
    test where the node's log holds a traceback.
    """

    def __init__(self, *, arguments: list[str] = (), environment: dict | None = None, **changed):
        self._namespace = namespace = f'/node_{next(_number)}'
        self._folder = Path(tempfile.mkdtemp(prefix='node_', dir=os.environ['HOME']))
        self._log_file = self._folder / 'log'
        params = self._folder / 'params.yaml'
        params.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters(**changed)}}))
        with self._log_file.open('w') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'timebill_ros.node.server_node', '--ros-args', '--params-file', str(params),
                 '-r', f'__ns:={namespace}', '-r', f'/diagnostics:={namespace}/diagnostics', *arguments],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(environment or {})})
        self._workers: set[int] = set()
        super().__init__(namespace)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.stop(signal.SIGTERM)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.close()
            left = [pid for pid in self._workers if not _ends(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if kind is None:
            assert 'Traceback' not in self.log, self.log
            assert not left, f'worker processes {left} were left behind'

    @property
    def server(self) -> str:
        """The node's full name."""
        return f'{self._namespace}/timebill'

    def another_client(self) -> Client:
        return Client(self._namespace)

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def worker_pid(self) -> int | None:
        """The node's one child."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f'/proc/{self.process.pid}/task').iterdir():
                for child in map(int, (task / 'children').read_text().split()):
                    if process_exists(child):
                        self._workers.add(child)
                        return child
        return None

    def stop(self, number: int, timeout_s: float = 30.0) -> int:
        """Send the signal to the node only; its exit code."""
        self.worker_pid()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    SHUTDOWN_ACTIVE = Transition.TRANSITION_ACTIVE_SHUTDOWN

    # -- lifecycle -------------------------------------------------------------------------------------------------

    def transition(self, number: int) -> bool:
        """Whether the transition succeeded."""
        success = self.call(ChangeState, transition=Transition(id=number)).success
        self.worker_pid()
        return success

    def configure(self) -> bool:
        return self.transition(Transition.TRANSITION_CONFIGURE)

    def deactivate(self) -> bool:
        return self.transition(Transition.TRANSITION_DEACTIVATE)

    def cleanup(self) -> bool:
        """Also waits until the client knows that the action server is gone: it would send to that one else, though
        the next had come.
        """
        success = self.transition(Transition.TRANSITION_CLEANUP)
        if success:
            wait_until(lambda: not self.actions.server_is_ready())
        return success

    def activate(self) -> bool:
        """Also waits until the client hears everything: its first status has come."""
        if not self.transition(Transition.TRANSITION_ACTIVATE):
            return False
        assert self.actions.wait_for_server(WAIT_S)
        while True:
            status, result = self.ask(make_goal('one'))
            assert status == SUCCEEDED, result
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self.statuses and self.statuses[-1].phase == RequestStatus.PHASE_DONE, 0.5)
                return True

    def start(self) -> NodeProcess:
        """Configure and activate"""
        assert self.configure(), self.log
        assert self.activate(), self.log
        return self


def _ends(pid: int, timeout_s: float = 5.0) -> bool:
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not process_exists(pid), timeout_s)
        return True
    return False
