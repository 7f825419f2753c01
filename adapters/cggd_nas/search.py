"""The paper's search: weights learn on training data, the architecture on validation data, within the bounds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from cggd import Constraint
from cggd.checks import whole
from cggd.guide.directions import Weights
from cggd.outputs import check_writable
from cggd_nas.batches import Batches, as_batches
from cggd_nas.bounds import checked_bounds, feasible_network
from cggd_nas.guide import TorchGuide, check_precision
from cggd_nas.history import Epoch
from cggd_nas.learners import Learners, OptimizerOf
from cggd_nas.nested import described
from cggd_nas.pretrained import Chooser, Finals
from cggd_nas.relaxations import GumbelSoftmax, Relaxation
from cggd_nas.result import NasResult
from cggd_nas.retrain import Accuracy, Loss
from cggd_nas.supernet import Supernet, collect
from cggd_nas.training import Judging, Objective, Reports, Run, Settings, Writer

# As in NAS-Bench-201 (Dong & Yang, ICLR 2020, appendix): SGD with Nesterov momentum and cosine decay for the weights,
# Adam with low momentum for the architecture.
WEIGHT_OPTIMIZER: OptimizerOf = partial(torch.optim.SGD, lr=0.025, momentum=0.9, weight_decay=5e-4, nesterov=True)

# NAS-Bench-201 uses 3e-4 for 240 epochs. With 5e-3 every late epoch of 30 was feasible on the NATS supernet.
ARCHITECTURE_OPTIMIZER: OptimizerOf = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.999))

# Time limit of the search for a feasible selection before the training.
CHECK_SECONDS = 10.0

# Share of the epochs in which only the weights are trained, on paths drawn uniformly: 8 of 30 on the NATS supernet.
WARMUP = 0.25


def search(
    model: nn.Module | Supernet,
    train: Batches | tuple[Tensor, ...] | Mapping[str, Tensor],
    val: Batches | tuple[Tensor, ...] | Mapping[str, Tensor],
    constraints: Sequence[Constraint] | Constraint,
    *,
    epochs: int,
    loss: Loss = functional.cross_entropy,
    metric: Accuracy | None = None,
    objective: Objective | None = None,
    relaxation: Callable[..., Relaxation] = GumbelSoftmax,
    warmup: int | None = None,
    every: int = 1,
    batch_size: int = 64,
    weight_optimizer: OptimizerOf = WEIGHT_OPTIMIZER,
    architecture_optimizer: OptimizerOf = ARCHITECTURE_OPTIMIZER,
    rescale: float = 1.2,
    weights: Weights = "unit",
    patience: int = 10,
    candidates: int = 20,
    finalists: int = 5,
    calibration: int = 20,
    pretrained: bool = False,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    writer: Writer | None = None,
    callback: Callable[[Epoch], Any] | None = None,
) -> NasResult:
    """Find an architecture in a supernet with a small loss that satisfies all bounds.

    Each epoch updates the weights on the training data. After every `every` batches, one batch of validation data
    updates the architecture with the guide (`TorchGuide.update`). In the last third of the epochs, each visited
    selection that satisfies every bound becomes a candidate. At the end, feasible selections drawn from the logits are
    added. The `candidates` likeliest are evaluated on a part of the validation data, and the best `finalists` of them
    on all of it. Batch norms are recalibrated for each.

    Parameters
    ----------
    model : nn.Module or Supernet
        It is trained on the device of its parameters; data is moved there.
    train, val : DataLoader, (inputs, targets), (first, second, ..., targets) or mapping of tensors
        A batch is a tuple or a mapping. The last part of a tuple is the target, of any kind, such as a list of boxes.
        The parts before it go to the model, by name if they are one mapping. Of a mapping, the model gets the entries
        that its ``forward`` takes, and the loss gets the entry ``labels``, or the whole mapping if there is none.
        Tensors given instead of a ``DataLoader`` are shuffled by `seed`. `val` should not contain training data. Each
        epoch starts at its beginning: if it has more batches than an epoch has steps of the architecture, a
        ``DataLoader`` should shuffle it.
    constraints : list of Constraint
        On metrics of the supernet's space or of a part's space, such as ``Costs(model.backbone, example).macs()``.
    epochs : int
    loss : callable
        From outputs and targets to the mean loss of a batch. Outputs may be anything that the network returns.
        Candidates are compared by this loss.
    metric : callable, optional
        From outputs and targets to the accuracy of a batch. Its mean over the samples is only reported. By default it
        is the share of correct classes, or NaN if the outputs are not a tensor.
    objective : callable, optional
        From the task loss and the supernet to the loss that the architecture minimises, such as
        ``penalized(constraints, tf_nas)``. It replaces the guide.
    relaxation : callable
        From ``temperature=`` to a relaxation: `GumbelSoftmax`, `Darts`, `ProxylessTwoPath`, or
        ``functools.partial(GumbelSoftmax, hard=False)``. The temperature falls from 10 to 0.1 over the first two
        thirds of the epochs.
    warmup : int, optional
        Epochs in which only the weights are trained, on paths drawn uniformly. By default a quarter of `epochs`.
    every : int
        Batches of training data per step of the architecture.
    batch_size : int
        For data given as tensors.
    weight_optimizer, architecture_optimizer : callable
        From parameters to an optimizer, such as ``partial(torch.optim.SGD, lr=0.1)``. The learning rate of the weights
        decays to 0 by a cosine.
    rescale, weights, patience
        Settings of the guide, see `TorchGuide`.
    candidates, finalists : int
    calibration : int
        Batches of training data by which batch norms are recalibrated.
    pretrained : bool
        The weights are already trained, as after `prunable`, and are not changed. Starting from the whole network, the
        search measures the loss on `val` of each single change and minimises the sum of these tables under bounds that
        tighten step by step. If `epochs` is 0, it then measures a few more networks around the answer (`cggd.Model`)
        and returns the one with the smallest loss. Otherwise copies of the `finalists` are fine-tuned for `epochs`
        epochs, and the one with the smallest loss of `finetune` is returned. Other arguments about training are
        ignored. Call `finetune` afterwards.
    seed : int
        For paths, orders of tensors, and PyTorch's global generator, which is restored at the end. The same seed gives
        the same search on the same machine if the data loaders use PyTorch's generators.
    checkpoint : path, optional
        Written after each epoch.
    resume : bool
        Continue from `checkpoint` if the file exists. The result is that of an uninterrupted search.
    progress : bool
        Show a progress bar on the standard error stream.
    writer : object with ``add_scalar``, optional
        Such as TensorBoard's ``SummaryWriter``.
    callback : callable, optional
        Called with the `Epoch` after each epoch. A true return value ends the search.

    Returns
    -------
    NasResult
        Ctrl-C ends the search and returns the best so far.

    Raises
    ------
    NoFeasibleArchitectureError
        Before the training, if it is proved that the bounds cannot be satisfied. After it, if the search visited no
        selection that satisfies all of them. The error holds the nearest selection and its violations.
    SearchError
        If something fails in an epoch or while candidates are evaluated, such as a metric or a given function, after a
        selection that satisfies every bound was visited. Its ``result`` is the `NasResult` so far. Before that, the
        original error is raised. A checkpoint that cannot be written only causes a warning.
    ValueError, TypeError
        If an argument is wrong or a loss is not finite. The first batches of `train` and `val` are evaluated before the
        training, so wrong losses and data raise an error at once.

    Examples
    --------
    >>> from cggd import Additive
    >>> from cggd_nas import Choice
    >>> seed = torch.manual_seed(0)
    >>> x = torch.randn(64, 4)
    >>> y = (x.sum(1) > 0).long()
    >>> first = Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}, decision="first")
    >>> supernet = collect(nn.Sequential(first, nn.Linear(4, 2)))
    >>> latency = Additive(supernet.space, {"first": {"wide": 3.0, "skip": 0.0}}, name="latency", unit="ms")
    >>> train, val = (x[:32], y[:32]), (x[32:], y[32:])
    >>> result = search(supernet, train, val, [latency <= 2.0], epochs=3, batch_size=8, progress=False)
    >>> result.selection
    {'first': 'skip'}
    """
    supernet = model if isinstance(model, Supernet) else collect(model)
    functions = {
        "loss": loss,
        "weight_optimizer": weight_optimizer,
        "architecture_optimizer": architecture_optimizer,
        **({} if objective is None else {"objective": objective}),
        **({} if metric is None else {"metric": metric}),
        **({} if callback is None else {"callback": callback}),
    }
    for argument, given in functions.items():
        if not callable(given):
            made = " from parameters to an optimizer, such as partial(torch.optim.SGD, lr=0.1)"
            what = f"a function{made if argument.endswith('optimizer') else ''}"
            raise TypeError(f"{argument} must be {what}, see the documentation of search, got {described(given)}")
    if writer is not None and not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(f"writer must have a method add_scalar, as TensorBoard's SummaryWriter, got {writer!r}")
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and not path.parent.is_dir():
        raise FileNotFoundError(f"checkpoint must lie in a folder that exists, got {str(path)!r}")
    if path is not None:
        check_writable(path, "checkpoint", replaced=True)
    check_precision(supernet.parameters)
    _check_relaxation(relaxation, supernet, needed=objective is None)
    settings = Settings(
        epochs=whole(epochs, "epochs", least=0 if pretrained else 1),
        warmup=int(WARMUP * epochs) if warmup is None else whole(warmup, "warmup", least=0),
        every=whole(every, "every", least=1),
        seed=whole(seed, "seed", least=0),
        loss=loss,
        metric=metric,
        objective=objective,
        relaxation=relaxation,
        judging=Judging(
            candidates=whole(candidates, "candidates", least=1),
            finalists=whole(finalists, "finalists", least=1),
            calibration=whole(calibration, "calibration", least=1),
        ),
        reports=Reports(checkpoint=path, resume=resume, writer=writer, callback=callback),
    )
    if not pretrained and settings.warmup >= settings.epochs:
        raise ValueError(f"warmup must be less than epochs = {epochs}, got {warmup}")
    batch_size = whole(batch_size, "batch_size", least=1)
    data = [
        as_batches(d, n, batch_size=batch_size, seed=seed + k)
        for k, (d, n) in enumerate([(train, "train"), (val, "val")])
    ]
    bounds = checked_bounds(constraints, supernet)
    if resume and checkpoint is None:
        raise ValueError("resume needs the path of a checkpoint")
    console = Console(stderr=True, quiet=not progress)
    known = feasible_network(bounds, seed, CHECK_SECONDS)
    if known.feasible:
        console.print("the bounds can be met, for instance with")
        for row in known.constraints:
            console.print(f"  {row}", highlight=False, markup=False)
    else:
        warnings.warn(
            "no architecture that satisfies every bound was found before the training, and it is not proved that there "
            f"is none; the nearest has {'; '.join(map(str, known.constraints))}",
            stacklevel=2,
        )
    if pretrained:
        finals = Finals(settings.judging.finalists, epochs, settings.judging.calibration)
        return Chooser(supernet, bounds, data[0], data[1], loss, metric).choose(known, finals, seed)
    guide = TorchGuide(
        supernet, bounds, rescale=rescale, weights=weights, patience=patience, witness=known.indices, broadcast=False
    )
    devices = {p.device for p in supernet.model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        learners = Learners(supernet, weight_optimizer, architecture_optimizer, settings.epochs * len(data[0]))
        return Run(guide, settings, data[0], data[1], learners, known).run(console)


def _check_relaxation(relaxation: Any, supernet: Supernet, *, needed: bool) -> None:
    """Raise if it makes no relaxations or, if `needed`, relaxations that give the logits no gradient."""
    logits = supernet.parameters[0].detach().clone().requires_grad_()
    try:
        drawn = relaxation(temperature=1.0).draw(logits, torch.Generator())
    except (TypeError, AttributeError) as error:
        raise TypeError(
            "relaxation must be a class or function that makes a relaxation from temperature=, such as GumbelSoftmax "
            f"without parentheses, got {relaxation!r}: {error}"
        ) from None
    if needed and (drawn.weights is None or not drawn.weights.requires_grad):
        raise ValueError(f"relaxation {relaxation!r} gives the logits no gradient; use GumbelSoftmax")
