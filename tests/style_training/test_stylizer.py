"""Pictures of any size, alpha, parts of a picture, and wrong input."""

import pytest
import torch

from robustsabn.errors import InputError
from robustsabn.layers import instance_moments
from robustsabn.models.style import StyleStatistics, Stylizer, build_encoder, build_stylizer


@pytest.fixture(scope="module")
def stylizer() -> Stylizer:
    torch.manual_seed(0)
    encoder = build_encoder("random")
    encoder.calibrate(torch.rand(4, 3, 32, 32))
    return build_stylizer(encoder, "saadain", "relu3_1").eval()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (16, 16), (33, 18)])
def test_a_result_has_the_size_of_the_content(stylizer: Stylizer, size: tuple[int, int]) -> None:
    content = torch.rand(2, 3, *size)
    style = stylizer.style_statistics(torch.rand(1, 3, 9, 30))
    assert [tuple(value.shape) for value in style] == [(1, 128), (1, 128)]
    result = stylizer.stylize(content, style)
    assert result.shape == content.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_alpha_goes_from_the_reconstruction_to_the_style(stylizer: Stylizer) -> None:
    content = torch.rand(1, 3, 16, 16)
    style = stylizer.style_statistics(torch.rand(1, 3, 16, 16))
    features = stylizer.encode(content)
    for alpha in (0.0, 0.3, 1.0):
        target = (1 - alpha) * features + alpha * stylizer.normalise(features, None, style)
        expected = stylizer.decoder(target).clamp(0, 1)
        torch.testing.assert_close(stylizer.stylize(content, style, alpha), expected)


def test_a_part_of_a_picture_is_normalised_with_the_moments_of_the_whole(stylizer: Stylizer) -> None:
    features = torch.rand(1, 128, 6, 8)
    style = StyleStatistics(torch.rand(1, 128), torch.rand(1, 128))
    moments = StyleStatistics(*(value.flatten(1) for value in instance_moments(features)))
    whole = stylizer.normalise(features, None, style)
    part = stylizer.normalise(features[..., :3], moments, style)
    torch.testing.assert_close(part, whole[..., :3])


def test_wrong_pictures_are_refused(stylizer: Stylizer) -> None:
    for picture in (torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(InputError, match="give floats"):
            stylizer.style_statistics(picture)
    with pytest.raises(InputError, match="no pixels"):
        stylizer.style_statistics(torch.rand(1, 3, 0, 8))
