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

"""Whether the model hub can be reached, asked once: its client would try each file six times, for half a minute."""
from __future__ import annotations

import logging
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils import HfHubHTTPError

from timebill_ros.inference.model_directory import ModelError

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0


def is_here(name: str, revision: str = '') -> bool:
    """Whether the model `name` is a directory, or a hub id that was downloaded before in this `revision`."""
    try:
        return Path(name).exists() or isinstance(
            huggingface_hub.try_to_load_from_cache(name, 'config.json', revision=revision or None), str)
    except ValueError:  # neither a path that exists nor a hub id
        return False


def look_once(name: str, revision: str = '') -> None:
    """Ask the hub once for the model `name` in this `revision`; empty: its newest.

    Where the hub cannot be reached, only local copies are used from then on. ModelError with a sentence where there is
    no local copy either. Directories need no hub.
    """
    if Path(name).exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        huggingface_hub.HfApi().model_info(name, revision=revision or None, timeout=TIMEOUT_S)
    except (HfHubHTTPError, ValueError):
        return  # the hub has answered, or this is no hub id: transformers says what is wrong
    except Exception as error:  # requests or httpx, which have no common class for a connection that fails
        reason = f'the hub {constants.ENDPOINT} cannot be reached ({type(error).__name__})'
    else:
        return
    constants.HF_HUB_OFFLINE = True  # or every file would be asked for again
    if not is_here(name, revision):
        raise ModelError(f'model {name} is not on this machine, and {reason}: name a directory, or download it first')
    log.warning('%s: the local copy of %s is used', reason, name)


def download_weights(name: str, revision: str = '') -> Path:
    """Return the folder that holds the weights of a hub id, which are downloaded unless they are here.

    Only files that transformers reads: some hubs hold the same weights a second time, in another format.
    """
    return Path(huggingface_hub.snapshot_download(
        name, revision=revision or None, local_files_only=constants.HF_HUB_OFFLINE,
        allow_patterns=['model*.safetensors', 'model.safetensors.index.json']))
