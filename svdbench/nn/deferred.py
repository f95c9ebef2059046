"""Starting values for parameters that may hold no data yet: on meta, fake or distributed."""

import torch
from torch import Tensor, nn


def holds_data(tensor: Tensor) -> bool:
    """Whether a tensor has values: not so on the meta device and under FakeTensorMode."""
    return not (tensor.is_meta or hasattr(getattr(tensor, "_local_tensor", tensor), "fake_mode"))


@torch.no_grad()
def assign(parameter: nn.Parameter, values: float | Tensor) -> None:
    """Copy a number or a tensor of the parameter's shape into it, if it holds data.

    The values may be of another dtype and on another device. Those for a DTensor are taken
    from the first process and shared out, so that all processes start at the same ones.
    """
    if not holds_data(parameter):
        return
    if not isinstance(values, Tensor):
        parameter.fill_(values)
        return
    values = values.expand(parameter.shape)
    if hasattr(parameter, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(parameter, DTensor)
        local = values.to(parameter.device, parameter.dtype)
        values = distribute_tensor(local, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)


def of_first_process(values: Tensor, parameter: nn.Parameter) -> Tensor:
    """Values beside a parameter: for a DTensor, as :func:`assign`, those of the first process."""
    if not hasattr(parameter, "device_mesh"):
        return values
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    return distribute_tensor(values, mesh, [Replicate()] * mesh.ndim).to_local()
