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

"""How far a measurement is: lines in a file, of which there are not too many, and a bar on a terminal."""
import io

from mock_model import FakeClock

from timebill_ros.bench.measurement_progress import LINE_S, MeasurementProgress


def test_a_file_gets_about_a_line_a_minute():
    clock, output = FakeClock(), io.StringIO()
    with MeasurementProgress('answering', output=output, clock=clock) as progress:
        progress.begin(500, 100)
        for _ in range(400):
            clock.now += 7.0
            progress.advance()
    lines = output.getvalue().splitlines()
    assert lines[0] == 'answering: 101 of 500 (20.2%) after 0:00:07; 0:46:33 left at this pace'
    assert lines[-1] == 'answering: 500 of 500 (100.0%) after 0:46:40; 0:00:00 left at this pace'
    assert 400 * 7.0 / LINE_S / 1.2 < len(lines) <= 400 * 7.0 / LINE_S + 2


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    output = Terminal()
    with MeasurementProgress('answering', output=output) as progress:
        progress.begin(2, 0)
        progress.advance()
    assert '50%' in output.getvalue() and 'left at this pace' not in output.getvalue()
