"""One training loop for every model of the book."""

import contextlib
import copy
import itertools
import math
import numbers
import operator
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

import companion
from companion._checks import at_least, torch_seed

__all__ = ["History", "evaluate", "fit"]


@dataclass(repr=False)
class History:
    """Keep what a training run went through, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean training loss, over all counted targets of the epoch.
    validation : list of float
        Mean validation loss after each epoch; empty without validation.
    gradient_norm : list of float
        Mean Euclidean norm of the whole gradient over the epoch's steps, before clipping.
    gradient_norm_max : list of float
        The largest such norm.
    seconds : list of float
        Wall time of each epoch, validation included.
    learning_rate : list of float
        Rate of the optimiser's first parameter group.
    steps : int
        Number of optimiser steps taken.

    Examples
    --------
    >>> history = History(loss=[2.0, 1.0, 0.5], validation=[2.0, 0.9, 1.1])
    >>> history.best_epoch
    2
    """

    loss: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    gradient_norm: list = field(default_factory=list)
    gradient_norm_max: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    learning_rate: list = field(default_factory=list)
    steps: int = 0

    def __len__(self):
        return len(self.loss)

    @property
    def best_epoch(self):
        """Number of the best epoch, counted from 1, by validation loss (else training loss).

        NaN counts as not measured; None if no epoch was.
        """
        scores = self.validation or self.loss
        measured = [score for score in scores if not math.isnan(score)]
        return 1 + scores.index(min(measured)) if measured else None

    def to_dict(self):
        """Return plain lists and numbers, fit for JSON; ``History(**d)`` reads them back."""
        return asdict(self)

    def plot(self, ax=None):
        """Draw the learning curves; see ``companion.plots.learning_curves``."""
        from companion.plots import learning_curves  # only who plots loads matplotlib

        return learning_curves(self, ax=ax)

    def __repr__(self):
        if not self.loss:
            return "History(no epochs)"
        parts = [f"{len(self)} epochs", f"{self.steps} steps", f"loss {self.loss[-1]:.4g}"]
        if self.validation:
            parts.append(f"validation {self.validation[-1]:.4g}")
            if (best := self.best_epoch) is not None:
                parts.append(f"best {self.validation[best - 1]:.4g} in epoch {best}")
        return f"History({', '.join(parts)}, {sum(self.seconds):.1f} s)"


def fit(
    model,
    batches,
    loss,
    *,
    epochs,
    optimiser=torch.optim.Adam,
    learning_rate=None,
    clip=None,
    validation=None,
    patience=None,
    progress=True,
    precision=None,
    seed=None,
    callback=None,
):
    r"""Train a model by stochastic gradient descent and tell how it went.

    Each step computes the mean loss of one batch, its gradient :math:`g`, and gives the
    optimiser :math:`g \cdot \min(1, \text{clip} / \lVert g \rVert)`.

    The model moves to ``companion.device()`` and stays there. A part of it that is in
    evaluation mode, such as a BatchNorm to be frozen, stays in it, unless the model as a whole
    is (``model.training`` is false): then all of it trains. The modes are put back at the end.

    Started by ``torchrun`` or ``fabric run``, every process takes each so-many-th batch,
    gradients are averaged over the processes, and weights and history come out the same in all
    of them. A last round with too few batches is filled from the epoch's first ones.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(inputs)``. If it returns a tuple, as ``(y, state)``, the first element
        is the prediction.
    batches : iterable
        Pairs ``(inputs, target)``, iterated anew each epoch: a list, a ``DataLoader``, a
        ``companion.sequences.batches``. ``inputs`` is a tensor, a tuple or list of positional
        arguments, or a dict of keyword arguments. Tensors are moved to the device, whatever
        else a batch holds (a list of lengths, say) is passed on as it is.
    loss : callable
        ``loss(prediction, target)`` returns the mean over the batch as a scalar, or a pair
        ``(mean, count)`` if it averages over something else than the elements of ``target``,
        such as the tokens that are no padding. Epoch means weight each batch by its count.
    epochs : int
        Number of passes over ``batches``, at most.
    optimiser : callable or torch.optim.Optimizer
        An optimiser, or what makes one of the trainable parameters: ``torch.optim.SGD``,
        ``functools.partial(torch.optim.AdamW, weight_decay=0.1)``. A ready one may hold other
        parameters too, such as weights of the loss (not averaged over processes).
    learning_rate : float, optional
        Passed as ``lr`` when the optimiser is made; None leaves its own default (Adam's: 1e-3).
    clip : float, optional
        Largest gradient norm that reaches the optimiser.
    validation : iterable, optional
        Batches like the above, on which the loss is measured after each epoch, in evaluation
        mode and without gradients.
    patience : int, optional
        Stop after this many epochs without a lower validation loss. However training ends, by
        an error or an interrupt too, the model then has the weights of its best epoch (once
        there is one); without ``patience``, the last ones.
    progress : bool
        Show a bar over the epochs (in the first process).
    precision : str, optional
        ``"32-true"`` (as the model is; the default), ``"bf16-mixed"``, ``"16-mixed"``,
        ``"64-true"``, as Lightning Fabric has them. None lets ``fabric run --precision`` choose.
        ``"64-true"`` converts the model for good: later inputs must be float64, or ``evaluate``
        be given the same precision.
    seed : int, optional
        Seed of torch's global generators during this call, at least 0 and below ``2**64``:
        dropout, shuffling loaders. They are put back afterwards. None draws from them where they
        stand.
    callback : callable, optional
        ``callback(model, history)`` after each epoch; a true answer ends the training.

    Returns
    -------
    History
        Losses, gradient norms, seconds and learning rates by epoch. An error or an interrupt
        leaves it only where a callback kept it.

    Raises
    ------
    FloatingPointError
        At the first loss or gradient that is NaN or infinite, before it reaches the weights
        (running statistics, as BatchNorm's, have seen the batch).
    ValueError
        For arguments out of range, no batches, an optimiser of another model, a loss that is no
        scalar or has no gradient, and a target whose shape differs from the prediction's but
        would broadcast: (N, 1) against (N) compares every prediction with every target. Classes
        are whole numbers, fewer than the scores predicted for them, and may have another shape.
        A loss that wants two different shapes takes its target in a tuple, ``(target,)``, and
        returns a count.
    TypeError
        For arguments of another type, one-shot iterators, batches that are no pairs, arrays that
        are no tensors, a loss that returns neither a mean nor ``(mean, count)``, a callback whose
        answer is neither true nor false, and optimisers that need a closure (LBFGS).

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.linspace(-1, 1, 20).reshape(-1, 1)
    >>> history = fit(torch.nn.Linear(1, 1), [(x, 3 * x)], torch.nn.functional.mse_loss,
    ...               epochs=100, learning_rate=0.1, progress=False)
    >>> history.loss[-1] < 0.001
    True
    """
    epochs = at_least("epochs", epochs, 1)
    if clip is not None:
        number = isinstance(clip, numbers.Real) and not isinstance(clip, bool)
        if not (number and 0 < clip < math.inf):
            error = ValueError if number else TypeError
            raise error(f"clip must be a positive, finite number or None, got {clip!r}")
    if seed is not None:
        seed = torch_seed(seed)
    if patience is not None:
        patience = at_least("patience", patience, 1)
        if validation is None:
            raise ValueError(f"patience must come with validation batches, got {patience} alone")
    _check(model, loss, batches=batches)
    if validation is not None:
        _check(model, loss, validation=validation)

    fabric = _fabric(precision)
    optimiser = _optimiser(optimiser, model, learning_rate)
    wrapped = fabric.setup_module(model)
    optimiser = fabric.setup_optimizers(optimiser)
    scaler = getattr(fabric.strategy.precision, "scaler", None)  # with "16-mixed" only
    if fabric.world_size > 1 and seed is None:  # or every process would shuffle its own way
        seed = fabric.broadcast(int(torch.randint(2**62, ())))

    frozen = [part for part in model.modules() if not part.training] if model.training else []
    history = History()
    bar = tqdm(total=epochs, unit="epoch", disable=not (progress and fabric.is_global_zero))
    with bar, _modes_kept(model), _best_restored(model) as best, _seeded(seed, fabric.device):
        for epoch in range(1, epochs + 1):
            start, total, count, norms = time.perf_counter(), 0.0, 0.0, []
            wrapped.train()
            for part in frozen:
                part.training = False
            for batch in _share(batches, fabric):
                where = f"in step {history.steps + 1} (epoch {epoch})"
                mean, weight = _loss(wrapped, fabric.to_device(batch), loss)
                if not mean.requires_grad:
                    raise ValueError(
                        "loss must depend on the model's trainable parameters, got a value without "
                        "a gradient: was it detached, rounded, or computed under no_grad?"
                    )
                step_total, step_count = _summed(fabric, mean.item() * weight, weight)
                if not math.isfinite(step_total):
                    raise _diverged(f"the loss is {step_total / step_count} {where}", best)
                _forget_gradients(model, optimiser)
                fabric.backward(mean)
                norm = _clipped(fabric, optimiser, clip)
                if math.isfinite(norm):
                    norms.append(norm)
                elif scaler is None or scaler.get_scale() <= 1:  # else it skips and scales down
                    _forget_gradients(model, optimiser)
                    raise _diverged(
                        f"the gradient's norm is {norm} {where}, the loss {mean:.6g}", best
                    )
                optimiser.step()
                history.steps += 1
                total, count = total + step_total, count + step_count
            _forget_gradients(model, optimiser)

            history.loss.append(total / count)
            if validation is not None:
                history.validation.append(_mean_loss(fabric, model, validation, loss))
                if not math.isfinite(history.validation[-1]):
                    raise _diverged(
                        f"the validation loss is {history.validation[-1]} after epoch {epoch}",
                        best,
                    )
            history.gradient_norm.append(sum(norms) / max(1, len(norms)))
            history.gradient_norm_max.append(max(norms, default=0.0))
            history.learning_rate.append(optimiser.param_groups[0]["lr"])
            history.seconds.append(fabric.broadcast(time.perf_counter() - start))

            bar.set_postfix({k: f"{v[-1]:.4g}" for k, v in _curves(history)}, refresh=False)
            bar.update()
            if patience is not None and history.best_epoch == epoch:
                best["state"] = copy.deepcopy(model.state_dict())
            if callback is not None and fabric.broadcast(_truth(callback(model, history))):
                break
            if patience is not None and epoch - history.best_epoch >= patience:
                break
    return history


def evaluate(model, batches, loss, *, precision=None):
    """Measure a model's mean loss in evaluation mode, without gradients.

    The model moves to ``companion.device()`` and stays there; a precision that would convert its
    weights, as ``"64-true"``, is given to a copy.

    Parameters
    ----------
    model, batches, loss, precision
        As for ``fit``. Several processes share the batches out and all get the mean over all.

    Returns
    -------
    float
        Mean over all counted targets; NaN or infinite if the model's losses are.

    Raises
    ------
    ValueError
        For no batches, a loss that is no scalar and shapes that would broadcast, as ``fit`` does.
    TypeError
        For arguments and batches of another type, as ``fit`` does.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0], [2.0], [3.0]])
    >>> batches = [(x[:2], x[:2] - 1), (x[2:], x[2:] - 4)]  # errors 1, 1 and 4
    >>> evaluate(torch.nn.Identity(), batches, torch.nn.functional.mse_loss)
    6.0
    """
    _check(model, loss, batches=batches)
    fabric = _fabric(precision)
    if fabric.strategy.precision.precision in ("64-true", "bf16-true", "16-true"):
        model = fabric.strategy.precision.convert_module(copy.deepcopy(model))
    model = fabric.to_device(model)
    with _modes_kept(model):
        return _mean_loss(fabric, model, batches, loss)


def _mean_loss(fabric, model, batches, loss):
    """Average over all batches; each process measures its own, none twice."""
    precision, total, count = fabric.strategy.precision, 0.0, 0.0

    def forward(*args, **kwargs):  # not through DDP: processes may have unequal shares here
        args, kwargs = precision.convert_input((args, kwargs))
        with precision.forward_context():
            return precision.convert_output(model(*args, **kwargs))

    model.eval()
    with torch.no_grad():
        for batch in itertools.islice(batches, fabric.global_rank, None, fabric.world_size):
            mean, weight = _loss(forward, fabric.to_device(batch), loss)
            total, count = total + mean.item() * weight, count + weight
    total, count = _summed(fabric, total, count)
    if not count:
        raise ValueError("batches must hold at least one (inputs, target) to evaluate, got none")
    return total / count


def _loss(model, batch, loss):
    """Compute one batch's mean loss and the count it is a mean over."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"batches must yield pairs (inputs, target), got a {type(batch).__name__}{size}"
        )
    inputs, target = batch
    if isinstance(inputs, dict):
        prediction = model(**inputs)
    elif hasattr(inputs, "to"):  # a tensor, or a PackedSequence, which is a tuple too
        prediction = model(inputs)
    elif isinstance(inputs, (tuple, list)):
        prediction = model(*inputs)
    else:
        raise TypeError(f"inputs must be a tensor, tuple or dict, got {type(inputs).__name__}")
    if isinstance(prediction, tuple):
        prediction = prediction[0]
    if hasattr(target, "__array__") and not isinstance(target, Tensor):
        raise TypeError(
            f"target must be a tensor (torch.as_tensor makes one), got {type(target).__name__}"
        )
    _check_shapes(prediction, target)
    both = isinstance(prediction, Tensor) and isinstance(target, Tensor)
    if both and prediction.is_floating_point() and target.is_floating_point():
        target = target.to(prediction.dtype)  # a precision converts inputs and outputs alone

    mean = loss(prediction, target)
    if isinstance(mean, tuple):
        if len(mean) != 2:
            raise TypeError(f"loss must return mean or (mean, count), got a tuple of {len(mean)}")
        mean, count = mean
    elif isinstance(target, Tensor):
        count = target.numel()
    else:
        raise TypeError(
            "loss must return (mean, count) where the target is no tensor, "
            f"got {type(mean).__name__} alone for a target of type {type(target).__name__}"
        )
    if not isinstance(mean, Tensor) or mean.ndim:
        got = tuple(mean.shape) if isinstance(mean, Tensor) else type(mean).__name__
        raise ValueError(f"loss must return a scalar tensor, the mean over the batch, got {got}")
    if not count > 0:
        raise ValueError(f"count must be positive, got {count}: is the whole batch padding?")
    return mean, float(count)


def _check_shapes(prediction, target):
    """Refuse (N, 1) against (N): it broadcasts to (N, N) and teaches the mean of the targets."""
    if not (isinstance(prediction, Tensor) and isinstance(target, Tensor)):
        return
    if prediction.shape == target.shape:
        return
    # of classes there is one for several scores, and shapes differ: cross-entropy, gather
    if not target.is_floating_point() and prediction.numel() != target.numel():
        return
    with contextlib.suppress(RuntimeError):  # shapes that do not broadcast: the loss complains
        torch.broadcast_shapes(prediction.shape, target.shape)
        raise ValueError(
            f"prediction and target must have the same shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}, which would broadcast silently; reshape one of them"
        )


def _fabric(precision):
    """Set Fabric up on the companion's device, for as many processes as a launcher started."""
    device, wanted = companion.device(), {"precision": precision}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    world = int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1
    alone = 1 if device.type == "cpu" else [device.index or 0]
    wanted |= {"accelerator": device.type, "devices": local if world > 1 else alone}
    wanted |= {"num_nodes": max(1, world // local), "strategy": "ddp" if world > 1 else "auto"}
    # what the command line of `fabric run` chose comes in through its own variables
    fabric = Fabric(**{k: v for k, v in wanted.items() if "LT_" + k.upper() not in os.environ})
    if world > 1 and "LT_CLI_USED" not in os.environ:
        fabric.launch()
    return fabric


def _optimiser(optimiser, model, learning_rate):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model must have trainable parameters, got none")
    if isinstance(optimiser, torch.optim.Optimizer):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate must be None for an optimiser that is made, got {learning_rate}"
            )
    elif callable(optimiser):
        rate = {} if learning_rate is None else {"lr": learning_rate}
        optimiser = optimiser(parameters, **rate)
    if not isinstance(optimiser, torch.optim.Optimizer):
        raise TypeError(
            "optimiser must be a torch.optim.Optimizer or make one of parameters, "
            f"got {type(optimiser).__name__}"
        )
    if isinstance(optimiser, torch.optim.LBFGS):
        raise TypeError("optimiser must step without a closure, got LBFGS")
    if set(parameters).isdisjoint(_held(optimiser)):
        raise ValueError(
            "optimiser must hold at least one of the model's trainable parameters, got none"
        )
    return optimiser


def _held(optimiser):
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _forget_gradients(model, optimiser):
    model.zero_grad()
    optimiser.zero_grad()  # it may hold parameters that are not the model's


def _clipped(fabric, optimiser, clip):
    """Scale the gradient down to the norm ``clip`` and return its norm from before."""
    fabric.strategy.precision.unscale_gradients(optimiser.optimizer)
    gradients = []
    for parameter in _held(optimiser):
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            parameter.grad = gradient.coalesce()  # adds entries of the same place up
            gradient = parameter.grad.values()
        if gradient is not None:
            gradients.append(gradient)
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        scale = (clip / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.device))
    return norm.item()


def _share(batches, fabric):
    """Yield this process's batches: as many in each process, since they wait for one another."""
    rank, world, first, index = fabric.global_rank, fabric.world_size, [], -1
    for index, batch in enumerate(batches):
        if index < world:
            first.append(batch)
        if index % world == rank:
            yield batch
    if index < 0:
        raise ValueError("batches must hold at least one (inputs, target), got none")
    left = (index + 1) % world
    if left and rank >= left:
        yield first[(rank - left) % len(first)]


def _summed(fabric, *values):
    """Add numbers up over the processes."""
    if fabric.world_size == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    return fabric.all_reduce(summed, reduce_op="sum").tolist()


def _check(model, loss, **iterables):
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if not callable(loss):
        raise TypeError(f"loss must be callable, got {loss!r}")
    # the second epoch would find an iterator empty; iter() itself would start a loader's workers
    for name, batches in iterables.items():
        if isinstance(batches, Iterator) or not isinstance(batches, Iterable):
            raise TypeError(
                f"{name} must be iterable anew each epoch (a list, a DataLoader), "
                f"got {'a one-shot' if isinstance(batches, Iterator) else 'the'} "
                f"{type(batches).__name__}"
            )
        if operator.length_hint(batches, 1) == 0:  # those without a length are met when iterated
            raise ValueError(f"{name} must hold at least one (inputs, target), got none")


def _truth(answer):
    try:
        return bool(answer)
    except (RuntimeError, TypeError, ValueError) as error:  # an array of several
        raise TypeError(
            f"callback must return something true or false, got {type(answer).__name__}"
        ) from error


def _diverged(what, best):
    kept = "those of the best epoch" if best else "those that gave it"
    return FloatingPointError(
        f"{what}; the weights are {kept}. Check inputs and targets for NaN and infinite "
        "values, look for a log or a division of 0, lower the learning rate, set or lower clip"
    )


def _curves(history):
    return [(k, v) for k in ("loss", "validation") if (v := getattr(history, k))]


@contextlib.contextmanager
def _modes_kept(model):
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _best_restored(model):
    best = {}  # "state", once there is one
    try:
        yield best
    finally:
        if best:
            model.load_state_dict(best["state"])


@contextlib.contextmanager
def _seeded(seed, device):
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
