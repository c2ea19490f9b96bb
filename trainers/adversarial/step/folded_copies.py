"""The network that attacks use in training: the model, or a folded copy with its current weights."""

from torch import Tensor, nn

from robustsabn.attacks.folding.folded_copy import FoldedCopy, following_copy
from robustsabn.routing import Selection, maybe_route

__all__ = ["FoldedCopies"]

_EXAMPLES = 8


class FoldedCopies:
    """Folded copies of `model`, one for each route that is attacked in eval mode.

    A copy is made, and compared with the model, at the first attack after `clear`; later attacks only update
    its weights. The trainer clears the copies at every checkpoint, so that a resumed run makes the same
    copies as an uninterrupted one.
    """

    def __init__(self, model: nn.Module, wanted: bool) -> None:
        self.model, self.wanted = model, wanted
        self.made: dict[str | int, FoldedCopy | None] = {}

    def network(self, selection: Selection, x: Tensor) -> nn.Module:
        """The network to attack on images like x through `selection`.

        A copy, or the model if there is no safe copy.
        """
        if not self.wanted or not isinstance(selection, (str, int)):
            return self.model
        with maybe_route(self.model, selection):
            if selection not in self.made:
                self.made[selection] = following_copy(self.model, x[:_EXAMPLES].detach())
            elif (current := self.made[selection]) is not None:
                current.refresh()
        copy = self.made[selection]
        return self.model if copy is None else copy.network

    def clear(self) -> None:
        """Forget the copies, so that the next attack makes new ones."""
        self.made = {}
