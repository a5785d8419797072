"""What a result was measured on: no number without its hardware."""
from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

from timebill_ros.model import CausalLM, device_name, library_versions
from timebill_ros.threads import available_cores


def describe(model: CausalLM) -> dict:
    """Device, cores, load and library versions, for a result's head."""
    return {'device': device_name(model.device), 'cores': available_cores(), 'load_average': os.getloadavg()[0],
            'model': Path(model.name).name, 'dtype': model.variant, 'versions': library_versions(),
            'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds')}


def write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')
    print(f'written to {path}')
