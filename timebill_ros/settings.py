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

"""Every parameter once: name, type, default, bounds, unit and description. The node, the command line and
config/timebill.yaml all follow this table (a test compares the file).
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from timebill_ros.request import Strategy

STRATEGIES = {'kill': Strategy.KILL, 'skip_next': Strategy.SKIP_NEXT, 'truncate': Strategy.TRUNCATE}
POLICIES = ('adaptive', 'conformal', 'fixed')
DTYPES = ('auto', 'float32', 'bfloat16', 'float16')


@dataclass(frozen=True)
class Parameter:
    """One parameter. `live`: may change while the node is active; the others need cleanup and configure."""

    name: str
    default: bool | int | float | str
    description: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def check(self, value) -> None:
        """ValueError, with the value, unless it has the default's type and lies within bounds."""
        kind = type(self.default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f'parameter {self.name} must be of type {kind.__name__}, got {value!r}')
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'parameter {self.name} must be finite, got {value!r}')
        if self.choices and value not in self.choices:
            raise ValueError(f'parameter {self.name} must be one of {", ".join(self.choices)}, got {value!r}')
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise ValueError(f'parameter {self.name} must be from {self.low} to {self.high}, got {value!r}')


PARAMETERS = (
    Parameter('model', '', 'Directory or hub id of a Hugging Face causal LM; empty: the embedded model.'),
    Parameter('length_predictor', '', 'Directory of a trained length predictor; empty: <model>/../length_predictor '
              'for the embedded model, otherwise none, and every response is taken to be as long as allowed.'),
    Parameter('profile', '', 'YAML profile of this device and model; empty: the cached one, or one measured while '
              'configuring.'),
    Parameter('self_profile_s', 20.0, 'Longest time for measuring a profile while configuring.', 's', 1.0, 600.0),
    Parameter('cache_dir', '', 'Where self-made profiles and compiled steps are kept; empty: '
              '$XDG_CACHE_HOME/timebill_ros or ~/.cache/timebill_ros.'),
    Parameter('worker_python', '', 'Python interpreter with torch and transformers; empty: the one that runs the '
              'node.'),
    Parameter('worker_start_timeout_s', 300.0, 'Longest time for loading and profiling while configuring.', 's',
              1.0, 3600.0),
    Parameter('device', 'auto', 'torch device: auto (CUDA where there is one), cpu, cuda, cuda:1, ...'),
    Parameter('dtype', 'auto', 'Precision of weights and cache; auto: bfloat16 on CUDA where supported, else as '
              'stored.', choices=DTYPES),
    Parameter('threads', 0, 'CPU threads for the model; 0: all cores this process may use, or one for weights '
              'of at most 16 MiB.', 'threads', 0, 1024),
    Parameter('predictor_placement', 'auto', 'Where the length predictor runs while prefill does. beside: on '
              'cores that prefill leaves to it, or on a stream of lower priority of the same GPU; shared: on the cores '
              'of prefill; cpu: away from the GPU of the model; auto: as the profile was measured, or what is quicker '
              'here.', choices=('auto', 'beside', 'shared', 'cpu')),
    Parameter('predictor_threads', 1, 'CPU threads for the length predictor.', 'threads', 1, 1024),
    Parameter('cpu_affinity', '', 'Cores that the inference process may use, as in 0,2-3; empty: all.'),
    Parameter('worker_nice', 0, 'Niceness of the inference process: with more than 0, other programs of the robot go '
              'first when cores are short.', 'levels', 0, 19),
    Parameter('realtime_priority', 0, 'SCHED_FIFO priority of the thread that decodes; 0: none. Needs permission, and '
              'a core to spare for everything else.', 'levels', 0, 99),
    Parameter('predictor_max_tokens', 0, 'Upper bound on N_p, the predictor input; 0: what prefill hides according '
              'to the profile.', 'tokens', 0, 1 << 20),
    Parameter('prediction_wait_s', 0.02, 'How long the plan waits for a prediction that is late when prefill ends.',
              's', 0.0, 10.0, live=True),
    Parameter('max_context_tokens', 8192, 'Size of the preallocated KV cache; bounded by the model context.', 'tokens',
              64, 1 << 20),
    Parameter('prefill_chunk_tokens', 0, 'Prefill reads a prompt in chunks of this size; 0: as the profile was '
              'measured, or the quickest of those that let it look at cancels and the deadline every 40 ms.', 'tokens',
              0, 1 << 17),
    Parameter('compile_step', 'auto', 'The decode step as one compiled program, kept in cache_dir, and on CUDA as '
              'graphs; auto: where a compiler is installed and the model allows it, never: always kernel by kernel '
              'through the modules of the model.',
              choices=('auto', 'never')),
    Parameter('eviction_scorer', 'snapkv', 'Which cache entries matter.',
              choices=('snapkv', 'key_norm', 'recent', 'random')),
    Parameter('max_eviction_ratio', 0.95, 'alpha_max: largest share of the prompt cache that may be evicted.', '', 0.0,
              0.99, live=True),
    Parameter('pessimistic_length', 'adaptive', 'How the pessimistic length N_W follows from the prediction; adaptive: '
              'a conformal quantile that tracks what is observed, conformal: the same, fixed, fixed: the factor below.',
              choices=POLICIES, live=True),
    Parameter('miss_rate', 0.05, 'epsilon: share of promised answers that may miss their deadline (adaptive and '
              'conformal); half of it for lengths, half for times.', '', 0.001, 0.5, live=True),
    Parameter('adaptation_step', 0.03, 'Step size of adaptive conformal inference, per request.', '', 0.03, 1.0,
              live=True),
    Parameter('pessimistic_factor', 5.0, 'k: pessimistic length N_W = min(k * N_hat, N_max), where pessimistic_length '
              'is fixed.', '', 1.0, 1000.0, live=True),
    Parameter('track_timing', True, 'Correct estimated times by what steps and prefill take lately.', live=True),
    Parameter('replan_tokens', 32, 'The plan is looked at again after so many tokens; 0: never.', 'tokens', 0, 1 << 20,
              live=True),
    Parameter('keep_state', True, 'Keep what finished requests taught in cache_dir, for the next start.'),
    Parameter('variants', '', 'Other weight precisions to load and choose from for decoding, comma-separated: int8, '
              'int4, bfloat16, float16. Each takes memory of its own. Used only with a quality table.'),
    Parameter('quality_table', '', 'JSON file of measured quality by eviction ratio and variant (timebill bench '
              'knobs); empty: the smallest eviction that fits, as in the paper.'),
    Parameter('default_max_new_tokens', 256, 'Longest response where the goal does not say.', 'tokens', 1, 1 << 20,
              live=True),
    Parameter('default_time_budget_s', 0.0, 'Budget of a goal with neither budget nor deadline; 0: such goals are '
              'invalid.', 's', 0.0, 86400.0, live=True),
    Parameter('default_overrun_strategy', 'truncate', 'Strategy of a goal that leaves it to the server.',
              choices=tuple(STRATEGIES), live=True),
    Parameter('max_overrun_s', 5.0, 'How long a late SKIP_NEXT goal may go on after its deadline; it is cut then.', 's',
              0.0, 3600.0, live=True),
    Parameter('scheduling', 'edf', 'Which waiting goal starts next; edf: the highest priority, then the earliest '
              'deadline; fcfs: first come, first served.', choices=('edf', 'fcfs'), live=True),
    Parameter('drop_infeasible', 'kill', 'Goals that end at once with INFEASIBLE when not even the predicted length '
              'fits any more, by strategy; where prefill alone does not fit, all do.', choices=('kill', 'never', 'all'),
              live=True),
    Parameter('preempt', 'never', 'Which goals stop the running one, which ends with PREEMPTED; priority: those of '
              'higher priority, deadline: also those of the same priority with an earlier deadline.',
              choices=('never', 'priority', 'deadline'), live=True),
    Parameter('deadline_clock', 'ros', 'Which clock absolute deadlines go by once a goal is released; ros: ROS time, '
              'which with use_sim_time follows /clock; monotonic: real time.', choices=('ros', 'monotonic')),
    Parameter('clock_timeout_s', 5.0, 'With use_sim_time: how long /clock may stand still before deadlines go on by '
              'its last pace, with a warning.', 's', 0.1, 3600.0),
    Parameter('delivery_margin_s', 0.03, 'Time kept before the deadline for carrying the result.', 's', 0.0, 10.0,
              live=True),
    Parameter('queue_size', 32, 'Goals that may wait; one more ends with BUSY.', 'goals', 0, 100000, live=True),
    Parameter('max_prompt_characters', 1_000_000, 'Longest prompt or sum of messages.', 'characters', 1, 100_000_000,
              live=True),
    Parameter('feedback_rate', 20.0, 'Most feedback messages per second for a goal.', 'Hz', 0.1, 1000.0, live=True),
    Parameter('result_timeout_s', 30.0, 'How long a result stays available to a client that asks late.', 's', 1.0,
              3600.0),
    Parameter('trust_remote_code', False, 'Run Python code that ships with the model. Off unless you trust it.'),
    Parameter('allow_unsafe_weights', False, 'Load weights that are not safetensors (pickle can run code). Off unless '
              'you trust the file.'),
)
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def check(values: dict) -> dict:
    """All parameters, defaults filled in; ValueError for an unknown name or a value out of bounds."""
    for name, value in values.items():
        if name not in BY_NAME:
            raise ValueError(f'unknown parameter {name!r}')
        BY_NAME[name].check(value)
    return {parameter.name: values.get(parameter.name, parameter.default) for parameter in PARAMETERS}


def as_yaml() -> str:
    """config/timebill.yaml: every parameter with its default, documented."""
    lines = ['# Every parameter of the timebill node with its default. Made from timebill_ros/settings.py.',
             '# Those marked "live" may change while the node is active; the others take effect at configure.',
             '# The first line means: whatever the node is called and whichever namespace it is in.',
             '/**:', '  ros__parameters:']
    for p in PARAMETERS:
        notes = [p.unit] if p.unit else []
        if p.low is not None:
            notes.append(f'{p.low} to {p.high}')
        notes += ['one of ' + ', '.join(p.choices)] if p.choices else []
        notes += ['live'] if p.live else []
        lines.append(f'    # {p.description}' + (f' ({"; ".join(notes)})' if notes else ''))
        value = str(p.default).lower() if isinstance(p.default, bool) else \
            f"'{p.default}'" if isinstance(p.default, str) else p.default
        lines.append(f'    {p.name}: {value}')
    return '\n'.join(lines) + '\n'
