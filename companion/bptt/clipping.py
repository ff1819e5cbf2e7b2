"""Clipping: bound what one step's gradient may do."""

import torch

from companion._checks import positive


class ClipNorm:
    r"""Scale the gradient down to a norm, its direction kept.

    .. math:: g \leftarrow g \cdot \min(1, \text{limit} / \lVert g \rVert)

    Parameters
    ----------
    limit : float
        The largest Euclidean norm of the whole gradient, all parameters together.

    Raises
    ------
    ValueError, TypeError
        If ``limit`` is no positive, finite number.

    References
    ----------
    Pascanu, Mikolov and Bengio (2013), ICML, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    >>> ClipNorm(1.0)(gradients).item(), [round(g.item(), 3) for g in gradients]
    (5.0, [0.6, 0.8])
    """

    def __init__(self, limit):
        self.limit = positive("limit", limit)

    def __call__(self, gradients):
        """Clip a list of tensors in place and return their norm from before."""
        gradients = list(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        scale = (self.limit / norm).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.device))
        return norm

    def __repr__(self):
        return f"ClipNorm({self.limit})"


class ClipValue:
    r"""Bound every entry of the gradient by itself, which may turn its direction.

    .. math:: g_i \leftarrow \max(-\text{limit}, \min(\text{limit}, g_i))

    Parameters
    ----------
    limit : float
        The largest size of an entry.

    Raises
    ------
    ValueError, TypeError
        If ``limit`` is no positive, finite number.

    References
    ----------
    Mikolov (2012), Statistical language models based on neural networks, section 3.2.2.

    Examples
    --------
    >>> import torch
    >>> gradients = [torch.tensor([3.0]), torch.tensor([-0.5])]
    >>> norm = ClipValue(1.0)(gradients)
    >>> round(norm.item(), 3), [g.item() for g in gradients]
    (3.041, [1.0, -0.5])
    """

    def __init__(self, limit):
        self.limit = positive("limit", limit)

    def __call__(self, gradients):
        """Clip a list of tensors in place and return their norm from before."""
        gradients = list(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        for gradient in gradients:
            gradient.clamp_(-self.limit, self.limit)
        return norm

    def __repr__(self):
        return f"ClipValue({self.limit})"
