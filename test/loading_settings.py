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

"""Settings of a small model that loads in a moment, and the times that its profile is made of."""
import tiny_models

from timebill_ros import settings

POINTS = {'prefill': [[n, n / 6400] for n in (64, 128, 256, 500)],
          'step': [[n, n / 64000] for n in (64, 128, 256, 500)],
          'prefix': [[n, 64 / 6400 + n / 64000] for n in (64, 128, 256)]}


def chosen(cache_dir, **values):
    return settings.check({'model': str(tiny_models.directory('qwen2')), 'device': 'cpu', 'threads': 1,
                           'self_profile_s': 1.0, 'cache_dir': str(cache_dir), 'compile_step': 'never', **values})
