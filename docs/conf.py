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

"""What Sphinx needs to know of these pages; rosdoc2 (rosdoc2.yaml) adds the rest, the theme among it."""
project = 'timebill_ros'
author = copyright = 'timebill_ros authors'
extensions = ['myst_parser']
source_suffix = {'.rst': 'restructuredtext', '.md': 'markdown'}
# Made of the Python modules by rosdoc2, whatever rosdoc2.yaml says. They are internal but for timebill_ros.client.
exclude_patterns = ['modules.rst', 'timebill_ros*.rst']
# Links to headings, as GitHub makes them.
myst_heading_anchors = 3
# Links to files beside docs/, pictures among them: they lead somewhere in the repository only. And a kind of picture.
suppress_warnings = ['myst.xref_missing', 'image.not_readable', 'misc.highlighting_failure']
rosdoc2_settings = {'enable_autodoc': False, 'enable_breathe': False, 'enable_exhale': False}
