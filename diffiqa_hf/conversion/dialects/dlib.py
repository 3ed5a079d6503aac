# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""dlib's ResNet for faces (`dlib_face_recognition_resnet_model_v1.dat`) to ours."""

import torch

from ...models import DlibResNetConfig


_CONVOLUTION = ["con", "affine"]
_BLOCK = [*_CONVOLUTION, "relu", *_CONVOLUTION]
# A block's layers after its tag: `add_prev1` of the tag; `add_prev2` of the block, which a tag and a skip put aside.
_RESIDUAL = ["tag", *_BLOCK, "add_prev", "relu"]
_RESIDUAL_DOWN = ["tag", *_BLOCK, "tag", "tag", "avg_pool", "add_prev", "relu"]


def convert_dlib_resnet(tensors: dict[str, torch.Tensor]) -> tuple[DlibResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`~diffiqa_hf.conversion.readers.dlib.read_dlib_network`] gives of the published file, or of
            another network of its kind with other widths and numbers of blocks (RGB, less its mean, by 256).

    Returns:
        The configuration and the state dict of a [`DlibResNetModel`].

    Raises:
        ValueError: The layers are not those of such a network; the first that differs is named.
        KeyError: A tensor is missing; it is named.
    """
    layers = _Layers(tensors)
    mean, (height, width) = tensors["0.input_rgb_image_sized.mean"], tensors["0.input_rgb_image_sized.size"].tolist()
    if height != width:
        raise ValueError(f"chips of {height}x{width}, which are not square")
    converted: dict[str, torch.Tensor] = {}
    stem = layers.take(*_CONVOLUTION, "relu", "max_pool")
    converted |= layers.convolution(stem[0], "conv", "norm", [7, 7], [2, 2], [0, 0])
    layers.check(stem[3], "max_pool", size=[3, 3], stride=[2, 2], padding=[0, 0])
    depths: list[int] = []
    widths: list[int] = []
    while layers.next_kind() == "tag":
        down = layers.kinds_ahead(len(_RESIDUAL_DOWN)) == _RESIDUAL_DOWN
        block = layers.take(*(_RESIDUAL_DOWN if down else _RESIDUAL))
        if down or not depths:
            if down != bool(depths):
                raise ValueError(f"layer {block[0]}: the first block halves the resolution")
            depths.append(0)
            widths.append(len(tensors[f"{block[1]}.con.weight"]))
        ours = f"layer{len(depths)}.{depths[-1]}"
        stride, padding = ([2, 2], [0, 0]) if down else ([1, 1], [1, 1])
        converted |= layers.convolution(block[1], f"{ours}.conv1", f"{ours}.norm1", [3, 3], stride, padding)
        converted |= layers.convolution(block[4], f"{ours}.conv2", f"{ours}.norm2", [3, 3], [1, 1], [1, 1])
        if down:
            layers.check(block[8], "avg_pool", size=[2, 2], stride=[2, 2], padding=[0, 0])
        depths[-1] += 1
    pool, linear = layers.take("avg_pool", "fc")
    layers.check(pool, "avg_pool", size=[0, 0], padding=[0, 0])
    layers.end()
    if f"{linear}.fc.bias" in tensors:
        raise ValueError(f"unexpected tensors: {linear}.fc.bias")
    converted["fc.weight"] = tensors[f"{linear}.fc.weight"]
    config = DlibResNetConfig(
        depths=depths,
        widths=widths,
        chip_size=height,
        image_mean=[value / 255 for value in mean.tolist()],
        embedding_size=len(converted["fc.weight"]),
        training_data="about 3 million images of 7,485 people: FaceScrub, VGG Face, and images from the web",
    )
    return config, converted


class _Layers:
    """The layers of a file, taken one after the other."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self.tensors = tensors
        kinds = {int(parts[0]): parts[1] for name in tensors if (parts := name.split("."))[0].isdigit()}
        self.kinds = [kinds[number] for number in sorted(kinds)]
        self.position = 1  # 0 is the input

    def next_kind(self) -> str:
        return "".join(self.kinds_ahead(1))

    def kinds_ahead(self, count: int) -> list[str]:
        return self.kinds[self.position : self.position + count]

    def take(self, *kinds: str) -> list[int]:
        """The numbers of the next layers, which have to be of these kinds."""
        for number, kind in enumerate(kinds, start=self.position):
            found = self.kinds[number] if number < len(self.kinds) else "the end"
            if found != kind:
                raise ValueError(f"layer {number} is {found} in place of {kind}")
        self.position += len(kinds)
        return list(range(self.position - len(kinds), self.position))

    def end(self) -> None:
        if self.position < len(self.kinds):
            raise ValueError(f"layer {self.position} is {self.next_kind()} in place of the end")

    def check(self, number: int, kind: str, **expected: list[int]) -> None:
        for what, value in expected.items():
            found = self.tensors[f"{number}.{kind}.{what}"].tolist()
            if found != value:
                raise ValueError(f"layer {number}: {kind} has {what} {found} in place of {value}")

    def convolution(
        self, number: int, conv: str, norm: str, size: list[int], stride: list[int], padding: list[int]
    ) -> dict[str, torch.Tensor]:
        """Ours of a convolution and the affine layer after it."""
        self.check(number, "con", stride=stride, padding=padding)
        weight = self.tensors[f"{number}.con.weight"]
        if list(weight.shape[2:]) != size:
            raise ValueError(f"layer {number}: con has filters of {list(weight.shape[2:])} in place of {size}")
        parts = ("weight", "bias")
        converted = {f"{conv}.{part}": self.tensors[f"{number}.con.{part}"] for part in parts}
        return converted | {f"{norm}.{part}": self.tensors[f"{number + 1}.affine.{part}"] for part in parts}


__all__ = ["convert_dlib_resnet"]
