"""Writes pictures, complete or not at all."""

from pathlib import Path

from robustsabn.errors import UsageError
from robustsabn.files import replacing
from robustsabn.style.pictures import Picture

__all__ = ["FORMATS", "check_format", "suffix_for", "write_picture"]

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_LONGEST = {"JPEG": 65_535, "WEBP": 16_383}
_SETTINGS: dict[str, dict[str, int | str]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_deflate"},
}


def suffix_for(content: Path) -> str:
    """The ending of a new file: that of the content if pictures are written in its format, else .png."""
    return content.suffix if content.suffix.lower() in FORMATS else ".png"


def check_format(out: Path, picture: Picture) -> None:
    """Raise UsageError if the format of `out` cannot hold the picture."""
    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise UsageError(f"{out}: pictures are written as {' '.join(FORMATS)}; give one of these endings")
    if form == "JPEG" and picture.is_transparent:
        raise UsageError(f"{out}: the picture has transparent pixels, which JPEG cannot hold; give FILE.png")
    if max(picture.size) > _LONGEST.get(form, max(picture.size)):
        raise UsageError(
            f"{out}: {form} holds at most {_LONGEST[form]:,} pixels a side, the picture has "
            f"{max(picture.size):,}; give FILE.png"
        )


def write_picture(out: str | Path, picture: Picture) -> None:
    """Write a picture with its profile, in the format that the ending of `out` says.

    JPEG and WebP have quality 95. An existing file is replaced when the new one is complete. Raises
    UsageError if the format cannot hold the picture, and WriteError as `replacing`."""
    out = Path(out)
    check_format(out, picture)
    form = FORMATS[out.suffix.lower()]
    image = picture.image.convert("RGB") if form == "JPEG" else picture.image
    with replacing(out) as aside:
        image.save(aside, form, icc_profile=picture.profile, **_SETTINGS.get(form, {}))
