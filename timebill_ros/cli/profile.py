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

"""`timebill profile`: measure the execution times of a model on this device, or check that a profile still fits."""
from __future__ import annotations

import argparse
from pathlib import Path

from timebill_ros.cli.model_options import add_model_options, model_settings
from timebill_ros.cli.option_values import number, out_file, whole

LARGE = 0.15  # a mean error on lengths left out of the fit that is said in words


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('profile', help='measure the execution times of a model on this device')
    add_model_options(command)
    command.add_argument('--out', type=out_file, default=Path('profile.yaml'),
                         help='YAML file; the plot lies beside it')
    command.add_argument('--seconds', type=number(0), default=120.0, help='longest time to measure for')
    command.add_argument('--repeats', type=whole(1), default=12, help='visits of each length')
    command.add_argument('--longest', type=whole(0), default=0, metavar='N', help='longest prompt; 0: the context')
    command.add_argument('--check', type=Path, metavar='PROFILE',
                         help='measure a few points only and say whether this profile still fits; writes nothing')
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, write the profile and say what it holds; or check the profile that the options name."""
    return _check(options) if options.check else _measure(options)


def _measure(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from timebill_ros.bench import optional_plots
    from timebill_ros.timing.profiling import make_profile, measure
    from timebill_ros.worker.loading import load_model
    values = model_settings(options)
    model, predictor, choices = load_model(values)
    with Progress() as bar:
        task = bar.add_task('measuring', total=1.0)
        points = measure(model, predictor, chunk_tokens=choices.prefill_chunk_tokens, budget_s=options.seconds,
                         repeats=options.repeats, longest=options.longest or None,
                         progress=lambda share: bar.update(task, completed=share))
    profile = make_profile(model, predictor, points, choices.prefill_chunk_tokens)
    profile.save(options.out)
    t = profile.times
    print(f'device   {profile.identity.device}, {profile.identity.dtype}\n'
          f'prefill  {t.a:.3e}*N^2 + {t.b:.3e}*N + {t.c:.3e} s + {t.d:.3e} s a chunk, at least '
          f'{t.prefill_floor:.3e} s\n'
          f'step     {t.p:.3e}*N_kv + {t.q:.3e} s\n'
          f'draw     {", ".join(f"{kind} {1e3 * seconds:.2f} ms" for kind, seconds in t.draws.items())}')
    for kind, error in profile.fit_errors.items():
        held_out = profile.held_out_errors.get(kind)
        told = 'not known (too few lengths)' if held_out is None else f'{held_out:.1%}'
        print(f'{kind:16} mean absolute error {error:.1%}, on lengths left out of the fit {told}, '
              f'over {len(points[kind])} points')
    if large := large_errors(profile.held_out_errors):
        print(large)
    picture = ''
    if plots := optional_plots.plots_if_installed():
        plots.profile(profile, options.out.with_suffix('.png'))
        picture = f' and {options.out.with_suffix(".png")}'
    print(f'written to {options.out}{picture}')
    return 0


def large_errors(held_out: dict[str, float]) -> str:
    """Return a sentence on errors that are LARGE, by kind, as a share; empty where none is.

    A draw and a forced token are a small part of a step, and 'run' shows noise: none of them counts.
    """
    large = [f'{kind} ({error:.0%})' for kind, error in held_out.items()
             if not error <= LARGE and kind not in ('run', 'forced') and not kind.startswith('draw:')]
    return (f'The profile is poor: times of {", ".join(large)} at lengths that the fit had not seen were far off. What '
            'is promised with it will be late more often, until goals have taught the difference. Measure again on a '
            'machine that does nothing else, for longer (--seconds) or with more visits (--repeats)') if large else ''


def _check(options: argparse.Namespace) -> int:
    """Compare a few fresh points with the profile; exit status 1 where prefill or steps do not fit any more."""
    from timebill_ros.timing.drift import is_unusual
    from timebill_ros.timing.profile import Profile
    from timebill_ros.timing.profiling import check, identity, measure
    from timebill_ros.worker.loading import load_model
    values = model_settings(options)
    profile = Profile.load(options.check)
    model, predictor, choices = load_model(values)
    expected = identity(model, predictor)
    profile.check(expected, str(options.check))
    if changed := profile.aged(expected):
        print(f'made with {changed}')
    points = measure(model, predictor, chunk_tokens=choices.prefill_chunk_tokens, repeats=3, n_lengths=4,
                     budget_s=min(options.seconds, 20.0), longest=options.longest or None)
    ratios = check(profile, points)
    for kind, ratio in ratios.items():
        print(f'{kind:16} takes {ratio:.2f} times as long as profiled')
    unusual = [kind for kind in ratios if kind.startswith(('prefill', 'step')) and is_unusual(ratios[kind])]
    if unusual:
        print(f'{options.check} of {profile.date} does not fit any more: {", ".join(unusual)}; run "timebill profile"')
        return 1
    print(f'{options.check} of {profile.date} still fits this machine')
    return 0
