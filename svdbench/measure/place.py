"""Where something was computed, as every row says it."""

import torch


def threads_of(device: torch.device | str) -> int:
    """The threads that compute on a device; 0 on a GPU."""
    return torch.get_num_threads() if torch.device(device).type == "cpu" else 0


def device_name(device: torch.device | str) -> str | None:
    """The name of a GPU; None of a CPU, which ``env.json`` names."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
