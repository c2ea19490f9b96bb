"""Pictures in the style of others, of any size and kind: read, stylised in tiles, written.

style = picture_statistics(stylizer, read_picture("painting.jpg", 512))
write_picture("result.png", stylize(stylizer, read_picture("photo.jpg"), style, alpha=0.8))
"""

from robustsabn.style.colours import with_colours_of
from robustsabn.style.pictures import Picture, read_mask, read_picture
from robustsabn.style.transfer import picture_statistics, stylize
from robustsabn.style.writing import write_picture

__all__ = [
    "Picture",
    "picture_statistics",
    "read_mask",
    "read_picture",
    "stylize",
    "with_colours_of",
    "write_picture",
]
