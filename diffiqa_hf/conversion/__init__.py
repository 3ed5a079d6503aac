# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Published checkpoints to ours. A dialect is one published way of naming a network's tensors; its converter is a
function from a bare foreign state dict to (config, state dict). [`DIALECTS`] has them all; it is read without torch.
"""

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedModel


# What MagFace's training code, and it alone, puts before the backbone's names.
_MAGFACE_PREFIXES = ("features.module.", "module.features.")
_VIT = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "feature.0.weight")
_IRESNET = ("conv1.weight", "prelu.weight", "layer1.0.bn3.weight", "fc.weight", "features.running_mean")


@dataclass(frozen=True)
class Dialect:
    """
    One published way of naming the tensors of a network.

    Args:
        name (`str`): What `--from` calls it.
        description (`str`): Which files those are.
        converter (`str`): `"module:function"` in `dialects/`. The function takes the bare state dict and gives
            (config, state dict); the config is a dictionary where the model belongs to diffusers.
        model_classes (`tuple[str, ...]`): `"module:class"` in `diffiqa_hf.models`; the one whose configuration the
            converter returned is built.
        has, lacks (`tuple[str, ...]`): Tensors that every file of the dialect has and none has.
        not_behind (`tuple[str, ...]`): Prefixes of the names that no file of the dialect has.
        source (`str`): Where its authors publish it.
        license (`str`): Of the weights as published there, in words.
        license_id (`str`): The Hub's identifier for it.
    """

    name: str
    description: str
    converter: str
    model_classes: tuple[str, ...]
    has: tuple[str, ...]
    source: str
    license: str
    license_id: str = "other"
    lacks: tuple[str, ...] = ()
    not_behind: tuple[str, ...] = ()

    def matches(self, names: Collection[str], prefix: str = "") -> bool:
        """Whether tensors of these names, found behind `prefix`, can be of this dialect."""
        return (
            all(name in names for name in self.has)
            and not any(name in names for name in self.lacks)
            and prefix not in self.not_behind
        )

    def load_converter(self) -> Callable:
        """Imports the converter, and torch with it."""
        return _load(f"{__name__}.dialects", self.converter)

    def load_model_classes(self) -> "list[type[PreTrainedModel]]":
        """Imports the model classes."""
        return [_load(f"{__package__.rpartition('.')[0]}.models", name) for name in self.model_classes]


def _load(package: str, name: str):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"{package}.{module}"), attribute)


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="insightface",
        description="ArcFace and CosFace IResNets of insightface's arcface_torch (backbone.pth)",
        converter="iresnet:convert_insightface_iresnet",
        model_classes=("iresnet:IResNetModel",),
        has=_IRESNET,
        lacks=("qs.weight",),
        not_behind=_MAGFACE_PREFIXES,
        source="https://github.com/deepinsight/insightface",
        license="non-commercial research only (the code is MIT)",
    ),
    Dialect(
        name="insightface-mxnet",
        description="IResNets of insightface's arcface_mxnet, as of LResNet100E-IR (MXNet, .params)",
        converter="mxnet:convert_insightface_mxnet",
        model_classes=("iresnet:IResNetModel",),
        has=("conv0_weight", "bn0_gamma", "stage1_unit1_conv1_weight"),
        source="https://github.com/deepinsight/insightface",
        license="non-commercial research only (the code is MIT)",
    ),
    Dialect(
        name="insightface-mbf",
        description="MobileFaceNets of insightface's arcface_torch (get_mbf)",
        converter="mobilefacenet:convert_insightface_mbf",
        model_classes=("mobilefacenet:MobileFaceNetModel",),
        has=("layers.0.layers.0.weight", "conv_sep.layers.0.weight", "features.layers.2.weight"),
        source="https://github.com/deepinsight/insightface",
        license="non-commercial research only (the code is MIT)",
    ),
    Dialect(
        name="insightface-vit",
        description="vision transformers of insightface's arcface_torch (vit_t to vit_h)",
        converter="face_vit:convert_insightface_vit",
        model_classes=("face_vit:FaceViTModel",),
        has=(*_VIT, "mask_token"),
        lacks=("head_qs.1.weight",),
        source="https://github.com/deepinsight/insightface",
        license="non-commercial research only (the code is MIT)",
    ),
    Dialect(
        name="cvlface-vit",
        description="vision transformers of CVLface, with absolute positions and with KP-RPE (model.pt)",
        converter="face_vit:convert_cvlface_vit",
        model_classes=("face_vit:FaceViTModel",),
        has=_VIT,
        lacks=("head_qs.1.weight", "mask_token"),
        source="https://github.com/mk-minchul/CVLface",
        license="MIT",
        license_id="mit",
    ),
    Dialect(
        name="adaface",
        description="AdaFace IR 18 to 101 (.ckpt of Lightning)",
        converter="adaface:convert_adaface",
        model_classes=("iresnet:IResNetModel",),
        has=("input_layer.0.weight", "output_layer.3.weight", "body.0.res_layer.5.running_mean"),
        source="https://github.com/mk-minchul/AdaFace",
        license="MIT",
        license_id="mit",
    ),
    Dialect(
        name="curricularface",
        description="CurricularFace IR 50 and 101",
        converter="curricularface:convert_curricularface",
        model_classes=("iresnet:IResNetModel",),
        has=("input_layer.0.weight", "output_layer.3.weight", "body.0.res_layer.4.running_mean"),
        source="https://github.com/HuangYG123/CurricularFace",
        license="MIT",
        license_id="mit",
    ),
    Dialect(
        name="magface",
        description="MagFace IResNets (the names are insightface's, the input is BGR in [0, 1])",
        converter="iresnet:convert_magface",
        model_classes=("iresnet:IResNetModel",),
        has=_IRESNET,
        lacks=("qs.weight",),
        source="https://github.com/IrvingMeng/MagFace",
        license="Apache-2.0",
        license_id="apache-2.0",
    ),
    Dialect(
        name="xiaoccer",
        description="MobileFaceNet of Xiaoccer's MobileFaceNet_Pytorch (068.ckpt)",
        converter="mobilefacenet:convert_xiaoccer",
        model_classes=("mobilefacenet:MobileFaceNetModel",),
        has=("dw_conv1.conv.weight", "linear7.conv.weight", "linear1.conv.weight"),
        source="https://github.com/Xiaoccer/MobileFaceNet_Pytorch",
        license="none stated",
        license_id="unknown",
    ),
    Dialect(
        name="foamliu",
        description="MobileFaceNet of foamliu (mobilefacenet.pt)",
        converter="mobilefacenet:convert_foamliu",
        model_classes=("mobilefacenet:MobileFaceNetModel",),
        has=("dw_conv.depthwise.weight", "gdconv.depthwise.weight", "conv3.weight"),
        source="https://github.com/foamliu/MobileFaceNet",
        license="Apache-2.0",
        license_id="apache-2.0",
    ),
    Dialect(
        name="dlib",
        description="dlib's ResNet for faces (dlib_face_recognition_resnet_model_v1.dat)",
        converter="dlib:convert_dlib_resnet",
        model_classes=("dlib_resnet:DlibResNetModel",),
        has=("0.input_rgb_image_sized.mean", "1.con.weight", "2.affine.weight", "loss.loss_metric.distance"),
        source="https://github.com/davisking/dlib-models",
        license="public domain (CC0)",
        license_id="cc0-1.0",
    ),
    Dialect(
        name="diffiqa",
        description="the UNet of DifFIQA's authors (model.pt)",
        converter="unet:convert_diffiqa_unet",
        model_classes=("unet_diffiqa:DifFIQAUNetModel",),
        has=("init_conv.weight", "time_mlp.1.weight", "downs.0.0.block1.proj.weight"),
        source="https://github.com/LSIbabnikz/DifFIQA",
        license="none stated for the weights (the code is MIT)",
        license_id="unknown",
    ),
    Dialect(
        name="diffiqa-r",
        description="DifFIQA(R), the distilled regressor",
        converter="quality:convert_diffiqa_r",
        model_classes=("modeling_face_quality:IResNetForFaceQuality",),
        has=("base.conv1.weight", "base.layer1.0.bn3.weight", "linear.weight"),
        source="https://github.com/LSIbabnikz/DifFIQA",
        license="none stated for the weights (the code is MIT; the backbone began as insightface's, which is for "
        "non-commercial research only)",
        license_id="unknown",
    ),
    Dialect(
        name="ediffiqa",
        description="eDifFIQA T, S, M and L",
        converter="quality:convert_ediffiqa",
        model_classes=(
            "modeling_face_quality:IResNetForFaceQuality",
            "modeling_face_quality:MobileFaceNetForFaceQuality",
        ),
        has=("mlp.l1.weight", "mlp.l2.weight"),
        source="https://github.com/LSIbabnikz/eDifFIQA",
        license="none stated by the repository; CC-BY-4.0 for the copies of M on the Hub and of T in OpenCV's zoo",
        license_id="other",
    ),
    Dialect(
        name="cr-fiqa",
        description="CR-FIQA S and L",
        converter="quality:convert_cr_fiqa",
        model_classes=("modeling_face_quality:IResNetForFaceQuality",),
        has=(*_IRESNET, "qs.weight"),
        source="https://github.com/fdbtrs/CR-FIQA",
        license="CC BY-NC 4.0",
        license_id="cc-by-nc-4.0",
    ),
    Dialect(
        name="vit-fiqa",
        description="ViT-FIQA (model.pt)",
        converter="face_vit:convert_vit_fiqa",
        model_classes=("face_vit:FaceViTForFaceQuality",),
        has=(*_VIT, "head_qs.1.weight"),
        source="https://github.com/atzoriandrea/ViT-FIQA-Assessing-Face-Image-Quality-using-Vision-Transformers",
        license="CC BY-NC 4.0",
        license_id="cc-by-nc-4.0",
    ),
    Dialect(
        name="sdd-fiqa",
        description="SDD-FIQA R50",
        converter="quality:convert_sdd_fiqa",
        model_classes=("modeling_face_quality:SDDFIQAForFaceQuality",),
        has=("input_layer.0.weight", "body.0.res_layer.4.running_mean", "quality.3.weight"),
        source="https://github.com/Tencent/TFace",
        license="Tencent's own (License.txt of the repository)",
    ),
    Dialect(
        name="lightqnet",
        description="LightQNet dm025, dm050 and dm100 (frozen TensorFlow graphs, .pb)",
        converter="lightqnet:convert_lightqnet",
        model_classes=("lightqnet:LightQNetForFaceQuality",),
        has=("UncertaintyModule/MobilenetV3/Conv/weights", "UncertaintyModule/Bottleneck/weights"),
        source="https://github.com/KaenChan/lightqnet",
        license="MIT",
        license_id="mit",
    ),
    Dialect(
        name="pfe",
        description="PFE, 64-CNN (TensorFlow checkpoints, .index with its .data beside it)",
        converter="pfe:convert_pfe",
        model_classes=("pfe:PFEForFaceQuality",),
        has=("SphereNet/Bottleneck/weights", "UncertaintyModule/fc_log_sigma_sq/weights"),
        source="https://github.com/seasonSH/Probabilistic-Face-Embeddings",
        license="MIT (none is stated for the files apart from the code)",
        license_id="mit",
    ),
    Dialect(
        name="faceqnet",
        description="FaceQnet v0 and v1 (Keras, .h5)",
        converter="faceqnet:convert_faceqnet",
        model_classes=("faceqnet:FaceQnetForFaceQuality",),
        has=("conv1/7x7_s2/kernel", "conv2_1_1x1_proj/kernel"),
        source="https://github.com/uam-biometrics/FaceQnet",
        license="none stated; the authors allow non-profit research only",
    ),
    Dialect(
        name="clib-fiqa",
        description="CLIB-FIQA on CLIP's RN50 (CLIB-FIQA_R50.pth)",
        converter="clib_fiqa:convert_clib_fiqa",
        model_classes=("clib_fiqa:CLIBFIQAForFaceQuality",),
        has=("visual.attnpool.positional_embedding", "text_projection", "logit_scale"),
        source="https://github.com/oufuzhao/CLIB-FIQA",
        license="MIT (none is stated for the file apart from the code; CLIP's weights are MIT as well)",
        license_id="mit",
    ),
)


def get_dialect(name: str) -> Dialect:
    """
    The dialect of that name.

    Raises:
        ValueError: There is none.
    """
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    raise ValueError(f"unknown dialect {name!r}; there are {', '.join(d.name for d in DIALECTS)}")


def recognise(names: Collection[str], prefix: str = "") -> list[Dialect]:
    """
    The dialects that a state dict can be of.

    Args:
        names: Of its tensors, without the wrappers' prefixes.
        prefix: What stood before every name in the file, such as `"features.module."`.

    Returns:
        `list[Dialect]`: none where nothing fits, several where the names alone do not tell.
    """
    names = frozenset(names)
    return [dialect for dialect in DIALECTS if dialect.matches(names, prefix)]


__all__ = ["DIALECTS", "Dialect", "get_dialect", "recognise"]
