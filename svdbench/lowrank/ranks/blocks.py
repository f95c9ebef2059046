"""Blocks of a model whose activations are computed again for the backward pass, and not kept."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from svdbench.lowrank.layers.base import Arrange, Observer, Side, substituted


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The items of the outermost ``nn.ModuleList`` and ``nn.Sequential`` that have several layers.

    Of an item that is such a list itself, its own items.

    Example:
        >>> layer = lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        >>> len(blocks_of(nn.Sequential(*[nn.TransformerEncoderLayer(4, 2) for _ in range(3)])))
        3
    """
    if isinstance(model, nn.ModuleList | nn.Sequential):
        found = [block for item in model for block in _of_item(item)]
    else:
        found = [block for child in model.children() for block in blocks_of(child)]
    return list(dict.fromkeys(found))


def _of_item(item: nn.Module) -> list[nn.Module]:
    if isinstance(item, nn.ModuleList | nn.Sequential):
        return blocks_of(item)
    return [item] if len([*item.modules()]) > 2 else []


class Recomputing:
    """Within :meth:`of`, blocks keep their inputs alone between forward and backward pass.

    What observers of weights in the blocks see in the second computation is not counted again.
    """

    def __init__(self) -> None:
        self.again = False

    @contextmanager
    def of(self, blocks: Iterable[nn.Module]) -> Iterator[None]:
        """Replace the forward of each block, within the context."""
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(substituted(block, self._checkpointed(block.forward)))
            yield

    def once(self, observer: Observer) -> Observer:
        """An observer that is not called while a block is computed again."""
        return _FirstPassObserver(observer, self)

    def _checkpointed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            inputs = [each for each in tree_leaves((args, options)) if isinstance(each, Tensor)]
            before = [each._version for each in inputs]

            def unchanged(*args: Any, **options: Any) -> Any:
                if self.again and [each._version for each in inputs] != before:
                    raise RuntimeError(
                        "the input of a block of the model is overwritten later, so that the block "
                        "can't be computed again: give blockwise=False"
                    )
                return forward(*args, **options)

            def contexts() -> tuple[nullcontext[None], _Recomputation]:
                return nullcontext(), _Recomputation(self)

            return checkpoint(unchanged, *args, use_reentrant=False, context_fn=contexts, **options)

        return run


class _Recomputation:
    """The time of a second computation; entered once for each backward pass."""

    def __init__(self, state: Recomputing) -> None:
        self.state = state

    def __enter__(self) -> None:
        self.state.again = True

    def __exit__(self, *error: object) -> None:
        self.state.again = False


class _FirstPassObserver:
    def __init__(self, observer: Observer, state: Recomputing) -> None:
        self.observer, self.state = observer, state

    def columns(self, X: Tensor) -> None:
        if not self.state.again:
            self.observer.columns(X)

    def picks(self, rows: Tensor) -> None:
        if not self.state.again:
            self.observer.picks(rows)

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        return self.observer.output(y, arrange, side=side)
