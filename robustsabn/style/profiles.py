"""Colour profiles (ICC): kept where they describe RGB, applied where they describe other colours."""

import io

from PIL import Image, ImageCms

__all__ = ["as_screen_colours"]

_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""Colour spaces in the header of a profile, at bytes 16 to 20, and modes of PIL."""


def as_screen_colours(image: Image.Image) -> tuple[Image.Image, bytes | None]:
    """An image of at most 8 bits as RGB or RGBA, and the profile that describes its numbers, if any.

    A profile that cannot be used is ignored, as viewers do."""
    found = image.info.get("icc_profile")
    profile: bytes = found if isinstance(found, bytes) else b""
    space = _MODES.get(profile[16:20])
    shown = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if space == "RGB":
        return shown, None if image.mode == "CMYK" else profile
    fitting = {"L": ("1", "L", "LA"), "CMYK": ("CMYK",)}.get(space or "", ())
    if space is None or image.mode not in fitting:
        return shown, None
    converted = _by_profile(image.convert(space), profile)
    if converted is None:
        return shown, None
    if shown.mode == "RGBA":
        converted.putalpha(shown.getchannel("A"))
    return converted, None


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The image in sRGB; None if its profile is damaged."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
