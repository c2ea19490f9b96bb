"""torchvision: classification, quantisable, segmentation, detection, video, optical flow; one per family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from zoo.network import Network, images

__all__ = ["networks"]

CLASSIFICATION: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (64, {}),
    "convnext_tiny": (32, {}),
    "densenet121": (32, {}),
    "efficientnet_b0": (32, {}),
    "efficientnet_v2_s": (32, {}),
    "googlenet": (64, {"init_weights": False}),
    "inception_v3": (96, {"init_weights": False}),
    "mnasnet0_5": (32, {}),
    "mobilenet_v2": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "regnet_x_400mf": (32, {}),
    "regnet_y_400mf": (32, {}),
    "resnet18": (32, {}),
    "resnext50_32x4d": (32, {}),
    "shufflenet_v2_x0_5": (32, {}),
    "squeezenet1_1": (64, {}),
    "swin_t": (64, {}),
    "swin_v2_t": (64, {}),
    "vgg11_bn": (32, {"init_weights": False}),
    "vit_b_32": (64, {"image_size": 64}),
    "quantized_googlenet": (64, {"quantize": False, "init_weights": False}),
    "quantized_mobilenet_v2": (32, {"quantize": False}),
    "quantized_mobilenet_v3_large": (32, {"quantize": False}),
    "quantized_resnet18": (32, {"quantize": False}),
    "quantized_shufflenet_v2_x0_5": (32, {"quantize": False}),
}
SEGMENTATION = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
DETECTION: dict[str, int] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 64,
    "fasterrcnn_resnet50_fpn": 64,
    "fasterrcnn_resnet50_fpn_v2": 64,
    "fcos_resnet50_fpn": 64,
    "keypointrcnn_resnet50_fpn": 64,
    "maskrcnn_resnet50_fpn": 64,
    "maskrcnn_resnet50_fpn_v2": 64,
    "retinanet_resnet50_fpn": 64,
    "retinanet_resnet50_fpn_v2": 64,
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}
VIDEO = {"mc3_18": 4, "r2plus1d_18": 4, "r3d_18": 4, "swin3d_t": 4}


def networks() -> Iterator[Network]:
    """Every network, by kind."""
    _stand_in_for_operators()
    models = _torchvision.load("torchvision.models")

    def make(name: str, **options: Any) -> Callable[[], nn.Module]:
        return partial(models.get_model, name, weights=None, **options)

    for name, (size, options) in CLASSIFICATION.items():
        build = make(name, num_classes=10, **options)
        yield Network("torchvision classification", name, build, images(size), classifies=True)
    yield Network("torchvision classification", "MaxViT, two blocks", _maxvit, images(64), classifies=True)
    for name in SEGMENTATION:
        options = {"aux_loss": True} if "lraspp" not in name else {}
        build = make(name, num_classes=5, weights_backbone=None, **options)
        yield Network("torchvision segmentation", name, build, images(64))
    for name, size in DETECTION.items():
        options = {} if name.startswith("ssd") else {"min_size": size, "max_size": size}
        build = make(name, num_classes=3, weights_backbone=None, **options)
        yield Network("torchvision detection", name, build, partial(_scenes, size), lists=True)
    yield Network(
        "torchvision detection", "FasterRCNN, frozen batch norms", _frozen, partial(_scenes, 64), lists=True
    )
    for name, frames in VIDEO.items():
        build = make(name, num_classes=10)
        yield Network("torchvision video", name, build, partial(_clips, frames), classifies=True)
    yield Network("torchvision video", "s3d", _s3d, partial(_clips, 16), classifies=True)
    yield Network("torchvision video", "MViT, two blocks", _mvit, partial(_clips, 4), classifies=True)
    for name in ("raft_small", "raft_large"):
        yield Network("torchvision optical flow", name, make(name), partial(_pairs, 128))


def _clips(frames: int, n: int) -> tuple[Tensor]:
    return (torch.rand(n, 3, frames, 32, 32),)


def _pairs(size: int, n: int) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 3, size, size), torch.rand(n, 3, size, size)


def _scenes(size: int, n: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    box = torch.tensor([[0.1, 0.2, 0.6, 0.7]]) * size
    points = torch.rand(1, 17, 3) * 0.5 * size
    points[..., 2] = 1
    target = {"boxes": box, "labels": torch.tensor([1]), "keypoints": points}
    target["masks"] = torch.zeros(1, size, size, dtype=torch.uint8)
    target["masks"][:, size // 5 : size // 2, size // 5 : size // 2] = 1
    return [torch.rand(3, size, size) for _ in range(n)], [dict(target) for _ in range(n)]


def _frozen() -> nn.Module:
    detection = _torchvision.load("torchvision.models.detection")
    utils = _torchvision.load("torchvision.models.detection.backbone_utils")
    frozen = _torchvision.load("torchvision.ops").FrozenBatchNorm2d
    backbone = utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=frozen)
    made: nn.Module = detection.FasterRCNN(backbone, 3, min_size=64, max_size=64)
    return made


def _maxvit() -> nn.Module:
    made: nn.Module = _torchvision.load("torchvision.models.maxvit").MaxVit(
        (64, 64), 16, 2, [16, 32], [1, 1], 8, 0.2, num_classes=10
    )
    return made


def _s3d() -> nn.Module:
    made: Any = _torchvision.load("torchvision.models").get_model("s3d", weights=None, num_classes=10)
    made.avgpool = nn.AdaptiveAvgPool3d(1)  # its own average is for images of 224 pixels
    out: nn.Module = made
    return out


def _mvit() -> nn.Module:
    mvit = _torchvision.load("torchvision.models.video.mvit")
    blocks = [
        mvit.MSBlockConfig(1, 32, 32, [3, 3, 3], [], [1, 2, 2], [1, 1, 1]),
        mvit.MSBlockConfig(2, 32, 64, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    made: nn.Module = mvit.MViT(
        (32, 32),
        4,
        blocks,
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=10,
    )
    return made


def _stand_in_for_operators() -> None:
    """Non-maximum suppression in Python, where torchvision's wheel was built for another torch."""
    extension, boxes = _torchvision.load("torchvision.extension"), _torchvision.load("torchvision.ops.boxes")
    if not extension._has_ops():
        boxes.nms = _nms


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    iou = _torchvision.load("torchvision.ops.boxes").box_iou(boxes, boxes)
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not kept or float(iou[i, kept].max()) <= iou_threshold:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
