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

"""Every field and constant of the interfaces: a change would alter type hashes and break bags and clients."""
import pathlib
import re

import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Duration  # noqa: E402

from timebill_ros.action import Generate  # noqa: E402
from timebill_ros.msg import ChatMessage, DeadlineStats, RequestStatus, SamplingConfig, Timing, ToolCall  # noqa: E402
from timebill_ros.srv import EstimateTime, Prepare  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ('msg', 'action', 'srv') for path in (ROOT / folder).iterdir())

FIELDS = {
    Generate.Goal: {
        'prompt': 'string',
        'messages': 'sequence<timebill_ros/ChatMessage>',
        'time_budget': 'builtin_interfaces/Duration',
        'deadline': 'builtin_interfaces/Time',
        'overrun_strategy': 'uint8',
        'max_new_tokens': 'uint32',
        'sampling': 'timebill_ros/SamplingConfig',
        'max_eviction_ratio': 'float',
        'priority': 'uint8',
        'closing_text': 'string',
        'stop_at_line_end': 'boolean',
        'response_schema': 'string',
        'choices': 'sequence<string>',
        'regex': 'string',
        'on_cut': 'uint8',
        'tools': 'string',
        'tool_choice': 'uint8',
        'thinking': 'uint8',
        'allow_offboard': 'boolean',
    },
    Generate.Result: {
        'error_code': 'uint16',
        'error_msg': 'string',
        'text': 'string',
        'generated_characters': 'uint32',
        'dropped_items': 'uint32',
        'tool_calls': 'sequence<timebill_ros/ToolCall>',
        'reasoning': 'string',
        'finish_reason': 'uint8',
        'timing': 'timebill_ros/Timing',
    },
    Generate.Feedback: {
        'phase': 'uint8',
        'text_delta': 'string',
        'part': 'uint8',
        'generated_tokens': 'uint32',
        'estimated_time_remaining_s': 'double',
        'slack_s': 'double',
    },
    ChatMessage: {'role': 'string', 'content': 'string', 'tool_calls': 'sequence<timebill_ros/ToolCall>',
                  'tool_call_id': 'string'},
    ToolCall: {'id': 'string', 'name': 'string', 'arguments': 'string'},
    SamplingConfig: {
        'temperature': 'float',
        'top_p': 'float',
        'top_k': 'uint32',
        'min_p': 'float',
        'repetition_penalty': 'float',
        'seed': 'uint64',
        'stop': 'sequence<string>',
    },
    Timing: {
        **dict.fromkeys(('verdict', 'tier', 'offboard_verdict'), 'uint8'),
        'variant': 'string',
        'seed': 'uint64',
        'dropped_messages': 'uint32',
        **dict.fromkeys(('prompt_tokens', 'reused_tokens', 'generated_tokens', 'forced_tokens', 'reasoning_tokens',
                         'predicted_tokens',
                         'pessimistic_tokens', 'kept_tokens', 'length_cap', 'preemptions'), 'uint32'),
        **dict.fromkeys(('eviction_ratio', 'time_budget_s', 'wcet_s', 'queue_s', 'prediction_s',
                         'hidden_prediction_s', 'prefill_s', 'eviction_s', 'decode_s', 'paused_s', 'grammar_s',
                         'mask_s', 'time_to_first_token_s', 'response_time_s', 'tardiness_s', 'offboard_wcet_s',
                         'offboard_first_token_s', 'offboard_s'), 'double'),
    },
    DeadlineStats: {
        'header': 'std_msgs/Header',
        **dict.fromkeys(('lifecycle_state', 'offboard_state'), 'uint8'),
        'degraded': 'boolean',
        'device': 'string',
        **dict.fromkeys(('running', 'waiting', 'promised', 'missed', 'offboard_running'), 'uint32'),
        **dict.fromkeys(('accepted', 'device_memory_used', 'device_memory_total', 'offboard_asked',
                         'offboard_answered', 'onboard_answered'), 'uint64'),
        **dict.fromkeys(('smallest_slack_s', 'window_s', 'miss_rate', 'miss_rate_allowed', 'timing_factor',
                         'prefill_factor', 'time_bound', 'tokens_per_second', 'device_temperature', 'offboard_s',
                         'onboard_s'), 'double'),
        **dict.fromkeys((f'{name}_is_current' for name in (
            'smallest_slack', 'miss_rate', 'tokens_per_second', 'device_memory_used', 'device_temperature')),
            'boolean'),
    },
    RequestStatus: {
        'header': 'std_msgs/Header',
        'request_id': 'string',
        'phase': 'uint8',
        **dict.fromkeys(('verdict', 'tier', 'offboard_verdict'), 'uint8'),
        'finish_reason': 'uint8',
        'error_code': 'uint16',
        'release': 'builtin_interfaces/Time',
        'strategy': 'uint8',
        'priority': 'uint8',
        'queue_position': 'uint32',
        'deadline': 'builtin_interfaces/Time',
        'predicted_finish': 'builtin_interfaces/Time',
        **dict.fromkeys(('time_budget_s', 'slack_s', 'wcet_s', 'response_time_s', 'tardiness_s', 'eviction_ratio',
                         'timing_factor', 'offboard_wcet_s', 'offboard_s'), 'double'),
        **dict.fromkeys(('predicted_tokens', 'pessimistic_tokens', 'generated_tokens', 'reused_tokens'), 'uint32'),
        'overrun': 'boolean',
        'variant': 'string',
        'degraded': 'boolean',
    },
    EstimateTime.Request: {
        'prompt': 'string',
        'messages': 'sequence<timebill_ros/ChatMessage>',
        'time_budget': 'builtin_interfaces/Duration',
        'deadline': 'builtin_interfaces/Time',
        'overrun_strategy': 'uint8',
        'max_new_tokens': 'uint32',
        'sampling': 'timebill_ros/SamplingConfig',
        'max_eviction_ratio': 'float',
        'priority': 'uint8',
        'response_schema': 'string',
        'choices': 'sequence<string>',
        'regex': 'string',
        'tools': 'string',
        'tool_choice': 'uint8',
        'thinking': 'uint8',
    },
    EstimateTime.Response: {
        'error_code': 'uint16',
        'error_msg': 'string',
        'verdict': 'uint8',
        'is_from_bound': 'boolean',
        'waiting_s': 'double',
        'prompt_tokens': 'uint32',
        'reused_tokens': 'uint32',
        'predicted_tokens': 'uint32',
        'pessimistic_tokens': 'uint32',
        **dict.fromkeys(('wcet_without_eviction_s', 'wcet_with_eviction_s', 'eviction_ratio'), 'double'),
    },
    Prepare.Request: {'prompt': 'string', 'messages': 'sequence<timebill_ros/ChatMessage>', 'tools': 'string'},
    Prepare.Response: {'error_code': 'uint16', 'error_msg': 'string',
                       **dict.fromkeys(('prompt_tokens', 'ready_tokens'), 'uint32')},
}

CONSTANTS = {
    (Generate.Goal, 'STRATEGY_'): {'DEFAULT': 0, 'KILL': 1, 'SKIP_NEXT': 2, 'TRUNCATE': 3},
    (Generate.Goal, 'ON_CUT_'): {'DROP': 0, 'CLOSE': 1},
    (Generate.Goal, 'TOOL_CHOICE_'): {'AUTO': 0, 'REQUIRED': 1},
    (Generate.Goal, 'THINKING_'): {'DEFAULT': 0, 'OFF': 1, 'ON': 2},
    (Generate.Feedback, 'PART_'): {'TEXT': 0, 'REASONING': 1, 'TOOL_CALL': 2},
    (Generate.Result, ''): {
        'NONE': 0, 'UNKNOWN': 7000, 'DEADLINE_MISSED': 7001, 'INVALID_GOAL': 7002, 'INACTIVE': 7003,
        'PROMPT_TOO_LONG': 7004, 'INFEASIBLE': 7005, 'SKIPPED': 7006, 'OUT_OF_MEMORY': 7007,
        'WORKER_LOST': 7008, 'CANCELED': 7009, 'BUSY': 7010, 'PREEMPTED': 7011, 'TIMEOUT': 7012, 'GOAL_REJECTED': 7013,
        'SEND_GOAL_FAILURE': 7014,
    },
    (Generate.Result, 'FINISH_'): {
        'UNKNOWN': 0, 'EOS': 1, 'STOP': 2, 'LENGTH': 3, 'CAPPED': 4, 'DEADLINE': 5, 'CANCELED': 6,
        'SKIPPED': 7, 'ERROR': 8,
    },
    (Generate.Feedback, 'PHASE_'): {'QUEUED': 1, 'PREFILL': 2, 'DECODE': 3},
    (RequestStatus, 'PHASE_'): {'QUEUED': 1, 'PREFILL': 2, 'DECODE': 3, 'DONE': 4, 'SKIPPED': 5},
    (DeadlineStats, 'STATE_'): {'UNCONFIGURED': 1, 'INACTIVE': 2, 'ACTIVE': 3, 'FINALIZED': 4, 'CONFIGURING': 10},
    (Timing, 'VERDICT_'): {'UNKNOWN': 0, 'FITS': 1, 'FITS_WITH_EVICTION': 2, 'AT_RISK': 3, 'INFEASIBLE': 4},
    (Timing, 'TIER_'): {'NONE': 0, 'ONBOARD': 1, 'OFFBOARD': 2},
    (DeadlineStats, 'OFFBOARD_'): {'NONE': 0, 'ASKED': 1, 'BROKEN': 2},
}


def declared_constants(section, prefix):
    """Return {name without prefix: value} of one enum. Only the error codes have no prefix."""
    names = [name for name in dir(type(section))
             if name.isupper() and not name.startswith('_') and not name.endswith('__DEFAULT')]
    if prefix:
        names = [name for name in names if name.startswith(prefix)]
    else:
        names = [name for name in names if not name.startswith('FINISH_')]
    return {name[len(prefix):]: getattr(section, name) for name in names}


@pytest.mark.parametrize('section', FIELDS, ids=lambda section: section.__name__)
def test_fields_and_their_types(section):
    assert section.get_fields_and_field_types() == FIELDS[section]


@pytest.mark.parametrize('section, prefix', CONSTANTS, ids=lambda value: getattr(value, '__name__', value))
def test_constants(section, prefix):
    declared = declared_constants(section, prefix)
    assert declared == CONSTANTS[section, prefix]
    assert len(set(declared.values())) == len(declared)


def test_a_goal_with_only_prompt_and_budget_means_the_servers_defaults():
    goal = Generate.Goal(prompt='go', time_budget=Duration(sec=1))
    assert goal.max_eviction_ratio == -1.0
    assert goal.overrun_strategy == Generate.Goal.STRATEGY_DEFAULT
    assert goal.max_new_tokens == 0
    assert (goal.deadline.sec, goal.deadline.nanosec) == (0, 0)
    assert goal.messages == [] and goal.closing_text == '' and goal.stop_at_line_end is False
    assert (goal.response_schema, goal.choices, goal.regex, goal.on_cut) == ('', [], '', 0)
    assert (goal.tools, goal.tool_choice, goal.thinking) == ('', 0, 0)
    assert goal.priority == 0 and goal.allow_offboard is False, 'nothing leaves the robot unless a goal says so'


def test_sampling_is_as_the_server_is_configured_by_default():
    sampling = Generate.Goal().sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (-1.0, 1.0, 0, 0)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.0, 1.0)
    assert list(sampling.stop) == []


def test_a_fresh_result_claims_nothing():
    result = Generate.Result()
    assert result.finish_reason == Generate.Result.FINISH_UNKNOWN
    assert result.timing.verdict == Timing.VERDICT_UNKNOWN


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_line_says_what_it_means(path):
    lines = [line for line in path.read_text().splitlines() if line.strip() not in ('', '---')]
    bare = [line for line in lines if not re.search(r'#\s*\S', line)]
    assert not bare, f'{path.name}: no comment on {bare}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_seconds_and_tokens_are_named(path):
    """The comment of a field called *_s says seconds, of one called *_tokens tokens: nobody has to guess a unit."""
    for line in path.read_text().splitlines():
        field = re.match(r'(?:float64|uint32) (\w+)', line)
        if field and re.search(r'_(s|tokens)$', field[1]):
            unit = 'seconds' if field[1].endswith('_s') else 'tokens'
            assert unit in line, f'{path.name}: {line}'
