"""How strongly the loss depends on each state: whether gradients vanish or explode."""

import torch
from torch import Tensor

from svdbench.models.base import SequenceModel
from svdbench.tasks.base import Batch, Task


def state_gradient_norms(
    model: SequenceModel, task: Task, data: Batch, device: torch.device | str = "cpu"
) -> Tensor:
    """‖∂L/∂h_t‖ for every t, (T,), by way of all later states.

    With L the loss of one sequence, this is the root mean square over the sequences of
    ``data``, so that their number doesn't matter. An LSTM's cells are other states than
    h_t: what reaches the loss by way of the cells alone is not in it.

    The gradients come from the states one by one (``model.unrolled``), so autograd has each
    whole.
    """
    x, y = (tensor.to(device) for tensor in data)
    with torch.enable_grad():
        states = model.unrolled(x)
        outputs = model.readout(states[-1] if task.at_end else torch.stack(states))
        gradients = torch.autograd.grad(task.loss(outputs, y), states)
    # The loss is a mean over B sequences: a sequence's own gradient is B times its part.
    per_sequence = x.shape[1] * torch.stack(gradients).double().norm(dim=-1)
    return per_sequence.square().mean(1).sqrt()
