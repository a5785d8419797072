"""The commands that need no node: profile and bench decode write what they say; errors are sentences."""
import json

import pytest
import tiny_models

from timebill_ros.cli import main, parser
from timebill_ros.execution_time import Profile

MODEL = ['--threads', '1', '--max-context-tokens', '512']


def run(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


def test_profile_writes_a_profile_and_its_plot(tmp_path, capsys):
    out = tmp_path / 'made' / 'profile.yaml'
    assert run('profile', '--model', tiny_models.directory('qwen2'), *MODEL, '--out', out, '--seconds', 20,
               '--repeats', 2, '--longest', 400) == 0
    profile = Profile.load(out)
    assert profile.times.q > 0 and profile.identity.predictor == 'none'
    assert max(n for n, _ in profile.points['prefill']) <= 400
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    assert profile.identity.device in capsys.readouterr().out


def test_bench_decode_compares_with_generate(tmp_path):
    out = tmp_path / 'decode.json'
    assert run('bench', 'decode', '--model', tiny_models.build(tmp_path / 'm', 'qwen2', max_position_embeddings=2048),
               '--max-context-tokens', '1100', '--tokens', 8, '--rounds', 2, '--out', out) == 0
    result = json.loads(out.read_text())
    assert result['machine']['device'] and result['machine']['versions']['torch']
    rows = result['rows']
    assert {(row['method'], row['cache_tokens']) for row in rows} == {  # 4000 tokens do not fit this model
        ('model.generate', 1000), ('bare loop', 1000), ('timebill', 1000)}
    assert [row['cache_tokens'] for row in result['loop_overhead']] == [1000]
    assert 0 < result['planning_call']['median_us'] <= result['planning_call']['p99_us']
    assert max(row['speedup'] for row in rows if row['method'] == 'model.generate') == 1.0
    for row in rows:
        assert row['n'] >= 2 * 6 and 0 < row['median_ms'] <= row['p99_ms']


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['profile', '--model', '/nonexistent'], '/nonexistent'),
    (['profile', '--model', 'EMPTY'], 'config.json'),
    (['bench', 'decode', '--model', 'MAMBA'], 'recurrent'),
    (['ask', 'hello', '--budget', '1', '--server', '/nobody'], '/nobody'),
])
def test_an_error_is_a_sentence_and_exit_status_1(arguments, sentence, tmp_path, capsys):
    places = {'EMPTY': tmp_path, 'MAMBA': tiny_models.directory('mamba')}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 1
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error


@pytest.mark.parametrize('arguments', [[], ['bench'], ['ask', 'hello'], ['profile', '--dtype', 'int3'], ['no-such']])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert 'usage' in capsys.readouterr().err


def test_every_command_explains_itself(capsys):
    for command in ('ask', 'monitor', 'profile', 'bench', 'demo'):
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args([command, '--help'])
        assert stopped.value.code == 0
        assert command in capsys.readouterr().out
