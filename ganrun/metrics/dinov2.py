"""DINOv2's vision transformers as their published weights name their parts. Oquab et al. 2023 (arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.errors import ConfigError

SIZES = {384: ("vits14", 12), 768: ("vitb14", 12), 1024: ("vitl14", 24)}  # width -> name, blocks
PATCH = 14  # pixels of a side of a patch
HEAD = 64  # width of an attention head
SIDE = 37  # patches of a side in training, 518 pixels: position embeddings are resized from there
OFFSET = 0.1  # patches that the published network adds to a side before it resizes position embeddings
EPS = 1e-6  # of layer norm


class Dinov2(nn.Module):
    """A vision transformer of DINOv2, without registers. Dosovitskiy et al. 2021, figure 1, with layer scale."""

    def __init__(self, width: int, blocks: int):
        """`width` is that of a token, a multiple of 64."""
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + SIDE * SIDE, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of training only
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """The class token after the last block. [B, 3, H, W], normalised as ImageNet's -> [B, D]"""
        patches = self.patch_embed["proj"](images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        found: Tensor = self.norm(self.blocks(tokens + self._positions(*patches.shape[2:])))[:, 0]
        return found

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embeddings of a class token and this many patches. [1, 1 + height * width, D]"""
        if (height, width) == (SIDE, SIDE):
            return self.pos_embed
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (SIDE, SIDE))
        scale = ((height + OFFSET) / SIDE, (width + OFFSET) / SIDE)
        resized = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([first, resized.flatten(2).transpose(1, 2)], 1)


class _Block(nn.Module):
    """Attention, then two dense layers, each behind a layer norm and scaled by a learnt factor for each feature."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1 = nn.ParameterDict({"gamma": torch.ones(width)})
        self.ls2 = nn.ParameterDict({"gamma": torch.ones(width)})

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = self.attn["qkv"](self.norm1(tokens)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        tokens = tokens + self.ls1["gamma"] * self.attn["proj"](attended)
        hidden = F.gelu(self.mlp["fc1"](self.norm2(tokens)))
        scaled: Tensor = self.ls2["gamma"] * self.mlp["fc2"](hidden)
        return tokens + scaled


def dinov2(state: Mapping[str, Tensor]) -> tuple[str, Dinov2]:
    """The network of these published weights, [1, 1, D] and so on by name, and what it is called, such as vits14.

    Raises ConfigError for the weights of anything else, and RuntimeError for names or shapes that do not fit.
    """
    token = state.get("cls_token")
    width = token.shape[-1] if token is not None and token.ndim == 3 else 0
    if width not in SIZES:
        found = f"tokens of {width} features" if width else "no class token"
        expected = "the weights of DINOv2's " + ", ".join(name for name, _ in SIZES.values())
        raise ConfigError(".", f"{found} in it", expected)
    name, blocks = SIZES[width]
    with torch.device("meta"):
        net = Dinov2(width, blocks)
    net.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return name, net
