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

"""The `timebill` command: ask, monitor, profile, bench, train-length-predictor, demo."""
from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from timebill_ros import settings
from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.inference.threads import wait_briefly
from timebill_ros.worker import process_tuning

STRATEGY_NUMBERS = {'default': 0, **{name: int(strategy) for name, strategy in settings.STRATEGIES.items()}}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog='timebill', description='LLM answers on a deadline.')
    commands = top.add_subparsers(dest='command', required=True)
    for add in (_add_ask, _add_monitor, _add_profile, _add_bench, _add_train, _add_demo):
        add(commands)
    return top


def _add_ask(commands) -> None:
    command = commands.add_parser('ask', help='send one goal to a running node and print the answer as it comes')
    command.add_argument('text', help='the prompt; - reads it from standard input')
    command.add_argument('--budget', type=float, required=True, metavar='S', help='time budget in seconds')
    command.add_argument('--strategy', choices=sorted(STRATEGY_NUMBERS), default='default')
    command.add_argument('--max-new-tokens', type=int, default=0, metavar='N')
    command.add_argument('--raw', action='store_true',
                         help="send the text as it is, not through the model's chat template")
    command.add_argument('--server', default='/timebill', help='name of the node (default: /timebill)')
    command.set_defaults(run=_ask, talks=True)


def _add_monitor(commands) -> None:
    command = commands.add_parser('monitor', help='print the status of every request as it is published')
    command.add_argument('--server', default='/timebill')
    command.set_defaults(run=_monitor, talks=True)


def _add_profile(commands) -> None:
    command = commands.add_parser('profile', help='measure the execution times of a model on this device')
    add_model_options(command)
    command.add_argument('--out', type=Path, default=Path('profile.yaml'), help='YAML file; the plot lies beside it')
    command.add_argument('--seconds', type=float, default=120.0, help='longest time to measure for')
    command.add_argument('--repeats', type=int, default=12, help='visits of each length')
    command.add_argument('--longest', type=int, default=0, metavar='N', help='longest prompt; 0: the context')
    command.add_argument('--check', type=Path, metavar='PROFILE',
                         help='measure a few points only and say whether this profile still fits; writes nothing')
    command.set_defaults(run=_profile)


def _add_train(commands) -> None:
    command = commands.add_parser('train-length-predictor', add_help=False,
                                help='train a length predictor for a target model (-h after it for its options)')
    command.set_defaults(run=_train_length_predictor)


def _add_demo(commands) -> None:
    command = commands.add_parser('demo',
                                  help='start a node on the embedded model and send it goals of different budgets')
    command.add_argument('--out', type=Path, default=Path('build/demo'))
    command.set_defaults(run=_demo, talks=True)


def _add_bench(commands) -> None:
    from timebill_ros.cli.bench import add_benches
    command = commands.add_parser('bench', help='measurements behind the README; results as JSON')
    add_benches(command.add_subparsers(dest='bench', required=True))


def _ask(options: argparse.Namespace) -> int:
    from timebill_ros.action import Generate
    from timebill_ros.client import Client, ServerUnavailable, chat, duration
    text = sys.stdin.read() if options.text == '-' else options.text
    goal = Generate.Goal(time_budget=duration(options.budget), max_new_tokens=options.max_new_tokens,
                         overrun_strategy=STRATEGY_NUMBERS[options.strategy])
    if options.raw:
        goal.prompt = text
    else:
        goal.messages = chat({'role': 'user', 'content': text})
    with Client(options.server) as client:
        if not client.actions.wait_for_server(5.0):
            raise ServerUnavailable(f'no node {options.server} found within 5 s')
        pending = client.send(goal, lambda message: print(message.feedback.text_delta, end='', flush=True))
        try:
            answer = pending.answer(max(options.budget, 0.0) + 10.0)
        except KeyboardInterrupt:
            pending.cancel()
            answer = pending.answer(5.0)
    result, timing = answer.result, answer.result.timing
    print()
    if result.error_code:
        print(f'error {result.error_code}: {result.error_msg}', file=sys.stderr)
    evicted = '' if math.isnan(timing.eviction_ratio) else f', evicted {timing.eviction_ratio:.0%}'
    print(f'[{answer.received_s:.3f} s of {options.budget:.3f} s, {timing.generated_tokens} tokens{evicted}]',
          file=sys.stderr)
    return 0 if result.error_code == Generate.Result.NONE else 1


def _monitor(options: argparse.Namespace) -> int:
    from timebill_ros.client import Client
    from timebill_ros.msg import RequestStatus
    from timebill_ros.request import ErrorCode, FinishReason, Phase, Verdict

    def show(m: RequestStatus) -> None:
        if not m.request_id:
            print(f'{m.header.stamp.sec}.{m.header.stamp.nanosec // 10 ** 6:03d} the node is '
                  f'{"degraded: see /diagnostics" if m.degraded else "well again"}', flush=True)
            return
        ending = f' {FinishReason(m.finish_reason).name} {ErrorCode(m.error_code).name} in {m.response_time_s:.3f} s' \
            if m.phase >= Phase.DONE else ''
        print(f'{m.header.stamp.sec}.{m.header.stamp.nanosec // 10 ** 6:03d} {m.request_id[:8]} '
              f'{Phase(m.phase).name:8} {Verdict(m.verdict).name:18} slack {m.slack_s:7.3f} s, wcet {m.wcet_s:7.3f} s, '
              f'evicted {m.eviction_ratio:6.1%}, tokens {m.generated_tokens}/{m.predicted_tokens}/'
              f'{m.pessimistic_tokens}{ending}{" OVERRUN" if m.overrun else ""}', flush=True)

    with Client(options.server) as client:
        client.node.create_subscription(RequestStatus, f'{options.server}/status', show, 50)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


def _profile(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from timebill_ros.bench import plots
    from timebill_ros.timing.profiling import make_profile, measure
    from timebill_ros.worker.loading import load_model
    if options.check:
        return _check_profile(options)
    values = model_settings(options)
    model, predictor = load_model(values)
    with Progress() as bar:
        task = bar.add_task('measuring', total=1.0)
        points = measure(model, predictor, chunk_tokens=values['prefill_chunk_tokens'], budget_s=options.seconds,
                         repeats=options.repeats, longest=options.longest or None,
                         progress=lambda share: bar.update(task, completed=share))
    profile = make_profile(model, predictor, points, values['prefill_chunk_tokens'])
    profile.save(options.out)
    picture = options.out.with_suffix('.png')
    plots.profile(profile, picture)
    t = profile.times
    print(f'device   {profile.identity.device}, {profile.identity.dtype}\n'
          f'prefill  {t.a:.3e}*N^2 + {t.b:.3e}*N + {t.c:.3e} s + {t.d:.3e} s a chunk, at least '
          f'{t.prefill_floor:.3e} s\n'
          f'step     {t.p:.3e}*N_kv + {t.q:.3e} s')
    for kind, error in profile.fit_errors.items():
        held_out = profile.held_out_errors.get(kind, math.nan)
        print(f'{kind:10} mean absolute error {error:.1%}, on lengths left out of the fit {held_out:.1%}, '
              f'over {len(points[kind])} points')
    print(f'written to {options.out} and {picture}')
    return 0


def _check_profile(options: argparse.Namespace) -> int:
    from timebill_ros.timing.drift import is_unusual
    from timebill_ros.timing.execution_time import Profile
    from timebill_ros.timing.profiling import check, identity, measure
    from timebill_ros.worker.loading import load_model
    values = model_settings(options)
    profile = Profile.load(options.check)
    model, predictor = load_model(values)
    profile.check(identity(model, predictor), str(options.check))
    points = measure(model, predictor, chunk_tokens=values['prefill_chunk_tokens'], repeats=3, n_lengths=4,
                     budget_s=min(options.seconds, 20.0), longest=options.longest or None)
    ratios = check(profile, points)
    for kind, ratio in ratios.items():
        print(f'{kind:10} takes {ratio:.2f} times as long as profiled')
    unusual = [kind for kind in ratios if kind.startswith(('prefill', 'step')) and is_unusual(ratios[kind])]
    if unusual:
        print(f'{options.check} of {profile.date} does not fit any more: {", ".join(unusual)}; run "timebill profile"')
        return 1
    print(f'{options.check} of {profile.date} still fits this machine')
    return 0


def _train_length_predictor(options: argparse.Namespace) -> int:
    from timebill_ros.training.train_length_predictor import main as train
    train(options.rest)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from timebill_ros.cli.demo import run
    return run(options.out)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Errors that a user can act on are a sentence and exit status 1, not a traceback."""
    from timebill_ros.timing.execution_time import ProfileError
    wait_briefly()  # as in the worker, so that what is measured here holds there
    process_tuning.keep_freed_memory()
    options, rest = parser().parse_known_args(arguments)
    if rest and options.command != 'train-length-predictor':
        parser().error(f'unrecognized arguments: {" ".join(rest)}')
    options.rest = rest
    expected: tuple[type[BaseException], ...] = (ProfileError, ValueError, OSError)
    if getattr(options, 'talks', False):  # to a node, and imports no torch
        from timebill_ros.client import ServerUnavailable
        expected += (ServerUnavailable,)
    elif options.command in ('profile', 'bench'):
        from timebill_ros.inference.model_directory import ModelError
        expected += (ModelError,)
    try:
        return options.run(options)
    except expected as error:
        print(f'timebill {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
