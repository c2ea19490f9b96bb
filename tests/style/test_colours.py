"""Colours that are kept: chroma by luminance transfer, moments by a linear map of the style."""

import numpy as np
import pytest
import torch

from robustsabn.errors import InputError
from robustsabn.style import Picture, picture_statistics, stylize, with_colours_of
from robustsabn.style.colours import colour_moments, with_luminance_of
from tests.helpers.style.stylizers import random_stylizer

RNG = np.random.default_rng(0)


def picture(low: int, high: int, height: int = 20, width: int = 30) -> Picture:
    return Picture(pixels=RNG.integers(low, high, (height, width, 3), dtype=np.uint8))


def test_luminance_is_that_of_the_result_and_chroma_that_of_the_content() -> None:
    content, result = 0.4 + 0.2 * torch.rand(1, 3, 5, 7), 0.4 + 0.2 * torch.rand(1, 3, 5, 7)
    kept = with_luminance_of(result, content)
    for i in range(5):
        for j in range(7):
            (r, g, b), (x, y, z), (u, v, w) = (p[0, :, i, j].tolist() for p in (kept, content, result))
            assert 0.299 * r + 0.587 * g + 0.114 * b == pytest.approx(
                0.299 * u + 0.587 * v + 0.114 * w, abs=1e-5
            )
            assert (r - g, b - g) == pytest.approx((x - y, z - y), abs=1e-5)


def test_the_style_gets_mean_and_covariance_of_the_content() -> None:
    style, content = picture(0, 120), picture(60, 200)
    content.pixels[..., 1] = content.pixels[..., 0] // 2 + content.pixels[..., 1] // 3
    for found, wanted in zip(
        colour_moments(with_colours_of(style, content).pixels), colour_moments(content.pixels), strict=True
    ):
        assert np.abs(found - wanted).max() < 0.01  # some colours are clipped, and all are rounded


def test_moments_are_those_of_the_obvious_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustsabn.style.colours._AT_ONCE", 100)
    pixels = picture(0, 256).pixels
    mean, covariance = colour_moments(pixels)
    colours = pixels.reshape(-1, 3) / 255
    assert np.allclose(mean, colours.mean(0), atol=1e-12)
    assert np.allclose(covariance, np.cov(colours.T, bias=True), atol=1e-12)


def test_pictures_of_one_colour_stay_finite() -> None:
    flat, varied = Picture(pixels=np.full((4, 4, 3), 90, np.uint8)), picture(0, 256)
    assert (with_colours_of(flat, varied).pixels.std((0, 1)) == 0).all()
    assert np.abs(with_colours_of(varied, flat).pixels.astype(int) - 90).max() <= 1


def test_a_stylised_picture_keeps_its_colours() -> None:
    stylizer, content, style = random_stylizer(), picture(90, 160), picture(0, 256)
    result = stylize(stylizer, content, picture_statistics(stylizer, style), keep_colours=True).pixels
    inside = ((result > 0) & (result < 255)).all(2)
    assert inside.mean() > 0.5
    for pair in ((0, 1), (2, 1)):
        chroma, own = (p[..., pair[0]].astype(int) - p[..., pair[1]] for p in (result, content.pixels))
        assert np.abs(chroma - own)[inside].max() <= 1


def test_a_mask_keeps_the_content_where_it_is_black_at_any_size() -> None:
    stylizer, content, style = random_stylizer(), picture(0, 256, 40, 60), picture(0, 256)
    statistics = picture_statistics(stylizer, style)
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = 255
    result = stylize(stylizer, content, statistics, mask=mask).pixels
    whole = stylize(stylizer, content, statistics).pixels
    assert np.array_equal(result[:, :24], content.pixels[:, :24])
    assert np.array_equal(result[:, 36:], whole[:, 36:])
    assert (whole != content.pixels).mean() > 0.9
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)):
        with pytest.raises(InputError, match="mask is"):
            stylize(stylizer, content, statistics, mask=wrong)  # type: ignore[arg-type]


def test_alpha_mixes_features_and_mixes_of_styles_are_between_them() -> None:
    stylizer, content = random_stylizer(), picture(0, 256)
    first, second = (picture_statistics(stylizer, picture(*ends)) for ends in ((0, 256), (100, 140)))
    results = [stylize(stylizer, content, first, alpha=alpha).pixels for alpha in (0, 0.5, 1)]
    assert np.array_equal(results[0], stylize(stylizer, content, second, alpha=0).pixels)
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])
    assert np.array_equal(stylize(stylizer, content, [(first, 1.0), (second, 0.0)]).pixels, results[2])
    mixed = stylize(stylizer, content, [(first, 0.5), (second, 0.5)]).pixels
    swapped = stylize(stylizer, content, [(second, 0.5), (first, 0.5)]).pixels
    assert np.abs(mixed.astype(int) - swapped).max() <= 1
    for wrong in (-0.1, 1.1, float("nan"), "1"):
        with pytest.raises(InputError, match="alpha is"):
            stylize(stylizer, content, first, alpha=wrong)  # type: ignore[arg-type]


def test_styles_of_a_network_with_fixed_ones_are_named() -> None:
    stylizer, content = random_stylizer("routes", styles=("waves", "dots")), picture(0, 256, 30, 170)
    waves, dots = (stylize(stylizer, content, name).pixels for name in ("waves", "dots"))
    assert not np.array_equal(waves, dots)
    parted = stylize(stylizer, content, "waves", tile=128).pixels
    assert np.abs(parted.astype(int) - waves).max() <= 1
    assert np.array_equal(stylize(stylizer, content, [("waves", 1.0), ("dots", 0.0)]).pixels, waves)


def test_what_belongs_to_the_content_stays() -> None:
    stylizer, plain = random_stylizer(), picture(0, 256)
    opacity = np.full(plain.size, 7, np.uint8)
    content = Picture(pixels=plain.pixels, opacity=opacity, profile=b"profile")
    result = stylize(stylizer, content, picture_statistics(stylizer, plain))
    assert (result.opacity is opacity, result.profile, result.size) == (True, b"profile", plain.size)
