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

"""`timebill bench`: for each measurement, a function that adds its options and one that runs it."""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from timebill_ros import settings
from timebill_ros.cli import bench_evaluation, bench_fleet, bench_offboard, bench_prefix, bench_structured
from timebill_ros.cli.bench_options import EMBEDDED, FOLDER, add_answer_options, answer_arguments
from timebill_ros.cli.isolation import isolate
from timebill_ros.cli.model_options import add_model_options, model_arguments, model_settings
from timebill_ros.cli.option_values import number, out_file, whole
from timebill_ros.cli.task_options import add_task_options, task_source
from timebill_ros.tasks.task_source import TaskSource

# About how long each bench runs with its defaults, with the embedded model on the two cores of docs/results.md.
TAKES = {
    'decode': '2 minutes, with --shape Qwen2.5-0.5B 4',
    'quality': '2 minutes, 8 with all --scorers, and longer with a larger model',
    'budgets': '20 minutes, and 2 to 5 hours with 500 tasks of real text and a model of 135 million weights',
    'length-predictor': '15 minutes, and an hour with --text and a model of 135 million weights',
    'execution-time': '3 minutes',
    'miss-rate': '10 minutes',
    'knobs': '5 minutes',
    'load': '25 minutes: --minutes, and the start of the node',
    'utilisation': '25 minutes: 42 times --seconds, and the end of the last goals',
    'device': '10 minutes, and 4 with --quick',
    'deadlines': '30 minutes, and 3 to 6 hours with 500 tasks of real text and a model of 135 million weights',
    'k-sweep': '20 minutes, and an hour with 100 tasks of real text',
    'reversible': '15 minutes, and an hour with 100 tasks of real text',
    'wcet': '5 minutes, and 15 with real text',
    'parallel': '2 minutes',
    'prefix': '25 minutes with smollm2, and 5 with --quick',
    'structured': 'an hour with smollm2, and 5 minutes with --mask',
    'fleet': 'half a minute',
    'offboard': '90 minutes with smollm2 and 500 tasks of real text',
    'all': '3 hours, 10 minutes with --quick, and longer with --tasks',
}


def add(commands) -> None:
    """Add the subcommand's parser, with a subcommand of its own for every measurement."""
    command = commands.add_parser('bench', help='measurements behind the README; results as JSON, in build/bench')
    benches = command.add_subparsers(dest='bench', required=True)
    for add_bench in (_add_decode, _add_quality, _add_budgets, _add_length_predictor, _add_execution_time,
                      _add_miss_rate, _add_knobs, _add_load, _add_utilisation, _add_device):
        add_bench(benches)
    for module in (bench_evaluation, bench_fleet, bench_offboard, bench_prefix, bench_structured):
        module.add_to(benches, _parser)


def _parser(benches, name: str, what: str) -> argparse.ArgumentParser:
    """Add the parser of a measurement; its help says what it is and how long it takes."""
    text = f'{what}{"" if what.endswith("?") else "."} It takes about {TAKES[name]}.'
    return benches.add_parser(name, help=text, description=text[0].upper() + text[1:])


def _add_decode(benches) -> None:
    command = _parser(benches, 'decode', 'time per token against model.generate, with and without eviction')
    add_model_options(command, model=EMBEDDED)
    command.add_argument('--out', type=out_file, default=FOLDER / 'decode.json')
    command.add_argument('--tokens', type=whole(1), default=200, help='tokens per answer')
    command.add_argument('--rounds', type=whole(1), default=9, help='interleaved repeats')
    command.add_argument('--speed', dest='speed_of', default='', nargs='?', const=True, metavar='MODEL',
                         help='also prefill and steps of this model (by default --model) in every precision, beside '
                         'transformers and llama.cpp')
    command.add_argument('--gguf', type=Path, help='the weights of that model as a GGUF file, which llama.cpp '
                         'requantizes (default: MODEL, where that is one; needs llama-cpp-python)')
    command.add_argument('--only-speed', action='store_true', help='leave the comparison with model.generate out')
    command.add_argument('--shape', default='', choices=['', 'Qwen2.5-0.5B', 'Qwen2.5-1.5B', 'tiny'],
                         help='also the speed of a model of this shape with random weights; beside llama.cpp where '
                         'llama-cpp-python and gguf are installed')
    command.set_defaults(run=_run_decode)


def _run_decode(options: argparse.Namespace) -> int:
    from timebill_ros.bench.decode import run
    speed_of = options.model if options.speed_of is True else options.speed_of
    gguf = options.gguf or (Path(speed_of) if speed_of.endswith('.gguf') else None)
    return run(model_settings(options), options.out, n_tokens=options.tokens, rounds=options.rounds,
               shape=options.shape, speed_of=speed_of, gguf=gguf, only_speed=options.only_speed)


def _add_quality(benches) -> None:
    command = _parser(benches, 'quality', 'makes a quality table for the planner: of answers after evictions, in other '
                      'weights, and cut')
    add_model_options(command, model=EMBEDDED)
    add_task_options(command)
    command.add_argument('--out', type=out_file, default=FOLDER / 'quality.json',
                         help='the table, as JSON; beside it lie '
                         'the plot and the finished answers, from which a stopped run goes on')
    command.add_argument('--scorers', nargs='+', choices=settings.BY_NAME['eviction_scorer'].choices, metavar='NAME',
                         help='compare these; the table is of the first (default: --eviction-scorer)')
    command.add_argument('--processes', type=whole(0), default=0, metavar='N',
                         help='of one thread each unless --threads says otherwise; 0: one per core, or one on a GPU')
    command.set_defaults(run=_run_quality)


def _run_quality(options: argparse.Namespace) -> int:
    from timebill_ros.bench.quality import run
    return run(model_settings(options), options.out, source=task_source(options),
               scorers=list(dict.fromkeys(options.scorers or [options.eviction_scorer])), processes=options.processes)


def _add_budgets(benches) -> None:
    command = _parser(benches, 'budgets', 'what a client holds at its deadline: plain generation, fixed evictions and '
                      'other weights against both planners')
    add_model_options(command, model=EMBEDDED)
    add_answer_options(command, 'budgets')
    command.set_defaults(run=_run_budgets, variants='int8')


def _run_budgets(options: argparse.Namespace) -> int:
    from timebill_ros.bench.budgets import run
    return run(model_settings(options), options.out, **answer_arguments(options))


def _add_length_predictor(benches) -> None:
    command = _parser(benches, 'length-predictor', 'predicted response lengths against generated ones')
    command.add_argument('--model', type=Path, help='directory of a target for site-log tasks (default: the embedded); '
                         'with --text any model, or its name (default: smollm2)')
    command.add_argument('--length-predictor', type=Path, help='directory, for site-log tasks trained with --baselines '
                         "(default: the embedded model's, with --text none)")
    command.add_argument('--text', type=Path, nargs=2, metavar=('LEARNED', 'JUDGED'), help='files of prompts, JSON '
                         'lines, gzipped or not, to learn from and to be judged on, in the place of site-log tasks; in '
                         '--out the rows of the other test bed stay')
    command.add_argument('--labels', type=out_file, metavar='FILE', help='with --text: a file that "timebill '
                         'train-length-predictor --states" made, or began, of the first file: what it has answered is '
                         'not answered again (default: beside --out)')
    command.add_argument('--max-new-tokens', type=whole(2), default=256, metavar='N',
                         help='with --text: where an answer is cut (default: %(default)s)')
    command.add_argument('--device', default='cpu')
    command.add_argument('--out', type=out_file, default=FOLDER / 'length_predictor.json')
    command.add_argument('--prompts', type=whole(1), default=500, metavar='N', help='per split; with --text those that '
                         'are judged')
    command.add_argument('--samples', type=whole(1), default=2, metavar='N', help='responses per prompt; with --text '
                         'one, greedily')
    command.add_argument('--bounds', type=whole(1), nargs='*', default=[1024, 512, 256], metavar='N_p',
                         help='input lengths to compress prompts to, in rows of their own')
    command.add_argument('--learned-from', type=whole(1), default=1000, metavar='N',
                         help='goals that the rows "states" learn from (default: %(default)s)')
    command.set_defaults(run=_run_length_predictor)


def _run_length_predictor(options: argparse.Namespace) -> int:
    from timebill_ros.bench import length_predictor
    from timebill_ros.bench.text_lengths import Sources
    from timebill_ros.resources import embedded_directory
    from timebill_ros.training.answering import Target
    from timebill_ros.training.journal import beside
    from timebill_ros.worker.model_choice import choose_model
    if options.text:
        model = choose_model({'model': str(options.model or 'smollm2'), 'cache_dir': ''}).model
        kept = options.labels or options.out.with_name(f'{options.out.stem}_text.json')
        return length_predictor.run_text(
            Target(model, options.device, max_new_tokens=options.max_new_tokens),
            Sources(*options.text, options.learned_from, options.prompts, beside(kept)), options.out,
            options.length_predictor)
    return length_predictor.run(
        options.model or embedded_directory() / 'model',
        options.length_predictor or embedded_directory() / 'length_predictor', options.out, n_prompts=options.prompts,
        samples=options.samples, bounds=options.bounds, n_learned=options.learned_from, device=options.device)


def _add_execution_time(benches) -> None:
    command = _parser(benches, 'execution-time', 'how well a profile foretells times in another process')
    add_model_options(command, model=EMBEDDED)
    command.add_argument('--out', type=out_file, default=FOLDER / 'execution_time.json')
    command.add_argument('--profile', type=Path, help='profile to judge (default: measured first, by another process)')
    command.add_argument('--seconds', type=number(0), default=60.0, help='longest time for measuring it')
    command.add_argument('--repeats', type=whole(1), default=9, help='visits of each held-out length')
    command.add_argument('--requests', type=whole(1), default=200, metavar='N', help='whole requests to compare')
    command.add_argument('--max-new-tokens', type=whole(1), default=512, metavar='N', help='longest answer')
    command.add_argument('--competing-load', action='store_true', help='once more while every core is busy')
    command.set_defaults(run=_run_execution_time)


def _run_execution_time(options: argparse.Namespace) -> int:
    from timebill_ros.bench.execution_time import run
    values = model_settings(options, but=('profile',))

    def profile_elsewhere(path: Path) -> None:
        # A process of its own: what is judged is a profile's word about times in another process.
        subprocess.run([sys.executable, '-m', 'timebill_ros.cli', 'profile', '--out', str(path), '--seconds',
                        str(options.seconds), *model_arguments(values)], check=True)

    return run(values, options.out, profile_path=options.profile, make_profile=profile_elsewhere,
               repeats=options.repeats, n_requests=options.requests, max_new_tokens=options.max_new_tokens,
               competing_load=options.competing_load)


def _add_miss_rate(benches) -> None:
    command = _parser(benches, 'miss-rate', 'whether the promised miss rate is kept, by which method')
    add_model_options(command, model=EMBEDDED)
    command.add_argument('--out', type=out_file, default=FOLDER / 'miss_rate.json')
    command.add_argument('--profile', type=Path, default=Path('results/profile.yaml'), help='of this machine')
    command.add_argument('--recordings', type=Path, default=FOLDER.parent / 'recordings.json', help='made if missing')
    command.add_argument('--prompts', type=whole(1), default=400, metavar='N', help='recorded per split')
    command.add_argument('--calibration', type=whole(0), default=0, metavar='N',
                         help="make the length predictor's calibration scores anew, from so many prompts")
    command.add_argument('--replays', type=whole(1), default=20)
    command.add_argument('--requests', type=whole(1), default=450, help='per replay; a third before the change')
    command.add_argument('--live', type=whole(0), default=500, metavar='N',
                         help='requests on the real engine, each of twice; with --text half of them under a load')
    command.add_argument('--text', type=Path, metavar='FILE', help='instead of all else, --live tasks of this file on '
                         '--model, JSON lines as for bench deadlines; in --out the rest stays')
    command.add_argument('--miss-rate', type=float, nargs='+', default=[0.05, 0.01, 0.2], metavar='EPSILON',
                         help='the first one is compared with fixed factors, and run live (default: 0.05 0.01 0.2)')
    command.add_argument('--max-new-tokens', type=whole(1), default=512, metavar='N', help='longest answer')
    command.add_argument('--processes', type=whole(0), default=0, metavar='N', help='that record; 0: one per core')
    command.set_defaults(run=_run_miss_rate)


def _run_miss_rate(options: argparse.Namespace) -> int:
    values = model_settings(options, but=('profile', 'miss_rate'))
    if options.text:
        from timebill_ros.bench import miss_rate_text
        values['miss_rate'] = options.miss_rate[0]
        return miss_rate_text.run(values, options.out, source=TaskSource(options.text), n_requests=options.live)
    from timebill_ros.bench.miss_rate import run
    return run(values, options.out, profile_path=options.profile,
               recordings_path=options.recordings, n_prompts=options.prompts, n_calibration=options.calibration,
               n_replays=options.replays, n_requests=options.requests, n_live=options.live,
               miss_rates=options.miss_rate, max_new_tokens=options.max_new_tokens, processes=options.processes)


def _add_knobs(benches) -> None:
    command = _parser(benches, 'knobs', 'makes a quality table, and says what planning with it is worth')
    add_model_options(command, model=EMBEDDED)
    command.add_argument('--out', type=out_file, default=FOLDER / 'knobs.json')
    command.add_argument('--table', type=Path, default=FOLDER / 'quality_table.json')
    command.add_argument('--prompts', type=whole(1), default=200, metavar='N', help='recorded per split')
    command.add_argument('--requests', type=whole(1), default=400, metavar='N', help='replayed per budget and planner')
    command.add_argument('--miss-rate', type=float, default=0.05, metavar='EPSILON')
    command.add_argument('--max-new-tokens', type=whole(1), default=512, metavar='N', help='longest answer')
    command.add_argument('--seconds', type=number(0), default=60.0, help='for profiling all variants')
    command.add_argument('--processes', type=whole(0), default=0, metavar='N', help='that record; 0: one per core')
    command.set_defaults(run=_run_knobs)


def _run_knobs(options: argparse.Namespace) -> int:
    from timebill_ros.bench.knobs import run
    return run(model_settings(options, but=('miss_rate',)), options.out, table_path=options.table,
               n_prompts=options.prompts, n_requests=options.requests, miss_rate=options.miss_rate,
               max_new_tokens=options.max_new_tokens, profile_s=options.seconds, processes=options.processes)


def _add_load(benches) -> None:
    command = _parser(benches, 'load', 'clients, cancels, nonsense and faults on a running node: is every '
                                 'deadline held, is anything lost?')
    command.add_argument('--out', type=out_file, default=FOLDER / 'load.json', help='JSON; the plot lies beside it')
    command.add_argument('--goals', type=whole(1), default=10_000, metavar='N')
    command.add_argument('--clients', type=whole(1), default=4, metavar='N', help='processes')
    command.add_argument('--minutes', type=number(0), default=24.0, help='over which the goals are spread')
    command.add_argument('--offered-load', type=number(0), default=0.0, metavar='LOAD', help='arrival rate times mean '
                         'unhurried time, which then says how long it takes; 0: --minutes does')
    command.add_argument('--kills', type=whole(0), default=20, metavar='N', help='of the worker')
    command.add_argument('--hangs', type=whole(0), default=10, metavar='N', help='of the worker')
    command.add_argument('--seed', type=whole(0), default=1)
    command.add_argument('--prefixes', action='store_true', help='instead, and without a node: --goals of mixed '
                         'prefixes on the embedded model. Is memory flat, is no answer another than from nothing?')
    command.set_defaults(run=_run_load, talks=True)


def _run_load(options: argparse.Namespace) -> int:
    from timebill_ros.bench.load import run, summary
    if options.prefixes:
        from timebill_ros.bench import prefix_load
        values = settings.check({'model': EMBEDDED, 'length_predictor': settings.NO_PREDICTOR})
        return prefix_load.run(values, options.out, n_goals=options.goals, compared=200, seed=options.seed)
    isolate()
    result = run(options.out, n_goals=options.goals, n_clients=options.clients, minutes=options.minutes,
                 offered_load=options.offered_load, kills=options.kills, hangs=options.hangs, seed=options.seed)
    print(summary(result))
    return 1 if result['lost'] or result['wrong_code'] else 0


def _add_utilisation(benches) -> None:
    command = _parser(benches, 'utilisation', 'scheduling and admission against first come, first served')
    command.add_argument('--out', type=out_file, default=FOLDER / 'utilisation.json')
    command.add_argument('--budgets', nargs='+', choices=['tight', 'mixed'], default=['tight', 'mixed'],
                         help='1 to 4 unhurried times, or 1.2 to 20 (default: both)')
    command.add_argument('--loads', type=number(0), nargs='+', default=None, metavar='LOAD', help='offered loads '
                         '(default: 0.3 to 1.5)')
    command.add_argument('--seconds', type=number(0), default=30.0,
                         help='of arrivals for each load, budgets and policy')
    command.add_argument('--seed', type=whole(0), default=1)
    command.set_defaults(run=_run_utilisation, talks=True)


def _run_utilisation(options: argparse.Namespace) -> int:
    from timebill_ros.bench.utilisation import LOADS, run
    isolate()
    run(options.out, loads=options.loads or LOADS, budgets=options.budgets, seconds=options.seconds, seed=options.seed)
    return 0


def _add_device(benches) -> None:
    command = _parser(benches, 'device', 'models of public shapes with random weights: profile, decoding, '
                                 'eviction and bandwidth of this device')
    add_model_options(command, but=('model', 'length_predictor', 'max_context_tokens'))
    command.add_argument('--out', type=out_file, help='(default: build/bench/device_<device>.json)')
    command.add_argument('--quick', action='store_true', help='two shapes (one on a CPU), shorter prompts and '
                         'profiles')
    command.add_argument('--minutes', type=number(0), help='about how long all of it may take, but for compiling steps '
                         '(default: 10, quick: 4)')
    command.add_argument('--shapes', nargs='+', metavar='NAME',
                         help='of tiny, Qwen2.5-0.5B, Qwen2.5-1.5B and Qwen2.5-7B (default: the last three on a GPU, '
                         'the first two on a CPU)')
    command.add_argument('--longest', type=whole(1),
                         help='prompt tokens (default: 32,000 on a GPU, quick: 8,192; 2,048 on '
                         'a CPU)')
    command.add_argument('--seconds', type=number(0), help='for the profile of each shape (default: 60, quick: 20)')
    command.add_argument('--tokens', type=whole(1), default=64, help='per answer')
    command.add_argument('--rounds', type=whole(1), help='interleaved repeats (default: 3, quick: 1)')
    command.set_defaults(run=_run_device)


def _run_device(options: argparse.Namespace) -> int:
    from timebill_ros.bench import shapes
    from timebill_ros.bench.device import run
    from timebill_ros.inference.devices import choose_device
    on_cpu = choose_device(options.device).type == 'cpu'
    # The largest last: it has the time that the others left.
    usual = ['tiny', 'Qwen2.5-0.5B'] if on_cpu else ['Qwen2.5-0.5B', 'Qwen2.5-1.5B', 'Qwen2.5-7B']
    names = options.shapes or ((['tiny'] if on_cpu else ['Qwen2.5-0.5B', 'Qwen2.5-7B']) if options.quick else usual)
    if unknown := [name for name in names if name not in shapes.SHAPES]:
        raise ValueError(f'shape {unknown[0]!r} is none of {", ".join(shapes.SHAPES)}')
    values = model_settings(options)
    return run(values, options.out, shape_names=names,
               longest=options.longest or (2048 if on_cpu else 8192 if options.quick else 32_000),
               seconds=options.seconds or (20.0 if options.quick else 60.0), n_tokens=options.tokens,
               rounds=options.rounds or (1 if options.quick else 3),
               minutes=options.minutes or (4.0 if options.quick else 10.0))
