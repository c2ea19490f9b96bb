"""timm: the smallest network with norms of every family (module of models), at its smallest image size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from robustsabn import _torchvision
from zoo.network import Network, images

__all__ = ["networks"]

FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", 64, {"depth": 2, "img_size": 64}),
    "byoanet": ("eca_botnext26ts_256", 64, {"img_size": 64}),
    "byobnet": ("test_byobnet", 64, {"img_size": 64}),
    "cait": ("cait_xxs24_224", 64, {"img_size": 64}),
    "coat": ("coat_tiny", 64, {"img_size": 64}),
    "convit": ("convit_tiny", 64, {"img_size": 64}),
    "convmixer": ("convmixer_768_32", 64, {}),
    "convnext": ("test_convnext", 64, {}),
    "cpubone": ("cpubone_nano", 64, {}),
    "crossvit": ("crossvit_tiny_240", 64, {}),
    "csatv2": ("csatv2", 64, {}),
    "cspnet": ("cs3darknet_focus_s", 64, {}),
    "cspnext": ("cspnext_tiny", 64, {}),
    "davit": ("davit_tiny", 64, {"depths": (1, 1, 1, 1)}),
    "deepseek_vit": ("deepseek_vit_412m", 224, {"depth": 2, "img_size": 224}),
    "deit": ("deit_tiny_patch16_224", 64, {"img_size": 64}),
    "densenet": ("densenet121", 64, {}),
    "dla": ("dla46x_c", 64, {}),
    "dpn": ("dpn48b", 64, {}),
    "edgenext": ("edgenext_xx_small", 64, {}),
    "efficientformer": ("efficientformer_l1", 224, {"img_size": 224}),
    "efficientformer_v2": ("efficientformerv2_s0", 64, {"img_size": 64}),
    "efficientnet": ("test_efficientnet", 64, {}),
    "efficientvim": ("efficientvim_m1", 64, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 64, {"img_size": 64}),
    "eva": ("eva02_tiny_patch14_224", 64, {"img_size": 64}),
    "fasternet": ("fasternet_t0", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "gcvit": ("gcvit_xxtiny", 64, {"img_size": 64}),
    "gemma4_vit": ("gemma4_vit_167m_enc", 96, {"depth": 2, "img_size": 96}),
    "ghostnet": ("ghostnet_050", 64, {}),
    "hardcorenas": ("hardcorenas_b", 64, {}),
    "hgnet": ("hgnetv2_b0", 64, {}),
    "hiera": ("hiera_tiny_224", 64, {"img_size": 64}),
    "hieradet_sam2": ("sam2_hiera_tiny", 64, {}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "iformer": ("iformer_t", 64, {}),
    "inception_next": ("inception_next_atto", 64, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 96, {}),
    "inception_v3": ("inception_v3", 96, {}),
    "inception_v4": ("inception_v4", 96, {}),
    "lcnetv2": ("lcnetv2_small", 64, {}),
    "levit": ("levit_128s", 64, {"img_size": 64}),
    "lowformer": ("lowformer_b0", 64, {}),
    "mambaout": ("test_mambaout", 64, {}),
    "maxxvit": ("test_coatnet", 64, {"img_size": 64}),
    "metaformer": ("poolformerv2_s12", 64, {}),
    "mlp_mixer": ("gmlp_ti16_224", 64, {"img_size": 64}),
    "mobilenetv3": ("lcnet_035", 64, {}),
    "mobilenetv5": ("mobilenetv5_base", 64, {}),
    "mobilevit": ("mobilevit_xxs", 64, {"img_size": 64}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "naflexvit": ("naflexvit_base_patch16_siglip", 64, {"depth": 2, "img_size": 64}),
    "nasnet": ("nasnetalarge", 64, {}),
    "nest": ("jx_nest_tiny", 64, {"img_size": 64}),
    "nextvit": ("nextvit_small", 64, {}),
    "nfnet": ("test_nfnet", 64, {}),
    "pit": ("pit_ti_224", 64, {"img_size": 64}),
    "pnasnet": ("pnasnet5large", 64, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "qwen3_vit": ("qwen3_vit_88m", 64, {"depth": 2, "img_size": 64}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "regnet": ("regnetx_004_tv", 64, {}),
    "repghost": ("repghostnet_050", 64, {}),
    "repvit": ("repvit_m1", 64, {"img_size": 64}),
    "res2net": ("res2next50", 64, {"layers": (1, 1, 1, 1)}),
    "resnest": ("resnest14d", 64, {}),
    "resnet": ("test_resnet", 64, {}),
    "resnetv2": ("resnetv2_18", 64, {}),
    "rexnet": ("rexnet_100", 64, {}),
    "selecsls": ("selecsls42", 64, {}),
    "senet": ("legacy_seresnet18", 64, {}),
    "sequencer": ("sequencer2d_s", 64, {"layers": (1, 1, 1, 1), "img_size": 64}),
    "shvit": ("shvit_s1", 64, {}),
    "sknet": ("skresnet18", 64, {}),
    "starnet": ("starnet_s050", 64, {}),
    "swiftformer": ("swiftformer_xs", 64, {"img_size": 64}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64, {"depths": (1, 1, 1, 1), "img_size": 64}),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 64, {"depths": (1, 1, 1, 1), "img_size": 64}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 64, {"depths": (1, 1, 1, 1), "img_size": 64}),
    "tiny_vit": ("tiny_vit_5m_224", 64, {}),
    "tnt": ("tnt_s_legacy_patch16_224", 64, {"depth": 2, "img_size": 64}),
    "tresnet": ("tresnet_m", 64, {"layers": (1, 1, 1, 1)}),
    "twins": ("twins_svt_small", 64, {"depths": (1, 1, 1, 1), "img_size": 64}),
    "vgg": ("vgg11_bn", 32, {}),
    "visformer": ("visformer_tiny", 64, {"img_size": 64}),
    "vision_transformer": ("test_vit", 64, {"img_size": 64}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64}),
    "vision_transformer_relpos": ("test_vit_relpos", 64, {"img_size": 64}),
    "vision_transformer_sam": ("samvit_base_patch16_224", 64, {"depth": 2, "img_size": 64}),
    "vitamin": ("vitamin_small_224", 64, {"depth": 2, "img_size": 64}),
    "volo": ("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": ("ese_vovnet19b_slim_dw", 64, {}),
    "xception": ("legacy_xception", 64, {}),
    "xception_aligned": ("xception41p", 64, {}),
    "xcit": ("xcit_nano_12_p8_224", 64, {"img_size": 64}),
}
# other norm layers than those of the smallest network of the family
BESIDES: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("convnext", "convnextv2_atto", 64, {}),
    ("metaformer", "caformer_s18", 64, {}),
    ("mlp_mixer", "mixer_s32_224", 64, {"img_size": 64}),
    ("nfnet", "nf_resnet26", 64, {}),
    ("resnet", "resnet50_gn", 64, {"layers": (1, 1, 1, 1)}),
    ("resnetv2", "resnetv2_50d_gn", 64, {"layers": (1, 1, 1, 1)}),
    ("resnetv2", "resnetv2_50d_evos", 64, {"layers": (1, 1, 1, 1)}),
    ("resnetv2", "resnetv2_50d_frn", 64, {"layers": (1, 1, 1, 1)}),
    ("vision_transformer", "vit_tiny_patch16_224", 64, {"img_size": 64}),
)


def networks() -> Iterator[Network]:
    """Every family of the installed timm; those that are not in the table fail to build."""
    _torchvision.load()
    import timm

    modules = {
        timm.models.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()
    }
    for family in sorted(modules | FAMILIES.keys()):
        name, size, options = FAMILIES.get(family, (family, 64, {}))
        yield _network(family, name, size, options)
    for family, name, size, options in BESIDES:
        yield _network(family, name, size, options)


def _network(family: str, name: str, size: int, options: dict[str, Any]) -> Network:
    return Network(f"timm {family}", name, partial(_build, name, options), images(size), classifies=True)


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, pretrained=False, num_classes=10, **options)
    return made
