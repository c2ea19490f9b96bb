"""segmentation-models-pytorch and monai."""

from __future__ import annotations

from collections.abc import Iterator

from robustsabn import _torchvision
from zoo.making import Options, maker
from zoo.network import Network, images

__all__ = ["networks"]

SEGMENTATION: dict[str, Options] = {
    "Unet": {},
    "UnetPlusPlus": {},
    "MAnet": {},
    "Linknet": {},
    "FPN": {},
    "PSPNet": {},
    "DeepLabV3": {},
    "DeepLabV3Plus": {},
    "UPerNet": {},
    "Segformer": {"encoder_name": "mit_b0"},
    "DPT": {"encoder_name": "tu-vit_tiny_patch16_224", "dynamic_img_size": True},
    "Unet, efficientnet-b0": {"encoder_name": "efficientnet-b0"},
    "Unet, tu-convnext_atto": {
        "encoder_name": "tu-convnext_atto",
        "encoder_depth": 4,
        "decoder_channels": (64, 32, 16, 8),
    },
    "Unet, mobileone_s0": {"encoder_name": "mobileone_s0"},
    "FPN, mix transformer": {"encoder_name": "mit_b0"},
}
_2D: Options = {"spatial_dims": 2, "in_channels": 3, "out_channels": 4}
_3D: Options = {"spatial_dims": 3, "in_channels": 1, "out_channels": 4}
MEDICAL: dict[str, tuple[Options, int]] = {
    "AHNet": ({"spatial_dims": 2, "in_channels": 3, "out_channels": 4, "upsample_mode": "bilinear"}, 128),
    "AttentionUnet": ({**_2D, "channels": (8, 16, 32), "strides": (2, 2)}, 32),
    "AutoencoderKL": (
        {
            **_2D,
            "channels": (16, 32),
            "num_res_blocks": 1,
            "norm_num_groups": 8,
            "attention_levels": (False, True),
        },
        32,
    ),
    "BasicUNet": ({**_2D, "features": (8, 8, 16, 16, 32, 8)}, 32),
    "BasicUNetPlusPlus": ({**_2D, "features": (8, 8, 16, 16, 32, 8)}, 32),
    "DenseNet121": (_3D, 32),
    "DynUNet": ({**_2D, "kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2)}, 32),
    "EfficientNetBN": (
        {
            "model_name": "efficientnet-b0",
            "pretrained": False,
            "spatial_dims": 2,
            "in_channels": 3,
            "num_classes": 10,
        },
        32,
    ),
    "FlexibleUNet": ({"in_channels": 3, "out_channels": 4, "backbone": "resnet18"}, 64),
    "HighResNet": ({**_2D}, 16),
    "MedNeXt": (
        {**_2D, "init_filters": 8, "blocks_down": (1, 1), "blocks_bottleneck": 1, "blocks_up": (1, 1)},
        32,
    ),
    "Discriminator": ({"in_shape": (3, 32, 32), "channels": (8, 16), "strides": (2, 2)}, 32),
    "Quicknat": ({"num_classes": 4, "num_channels": 3}, 32),
    "PatchDiscriminator": ({"spatial_dims": 2, "channels": 8, "in_channels": 3, "num_layers_d": 2}, 32),
    "ResNet": (
        {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "block_inplanes": [8, 16, 32, 64],
            "spatial_dims": 3,
            "n_input_channels": 1,
            "num_classes": 10,
        },
        32,
    ),
    "SegResNet": ({**_3D, "init_filters": 8}, 16),
    "SwinUNETR": (
        {**_2D, "feature_size": 12, "patch_size": 2, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
        64,
    ),
    "UNETR": (
        {**_2D, "img_size": 32, "feature_size": 8, "hidden_size": 48, "mlp_dim": 64, "num_heads": 4},
        32,
    ),
    "UNet": ({**_2D, "channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 1}, 32),
    "VNet": ({**_3D}, 16),
    "VarAutoEncoder": (
        {
            "spatial_dims": 2,
            "in_shape": (3, 32, 32),
            "out_channels": 3,
            "latent_size": 8,
            "channels": (8, 16),
            "strides": (2, 2),
        },
        32,
    ),
    "ViT": (
        {
            "in_channels": 3,
            "img_size": 32,
            "patch_size": 8,
            "hidden_size": 48,
            "mlp_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "classification": True,
            "spatial_dims": 2,
            "num_classes": 10,
        },
        32,
    ),
}


def networks() -> Iterator[Network]:
    """Every network of these packages."""
    _torchvision.load()
    for name, options in SEGMENTATION.items():
        options = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 4, **options}
        build = maker("segmentation_models_pytorch", name.partition(",")[0], options)
        yield Network("segmentation-models-pytorch", name, build, images(64))
    for name, (options, size) in MEDICAL.items():
        channels = options.get("in_channels", options.get("num_channels", options.get("n_input_channels", 3)))
        batch = images(size, channels, dims=3 if options.get("spatial_dims") == 3 else 2)
        yield Network("monai", name, maker("monai.networks.nets", name, options), batch)
