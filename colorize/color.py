"""sRGB <-> CIE Lab (D65, 2 degrees) on tensors: the only colour conversion in the package.

The constants are scikit-image's, so that the two agree. Everything is elementwise arithmetic in
float32: a matrix product would run in bf16 under autocast, or in TF32 on a GPU, and lose the
third digit of the colour.
"""

from __future__ import annotations

import torch
from torch import Tensor

L_SCALE = 50.0  # L / 50 - 1 is in [-1, 1]
AB_SCALE = 110.0  # sRGB's a and b lie in [-107.9, 98.3], so ab / 110 is in (-1, 1)

# linear sRGB -> XYZ, ITU-R BT.709 primaries and D65; rows X, Y, Z
_XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_RGB_FROM_XYZ = torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64)).tolist()
_WHITE = (0.95047, 1.0, 1.08883)
# Both curves below are a power with a straight line near black. Each is written as a sum of the
# two, with the value clamped to either side of the joint: the same numbers to the sixth digit,
# without a selection by mask, which costs a CPU more than all the rest, and with finite gradients.
_EPSILON, _SLOPE, _OFFSET = 0.008856, 7.787, 16.0 / 116.0  # Lab's cube root
_F_EPSILON = _SLOPE * _EPSILON + _OFFSET
_TOE, _TOE_SLOPE = 0.0031308, 12.92  # sRGB's gamma
_TOE_GAMMA = _TOE * _TOE_SLOPE


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to Lab.

    Args:
        rgb: (B, 3, H, W), float in [0, 1], or uint8 in [0, 255].

    Returns:
        (B, 3, H, W) float32 (float64 for float64 input): L in [0, 100], a and b about +-110.
        Differentiable; gradients are finite everywhere, black included.
    """
    linear = _linear(rgb).unbind(-3)
    fx, fy, fz = (
        _f(_mix(row, linear) * (1.0 / white))
        for row, white in zip(_XYZ_FROM_RGB, _WHITE, strict=True)
    )
    return torch.stack((116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz)), dim=-3)


def lightness(rgb: Tensor, response: Tensor | None = None) -> Tensor:
    """L alone, by the same formula: (B, 3 or 1, H, W) as in `rgb_to_lab` to (B, 1, H, W).

    Args:
        rgb: one channel is a grey photo; it gets the L that the same grey has in RGB.
        response: shares of red, green and blue light that a film sees, (B, 3, 1, 1); None takes
            the eye's.
    """
    linear = _linear(rgb)
    if response is not None:
        linear = (linear * response).sum(-3, keepdim=True)
    elif rgb.shape[-3] == 3:
        linear = _mix(_XYZ_FROM_RGB[1], linear.unbind(-3)).unsqueeze(-3)
    return 116.0 * _f(linear) - 16.0


def lab_to_rgb(lab: Tensor, clip: bool = True) -> Tensor:
    """Convert Lab to sRGB.

    Args:
        lab: (B, 3, H, W), L in [0, 100]. Colours outside sRGB are clipped, which moves their
            lightness and hue; `fit_to_gamut` first keeps both.
        clip: False for losses: where a colour is clipped no gradient passes.

    Returns:
        (B, 3, H, W) float in [0, 1], or somewhat beyond if it is not clipped. Differentiable;
        gradients are finite everywhere.
    """
    rgb = encode(torch.stack(_lab_to_linear(*lab.unbind(-3)), dim=-3))
    return rgb.clamp(0.0, 1.0) if clip else rgb


def lightness_to_grey(L: Tensor) -> Tensor:
    """The sRGB grey in [0, 1] that has lightness L in [0, 100]; any shape."""
    return encode(_f_inverse((L + 16.0) / 116.0)).clamp(0.0, 1.0)


@torch.no_grad()
def fit_to_gamut(lab: Tensor, steps: int = 9) -> Tensor:
    """Pull colours outside sRGB towards grey, at the same lightness and hue, until they fit.

    Args:
        lab: (B, 3, H, W), L in [0, 100].
        steps: halvings of the search interval; 9 leave less than 0.3 ab units.

    Returns:
        (B, 3, H, W); colours that fitted already are untouched, and if all did it is `lab` itself.
        For pictures, not for losses: gradients do not pass.
    """
    # Channels first, so that each is one flat run of memory.
    L, a, b = (channel.flatten() for channel in lab.unbind(-3))
    outside = (_excess(L, a, b) > 0).nonzero().flatten()
    if not len(outside):
        return lab
    L, a0, b0 = (channel.index_select(0, outside) for channel in (L, a, b))
    share, step = torch.zeros_like(L), 0.5
    for _ in range(steps):
        middle = share + step
        share.add_(_excess(L, a0 * middle, b0 * middle) <= 0, alpha=step)
        step /= 2
    fitted = [x.index_copy(0, outside, x0 * share) for x, x0 in ((a, a0), (b, b0))]
    ab = torch.stack(fitted).view(2, *lab.shape[:-3], *lab.shape[-2:]).movedim(0, -3)
    return torch.cat((lab[..., :1, :, :], ab), dim=-3)


def scale_lab(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Lab (B, 3, H, W) to what networks see: L (B, 1, H, W) and ab (B, 2, H, W) in [-1, 1]."""
    return lab[..., :1, :, :] / L_SCALE - 1.0, lab[..., 1:, :, :] / AB_SCALE


def unscale_lab(L: Tensor, ab: Tensor) -> Tensor:
    """The reverse of `scale_lab`: (B, 1, H, W) and (B, 2, H, W) to Lab (B, 3, H, W), float32."""
    return torch.cat(((L.float() + 1.0) * L_SCALE, ab.float() * AB_SCALE), dim=-3)


def scaled_to_rgb(L: Tensor, ab: Tensor) -> Tensor:
    """Scaled L (B, 1, H, W) and ab (B, 2, H, W) to sRGB (B, 3, H, W) in [0, 1], in gamut."""
    return lab_to_rgb(fit_to_gamut(unscale_lab(L, ab)))


def _linear(rgb: Tensor) -> Tensor:
    """Undo sRGB's gamma."""
    if rgb.dtype == torch.uint8:
        # 256 values only: a table is far cheaper than a power per pixel.
        table = _linear(torch.arange(256, device=rgb.device, dtype=torch.float32) / 255.0)
        # Not `take`, which Apple's GPUs may lack.
        return table.index_select(0, rgb.flatten().int()).view(rgb.shape)
    rgb = rgb if rgb.dtype == torch.float64 else rgb.float()
    curve = ((rgb.clamp(min=_TOE_GAMMA) + 0.055) / 1.055) ** 2.4
    return curve - _TOE + rgb.clamp(max=_TOE_GAMMA) / _TOE_SLOPE


def encode(linear: Tensor) -> Tensor:
    """Linear light to sRGB, both in [0, 1], of any shape; the reverse of `_linear`."""
    curve = 1.055 * linear.clamp(min=_TOE) ** (1 / 2.4) - (0.055 + _TOE_GAMMA)
    return curve + linear.clamp(max=_TOE) * _TOE_SLOPE


def _f(t: Tensor) -> Tensor:
    """Lab's cube root with a straight line near black."""
    line = _SLOPE * t.clamp(max=_EPSILON) + (_OFFSET - _F_EPSILON)
    return t.clamp(min=_EPSILON) ** (1 / 3) + line


def _f_inverse(f: Tensor) -> Tensor:
    cube = f.clamp(min=_F_EPSILON)
    return cube * cube * cube + (f.clamp(max=_F_EPSILON) - _F_EPSILON) / _SLOPE


def _mix(weights: tuple[float, ...] | list[float], channels: tuple[Tensor, ...]) -> Tensor:
    mixed = weights[0] * channels[0]
    return mixed.add(channels[1], alpha=weights[1]).add(channels[2], alpha=weights[2])


def _lab_to_linear(L: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Linear R, G and B of colours of any equal shape; outside [0, 1] where sRGB lacks them."""
    fy = (L + 16.0) / 116.0
    fx = fy.add(a, alpha=1 / 500.0)
    fz = fy.sub(b, alpha=1 / 200.0).clamp(min=0.0)  # as scikit-image does with impossible colours
    xyz = tuple(_f_inverse(f) * white for f, white in zip((fx, fy, fz), _WHITE, strict=True))
    return tuple(_mix(row, xyz) for row in _RGB_FROM_XYZ)


def _excess(L: Tensor, a: Tensor, b: Tensor, slack: float = 1e-4) -> Tensor:
    """How far colours lie outside sRGB; the slack is a fortieth of an 8-bit step."""
    r, g, b = ((x - 0.5).abs() for x in _lab_to_linear(L, a, b))
    return torch.maximum(torch.maximum(r, g), b) - (0.5 + slack)
