"""Encoders: files in each layout, calibration, one's own; what a checkpoint keeps of them."""

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.models.style import build_encoder
from robustsabn.models.style.decoder import build_decoder
from robustsabn.models.style.encoders.convolutions import VGG16, VGG19
from robustsabn.models.style.encoders.encoder import FLOOR, Encoder
from tests.helpers.style.case import OWN, Own

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def layers(widths: tuple[int, ...]) -> list[nn.Conv2d]:
    """The convolutions of a VGG with random weights."""
    torch.manual_seed(0)
    sizes = [3, *(width for width in widths if width)]
    convs = [nn.Conv2d(a, b, 3) for a, b in pairwise(sizes)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight)
    return convs


def reference(x: Tensor, widths: tuple[int, ...], convs: list[nn.Conv2d]) -> dict[str, Tensor]:
    """Features of x at the first activation of each block."""
    found, place, block, first = dict[str, Tensor](), 0, 1, True
    for width in widths:
        if not width:
            x, block, first = nn.functional.max_pool2d(x, 2, ceil_mode=True), block + 1, True
            continue
        x = convs[place](nn.ReflectionPad2d(1)(x)).relu()
        place += 1
        if first:
            found[f"relu{block}_1"] = x
        first = False
    return found


def torchvision_state(widths: tuple[int, ...], convs: list[nn.Conv2d]) -> dict[str, Tensor]:
    """Weights under torchvision's names: a ReLU follows each convolution in `features`."""
    state, at, place = dict[str, Tensor](), 0, 0
    for width in widths:
        if width and place < len(convs):
            own = convs[place].state_dict()
            state |= {f"features.{at}.{name}": value for name, value in own.items()}
            place += 1
        at += 2 if width else 1
    return state


@pytest.mark.parametrize(
    ("kind", "widths", "given"), [("vgg16", VGG16, "caffe"), ("vgg19", VGG19, "torchvision")]
)
def test_a_torchvision_vgg_sees_what_it_was_trained_on(
    tmp_path: Path, kind: str, widths: tuple[int, ...], given: str
) -> None:
    convs, file = layers(widths), tmp_path / "vgg.pth"
    torch.save({**torchvision_state(widths, convs), "classifier.0.weight": torch.zeros(2, 2)}, file)
    spec = f"{kind}:{file}" + (",input=caffe" if given == "caffe" else "")
    encoder, x = build_encoder(spec, scaled=False), torch.rand(1, 3, 22, 19)
    if given == "caffe":
        seen = 255 * x.flip(1) - torch.tensor([104.007, 116.669, 122.679]).view(-1, 1, 1)
    else:
        seen = (x - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)
    found = encoder(x)
    assert tuple(found) == encoder.taps == TAPS
    for tap, features in reference(seen, widths, convs).items():
        torch.testing.assert_close(
            found[tap], features, rtol=1e-3, atol=1e-3 * float(features.detach().mean())
        )
    assert tuple(encoder(x, "relu2_1")) == TAPS[:2]
    assert encoder.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_original_layout_has_a_convolution_of_the_colours_first(tmp_path: Path) -> None:
    convs, colours = layers(VGG19), nn.Conv2d(3, 3, 1)
    parts: list[nn.Module] = [colours]
    place = 0
    for width in VGG19:
        if width:
            parts += [nn.ReflectionPad2d(1), convs[place], nn.ReLU()]
            place += 1
        else:
            parts.append(nn.MaxPool2d(2, 2, ceil_mode=True))
    original = nn.Sequential(*parts)
    assert len(original) == 31
    # the numbers of the official modules
    assert sum(p.numel() for p in original.parameters()) == 3_505_740
    assert sum(p.numel() for p in build_decoder(VGG19).parameters()) == 3_505_219
    file = tmp_path / "vgg_normalised.pth"
    torch.save(original.state_dict(), file)
    encoder, x = build_encoder(f"vgg_normalised:{file}"), torch.rand(2, 3, 21, 32)
    found = encoder(x)
    for tap, end in zip(TAPS, (4, 11, 18, 31), strict=True):
        torch.testing.assert_close(found[tap], original[:end](x), rtol=1e-3, atol=1e-4)
    assert not encoder.scaled
    assert encoder.layout("relu4_1") == VGG19
    torch.save({"0.weight": torch.zeros(64, 3, 3, 3), "0.bias": torch.zeros(64)}, file)
    with pytest.raises(ModelError, match="write vgg19:FILE or vgg16:FILE"):
        build_encoder(f"vgg_normalised:{file}")


def test_a_file_of_the_first_blocks_has_their_taps(tmp_path: Path) -> None:
    convs, file = layers(VGG16)[:5], tmp_path / "vgg.pth"
    state = {name: value.half() for name, value in torchvision_state(VGG16, convs).items()}
    torch.save(state, file)
    encoder = build_encoder(f"vgg16:{file}")
    assert encoder.taps == TAPS[:3]
    assert encoder.stride == {"relu1_1": 1, "relu2_1": 2, "relu3_1": 4}
    assert encoder(torch.rand(1, 3, 8, 8))["relu3_1"].dtype == torch.float32
    with pytest.raises(ModelError, match="is none of the encoder"):
        encoder.layout("relu4_1")
    torch.save({"features.0.weight": torch.zeros(32, 3, 3, 3), "features.0.bias": torch.zeros(32)}, file)
    with pytest.raises(ModelError, match="convolution 1 has weights"):
        build_encoder(f"vgg16:{file}")
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(ModelError, match="no convolutions"):
        build_encoder(f"vgg19:{file}")


def test_a_calibrated_channel_has_a_mean_of_one_and_a_dead_one_stays_quiet() -> None:
    body = Own()
    with torch.no_grad():
        conv = body.convs[1]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight[3] *= 1e-4
        conv.bias[3] = 1e-5
    encoder, x = Encoder(body, "own"), torch.rand(8, 3, 16, 16)
    before = encoder(x)["second"].mean((0, 2, 3))
    encoder.calibrate(x)
    means = encoder(x)["second"].mean((0, 2, 3))
    least = FLOOR * float(before.mean())
    for c in range(16):
        assert means[c] == pytest.approx(float(before[c]) / max(float(before[c]), least), rel=1e-4)
    assert 0 < means[3] < 0.05
    assert float(means.max()) == pytest.approx(1, rel=1e-4)


def test_the_random_encoder_is_half_active_and_rebuilt_from_a_few_hundred_numbers() -> None:
    encoder, x = build_encoder("random"), torch.rand(8, 3, 32, 32)
    encoder.calibrate(x)
    found = encoder(x)
    for features in found.values():
        assert 0.4 < float((features > 0).float().mean()) < 0.6
        assert float(features.mean()) == pytest.approx(1, abs=0.1)
    kept = encoder.state_dict()
    assert sum(value.numel() for value in kept.values()) < 1000
    assert not list(encoder.parameters())
    again = build_encoder("random")
    again.load_state_dict(kept)
    torch.testing.assert_close(again(x), found, rtol=0, atol=0)


def test_nothing_of_an_encoder_of_ones_own_is_trained_or_kept() -> None:
    encoder, other = build_encoder(OWN), build_encoder(OWN)
    assert encoder.digest == other.digest != ""
    assert set(encoder.state_dict()) == {"scale_0", "scale_1", "scale_2"}
    assert not list(encoder.parameters())
    assert not encoder.train().body.training
    assert encoder.layout("third") == (4, 4, 0, 16, 16, 0, 8)
    assert [layer.out_channels for layer in build_decoder((4, 4, 0, 16)) if isinstance(layer, nn.Conv2d)] == [
        4,
        4,
        3,
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("randm", "did you mean random"),
        ("vgg16:missing.pth", "no such weight file"),
        ("vgg16:missing.pth,input=cafe", "did you mean caffe"),
        ("torch.nn:Identity", "has no taps"),
        ("torch:ones_like", "failed"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_refused_in_one_line(spec: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        build_encoder(spec)
    assert "\n" not in str(caught.value)
