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

"""Every parameter, declared once: name, type, default, bounds, unit and description.

The node, the command line, config/timebill.yaml and docs/parameters.md all follow this table. The two files are made
from it by scripts/generate_docs.py, and tests compare them.
"""
from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass

from timebill_ros.codes import Strategy

STRATEGIES = {'kill': Strategy.KILL, 'skip_next': Strategy.SKIP_NEXT, 'truncate': Strategy.TRUNCATE}
POLICIES = ('adaptive', 'conformal', 'fixed')
NO_PREDICTOR, STATES = 'none', 'states'  # values of length_predictor besides directories
PLANNERS = ('quality', 'paper')
DTYPES = ('auto', 'float32', 'bfloat16', 'float16', 'int8', 'int4')


@dataclass(frozen=True)
class Parameter:
    """One parameter. `live`: it may change while the node is active; the others take effect at configure."""

    name: str
    default: bool | int | float | str
    description: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    is_json: bool = False  # the text, where there is one, is a JSON object

    def check(self, value) -> None:
        """Raise ValueError, with the name and the value, unless it has the default's type and lies within bounds."""
        kind = type(self.default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f'parameter {self.name} must be of type {kind.__name__}, got {value!r}')
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'parameter {self.name} must be finite, got {value!r}')
        if self.choices and value not in self.choices:
            raise ValueError(f'parameter {self.name} must be one of {", ".join(self.choices)}, got {value!r}')
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise ValueError(f'parameter {self.name} must be from {self.low} to {self.high}, got {value!r}')
        if self.is_json and value:
            _check_json_object(self.name, value)


def _check_json_object(name: str, text: str) -> None:
    """Raise ValueError, with the name of the parameter and its value, unless `text` is a JSON object."""
    try:
        kind = type(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'parameter {name} must be a JSON object, as {{"enable_thinking": false}}, got {text!r} '
                         f'({error})') from error
    if kind is not dict:
        raise ValueError(f'parameter {name} must be a JSON object, as {{"enable_thinking": false}}, got {text!r}')


PARAMETERS = (
    # Model, length predictor and profile.
    Parameter('model', '', 'The language model: the directory or hub id of a Hugging Face causal LM; a GGUF file, '
              'which is converted once and kept in cache_dir; smollm2, the small real model that `timebill get-model '
              'smollm2` takes into cache_dir; or embedded, the model that the package brings, which plans over a site '
              'log and does nothing else. Empty: smollm2 where it is in cache_dir, else embedded.'),
    Parameter('model_revision', '', 'Branch, tag or commit of a hub id, from which config, weights and tokenizer are '
              'taken. Name a commit to have the same model for ever. Empty: the newest of the branch main.'),
    Parameter('chat_template_args', '', 'Keywords for the chat template of the model, as a JSON object in a string, '
              'for instance {"enable_thinking": false} for Qwen3. They hold for all goals with messages. Empty: none.',
              is_json=True),
    Parameter('thinking_end_text', '', 'Text that is written into a thinking section, before the marker that ends it, '
              'where the section is ended early, so that the answer has its time: for instance a sentence which says '
              'that the answer comes now. Empty: the marker alone.'),
    Parameter('length_predictor', '', 'What predicts the lengths of answers. The directory of a trained length '
              'predictor, a second network that reads the prompt beside prefill; states: the hidden state that prefill '
              'leaves, from which lengths are learned while goals are served; a file of labels (.safetensors): the '
              'same, beginning with these; none: nothing, lengths are then those of '
              'earlier answers to goals with about as long prompts and limits, and before there were any, every length '
              'that a goal allows is as likely as any other. Empty: with the embedded model its own predictor, in the '
              'folder beside it; with any other model states on a CPU, and none on a GPU, where states were not tried, '
              'or where the layers of the model are not found.'),
    Parameter('profile', '', 'YAML file with the times that this model takes on this device, made by `timebill '
              'profile`. Empty: the one kept in cache_dir, or else one that is measured while configuring.'),
    Parameter('self_profile_s', 20.0, 'Longest time for measuring a profile while configuring. Raise it where the log '
              'says that the profile is noisy.', 's', 1.0, 600.0),
    Parameter('cache_dir', '', 'Folder for what is kept between starts: models made of GGUF files, profiles that the '
              'node measured, compiled steps, choices of chunk size and placement, and what requests taught. `timebill '
              'cache` lists it. Empty: $XDG_CACHE_HOME/timebill_ros or ~/.cache/timebill_ros.'),
    Parameter('cache_limit_gib', 20.0, 'How much cache_dir may hold. Where it holds more after a start, what was used '
              'longest ago is removed; never what a process uses, nor what is smaller than 1 MiB.', 'GiB', 0.1, 1e5),
    Parameter('worker_python', '', 'Python interpreter of the inference process. Name one where torch and transformers '
              'are installed in another environment than the node. Empty: the one that runs the node.'),
    Parameter('worker_start_timeout_s', 300.0, 'Longest time for which a start of the inference process may not get '
              'on: read or write nothing, compile nothing, measure nothing. A start that gets on may take longer. '
              'After this time configure fails, and a replacement of a lost process is ended and started again.',
              's', 1.0, 3600.0),
    Parameter('worker', 'model', 'What answers goals. model: the language model; scripted: the answers of the file '
              'that script names, at its pace and with its faults, through the real node and engine, without torch or '
              'a model: for the tests of programs that send goals, see docs/testing.md. Parameters of model, device '
              'and learning have no effect then.', choices=('model', 'scripted')),
    Parameter('script', '', 'With worker scripted: the YAML file with the answers. Empty: the example that the package '
              'brings, config/script.yaml.'),
    # Device, threads and cores.
    Parameter('device', 'auto', 'Device of the model, as torch names it, for instance cpu, cuda or cuda:1. auto: CUDA '
              'where there is a GPU, otherwise the CPU.'),
    Parameter('dtype', 'auto', 'Precision of weights and cache. auto: on CUDA bfloat16 where the hardware has it '
              '(compute capability 8.0 and later), otherwise float16; on a CPU as the weights are stored, or float32 '
              'where the CPU only emulates that and memory allows it. int8 and int4 are for the weights of linear '
              'layers, of prefill and decoding alike; everything else is then as with auto. Where memory allows, '
              'variants keep the quality of prefill.', choices=DTYPES),
    Parameter('threads', 0, 'CPU threads for the model. 0: as many as there are cores that the process may use, or one '
              'for weights of at most 16 MiB, which more threads do not make faster. Lower it to leave cores to other '
              'programs.', 'threads', 0, 1024),
    Parameter('predictor_placement', 'auto', 'Where the length predictor runs while prefill does. beside: on CPU cores '
              'that prefill leaves to it, or on a stream of lower priority of the same GPU; shared: on the CPU cores '
              'of prefill; cpu: on the CPU, where the model is on a GPU; auto: as the profile was measured, or else '
              'the quicker one on this device.', choices=('auto', 'beside', 'shared', 'cpu')),
    Parameter('predictor_threads', 1, 'CPU threads for the length predictor. More of them predict sooner, and leave '
              'fewer cores to prefill.', 'threads', 1, 1024),
    Parameter('cpu_affinity', '', 'CPU cores that the inference process may use, for instance 0,2-3. Empty: all. Set '
              'it to keep inference and other programs of the robot apart.'),
    Parameter('worker_nice', 0, 'Niceness of the inference process. Above 0, other programs of the robot go first '
              'where cores are short.', 'levels', 0, 19),
    Parameter('realtime_priority', 0, 'SCHED_FIFO priority of the thread that decodes, so that other programs do not '
              'delay its steps. 0: none. It needs permission, and a core to spare for everything else.', 'levels', 0,
              99),
    Parameter('node_realtime_priority', 0, 'SCHED_FIFO priority of the node itself, which watches deadlines and '
              'delivers results, so that programs which fill the cores do not delay these. The inference process does '
              'not inherit it. 0: none. It needs permission.', 'levels', 0, 99),
    Parameter('nvtx_ranges', False, 'Name each request, its phases and its decode steps on the time line of Nsight '
              'Systems, as NVTX ranges. It costs a little time per token. On CUDA only.'),
    # Length prediction.
    Parameter('predictor_max_tokens', 0, 'Longest input of the length predictor, N_p; of a longer prompt it reads the '
              'beginning and the end. 0: as much as it can read while prefill runs, according to the profile.',
              'tokens', 0, 1 << 20),
    Parameter('prediction_wait_s', 0.02, 'How long the plan waits for a prediction that is not there when prefill '
              'ends. After that the plan takes the distribution of all lengths that the predictor was trained on.', 's',
              0.0, 10.0, live=True),
    # Cache, prefill and decode steps.
    Parameter('max_context_tokens', 0, 'Size of the KV cache, which is allocated while configuring: the longest '
              'prompt and answer together, 64 at least. At most the context of the model; with more than memory holds, '
              'configure fails and says what would fit. 0: 8192, or less where the model or free memory allows no '
              'more; the log says so.', 'tokens', 0, 1 << 20),
    Parameter('prefill_chunk_tokens', 0, 'Size of the chunks in which prefill reads a prompt. 0: as the profile was '
              'measured, or else the quickest of those that let prefill look at cancels and the deadline every 40 ms.',
              'tokens', 0, 1 << 17),
    Parameter('prefix_cache_mib', -1, 'How much is kept of prompts that were read, so that one which begins like an '
              'earlier one is read from where they differ. What was used longest ago goes first. The memory is taken '
              'while configuring, beside the KV cache; where it lacks, configure fails and says what would fit. 0: '
              'nothing is kept. -1: 256, or less where two prompts as long as the context take less, or where a tenth '
              'of the free memory is less.', 'MiB', -1, 1 << 20),
    Parameter('exact_prefixes', True, 'Whether, on a CPU, a prompt that begins like an earlier one is read on from '
              'there only where that changes no bit of its answer. Where a processor rounds by how many tokens are '
              'read at once, as with AMX, that is at the ends of chunks (prefill_chunk_tokens). false: at every 32 '
              'tokens in any case, as on a GPU, where rounding may change a token.'),
    Parameter('pinned_prefixes', '', 'Files with beginnings of prompts that are read while configuring and never '
              'dropped, comma-separated: a JSON list of messages (.json), as [{"role": "system", "content": "..."}], '
              'or plain text. Empty: none.'),
    Parameter('compile_step', 'auto', 'Whether a decode step runs as one compiled program, which is kept in cache_dir, '
              'and on CUDA as graphs of fused kernels. auto: where a compiler is installed and the model allows it; '
              'graphs: not compiled, on CUDA as graphs of the modules of the model, which needs no compiler and starts '
              'sooner; never: always kernel by kernel through these modules, which is slower.',
              choices=('auto', 'graphs', 'never')),
    # Eviction.
    Parameter('eviction_scorer', 'snapkv', 'Which entries of the prompt stay in the cache when some are evicted. '
              'snapkv: those that the end of the prompt attends to most; key_norm: those whose keys have the smallest '
              'norm; recent: the first few and the latest; random: any, for comparisons.',
              choices=('snapkv', 'key_norm', 'recent', 'random')),
    Parameter('max_eviction_ratio', 0.95, 'alpha_max: largest share of the prompt\'s cache entries that may be evicted '
              'for a goal that does not say. 0: nothing is evicted. Lower it where answers need details of the prompt.',
              '', 0.0, 0.99, live=True),
    # Plans.
    Parameter('planner', 'quality', 'What plans are made by. quality: what the client can be expected to hold at the '
              'deadline is worth the most, by the quality table, and a promise is made where it costs little of that; '
              'paper: the rule of the TimeBill paper, for comparison: as much eviction as lets pessimistic_factor '
              'times the predicted length fit, whatever that does to the answer, without variants; pessimistic_length '
              'is fixed then.', choices=PLANNERS),
    Parameter('promise_quality', 0.9, 'With planner quality: the least share of the best expected quality at which an '
              'answer is promised in time by evicting entries or by other weights. 1: never at any cost of quality.',
              '', 0.0, 1.0),
    Parameter('min_kept_tokens', 128, 'With planner quality: fewest entries of a prompt that an eviction leaves; a '
              'shorter prompt is kept whole. max_eviction_ratio is a limit besides.', 'tokens', 1, 1 << 20),
    # Promises.
    Parameter('pessimistic_length', 'adaptive', 'How the pessimistic length N_W follows from the prediction. adaptive: '
              'a conformal quantile that follows the lengths that are observed; conformal: the same quantile, left as '
              'it was calibrated; fixed: pessimistic_factor times the predicted length, as in the paper.',
              choices=POLICIES, live=True),
    Parameter('miss_rate', 0.05, 'epsilon: share of promised answers that may miss their deadline, because they are '
              'longer than N_W or take longer than estimated. It applies where pessimistic_length is adaptive or '
              'conformal. A lower share promises less often.', '', 0.001, 0.5, live=True),
    Parameter('adaptation_step', 0.5, 'How far one missed promise moves what adaptive bounds aim at: the share of '
              'promises that may be missed is divided by e to the power of nearly so much, and each kept promise takes '
              'a share miss_rate of that back. With a larger step the bounds follow a change sooner, and are less '
              'steady.', '', 0.1, 3.0, live=True),
    Parameter('pessimistic_factor', 5.0, 'k in N_W = min(k * N_hat, N_max), where pessimistic_length is fixed. A '
              'larger one promises less often, and breaks fewer promises.', '', 1.0, 1000.0, live=True),
    Parameter('track_timing', True, 'Multiply estimated times by how much longer than profiled the latest requests '
              'took, so that plans follow a device that is throttled or busy. false: as profiled.', live=True),
    Parameter('replan_tokens', 32, 'How many tokens are decoded between two looks at the plan, which evicts more where '
              'the answer would be late. 0: the first plan stays.', 'tokens', 0, 1 << 20, live=True),
    Parameter('keep_state', True, 'Keep what finished requests taught about lengths and times in cache_dir, for the '
              'next start.'),
    # Weights and quality.
    Parameter('variants', '', 'Other precisions of the weights to load and to choose from for decoding, '
              'comma-separated: int8, int4, bfloat16, float16. Each takes memory of its own. planner quality uses '
              'those that the quality table has. On a CPU int8 keeps 4 bits where weights were stored with 4, as in '
              'GGUF files of Q4_0 and Q4_1: that is nearer to them, and quicker.'),
    Parameter('quality_table', '', 'JSON file with the measured quality of answers by eviction ratio and variant, and '
              'of answers that were cut, made by `timebill bench quality` for any model and tasks. Empty: the one that '
              'comes with the package, measured on SmolLM2-135M-Instruct. planner quality plans by it.'),
    # What a goal leaves open.
    Parameter('default_max_new_tokens', 256, 'Longest answer to a goal that does not say.', 'tokens', 1, 1 << 20,
              live=True),
    Parameter('default_time_budget_s', 0.0, 'Time budget of a goal with neither time_budget nor deadline. 0: such a '
              'goal ends with INVALID_GOAL.', 's', 0.0, 86400.0, live=True),
    Parameter('default_overrun_strategy', 'truncate', 'What happens at the deadline of a goal that does not say. kill: '
              'it fails, without text; skip_next: it goes on for max_overrun_s at most, and goals released meanwhile '
              'are skipped; truncate: it succeeds with the text so far.', choices=tuple(STRATEGIES), live=True),
    Parameter('max_overrun_s', 5.0, 'How long a late SKIP_NEXT goal may go on after its deadline. Then it is cut, and '
              'its text so far is kept.', 's', 0.0, 3600.0, live=True),
    Parameter('sampling_defaults', 'greedy', 'How tokens are chosen for a goal whose sampling leaves temperature open. '
              'greedy: the likeliest one; model: as the generation config of the model says, with its temperature, '
              'top_p, top_k, min_p and repetition_penalty, where the goal does not set these.',
              choices=('greedy', 'model'), live=True),
    Parameter('on_long_history', 'refuse', 'What happens to a conversation that is longer than the context. refuse: '
              'its goal ends with PROMPT_TOO_LONG; drop_oldest: the oldest turns are left out until the rest fits and '
              'leaves room for the answer; the system message and the last turn stay. The result says how many '
              'messages went.',
              choices=('refuse', 'drop_oldest'), live=True),
    # Scheduling.
    Parameter('scheduling', 'edf', 'Which waiting goal starts next. edf: the one of highest priority, among equals the '
              'one with the earliest deadline; fcfs: first come, first served.', choices=('edf', 'fcfs'), live=True),
    Parameter('drop_infeasible', 'kill', 'Which goals end with INFEASIBLE as soon as not even the predicted length '
              'fits any more. kill: those with strategy KILL, since a late answer is worth nothing to them; never: '
              'none; all: all. By planner quality a KILL goal does not where a cap saves a text worth having. A goal '
              'whose prompt cannot even be read in time always ends so.',
              choices=('kill', 'never', 'all'), live=True),
    Parameter('preempt', 'never', 'To which new goals the running one gives way. It goes on afterwards, or ends with '
              'PREEMPTED where it could not in time or prefix_cache_mib leaves no room for keeping it. never: none; '
              'priority: those of higher priority; deadline: also those of the same priority with an earlier deadline '
              'that cannot wait until it is through. None gives way to a goal that cannot make its deadline.',
              choices=('never', 'priority', 'deadline'), live=True),
    Parameter('cancel_abandoned', True, 'Cancel a goal, also one that waits, when the client that sent it is gone, so '
              'that the model does not work for nobody. A client that was killed is noticed after about 20 s. false: '
              'such a goal goes on.', live=True),
    # A server besides.
    Parameter('offboard_url', '', 'Address of a server that speaks the HTTP API of OpenAI, for instance '
              'http://192.168.1.20:8000/v1. Goals that allow it (allow_offboard) are asked there too, beside the model '
              'on board; see docs/offboard.md. It needs the library httpx where worker_python is. Empty: none, and '
              'nothing leaves the robot.'),
    Parameter('offboard_model', '', 'With offboard_url: the name of the model that the server is asked for. Empty: '
              'configure fails.'),
    Parameter('offboard_key_file', '', 'With offboard_url: file with the key that the server wants, which nobody else '
              'may read (mode 600). Empty: no key is sent.'),
    Parameter('offboard_quality', 1.0, 'How good the answers of the server are, as a multiple of those of the model on '
              'board with its whole cache: the ratio of two scores of `timebill bench quality`, for instance. Above 1, '
              'a complete answer on board waits for that of the server while it is expected in time; at 1 the first '
              'complete one is taken.', '', 0.0, 1000.0, live=True),
    Parameter('offboard_goals', 4, 'For how many goals the server is asked at once. More than these are answered on '
              'board alone.', 'goals', 1, 256),
    # Clocks.
    Parameter('deadline_clock', 'ros', 'Clock that an absolute deadline goes by once its goal is released. ros: ROS '
              'time, which follows /clock with use_sim_time; monotonic: real time.', choices=('ros', 'monotonic')),
    Parameter('clock_timeout_s', 5.0, 'With use_sim_time: how long /clock may stand still. After that, deadlines go on '
              'at the last pace of the clock, with a warning.', 's', 0.1, 3600.0),
    # Nav2.
    Parameter('bond_topic', '', 'Topic of a bond by which the lifecycle manager of Nav2 sees whether the node lives, '
              'relative to the namespace: bond, as Nav2 up to Lyrical has it. It needs the ROS 2 package bondpy, and a '
              'bond_timeout of the manager above 0. Empty: no bond.'),
    # Delivery and limits.
    Parameter('delivery_margin_s', 0.03, 'Time kept free before a deadline for carrying the result to the client. The '
              'node takes more, up to 0.25 s, while results are seen to take longer.', 's', 0.0, 10.0, live=True),
    Parameter('queue_size', 32, 'How many goals may wait. Where one more comes, the least urgent one ends with BUSY if '
              'its priority is lower, otherwise the new one does.', 'goals', 0, 100000, live=True),
    Parameter('max_prompt_characters', 1_000_000, 'Longest prompt, or sum of the messages of a goal. A longer one ends '
              'with PROMPT_TOO_LONG. With queue_size it bounds the memory that goals take.', 'characters', 1,
              100_000_000, live=True),
    Parameter('feedback_rate', 20.0, 'Highest rate of feedback messages for one goal. Each message holds all text '
              'since the one before.', 'Hz', 0.1, 1000.0, live=True),
    Parameter('result_timeout_s', 30.0, 'How long a result is kept for a client that asks for it late.', 's', 1.0,
              3600.0),
    # Trust.
    Parameter('trust_remote_code', False, 'Run Python code that ships with the model. Leave it off unless you trust '
              'that code.'),
    Parameter('allow_unsafe_weights', False, 'Load weights that are not safetensors: loading a pickle file can run '
              'code. Leave it off unless you trust the file.'),
)
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def check(values: dict) -> dict:
    """Return all parameters, with defaults for those not in `values`. ValueError for an unknown name or a bad value."""
    for name, value in values.items():
        if name not in BY_NAME:
            raise ValueError(f'unknown parameter {name!r}')
        BY_NAME[name].check(value)
    return {parameter.name: values.get(parameter.name, parameter.default) for parameter in PARAMETERS}


def as_yaml() -> str:
    """Return the text of config/timebill.yaml: every parameter with its default, documented."""
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
        comment = p.description + (f' ({"; ".join(notes)})' if notes else '')
        lines += textwrap.wrap(comment, 116, initial_indent='    # ', subsequent_indent='    # ')
        value = str(p.default).lower() if isinstance(p.default, bool) else \
            f"'{p.default}'" if isinstance(p.default, str) else p.default
        lines.append(f'    {p.name}: {value}')
    return '\n'.join(lines) + '\n'
