"""The gradient through time: watched, kept alive, cut short and avoided (chapter 4).

``ClipNorm`` and ``ClipValue`` bound the gradient of a step, ``detached`` cuts it in time.
"""

from .clipping import ClipNorm, ClipValue
from .truncation import detached

__all__ = [
    "ClipNorm",
    "ClipValue",
    "detached",
]
