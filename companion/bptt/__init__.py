"""The gradient through time: watched, kept alive, cut short and avoided (chapter 4).

``GradientFlow`` has the Jacobians of any cell along a run, ``gradient_by_lag`` and
``weight_gradient_by_step`` what a loss makes of them.
``ClipNorm`` and ``ClipValue`` bound the gradient of a step, ``detached`` cuts it in time, and
``SavedForBackward`` counts the memory that it takes.
``ScheduledSampling`` and ``running_errors`` set a network's own outputs beside the truth.
``identity_``, ``orthogonal_`` and ``spectral_radius_`` let recurrent weights start well, and
``GradientNormPenalty`` keeps the gradient's size on its way back.
``EchoState`` does without a gradient through time: only its readout is fitted.
"""

from .clipping import ClipNorm, ClipValue
from .flow import GradientFlow, LagGradient, gradient_by_lag, weight_gradient_by_step
from .memory import SavedForBackward
from .remedies import GradientNormPenalty, identity_, orthogonal_, spectral_radius_
from .reservoir import EchoState
from .teacher import (
    RunningErrors,
    SampledState,
    ScheduledSampling,
    exponential_decay,
    inverse_sigmoid_decay,
    linear_decay,
    running_errors,
)
from .truncation import detached

__all__ = [
    "ClipNorm",
    "ClipValue",
    "EchoState",
    "GradientFlow",
    "GradientNormPenalty",
    "LagGradient",
    "RunningErrors",
    "SavedForBackward",
    "SampledState",
    "ScheduledSampling",
    "detached",
    "exponential_decay",
    "gradient_by_lag",
    "identity_",
    "inverse_sigmoid_decay",
    "linear_decay",
    "orthogonal_",
    "running_errors",
    "spectral_radius_",
    "weight_gradient_by_step",
]
