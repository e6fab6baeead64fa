"""Convolutions that compute what torch's do, arranged so that a CPU computes it faster.

In bf16, oneDNN's kernels for the gradient of a convolution's weights reach about half of the rate of its matrix
products. So in `Conv2d` and `ConvTranspose2d`, on a CPU in bf16, that gradient is one matrix product; all the
rest, and every other device and precision, is left to torch. The GAN's shapes gain by it; the small CNN and
the ResNets do not, and have torch's own layers. The two layers at the bottom are one matrix product everywhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Convolution(torch.autograd.Function):
    """A convolution, or a transposed one, whose weights' gradient is a matrix product of patches."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, transposed
        return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.geometry
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            geometry = [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1
            masked = torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, [True, False, False])
            of_x = masked[0]
        if ctx.needs_input_grad[1]:
            # the weights of a transposed convolution are those of the convolution that leads back
            source, target = (gradient, x) if transposed else (x, gradient)
            of_weight = weight_gradient(source, target, weight.shape[-1], stride, padding)
        return of_x, of_weight, None, None, None


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Return the gradient of a convolution's weights, out x in x `kernel` x `kernel`.

    `x`: its input, N x in x H x W; `gradient`: that of its output, N x out x h x w.
    """
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = x.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)  # a view
    patches = windows.reshape(-1, kernel * kernel * x.shape[-1])  # one a row
    product = gradient.permute(0, 2, 3, 1).flatten(0, 2).t() @ patches
    return product.unflatten(1, (kernel, kernel, x.shape[-1])).permute(0, 3, 1, 2)


def _in_bf16_on_cpu(x: Tensor) -> bool:
    in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.device.type == "cpu" and in_bf16


class Conv2d(nn.Conv2d):
    """torch's layer, for square kernels."""

    def forward(self, x: Tensor) -> Tensor:
        if not _in_bf16_on_cpu(x):
            return super().forward(x)
        y = _Convolution.apply(x.bfloat16(), self.weight.bfloat16(), self.stride[0], self.padding[0], False)
        return y if self.bias is None else y + self.bias.bfloat16()[:, None, None]


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's layer, for square kernels and without a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel, stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _in_bf16_on_cpu(x):
            return super().forward(x)
        return _Convolution.apply(x.bfloat16(), self.weight.bfloat16(), self.stride[0], self.padding[0], True)


class DConvOfPoint(nn.ConvTranspose2d):
    """A transposed convolution of a 1 x 1 input, without a bias: one matrix product."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(inputs, outputs, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.permute(0, 2, 3, 1)  # a view, since weights lie in memory channels last
        return (x.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:]).permute(0, 3, 1, 2)


class ConvToPoint(nn.Conv2d):
    """A convolution whose kernel is as large as its input, so that 1 x 1 comes out: likewise one matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.bias)[:, :, None, None]
