# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016), as matrix products. PyTorch's CPU convolution has no such algorithm.

A tile of 4x4 outputs is A^T [(G g G^T) * (B^T d B)] A of a filter g and the 6x6 inputs d under it. Each of the two
transforms is one product with a 36x36 or 16x36 matrix, and what is between them is 36 products of tiles by channels.
"""

import torch
from torch import nn
from torch.nn import functional as F


# The section 2 construction at the points 0, 1, -1, 2, -2 and infinity.
_B = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # times 24
_A = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

# Few tiles at a time keep what is between the transforms in a core's cache; fewer would read the filters too often.
_TILES_AT_ONCE = 128


def _twice(matrix: list[list[int]]) -> torch.Tensor:
    """What a matrix does to both sides of a square, for the square as a vector."""
    matrix = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(matrix, matrix)


class WinogradConv2d(nn.Module):
    """
    What a 3x3 convolution of stride 1 and padding 1 does, in float32: outputs equal to about 1e-5 of the largest. The
    filters take five times the memory (36 numbers beside the 9). For inference alone: it passes no gradient on.

    The algorithm is too inexact for half precision, and there is none for others here: converted to another dtype it
    is the convolution from then on.

    Args:
        conv (`nn.Conv2d`): A convolution for which [`WinogradConv2d.accepts`] holds. It is not changed.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        if not self.accepts(conv):
            raise ValueError(f"not a dense 3x3 convolution of stride 1 and padding 1 in float32: {conv}")
        g = torch.tensor(_G, dtype=torch.float64) / 24
        filters = torch.einsum("ia,ocab,jb->ijco", g, conv.weight.detach().double(), g)
        self.weight = nn.Parameter(filters.flatten(0, 1).float().contiguous(), requires_grad=False)
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.filters = nn.Parameter(conv.weight.detach().clone(), requires_grad=False)
        self.register_buffer("input_transform", _twice(_B), persistent=False)
        self.register_buffer("output_transform", _twice(_A), persistent=False)

    @staticmethod
    def accepts(module: nn.Module) -> bool:
        """Whether a module is a convolution that this can take the place of."""
        return (
            type(module) is nn.Conv2d
            and module.weight.dtype == torch.float32
            and (module.kernel_size, module.stride, module.padding) == ((3, 3), (1, 1), (1, 1))
            and (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, "zeros")
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, K, H, W), in channels-last order."""
        if self.weight is None:
            return F.conv2d(hidden_states, self.filters, self.bias, padding=1)
        batch, _, height, width = hidden_states.shape
        rows, columns = -(-height // 4), -(-width // 4)  # of tiles
        padding = (1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height)
        padded = F.pad(hidden_states, padding).permute(0, 2, 3, 1).contiguous()
        out = padded.new_empty(batch, 4 * rows, 4 * columns, self.weight.shape[2])
        rows_at_once = max(1, _TILES_AT_ONCE // columns)
        images_at_once = max(1, _TILES_AT_ONCE // (rows * columns))
        for first in range(0, batch, images_at_once):
            images, into = (part[first : first + images_at_once] for part in (padded, out))
            for row in range(0, rows, rows_at_once):
                last = min(row + rows_at_once, rows)
                self._convolve(images[:, 4 * row : 4 * last + 2], into[:, 4 * row : 4 * last])
        return out[:, :height, :width].permute(0, 3, 1, 2)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self.filters.dtype != torch.float32:
            self.weight = None
        return self

    def _convolve(self, padded: torch.Tensor, out: torch.Tensor) -> None:
        """Fills `out` (B, 4R, 4S, K) from `padded` (B, 4R + 2, 4S + 2, C)."""
        batch, rows, columns, _ = out.shape
        tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(0, 1, 2, 4, 5, 3).flatten(3, 4).flatten(0, 2)
        products = torch.bmm((self.input_transform @ tiles).transpose(0, 1), self.weight)
        squares = (self.output_transform @ products.transpose(0, 1)).view(batch, rows // 4, columns // 4, 4, 4, -1)
        torch.add(squares.transpose(2, 3), self.bias, out=out.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)))


__all__ = ["WinogradConv2d"]
