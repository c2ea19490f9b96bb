"""vit-pytorch and small packages of one or a few networks."""

from __future__ import annotations

from collections.abc import Iterator

from robustsabn import _torchvision
from zoo.making import Options, maker
from zoo.network import Network, images

__all__ = ["networks"]

VISION_TRANSFORMERS: dict[str, tuple[str, Options]] = {
    "ViT": (
        "vit_pytorch",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "SimpleViT": (
        "vit_pytorch",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "CaiT": (
        "vit_pytorch.cait",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "cls_depth": 1,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "CCT": (
        "vit_pytorch.cct",
        {
            "img_size": 32,
            "embedding_dim": 32,
            "n_conv_layers": 1,
            "num_layers": 2,
            "num_heads": 4,
            "mlp_ratio": 2.0,
            "num_classes": 10,
        },
    ),
    "CrossViT": (
        "vit_pytorch.cross_vit",
        {
            "image_size": 64,
            "num_classes": 10,
            "depth": 1,
            "sm_dim": 32,
            "lg_dim": 48,
            "sm_patch_size": 8,
            "lg_patch_size": 16,
        },
    ),
    "CvT": ("vit_pytorch.cvt", {"num_classes": 10}),
    "DeepViT": (
        "vit_pytorch.deepvit",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "LeViT": (
        "vit_pytorch.levit",
        {
            "image_size": 64,
            "num_classes": 10,
            "stages": 2,
            "dim": (32, 48),
            "depth": 1,
            "heads": (2, 3),
            "mlp_mult": 2,
        },
    ),
    "MaxViT": ("vit_pytorch.max_vit", {"num_classes": 10, "dim": 32, "depth": (1, 1), "window_size": 4}),
    "MobileViT": (
        "vit_pytorch.mobile_vit",
        {
            "image_size": (64, 64),
            "dims": [24, 32, 40],
            "channels": [8, 8, 12, 12, 16, 16, 24, 24, 32, 32, 64],
            "num_classes": 10,
        },
    ),
    "NesT": (
        "vit_pytorch.nest",
        {
            "image_size": 32,
            "patch_size": 4,
            "dim": 24,
            "heads": 3,
            "num_hierarchies": 2,
            "block_repeats": (1, 1),
            "num_classes": 10,
        },
    ),
    "nViT": (
        "vit_pytorch.normalized_vit",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "PiT": (
        "vit_pytorch.pit",
        {
            "image_size": 32,
            "patch_size": 8,
            "dim": 32,
            "num_classes": 10,
            "depth": (1, 1),
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "RegionViT": (
        "vit_pytorch.regionvit",
        {"dim": (16, 32, 32, 64), "depth": (1, 1, 1, 1), "window_size": 2, "num_classes": 10},
    ),
    "RvT": (
        "vit_pytorch.rvt",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
    "ScalableViT": (
        "vit_pytorch.scalable_vit",
        {
            "num_classes": 10,
            "dim": 16,
            "heads": (1, 2),
            "depth": (1, 1),
            "ssa_dim_key": 8,
            "reduction_factor": (2, 1),
            "window_size": (4, 4),
        },
    ),
    "T2TViT": (
        "vit_pytorch.t2t",
        {
            "dim": 32,
            "image_size": 64,
            "depth": 1,
            "heads": 4,
            "mlp_dim": 64,
            "num_classes": 10,
            "t2t_layers": ((7, 4), (3, 2)),
        },
    ),
    "TwinsSVT": (
        "vit_pytorch.twins_svt",
        {
            "num_classes": 10,
            "s1_emb_dim": 16,
            "s2_emb_dim": 16,
            "s3_emb_dim": 32,
            "s4_emb_dim": 32,
            "s1_local_patch_size": 4,
            "s2_local_patch_size": 2,
            "s3_local_patch_size": 2,
            "s4_local_patch_size": 1,
            "s1_global_k": 2,
            "s2_global_k": 2,
            "s3_global_k": 1,
            "s4_global_k": 1,
            "s1_patch_size": 2,
            "s3_depth": 1,
        },
    ),
    "XCiT": (
        "vit_pytorch.xcit",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 10,
            "dim": 32,
            "depth": 2,
            "cls_depth": 1,
            "heads": 4,
            "mlp_dim": 64,
        },
    ),
}
OTHERS: tuple[tuple[str, str, str, Options, int], ...] = (
    (
        "efficientnet_pytorch",
        "efficientnet_pytorch",
        "EfficientNet.from_name",
        {"model_name": "efficientnet-b0", "num_classes": 10},
        64,
    ),
    (
        "facenet_pytorch",
        "facenet_pytorch",
        "InceptionResnetV1",
        {"pretrained": None, "classify": True, "num_classes": 10},
        96,
    ),
    (
        "geffnet",
        "geffnet",
        "create_model",
        {"model_name": "mobilenetv3_small_075", "num_classes": 10, "pretrained": False},
        64,
    ),
    (
        "geffnet",
        "geffnet",
        "create_model",
        {"model_name": "mixnet_s", "num_classes": 10, "pretrained": False},
        64,
    ),
    ("lightly", "lightly.models", "ResNetGenerator", {"name": "resnet-9", "num_classes": 10}, 32),
)


def networks() -> Iterator[Network]:
    """Every network of these packages."""
    _torchvision.load()
    for name, (module, options) in VISION_TRANSFORMERS.items():
        size = options.get("image_size", options.get("img_size", 64))
        batch = images(size if isinstance(size, int) else 64)
        yield Network("vit-pytorch", name, maker(module, name, options), batch, classifies=True)
    for family, module, name, options, size in OTHERS:
        label = str(options.get("model_name", name))
        yield Network(family, label, maker(module, name, options), images(size), classifies=True)
