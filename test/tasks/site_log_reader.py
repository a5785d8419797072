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

"""The right plan for a site-log task worked out from the prompt's text alone, to check the generator's answers."""
from timebill_ros.tasks.patrol import OBJECTS, ROOMS, STATES
from timebill_ros.tasks.site_log import FAMILIES, SiteLogTask


def things_of(task_or_instruction: SiteLogTask | str) -> list[str]:
    """The objects or the room that an instruction names."""
    instruction = getattr(task_or_instruction, 'instruction', task_or_instruction)
    words = [word for word in instruction.split() if word not in ('please', 'now', 'and')][1:]
    return [word for word in words if word in OBJECTS or word in ROOMS]


def family_of(instruction: str) -> str:
    return next(word for word in instruction.split() if word in FAMILIES)


def records_of(log: str) -> list[str]:
    """The log cut into its records by their grammar, since no mark separates them."""
    words, records = log.split(), []
    while words:
        n = 3 if words[0] == 'left' or words[1] in (*STATES, 'heavy') else 2
        records.append(' '.join(words[:n]))
        del words[:n]
    return records


def plan_by_reading(log: str, instruction: str) -> list[str]:
    """The right steps, worked out from the prompt's text alone."""
    seen, visits, visit = {}, {}, []
    for record in records_of(log):
        subject, *value = record.split()
        visit = [record] if subject == 'visit' else [*visit, record]
        if subject == 'left':
            visits[value[0]] = [f'{value[0]} {value[1]}', *visit[:-1]]
        if value[-1].startswith('@'):
            seen[subject] = value  # a later record overwrites an earlier one
    family, lines = family_of(instruction), []
    for name in things_of(instruction):
        if family == 'room':
            lines += visits[name]
        elif name not in seen:
            lines += [f'{name} not seen', f'report {name}'] if family == 'bring' else [f'{name} not seen']
        else:
            *state, place = seen[name]
            holder = place.removeprefix('@')
            lines.append(' '.join([name, *seen[name]]))
            if family == 'find':
                lines.append(f'go {place}')
            if family == 'route':
                lines.append(f'take {name}')
            if family == 'bring' and state == ['heavy']:
                lines += ['fetch cart', f'load {name}', 'return cart']
            elif family == 'bring':
                if state == ['locked']:
                    key = f'{holder}-key'
                    lines += [f'{key} {seen[key][0]}', f'take {key}', f'unlock {holder}']
                if state in (['closed'], ['locked']):
                    lines.append(f'open {holder}')
                lines.append(f'take {name}')
    return lines
