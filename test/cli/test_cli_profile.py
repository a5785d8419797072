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

"""`timebill profile` writes a profile and its plot, and the profile alone where matplotlib is missing."""
import pytest
import tiny_models

from timebill_ros.bench import optional_plots
from timebill_ros.cli.main import main
from timebill_ros.cli.profile import large_errors
from timebill_ros.timing.profile import Profile

MODEL = ['--threads', '1', '--max-context-tokens', '512']


def run(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_profile_writes_a_profile_and_its_plot(tmp_path, capsys):
    out = tmp_path / 'made' / 'profile.yaml'
    assert run('profile', '--model', tiny_models.directory('qwen2'), *MODEL, '--out', out, '--seconds', 5,
               '--repeats', 2, '--longest', 400) == 0
    profile = Profile.load(out)
    assert profile.times.q > 0 and profile.identity.predictor == 'none'
    assert max(n for n, _ in profile.points['prefill']) <= 400
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    assert profile.identity.device in capsys.readouterr().out


def test_a_large_error_on_lengths_left_out_is_said_in_words():
    told = large_errors({'prefill': 0.16, 'step': 0.149, 'eviction': 0.4, 'draw:top_k': 0.3})
    assert 'times of prefill (16%), eviction (40%) at lengths' in told and 'Measure again' in told
    assert large_errors({'prefill': 0.15, 'step': 0.0, 'run': 0.9}) == '' == large_errors({})


def test_without_matplotlib_the_profile_is_written_and_shown(tmp_path, capsys, monkeypatch):
    out = tmp_path / 'profile.yaml'
    shown = []

    def missing():
        shown.append((capsys.readouterr().out, out.is_file()))

    monkeypatch.setattr(optional_plots, 'plots_if_installed', missing)
    assert run('profile', '--model', tiny_models.directory('qwen2'), *MODEL, '--compile-step', 'never', '--out', out,
               '--seconds', 2, '--repeats', 1, '--longest', 200) == 0
    (text, was_written), = shown
    assert was_written and 'prefill  ' in text and 'step     ' in text
    assert capsys.readouterr().out == f'written to {out}\n'
    assert not out.with_suffix('.png').exists()
