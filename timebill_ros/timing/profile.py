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

"""The profile of a model on a device: what it is valid for, its execution times, and the file that keeps both.

    format: 3
    identity: {device: ..., model: ..., torch: ..., ...}        facts, by name
    costs: {prefill: {a: ..., ...}, step: {...}, ...}           coefficients (execution_time.py), by cost

Later versions may add facts and costs without a new format: a fact that is missing is not known, and a name that is
unknown is left out. No torch, no rclpy.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from timebill_ros.resources import write_whole
from timebill_ros.timing.execution_time import ExecutionTimes, ProfileError

FORMAT, OLDER = 3, (1, 2)
CIRCUMSTANCES = ('torch', 'transformers', 'power', 'clocks')  # facts of an Identity


class OlderProfileError(ProfileError):
    """Raised for a profile in the format of an earlier version of this package: the device is to be measured again."""


@dataclass(frozen=True)
class Identity:
    """What a profile is valid for: facts, by name. Another device, model, ... needs another profile.

    CIRCUMSTANCES change how long the same model takes on the same device. A profile that was made in others is measured
    again, or where the user has named it, used with a warning. An empty one is not known.
    """

    device: str  # chip, board and thread count, e.g. 'AMD EPYC, 2 threads' or 'Orin, NVIDIA Jetson Orin NX'
    model: str  # fingerprint of the target's config and weight files
    predictor: str  # fingerprint of the length predictor's files, or 'none'
    dtype: str  # torch dtype of weights and cache, e.g. 'float32'
    # Precisions whose decode step is not the modules' own, comma-separated: 'int8' compiled, 'int8 captured' captured.
    compiled: str = ''
    placement: str = 'beside'  # where the length predictor runs, see worker/tuning.py
    torch: str = ''  # version
    transformers: str = ''  # version
    power: str = ''  # power mode of the machine, see inference/board.py
    clocks: str = ''  # limits of its clocks, see there

    def facts(self) -> dict[str, str]:
        """Return the facts that are known, by name; the inverse is `of_facts`."""
        return {name: value for name, value in asdict(self).items() if value or name not in CIRCUMSTANCES}

    @staticmethod
    def of_facts(facts: dict[str, str]) -> Identity:
        """Make an identity of facts by name. TypeError where one is missing.

        A fact of an unknown name is left out: a later version of this package may have added it.
        """
        known = {fact.name for fact in fields(Identity)}
        return Identity(**{name: value for name, value in facts.items() if name in known})

    def things(self) -> list[str]:
        """Return the values of all facts but the CIRCUMSTANCES."""
        return [value for name, value in asdict(self).items() if name not in CIRCUMSTANCES]

    def circumstances(self) -> list[str]:
        """Return the values of the CIRCUMSTANCES."""
        return [getattr(self, name) for name in CIRCUMSTANCES]


@dataclass
class Profile:
    """A measured device: what the measurement is valid for, the fitted times, and how good the fit is."""

    identity: Identity
    times: ExecutionTimes
    date: str = ''
    versions: dict[str, str] = field(default_factory=dict)
    fit_errors: dict[str, float] = field(default_factory=dict)  # MAPE by kind, as a share (0.01 is 1 %)
    held_out_errors: dict[str, float] = field(default_factory=dict)  # the same on lengths that the fit has not seen
    residuals: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # see fitting.residual_quantiles
    run_ratios: list[float] = field(default_factory=list)  # measured over estimated time of runs of decode steps
    points: dict[str, list[list[float]]] = field(default_factory=dict)  # kind -> [length, seconds] as measured

    def save(self, path: str | Path) -> None:
        """Write the profile as YAML, whole or not at all."""
        rest = {name: value for name, value in asdict(self).items() if name not in ('identity', 'times')}
        write_whole(Path(path), yaml.safe_dump({'format': FORMAT, 'identity': self.identity.facts(),
                                                'costs': self.times.costs(), **rest}, sort_keys=False))

    @staticmethod
    def load(path: str | Path) -> Profile:
        """Read a profile. ProfileError, naming the path, for anything but a whole and valid one."""
        path = Path(path)
        try:
            data = yaml.safe_load(path.read_text())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a date such as 2026-99-99
            raise ProfileError(f'profile {path} cannot be read: {error}') from error
        if isinstance(data, dict) and data.get('format') in OLDER:
            raise OlderProfileError(f'profile {path} has the older format {data["format"]}, not {FORMAT}')
        if not isinstance(data, dict) or data.get('format') != FORMAT:
            found = data.get('format') if isinstance(data, dict) else type(data).__name__
            raise ProfileError(f'profile {path} is not of format {FORMAT} (found {found!r})')
        try:
            identity, times = Identity.of_facts(data['identity']), ExecutionTimes.of_costs(data['costs'])
            return Profile(identity, times, str(data.get('date', '')), dict(data.get('versions') or {}),
                           dict(data.get('fit_errors') or {}), dict(data.get('held_out_errors') or {}),
                           dict(data.get('residuals') or {}),
                           [_positive(float(ratio)) for ratio in data.get('run_ratios') or []],
                           _points(data.get('points') or {}))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProfileError(f'profile {path} is corrupt: {error}') from error

    def check(self, expected: Identity, where: str) -> None:
        """Raise ProfileError, naming the first difference, where the profile is of something other than `expected`.

        where: the name of the profile in the error, such as its path. A difference in CIRCUMSTANCES is no error, see
        `aged`.
        """
        for name in (fact.name for fact in fields(Identity) if fact.name not in CIRCUMSTANCES):
            mine, wanted = getattr(self.identity, name), getattr(expected, name)
            if mine != wanted:
                raise ProfileError(f'profile {where} was made for {name} {mine!r}, but this node has {wanted!r}; '
                                   'run "timebill profile" on this device')

    def aged(self, expected: Identity) -> str:
        """Return which CIRCUMSTANCES have changed since the profile was made; empty: none that both sides know."""
        pairs = [(name, getattr(self.identity, name), getattr(expected, name)) for name in CIRCUMSTANCES]
        return ', '.join(f'{name} {mine!r} (now {wanted!r})' for name, mine, wanted in pairs
                         if mine and wanted and mine != wanted)


def _positive(value: float) -> float:
    """Return a number. ValueError unless it is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f'a measured time or ratio is {value!r}')
    return value


def _points(found: dict) -> dict[str, list[list[float]]]:
    """Return measured points, see `Profile`. ValueError, TypeError or AttributeError for anything else."""
    for measured in found.values():
        for n, seconds in measured:
            if not 0 <= n < math.inf:
                raise ValueError(f'a measured length is {n!r}')
            _positive(seconds)
    return dict(found)
