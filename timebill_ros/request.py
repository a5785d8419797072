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

"""The records that travel: a Request goes in, a Plan is made for it, an Outcome comes out.

Plain data. The node and the worker process exchange it as JSON. Times are seconds as floats; instants are readings of
CLOCK_MONOTONIC, which all processes of one machine share.

Making a record that contradicts itself raises ValueError with the field and its value: that is a bug. A bad value that
a client chose is not, so a Request takes it, and admission.py refuses it with a code and a sentence.
"""
from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property

from timebill_ros.codes import ErrorCode, FinishReason, OnCut, Strategy, Thinking, Tier, ToolChoice, Verdict

UNKNOWN = math.nan  # a time that was not measured


def _require(holds: bool, name: str, condition: str, value, *bounds) -> None:
    """Raise ValueError, with a field's name, what it must be and its value, unless `holds`.

    `bounds` fill the braces of `condition`, only where it fails: the token loop waits for plans.
    """
    if not holds:
        raise ValueError(f'{name} must be {condition.format(*bounds)}, got {value!r}')


def _require_ratio(ratio: float, kept: int, whole: int) -> None:
    """Raise ValueError unless `ratio` is the share of `whole` entries that is evicted where `kept` are kept."""
    expected = 1 - kept / whole if whole else 0.0
    _require(abs(ratio - expected) <= 1e-9, 'eviction_ratio', '1 - {} / {}', ratio, kept, whole)  # false for NaN


# Ways of choosing a token that take different times. top_k: with or without top_p, which costs little then. min_p costs
# little beside any of them.
CHOICES = ('greedy', 'temperature', 'top_k', 'top_p')
PENALTY = '+penalty'  # with a repetition penalty besides
GRAMMAR = '+grammar'  # of the tokens that a grammar allows: their mask is made for each token
_UNMASKED = (*CHOICES, *(choice + PENALTY for choice in CHOICES))
SAMPLING_KINDS = (*_UNMASKED, *(kind + GRAMMAR for kind in _UNMASKED))


@dataclass
class Sampling:
    """How the next token is drawn; msg/SamplingConfig says what each field means.

    Temperature 0 is greedy. top_p 1, top_k 0, min_p 0 and repetition_penalty 1 switch these off.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: list[str] = field(default_factory=list)
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    masked: bool = False  # a grammar says which tokens may be drawn; no field of a goal, but of what it asks for

    @property
    def kind(self) -> str:
        """One of SAMPLING_KINDS: kinds that take different times to draw a token."""
        choice = 'greedy' if self.temperature <= 0 else \
            'top_k' if self.top_k > 0 else 'top_p' if self.top_p < 1 else 'temperature'
        return choice + (PENALTY if self.repetition_penalty != 1 else '') + (GRAMMAR if self.masked else '')


@dataclass
class Request:
    """One goal. After admission exactly one of `prompt` (raw text) and `messages` (chat template) is not empty.

    `deadline_s` moves where it was given in ROS time and the clock is simulated; it may then lie before the release.
    """

    request_id: str
    release_s: float  # monotonic instant at which the goal was received
    deadline_s: float  # monotonic instant by which its result is to be set
    prompt: str = ''
    # Each has a role and a content; besides tool_calls (of id, name and arguments) or a tool_call_id.
    messages: list[dict] = field(default_factory=list)
    strategy: Strategy = Strategy.TRUNCATE
    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    max_eviction_ratio: float = 0.95
    priority: int = 0
    closing_text: str = ''
    stop_at_line_end: bool = False
    response_schema: str = ''  # at most one of this and the next two is not empty
    choices: list[str] = field(default_factory=list)
    regex: str = ''
    on_cut: OnCut = OnCut.DROP
    tools: str = ''  # JSON, in OpenAI's form; empty: none
    tool_choice: ToolChoice = ToolChoice.AUTO
    thinking: Thinking = Thinking.DEFAULT
    delivery_margin_s: float = 0.03  # kept free before the deadline for carrying the result to the client
    max_overrun_s: float = 0.0  # how long it may go on after the deadline; more than 0 for SKIP_NEXT only
    on_long_history: str = 'refuse'  # the parameter of that name
    allow_offboard: bool = False  # whether its texts may leave the robot

    def __post_init__(self):
        # Sizes and not the texts themselves: a client may have sent megabytes.
        _require(not (self.prompt and self.messages), 'prompt', 'empty beside {} messages',
                 f'{len(self.prompt)} characters', len(self.messages))
        for index, message in enumerate(self.messages):
            _require('role' in message and 'content' in message, f'messages[{index}]', 'a role and a content',
                     sorted(message))
        _require(math.isfinite(self.release_s), 'release_s', 'finite', self.release_s)
        _require(not math.isnan(self.deadline_s), 'deadline_s', 'an instant', self.deadline_s)
        _require(self.max_new_tokens >= 1, 'max_new_tokens', '1 or more', self.max_new_tokens)
        _require(0 <= self.priority <= 255, 'priority', 'from 0 to 255', self.priority)
        for name in ('delivery_margin_s', 'max_overrun_s'):
            _require(0 <= getattr(self, name) < math.inf, name, 'finite and 0 or more', getattr(self, name))
        _require(not self.max_overrun_s or self.strategy is Strategy.SKIP_NEXT, 'max_overrun_s',
                 '0 for a strategy other than SKIP_NEXT', self.max_overrun_s)

    @property
    def time_budget_s(self) -> float:
        """T: the relative deadline."""
        return self.deadline_s - self.release_s

    @property
    def has_form(self) -> bool:
        """Whether the goal asks for JSON of a schema, one of some choices, or what a regular expression matches."""
        return bool(self.response_schema or self.choices or self.regex)

    @cached_property
    def characters(self) -> int:
        """The number of characters in the prompt, or in all messages and the tools; counted once, as calls are many."""
        return len(self.prompt) + len(self.tools) + sum(
            len(message['content']) + sum(len(call['name']) + len(call['arguments'])
                                          for call in message.get('tool_calls', ())) for message in self.messages)

    @staticmethod
    def from_dict(data: dict) -> Request:
        data = dict(data)
        data['strategy'], data['on_cut'] = Strategy(data['strategy']), OnCut(data['on_cut'])
        data['tool_choice'], data['thinking'] = ToolChoice(data['tool_choice']), Thinking(data['thinking'])
        data['sampling'] = Sampling(**data['sampling'])
        return Request(**data)


@dataclass(frozen=True)
class Plan:
    """What the planner decided once prefill was over (or, in an estimate, would decide).

    A plan that is made again while decoding counts lengths from the start of the answer, and times from now on. The
    default record stands for no plan.
    """

    verdict: Verdict = Verdict.UNKNOWN
    n_x: int = 0  # N_x: prompt tokens
    n_keep: int = 0  # prompt entries kept per layer and KV head
    eviction_ratio: float = 0.0  # alpha = 1 - n_keep / N_x
    length_cap: int = 0  # longest response that the plan allows, tokens
    predicted_tokens: int = 0  # N_hat
    pessimistic_tokens: int = 0  # N_W
    fitting_tokens: int = 0  # N_fit: at alpha_max by the paper's rule, of what was chosen by the rule by quality
    decode_wcet_s: float = UNKNOWN  # t_dec(alpha, N_W) or more, with the eviction's own time, see planning/planner.py
    decode_expected_s: float = UNKNOWN  # t_dec(alpha, N_hat), with the eviction's own time
    variant: str = ''  # precision of the weights to decode with; empty: the model's own
    timing_factor: float = 1.0  # how much longer than profiled a decode step takes now
    evict_after: int = 0  # the eviction waits until so many tokens have come; 0: it comes at once
    quality: float = 1.0  # expected of the answer at its deadline, as a share of that of a whole answer; 1: not known
    decode_planned_s: float = UNKNOWN  # t_dec(alpha, N_W), with the eviction's own time: what the verdict rests on

    def __post_init__(self):
        verdict, n_keep, n_x, n_fit = self.verdict, self.n_keep, self.n_x, self.fitting_tokens
        n_hat, n_w, expected_s = self.predicted_tokens, self.pessimistic_tokens, self.decode_expected_s
        least = 0 if verdict is Verdict.UNKNOWN else 1
        _require(least <= n_keep <= n_x, 'n_keep', 'from {} to n_x ({})', n_keep, least, n_x)
        _require_ratio(self.eviction_ratio, n_keep, n_x)
        for name in ('length_cap', 'predicted_tokens'):
            _require(getattr(self, name) >= least, name, '{} or more', getattr(self, name), least)
        _require(n_w >= n_hat, 'pessimistic_tokens', 'predicted_tokens ({}) or more', n_w, n_hat)
        _require(n_fit >= 0, 'fitting_tokens', '0 or more', n_fit)
        if verdict.is_promise:
            _require((n_keep == n_x) == (verdict is Verdict.FITS), 'n_keep',
                     'n_x ({}) for FITS and less for FITS_WITH_EVICTION', n_keep, n_x)
            most = min(n_fit, self.length_cap)
            _require(n_w <= most, 'pessimistic_tokens', 'at most {} for {}', n_w, most, verdict.name)
        elif verdict is not Verdict.UNKNOWN:
            n = n_w if verdict is Verdict.AT_RISK else n_hat
            _require(n_fit < n, 'fitting_tokens', 'below {} for {}', n_fit, n, verdict.name)
        _require(not expected_s < 0, 'decode_expected_s', '0 or more', expected_s)
        _require(not self.decode_wcet_s < expected_s * (1 - 1e-9), 'decode_wcet_s',  # the two are rounded
                 'decode_expected_s ({}) or more', self.decode_wcet_s, expected_s)
        _require(0 < self.timing_factor < math.inf, 'timing_factor', 'finite and above 0', self.timing_factor)
        _require(0 <= self.quality < math.inf, 'quality', 'finite and 0 or more', self.quality)

    @staticmethod
    def from_dict(data: dict) -> Plan:
        return Plan(**{**data, 'verdict': Verdict(data['verdict'])})


@dataclass
class Timing:
    """The account of one request; field for field what msg/Timing carries, which says what each field means.

    The engine fills it in step by step, so the worker calls `check` on the account of an outcome.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    forced_tokens: int = 0
    reasoning_tokens: int = 0
    predicted_tokens: int = 0
    pessimistic_tokens: int = 0
    kept_tokens: int = 0
    length_cap: int = 0
    eviction_ratio: float = UNKNOWN  # NaN until there is a plan
    verdict: Verdict = Verdict.UNKNOWN
    variant: str = ''
    seed: int = 0
    dropped_messages: int = 0
    preemptions: int = 0
    time_budget_s: float = UNKNOWN
    wcet_s: float = UNKNOWN
    queue_s: float = UNKNOWN
    prediction_s: float = UNKNOWN
    hidden_prediction_s: float = UNKNOWN
    prefill_s: float = UNKNOWN
    eviction_s: float = UNKNOWN
    decode_s: float = UNKNOWN
    paused_s: float = 0.0
    grammar_s: float = UNKNOWN
    mask_s: float = UNKNOWN
    time_to_first_token_s: float = UNKNOWN
    response_time_s: float = UNKNOWN
    tardiness_s: float = UNKNOWN
    tier: Tier = Tier.NONE
    offboard_verdict: Verdict = Verdict.UNKNOWN
    offboard_wcet_s: float = UNKNOWN
    offboard_first_token_s: float = UNKNOWN
    offboard_s: float = UNKNOWN

    def __post_init__(self):
        self.check()

    def check(self) -> None:
        """Raise ValueError, with the field and its value, where the account contradicts itself."""
        for name in _NOT_NEGATIVE:
            _require(not getattr(self, name) < 0, name, '0 or more', getattr(self, name))  # or NaN: unknown
        for smaller, larger in _ORDERED:
            a, b = getattr(self, smaller), getattr(self, larger)
            _require(not a > b, smaller, 'at most {} ({})', a, larger, b)
        n, cap = self.generated_tokens, self.length_cap
        _require(not cap or n <= cap, 'generated_tokens', 'at most length_cap ({})', n, cap)
        if not math.isnan(self.eviction_ratio):
            _require_ratio(self.eviction_ratio, self.kept_tokens, self.prompt_tokens)

    def set_plan(self, plan: Plan) -> None:
        """Take over what `plan` decided; the verdict too."""
        self.predicted_tokens = plan.predicted_tokens
        self.pessimistic_tokens = plan.pessimistic_tokens
        self.kept_tokens = plan.n_keep
        self.length_cap = plan.length_cap
        self.eviction_ratio = plan.eviction_ratio
        self.verdict = plan.verdict
        self.variant = plan.variant or self.variant

    @staticmethod
    def from_dict(data: dict) -> Timing:
        return Timing(**{**data, 'verdict': Verdict(data['verdict']), 'tier': Tier(data.get('tier', 0)),
                         'offboard_verdict': Verdict(data.get('offboard_verdict', 0))})


# All counts, and all times but the budget: a deadline in simulated time may move to before the release.
_NOT_NEGATIVE = ('length_cap', 'preemptions', *(
    f.name for f in dataclasses.fields(Timing) if f.name.endswith(('_tokens', '_s')) and f.name != 'time_budget_s'))
_ORDERED = (('predicted_tokens', 'pessimistic_tokens'), ('kept_tokens', 'prompt_tokens'),
            ('forced_tokens', 'generated_tokens'), ('reasoning_tokens', 'generated_tokens'),
            ('reused_tokens', 'prompt_tokens'), ('hidden_prediction_s', 'prediction_s'))

# Ends that may come anywhere in an answer: in its middle, or before it has any text.
CUT = (FinishReason.LENGTH, FinishReason.CAPPED, FinishReason.DEADLINE)
# The error codes that go with each finish reason. A cut answer of which nothing is kept says with its code what cut it.
_CODES = {
    FinishReason.UNKNOWN: (ErrorCode.NONE,),  # the default: nothing has ended yet
    FinishReason.EOS: (ErrorCode.NONE,),
    FinishReason.STOP: (ErrorCode.NONE,),
    FinishReason.LENGTH: (ErrorCode.NONE, ErrorCode.INVALID_GOAL),
    FinishReason.CAPPED: (ErrorCode.NONE, ErrorCode.DEADLINE_MISSED, ErrorCode.PROMPT_TOO_LONG),
    FinishReason.DEADLINE: (ErrorCode.NONE, ErrorCode.DEADLINE_MISSED),
    FinishReason.CANCELED: (ErrorCode.CANCELED,),
    FinishReason.SKIPPED: (ErrorCode.SKIPPED,),
    FinishReason.ERROR: tuple(set(ErrorCode) - {ErrorCode.NONE, ErrorCode.DEADLINE_MISSED, ErrorCode.CANCELED,
                                                ErrorCode.SKIPPED}),
}
# The failures that keep the text so far (under KILL only some of them do, see overrun.py).
_KEEPING = (ErrorCode.UNKNOWN, ErrorCode.INACTIVE, ErrorCode.WORKER_LOST, ErrorCode.CANCELED, ErrorCode.PREEMPTED)


@dataclass(frozen=True)
class Outcome:
    """How a request ended. error_code NONE if and only if the goal succeeded; otherwise error_msg says why."""

    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ''
    text: str = ''
    finish_reason: FinishReason = FinishReason.UNKNOWN
    timing: Timing = field(default_factory=Timing)
    added_characters: int = 0  # at the end of `text`, which the model did not write
    tool_calls: list[dict[str, str]] = field(default_factory=list)  # each with an id, a name and arguments
    reasoning: str = ''
    dropped_items: int = 0  # items of lists and members of objects that had begun, and are not in `text` for its form

    def __post_init__(self):
        code, reason = self.error_code, self.finish_reason
        _require(code in _CODES[reason], 'error_code', 'one that goes with {}', code, reason.name)
        if code is ErrorCode.NONE:
            _require(not self.error_msg, 'error_msg', 'empty for NONE', self.error_msg)
            _require(bool(self.text or self.tool_calls) or reason not in CUT, 'text', 'not empty for {}', self.text,
                     reason.name)
        else:
            _require(bool(self.error_msg), 'error_msg', 'a sentence for {}', self.error_msg, code.name)
            _require(not self.tool_calls, 'tool_calls', 'empty for {}', len(self.tool_calls), code.name)
            _require(not self.text or code in _KEEPING, 'text', 'empty for {}', self.text[:64], code.name)
        _require(0 <= self.added_characters <= len(self.text), 'added_characters', 'from 0 to {}',
                 self.added_characters, len(self.text))

    @staticmethod
    def from_dict(data: dict) -> Outcome:
        return Outcome(ErrorCode(data['error_code']), data['error_msg'], data['text'],
                       FinishReason(data['finish_reason']), Timing.from_dict(data['timing']),
                       data['added_characters'], data['tool_calls'], data['reasoning'], data['dropped_items'])


def to_dict(record) -> dict:
    """Return a record as JSON-ready data, with the record's own lists; the inverse is the record's `from_dict`."""
    values = {one.name: getattr(record, one.name) for one in dataclasses.fields(record)}
    return {name: to_dict(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
