"""Which hardware a worker trains on."""

from __future__ import annotations

import torch

from fl_core.errors import SpecError


def pick_device(preference: str = "auto") -> torch.device:
    """The torch device to train on.

    Args:
        preference: ``"auto"`` (CUDA where it is present, otherwise the CPU), or a device: ``"cpu"``, ``"cuda"``,
            ``"cuda:1"``, ``"mps"``.

    Raises:
        SpecError: the device is unknown, or not on this machine.
    """
    if preference == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(preference)
    except RuntimeError as error:
        raise SpecError(
            f"device = {preference!r} is not known; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    if not _is_present(device):
        raise SpecError(f"device = {preference!r} is not on this machine; use 'auto' or 'cpu'.")
    return device


def _is_present(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return False
