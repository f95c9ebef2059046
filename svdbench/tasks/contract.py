"""What every sequence task must do."""

import torch
from torch import Tensor

from svdbench.contract import Contract, Make, NotAsked, expect, expect_texts, plain_dtype

from .base import Batch, Task

CONTRACT = Contract()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(a: Batch, b: Batch) -> bool:
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def outputs_for(task: Task, x: Tensor) -> Tensor:
    steps = () if task.at_end else (len(x),)
    return torch.randn(*steps, x.shape[1], task.output_size, generator=seeded(5))


def ready(make: Make) -> Task:
    """The task, with its files.

    Raises:
        NotAsked: A file is missing.
    """
    from svdbench.datasets.base import DatasetError

    task: Task = make()
    try:
        task.prepare()
    except DatasetError as error:
        raise NotAsked(str(error)) from error
    return task


def sets(task: Task) -> dict[str, Batch]:
    """A minibatch, the test set and, where sequences are held out, the validation set."""
    found = {"batch": task.batch(5, seeded()), "test_set": task.test_set()}
    try:
        found["validation_set"] = task.validation_set()
    except ValueError:  # none are held out
        return found
    return found


@CONTRACT.question("says what it is: title, loss_unit, metric, source, sizes and baseline")
def described(make: Make) -> None:
    task = make()
    expect_texts(task, "title", "loss_unit", "metric", "source")
    for name in ("input_size", "output_size", "length"):
        value = getattr(task, name, None)
        advice = f"set self.{name} in __init__"
        expect(isinstance(value, int) and value >= 1, f"{name} is {value!r}", advice)
    at_end = getattr(task, "at_end", None)
    advice = "set at_end = True if only the last output counts, else False"
    expect(isinstance(at_end, bool), f"at_end is {at_end!r}", advice)
    baseline, chance = getattr(task, "baseline", None), getattr(task, "chance", None)
    advice = "set it to the loss of the best answer that remembers nothing"
    number = isinstance(baseline, int | float) and baseline > 0
    expect(number, f"baseline is {baseline!r}", advice)
    advice = "set it to the accuracy of that answer, between 0 and 1"
    share = isinstance(chance, int | float) and 0 <= chance <= 1
    expect(share, f"chance is {chance!r}", advice)


@CONTRACT.question("gives sequences (T, B, input_size) in float32 with an answer for each")
def shapes(make: Make) -> None:
    task = ready(make)
    for name, (x, y) in sets(task).items():
        steps = task.training_length if name == "batch" else task.length
        wanted = (steps, x.shape[1] if x.ndim > 1 else 0, task.input_size)
        expect(tuple(x.shape) == wanted, f"{name}: x has shape {tuple(x.shape)}, not {wanted}")
        expect(
            x.dtype == torch.float32,
            f"{name}: x is {plain_dtype(x.dtype)}",
            "return x.float()",
        )
        expect(x.device.type == "cpu", f"{name}: x is on {x.device}", "make samples on the CPU")
        expect(bool(x.isfinite().all()), f"{name}: x is not finite")
        dimension = 0 if task.at_end else 1
        expect(
            y.ndim > dimension and y.shape[dimension] == x.shape[1],
            f"{name}: y has shape {tuple(y.shape)} for {x.shape[1]} sequences",
            f"the sequences of y are along dimension {dimension}",
        )
    size = task.batch(5, seeded())[0].shape[1]
    more = size > 5 and task.training_length < task.length
    expect(size == 5 or more, f"batch(5) gave {size} sequences")


@CONTRACT.question("has a loss that can be differentiated, and an accuracy between 0 and 1")
def scores(make: Make) -> None:
    task = ready(make)
    x, y = task.batch(5, seeded())
    outputs = outputs_for(task, x).requires_grad_()
    loss = task.loss(outputs, y)
    expect(loss.shape == (), f"the loss has shape {tuple(loss.shape)}", "return its mean")
    expect(loss.requires_grad, "the loss has no gradient", "compute it from outputs by torch")
    loss.backward()
    finite = outputs.grad is not None and bool(outputs.grad.isfinite().all())
    expect(finite, "the gradient of the loss is not finite")
    found = task.metrics(outputs.detach(), y)
    accuracy = found.get("accuracy") if isinstance(found, dict) else None
    expect(
        isinstance(accuracy, int | float) and 0 <= accuracy <= 1,
        f"metrics returned {found!r}",
        'return {"accuracy": a fraction}',
    )


@CONTRACT.question(
    "draws its batches from the generator alone",
    "pass generator=generator to every random function of torch; use no other source",
)
def reproducible(make: Make) -> None:
    first, second = ready(make), ready(make)
    a, b = seeded(3), seeded(3)
    for seed in range(3):
        one = first.batch(6, a)
        torch.rand(1 + seed)  # the global generator has no say
        expect(same(one, second.batch(6, b)), "two tasks with the same seed gave other batches")
    other = ready(make).batch(6, seeded(4))
    expect(not same(other, ready(make).batch(6, seeded(3))), "another seed gave the same batch")


@CONTRACT.question("resumes from its state_dict", "keep the place in the epoch in state_dict")
def resumes(make: Make) -> None:
    task, generator = ready(make), seeded(1)
    for _ in range(3):
        task.batch(20, generator)
    state, random = task.state_dict(), generator.get_state()
    expected = [task.batch(20, generator) for _ in range(4)]
    resumed, fresh = ready(make), torch.Generator()
    resumed.load_state_dict(state)
    fresh.set_state(random)
    again = all(same(batch, resumed.batch(20, fresh)) for batch in expected)
    expect(again, "a resumed task gave other batches")


@CONTRACT.question("has test and validation sets that never change, and that differ")
def fixed(make: Make) -> None:
    task, other = ready(make), ready(make)
    other.batch(3, seeded())
    found, again = sets(task), sets(other)
    for name in found.keys() - {"batch"}:
        advice = "make it once, from a seed of its own"
        expect(same(found[name], again[name]), f"{name} is another one after a batch", advice)
    if "validation_set" in found:
        test, held = found["test_set"], found["validation_set"]
        expect(not same(test, held), "the validation set is the test set", "use another seed")


@CONTRACT.question(
    "has means over sequences as loss and accuracy", "divide by the number of sequences"
)
def means(make: Make) -> None:
    task = ready(make)
    x, y = task.test_set()
    x, y = x[:, :12], y.narrow(0 if task.at_end else 1, 0, min(12, x.shape[1]))
    outputs = outputs_for(task, x)
    seen, loss, accuracy = 0, 0.0, 0.0
    for part, answers in task.split(x, y, 5):
        own = outputs.narrow(0 if task.at_end else 1, seen, part.shape[1])
        seen += part.shape[1]
        loss += part.shape[1] * float(task.loss(own, answers))
        accuracy += part.shape[1] * task.metrics(own, answers)["accuracy"]
    whole, share = float(task.loss(outputs, y)), task.metrics(outputs, y)["accuracy"]
    for name, parts, all_at_once in (("loss", loss, whole), ("accuracy", accuracy, share)):
        expect(
            abs(parts / seen - all_at_once) <= 1e-4 * max(1.0, abs(all_at_once)),
            f"{name} of parts is {parts / seen:.6g}, of the whole {all_at_once:.6g}",
        )
