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

"""The picture of `timebill monitor`: what it says, and that it fits the terminal."""
import io
import math

import pytest
from monitor_messages import stats, status
from rich.console import Console

from timebill_ros.cli.monitor_picture import WIDE_FROM, picture
from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict
from timebill_ros.monitoring.goal_board import GoalBoard


def board_of(*statuses, **changed) -> GoalBoard:
    board = GoalBoard()
    for message in statuses:
        board.take_status(message, 0.0)
    board.take_stats(stats(3.0, **changed), 0.0)
    return board


def lines(board: GoalBoard, now: float = 0.0, width: int = 130, height: int = 30) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(picture('/timebill', board, now, width, height, 'nobody is there'))
    drawn = console.file.getvalue().splitlines()
    assert len(drawn) <= height and max(map(len, drawn)) <= width
    return drawn


def styles(board: GoalBoard, words: str, now: float = 0.0) -> set[str]:
    """The styles of the lines of the head that hold `words`."""
    group = picture('/timebill', board, now, 130, 30)
    return {str(span.style) for line in group.renderables if words in getattr(line, 'plain', '') for span in line.spans}


def test_before_anything_is_heard_there_is_the_hint():
    drawn = lines(GoalBoard())
    assert drawn[0] == 'nobody is there' and 'Ctrl-C' in drawn[-1]


@pytest.mark.parametrize(('number', 'name'), [(1, 'unconfigured'), (2, 'inactive'), (3, 'active'), (10, 'configuring')])
def test_the_state_of_the_node(number, name):
    assert lines(board_of(lifecycle_state=number))[0] == f'/timebill  {name}'


def test_a_node_that_is_silent_or_degraded_is_told_of():
    assert 'degraded: see /diagnostics' in lines(board_of(degraded=True))[0]
    assert 'nothing heard for 12 s' in lines(board_of(), now=12.0)[0]


def test_load_promises_speed_and_device():
    text = '\n'.join(lines(board_of(
        running=1, waiting=2, accepted=9, smallest_slack_s=-0.25, smallest_slack_is_current=True, promised=20, missed=1,
        timing_factor=1.25, tokens_per_second=38.25, tokens_per_second_is_current=True, device='Abacus',
        device_memory_used=3 << 30, device_memory_total=8 << 30, device_temperature=54.0,
        device_temperature_is_current=True)))
    for words in ('1 running, 2 waiting, 9 accepted; smallest slack -0.25 s', '1 of the last 20 promised goals missed',
                  '(5.0%; 5.0% may)', 'steps take 1.25 and prefill 1.00 times', '38.2 tokens/s',
                  'Abacus, 3.0 of 8.0 GiB used, 54'):
        assert words in text, words


def test_what_is_not_known_is_not_shown():
    text = '\n'.join(lines(board_of()))
    assert 'smallest' not in text and 'GiB' not in text and 'tokens/s' not in text and '\u00b0C' not in text
    assert 'no promised goal ended lately; 5.0% may miss' in text and 'nan' not in text


@pytest.mark.parametrize(('missed', 'style'), [(1, 'green'), (5, 'yellow'), (7, 'red')])
def test_misses_have_the_colour_of_the_diagnostics(missed, style):
    assert style in styles(board_of(promised=20, missed=missed, miss_rate=missed / 20), 'promises')


def test_the_meter_has_the_allowed_rate_at_a_quarter():
    meter = next(line for line in lines(board_of(promised=20, missed=2, miss_rate=0.1)) if 'promises' in line)[10:34]
    assert meter.index('\u2502') == 6 and meter.count('\u2588') == 11  # half, but for the mark
    empty = next(line for line in lines(board_of(miss_rate_allowed=0.0)) if 'promises' in line)
    assert '0.0% may' in empty


GOALS = (
    status('a' * 32, Phase.QUEUED, 0.0),
    status('a' * 32, Phase.PREFILL, 0.5, verdict=Verdict.FITS),
    status('a' * 32, Phase.DONE, 1.5, verdict=Verdict.FITS, finish_reason=FinishReason.EOS, response_time_s=1.5,
           tardiness_s=0.0, generated_tokens=12, predicted_tokens=10),
    status('b' * 32, Phase.DONE, 0.0, verdict=Verdict.INFEASIBLE, error_code=ErrorCode.INFEASIBLE,
           finish_reason=FinishReason.ERROR, response_time_s=0.001, tardiness_s=0.0),
    status('c' * 32, Phase.DECODE, 2.0, release_s=1.0, budget_s=9.0, verdict=Verdict.FITS_WITH_EVICTION, slack_s=1.25,
           generated_tokens=3),
    status('d' * 32, Phase.QUEUED, 2.5, release_s=2.5, queue_position=2, slack_s=math.nan),
    status('e' * 32, Phase.DECODE, 2.5, release_s=0.0, budget_s=1.0, verdict=Verdict.AT_RISK, overrun=True,
           tardiness_s=1.5),
)


def test_goals_are_rows():
    rows = {line[0]: line for line in lines(board_of(*GOALS)) if line[:8] in {name * 8 for name in 'abcde'}}
    assert ' done ' in rows['a'] and ' FITS ' in rows['a'] and rows['a'].rstrip().endswith(' 12/10 EOS 1.50 s')
    assert rows['b'].rstrip().endswith('INFEASIBLE 0.00 s')
    assert ' FITS_WITH_EVICTION ' in rows['c'] and ' 1.25 ' in rows['c'] and '3/-' in rows['c']
    assert ' queued 2 ' in rows['d'] and 'nan' not in rows['d']
    assert ' -2.00 ' in rows['e'] and rows['e'].rstrip().endswith('late')


@pytest.mark.parametrize('width', [60, 80, WIDE_FROM - 1, WIDE_FROM, 200])
@pytest.mark.parametrize('height', [12, 24])
def test_it_fits_the_terminal(width, height):
    many = [status(f'{number:032d}', Phase.DONE, 0.0) for number in range(50)]
    drawn = lines(board_of(*many, *GOALS, device='a device with a long name ' * 9), width=width, height=height)
    assert any(line.startswith('c' * 8) for line in drawn) and any('deadline' in line for line in drawn)
    assert ('promise ' in '\n'.join(drawn)) == (width >= WIDE_FROM)
