"""MedNeXt as its paper describes it, with the names that weights have in nnunet_mednext: any number of stages, strides of 2."""

import torch
from torch import nn
from torch.nn import functional as F


class PublishedBlock(nn.Module):
    def __init__(self, before, after, expansion, kernel, num_axes, *, way="same", has_response=False):
        super().__init__()
        plain, transposed = (nn.Conv2d, nn.ConvTranspose2d) if num_axes == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        kind = transposed if way == "up" else plain
        stride = 1 if way == "same" else 2
        self.way, self.num_axes, self.has_response = way, num_axes, has_response
        self.conv1 = kind(before, before, kernel, stride=stride, padding=kernel // 2, groups=before)
        self.norm = nn.GroupNorm(before, before)
        self.conv2 = plain(before, expansion * before, 1)
        self.conv3 = plain(expansion * before, after, 1)
        if way != "same":
            self.res_conv = kind(before, after, 1, stride=2)
        if has_response:
            shape = (1, expansion * before, *[1] * num_axes)
            self.grn_beta = nn.Parameter(torch.zeros(shape))
            self.grn_gamma = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        inner = F.gelu(self.conv2(self.norm(self.conv1(x))))
        if self.has_response:
            strength = inner.square().sum(dim=tuple(range(2, inner.ndim)), keepdim=True).sqrt()
            inner = (
                self.grn_gamma * (inner * (strength / (strength.mean(dim=1, keepdim=True) + 1e-6)))
                + self.grn_beta
                + inner
            )
        inner = self.conv3(inner)
        if self.way == "same":
            return x + inner
        pads = [1, 0] * self.num_axes if self.way == "up" else [0, 0] * self.num_axes
        return F.pad(inner, pads) + F.pad(self.res_conv(x), pads)


class PublishedHead(nn.Module):
    def __init__(self, before, outputs, num_axes):
        super().__init__()
        self.conv_out = (nn.ConvTranspose2d if num_axes == 2 else nn.ConvTranspose3d)(before, outputs, 1)


class PublishedMedNeXt(nn.Module):
    """Blocks and expansions are listed from full resolution down, bottleneck, and up again."""

    def __init__(self, width, blocks, expansions, *, kernel=3, num_axes=3, channels=2, outputs=3, has_response=False):
        super().__init__()
        self.last = len(blocks) // 2
        own = {"kernel": kernel, "num_axes": num_axes, "has_response": has_response}

        def stage(level, place):
            wide = width * 2**level
            return nn.Sequential(*(PublishedBlock(wide, wide, expansions[place], **own) for _ in range(blocks[place])))

        self.stem = (nn.Conv2d if num_axes == 2 else nn.Conv3d)(channels, width, 1)
        for level in range(self.last):
            fine, coarse, up = width * 2**level, width * 2 ** (level + 1), len(blocks) - 1 - level
            self.add_module(f"enc_block_{level}", stage(level, level))
            self.add_module(f"down_{level}", PublishedBlock(fine, coarse, expansions[level + 1], way="down", **own))
            self.add_module(f"up_{level}", PublishedBlock(coarse, fine, expansions[up], way="up", **own))
            self.add_module(f"dec_block_{level}", stage(level, up))
        self.bottleneck = stage(self.last, self.last)
        for level in range(self.last + 1):
            self.add_module(f"out_{level}", PublishedHead(width * 2**level, outputs, num_axes))
        self.dummy_tensor = nn.Parameter(torch.ones(1))

    def forward(self, images):
        x, skips, outputs = self.stem(images), [], []
        for level in range(self.last):
            x = self.get_submodule(f"enc_block_{level}")(x)
            skips.append(x)
            x = self.get_submodule(f"down_{level}")(x)
        x = self.bottleneck(x)
        outputs.append(self.get_submodule(f"out_{self.last}").conv_out(x))
        for level in reversed(range(self.last)):
            x = self.get_submodule(f"dec_block_{level}")(skips[level] + self.get_submodule(f"up_{level}")(x))
            outputs.append(self.get_submodule(f"out_{level}").conv_out(x))
        return outputs[::-1]
