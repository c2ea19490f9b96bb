"""The network that training attacks: itself, or a folded copy that follows its weights."""

from torch import Tensor, nn

from robustsabn.attacks.folding.folded_copy import FoldedCopy, following_copy
from robustsabn.routing import Selection, maybe_route

__all__ = ["FoldedCopies"]

_EXAMPLES = 8


class FoldedCopies:
    """Folded copies of `model`, one for each route that is attacked in eval mode.

    A copy is made, and compared with the model, at the first attack after `clear`; later ones only bring its
    weights up to date. A trainer clears with every checkpoint, so that a resumed run makes the same copies as
    one that went on.
    """

    def __init__(self, model: nn.Module, wanted: bool) -> None:
        self.model, self.wanted = model, wanted
        self.made: dict[str | int, FoldedCopy | None] = {}

    def network(self, selection: Selection, x: Tensor) -> nn.Module:
        """What to attack on images like x through `selection`: a copy, or the model where there is no safe
        one.
        """
        if not self.wanted or not isinstance(selection, (str, int)):
            return self.model
        with maybe_route(self.model, selection):
            if selection not in self.made:
                self.made[selection] = following_copy(self.model, x[:_EXAMPLES].detach())
            elif (mirror := self.made[selection]) is not None:
                mirror.refresh()
        found = self.made[selection]
        return self.model if found is None else found.network

    def clear(self) -> None:
        """Make new copies from here on."""
        self.made = {}
