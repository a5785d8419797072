"""The name of the hardware, which every reported time belongs to."""

import os

import torch

from timebill_ros.inference.devices import device_name


def hardware(device: str) -> str:
    """Name of a device; for a CPU with its threads and cores."""
    name = device_name(torch.device(device))
    return name if device.startswith('cuda') else f'{name} of {os.cpu_count()} cores'
