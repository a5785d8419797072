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
extensions = ['myst_parser', 'sphinx.ext.autodoc']
source_suffix = {'.rst': 'restructuredtext', '.md': 'markdown'}
exclude_patterns = ['_build']
# Links to headings, as GitHub makes them; the pages also link to files of the repository beside docs/.
myst_heading_anchors = 3
suppress_warnings = ['myst.xref_missing']
# torch and what it brings is for the inference process: pages are made without it.
autodoc_mock_imports = ['torch', 'transformers', 'safetensors', 'tokenizers', 'huggingface_hub', 'gguf', 'torchao',
                        'datasets', 'matplotlib', 'llama_cpp']
