"""The styles that a user names: pictures, or fixed styles of the network, with weights."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from robustsabn.errors import InputError
from robustsabn.models.style import Mix, Stylizer
from robustsabn.paths import given_path
from robustsabn.style.colours import with_colours_of
from robustsabn.style.pictures import Picture, read_picture
from robustsabn.style.transfer import TILE, picture_statistics
from robustsabn.text import nearest, quote, shorten

__all__ = ["Styles"]


class Styles:
    """Styles with weights; pictures are read at once, and their statistics computed once.

    weights: of each name, a file or, in a network with fixed styles, one of these. Pictures are scaled so
    that the shorter side is at most `size`. Raises InputError for a name that is neither, DataError for a
    file that is no picture."""

    def __init__(self, stylizer: Stylizer, weights: Mapping[str, float], size: int, tile: int = TILE) -> None:
        self.stylizer, self.weights, self.tile = stylizer, dict(weights), tile
        self.pictures: dict[str, Picture] = {}
        for name in self.weights:
            if stylizer.styles:
                _check_name(name, stylizer.styles)
            else:
                self.pictures[name] = read_picture(_file(name), size, enlarge=False)

    @property
    def notes(self) -> list[str]:
        """What was not read of the pictures."""
        return [note for picture in self.pictures.values() for note in picture.notes]

    @cached_property
    def mix(self) -> Mix:
        """The styles as the stylizer takes them."""
        if self.stylizer.styles:
            return list(self.weights.items())
        return self._mix(self.pictures)

    def in_colours_of(self, content: Picture) -> Mix:
        """The styles with the mean and covariance of the colours of a content. Raises InputError for fixed
        styles, which have no picture."""
        if self.stylizer.styles:
            raise InputError(
                "the fixed styles of this run have no pictures to recolour; keep the colours by luminance"
            )
        return self._mix({name: with_colours_of(style, content) for name, style in self.pictures.items()})

    def _mix(self, pictures: Mapping[str, Picture]) -> Mix:
        return [
            (picture_statistics(self.stylizer, picture, self.tile), self.weights[name])
            for name, picture in pictures.items()
        ]


def _check_name(name: str, styles: tuple[str, ...]) -> None:
    if name not in styles:
        shown = ", ".join(styles[:10]) + (f" and {len(styles) - 10} more" if len(styles) > 10 else "")
        raise InputError(
            f"style {quote(name)} is none of this run{nearest(name, styles)}, which has fixed styles: "
            f"{shorten(shown, 200)}"
        )


def _file(name: str) -> Path:
    path = given_path(name, "a style", InputError)
    if not path.is_file():
        raise InputError(f"style {quote(name)}: there is no such file; give a picture")
    return path
