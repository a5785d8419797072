"""The `timebill` command: ask, monitor, profile, bench, train-length-predictor, demo."""
from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from timebill_ros import settings
from timebill_ros.threads import sleep_while_waiting

STRATEGY_NUMBERS = {'default': 0, **{name: int(strategy) for name, strategy in settings.STRATEGIES.items()}}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog='timebill', description='LLM answers on a deadline.')
    commands = top.add_subparsers(dest='command', required=True)

    ask = commands.add_parser('ask', help='send one goal to a running node and print the answer as it comes')
    ask.add_argument('text', help='the prompt; - reads it from standard input')
    ask.add_argument('--budget', type=float, required=True, metavar='S', help='time budget in seconds')
    ask.add_argument('--strategy', choices=sorted(STRATEGY_NUMBERS), default='default')
    ask.add_argument('--max-new-tokens', type=int, default=0, metavar='N')
    ask.add_argument('--raw', action='store_true', help="send the text as it is, not through the model's chat template")
    ask.add_argument('--server', default='/timebill', help='name of the node (default: /timebill)')
    ask.set_defaults(run=_ask)

    monitor = commands.add_parser('monitor', help='print the status of every request as it is published')
    monitor.add_argument('--server', default='/timebill')
    monitor.set_defaults(run=_monitor)

    profile = commands.add_parser('profile', help='measure the execution times of a model on this device')
    _add_model_options(profile)
    profile.add_argument('--out', type=Path, default=Path('profile.yaml'), help='YAML file; the plot lies beside it')
    profile.add_argument('--seconds', type=float, default=120.0, help='longest time to measure for')
    profile.add_argument('--repeats', type=int, default=12, help='visits of each length')
    profile.add_argument('--longest', type=int, default=0, metavar='N', help='longest prompt; 0: the context')
    profile.add_argument('--check', type=Path, metavar='PROFILE',
                         help='measure a few points only and say whether this profile still fits; writes nothing')
    profile.set_defaults(run=_profile)

    bench = commands.add_parser('bench', help='measurements behind the README; results as JSON')
    benches = bench.add_subparsers(dest='bench', required=True)
    decode = benches.add_parser('decode', help='time per token against model.generate, with and without eviction')
    _add_model_options(decode)
    decode.add_argument('--out', type=Path, default=Path('results/decode.json'))
    decode.add_argument('--tokens', type=int, default=100, help='tokens per answer')
    decode.add_argument('--rounds', type=int, default=9, help='interleaved repeats')
    decode.set_defaults(run=_bench_decode)
    quality = benches.add_parser('quality', help='quality of site-log answers by eviction ratio, for every scorer')
    _add_model_options(quality)
    quality.add_argument('--out', type=Path, default=Path('results/quality.json'), help='JSON; the plot lies beside it')
    quality.add_argument('--tasks', type=int, default=600, metavar='N', help='the first N test tasks')
    quality.add_argument('--max-new-tokens', type=int, default=512, metavar='N', help='longest answer')
    quality.add_argument('--processes', type=int, default=0, metavar='N',
                         help='of one thread each unless --threads says otherwise; 0: one per core, or one on a GPU')
    quality.set_defaults(run=_bench_quality)

    lengths = benches.add_parser('length-predictor', help='predicted response lengths against generated ones')
    lengths.add_argument('--model', type=Path, help='directory of a target for site-log tasks (default: the embedded)')
    lengths.add_argument('--length-predictor', type=Path, help='directory, trained with --baselines (likewise)')
    lengths.add_argument('--device', default='cpu')
    lengths.add_argument('--out', type=Path, default=Path('results/length_predictor.json'))
    lengths.add_argument('--prompts', type=int, default=500, metavar='N', help='per split')
    lengths.add_argument('--samples', type=int, default=2, metavar='N', help='responses per prompt')
    lengths.add_argument('--bounds', type=int, nargs='*', default=[1024, 512, 256], metavar='N_p',
                         help='input lengths to compress prompts to, in rows of their own')
    lengths.set_defaults(run=_bench_length_predictor)

    times = benches.add_parser('execution-time', help='how well a profile foretells times in another process')
    _add_model_options(times)
    times.add_argument('--out', type=Path, default=Path('results/execution_time.json'))
    times.add_argument('--profile', type=Path, help='profile to judge (default: measured first, by another process)')
    times.add_argument('--seconds', type=float, default=60.0, help='longest time for measuring it')
    times.add_argument('--repeats', type=int, default=9, help='visits of each held-out length')
    times.add_argument('--requests', type=int, default=200, metavar='N', help='whole requests to compare')
    times.add_argument('--max-new-tokens', type=int, default=512, metavar='N', help='longest answer')
    times.add_argument('--competing-load', action='store_true', help='once more while every core is busy')
    times.set_defaults(run=_bench_execution_time)

    misses = benches.add_parser('miss-rate', help='whether the promised miss rate is kept, by which method')
    _add_model_options(misses)
    misses.add_argument('--out', type=Path, default=Path('results/miss_rate.json'))
    misses.add_argument('--profile', type=Path, default=Path('results/profile.yaml'), help='of this machine')
    misses.add_argument('--recordings', type=Path, default=Path('build/recordings.json'),
                        help='made where there is none of this model yet')
    misses.add_argument('--prompts', type=int, default=400, metavar='N', help='recorded per split')
    misses.add_argument('--calibration', type=int, default=0, metavar='N',
                        help='make the length predictor\'s calibration scores anew, from so many prompts')
    misses.add_argument('--replays', type=int, default=20)
    misses.add_argument('--requests', type=int, default=450, metavar='N', help='per replay; a third before the change')
    misses.add_argument('--live', type=int, default=500, metavar='N', help='requests on the real engine, each of twice')
    misses.add_argument('--miss-rate', type=float, default=0.05, metavar='EPSILON')
    misses.add_argument('--max-new-tokens', type=int, default=512, metavar='N', help='longest answer')
    misses.add_argument('--processes', type=int, default=0, metavar='N', help='that record; 0: one per core')
    misses.set_defaults(run=_bench_miss_rate)

    several = benches.add_parser('knobs', help='makes a quality table, and says what planning with it is worth')
    _add_model_options(several)
    several.add_argument('--out', type=Path, default=Path('results/knobs.json'))
    several.add_argument('--table', type=Path, default=Path('results/quality_table.json'))
    several.add_argument('--prompts', type=int, default=200, metavar='N', help='recorded per split')
    several.add_argument('--requests', type=int, default=400, metavar='N', help='replayed per budget and planner')
    several.add_argument('--miss-rate', type=float, default=0.05, metavar='EPSILON')
    several.add_argument('--max-new-tokens', type=int, default=512, metavar='N', help='longest answer')
    several.add_argument('--seconds', type=float, default=60.0, help='for profiling all variants')
    several.add_argument('--processes', type=int, default=0, metavar='N', help='that record; 0: one per core')
    several.set_defaults(run=_bench_knobs)

    train = commands.add_parser('train-length-predictor', add_help=False,
                                help='train a length predictor for a target model (-h after it for its options)')
    train.set_defaults(run=_train_length_predictor)

    demo = commands.add_parser('demo', help='start a node on the embedded model and send it goals of different budgets')
    demo.add_argument('--out', type=Path, default=Path('build/demo'))
    demo.set_defaults(run=_demo)
    return top


def _add_model_options(command: argparse.ArgumentParser) -> None:
    """The node's parameters that choose model, device and cache, under the same names."""
    for name in settings.OF_MODELS:
        parameter = settings.BY_NAME[name]
        command.add_argument('--' + name.replace('_', '-'), dest=name, type=type(parameter.default),
                             default=parameter.default, choices=parameter.choices or None,
                             help=parameter.description.replace('%', '%%'))


def _model_settings(options: argparse.Namespace, but: tuple[str, ...] = ()) -> dict:
    """The node's parameters among the options, but for those that mean something else here."""
    return settings.check({name: value for name, value in vars(options).items()
                           if name in settings.BY_NAME and name not in but})


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

    from timebill_ros import plots
    from timebill_ros.loading import load_model
    from timebill_ros.profiling import make_profile, measure
    if options.check:
        return _check_profile(options)
    values = _model_settings(options)
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
    from timebill_ros.drift import is_unusual
    from timebill_ros.execution_time import Profile
    from timebill_ros.loading import load_model
    from timebill_ros.profiling import check, identity, measure
    values = _model_settings(options)
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


def _bench_decode(options: argparse.Namespace) -> int:
    from timebill_ros.bench.decode import run
    return run(_model_settings(options), options.out, n_tokens=options.tokens, rounds=options.rounds)


def _bench_quality(options: argparse.Namespace) -> int:
    from timebill_ros.bench.quality import run
    return run(_model_settings(options), options.out, n_tasks=options.tasks, max_new_tokens=options.max_new_tokens,
               processes=options.processes)


def _bench_execution_time(options: argparse.Namespace) -> int:
    from timebill_ros.bench.execution_time import run
    return run(_model_settings(options, but=('profile',)), options.out, profile_path=options.profile,
               seconds=options.seconds, repeats=options.repeats, n_requests=options.requests,
               max_new_tokens=options.max_new_tokens, competing_load=options.competing_load)


def _bench_miss_rate(options: argparse.Namespace) -> int:
    from timebill_ros.bench.miss_rate import run
    return run(_model_settings(options, but=('profile', 'miss_rate')), options.out, profile_path=options.profile,
               recordings_path=options.recordings, n_prompts=options.prompts, n_calibration=options.calibration,
               n_replays=options.replays, n_requests=options.requests, n_live=options.live,
               miss_rate=options.miss_rate, max_new_tokens=options.max_new_tokens, processes=options.processes)


def _bench_knobs(options: argparse.Namespace) -> int:
    from timebill_ros.bench.knobs import run
    return run(_model_settings(options, but=('miss_rate',)), options.out, table_path=options.table,
               n_prompts=options.prompts, n_requests=options.requests, miss_rate=options.miss_rate,
               max_new_tokens=options.max_new_tokens, profile_s=options.seconds, processes=options.processes)


def _bench_length_predictor(options: argparse.Namespace) -> int:
    from timebill_ros.bench.length_predictor import run
    from timebill_ros.resources import embedded_directory
    return run(options.model or embedded_directory() / 'model',
               options.length_predictor or embedded_directory() / 'length_predictor', options.out,
               n_prompts=options.prompts, samples=options.samples, bounds=options.bounds, device=options.device)


def _train_length_predictor(options: argparse.Namespace) -> int:
    from timebill_ros.training.train_length_predictor import main as train
    train(options.rest)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from timebill_ros.demo import run
    return run(options.out)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Errors that a user can act on are a sentence and exit status 1, not a traceback."""
    from timebill_ros.execution_time import ProfileError
    sleep_while_waiting()  # as in the worker, so that what is measured here holds there
    options, rest = parser().parse_known_args(arguments)
    if rest and options.command != 'train-length-predictor':
        parser().error(f'unrecognized arguments: {" ".join(rest)}')
    options.rest = rest
    expected: tuple[type[BaseException], ...] = (ProfileError, ValueError, OSError)
    if options.command in ('ask', 'monitor', 'demo'):
        from timebill_ros.client import ServerUnavailable
        expected += (ServerUnavailable,)
    if options.command in ('profile', 'bench'):
        from timebill_ros.model import ModelError
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
