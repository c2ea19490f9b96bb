"""Class-conditional GANs: generators and discriminators in which the class of an image is its route.

generator, discriminator = build("sngan-32", num_classes=10, norm="sabn")
with route(generator, y): images = generator(z)        # y LongTensor (N,), images (N, 3, 32, 32) in [-1, 1]
with route(discriminator, y): scores = discriminator(images)   # (N,)
"""

from robustsabn.models.gan.official import load_official
from robustsabn.models.gan.registry import build, names

__all__ = ["build", "load_official", "names"]
