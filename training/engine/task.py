# Copyright 2026 the maintainers of depthseg_ros
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The training task: training, validation and prediction steps, optimizer, checkpoint content."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from depthseg_ros.model_card import DepthRange, ModelCard

from ..data.classes import CLASS_LISTS, describe, model_classes
from ..data.module import MultiDataModule
from ..errors import TrainingError
from ..models.base import System
from ..models.encoders import Encoder
from ..models.served import ServedModel
from ..objectives.base import Context, Objective
from ..objectives.supervised import Supervised
from ..processes import dataset_index, summed
from .accumulation import AccumulatedLoader
from .balancing import BALANCERS, Balancer
from .metrics import Evaluation
from .weights import merge_provenance, provenance_of, recalibrate_batch_norms, start_from


class JointTask(L.LightningModule):
    """Train segmentation and depth jointly, each from the pixels that have ground truth."""

    class_weights: Tensor

    def __init__(
        self,
        system: System,
        objective: Objective | None = None,
        balancer: Balancer | str = "fixed",
        name: str = "street",
        classes: str | list[dict[str, Any]] = "camvid",
        network_size: tuple[int, int] = (480, 360),
        canonical_fx: float = 420.0,
        min_depth: float = 0.2,
        max_depth: float = 100.0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.02,
        warm_up: float = 0.1,
        steps: dict[float, float] | None = None,
        class_weight_offset: float = 1.05,
        weights: Path | None = None,
        encoder_rate: float = 1.0,
        train_only: list[str] | None = None,
    ) -> None:
        """Set up the task.

        Args:
            system: The network, see `training.models.base.System`.
            objective: The losses, see `training.objectives`; `Supervised` by default.
            balancer: How to weight the tasks' losses: a name in `balancing.BALANCERS`, or an object
                of one of its classes.
            name: The model's name on its card.
            classes: A name in `classes.CLASS_LISTS`, or a YAML file with `classes`, such as a
                folder's `dataset.yaml`; the checkpoint stores the content of the file.
            network_size: Width and height. Their product is the network's number of pixels; width
                and height of the network follow from the shape of the image.
            canonical_fx: Focal length of the canonical camera of metric depth, pixels.
            min_depth: Smallest depth of the model file's output; metres if the depth is metric.
            max_depth: Greatest depth of the model file's output.
            optimizer: A torch optimizer; `learning_rate` and `weight_decay` are set here.
            learning_rate: Peak of the schedule.
            weight_decay: Weight decay of convolutions and linear layers; norms, biases and scales
                have none.
            warm_up: Fraction of the run during which the rate rises, see `one_cycle`.
            steps: A step schedule in place of the one cycle: fraction of the run -> factor of the
                peak from then on, e.g. `{0.6: 0.5, 0.8: 0.25}`; `{}` keeps the rate constant.
            class_weight_offset: The c in 1 / ln(c + share), the weight of a class (ENet, Paszke et
                al. 2016). The closer to 1, the higher are the weights of rare classes.
            weights: A checkpoint, or a model file in fp32 or fp16, to start from. Weights with the
                same name and shape are loaded; with other classes, the heads are re-initialised.
            encoder_rate: Factor of the learning rate of the system's `encoder`. A lower rate keeps
                more of what a pretrained encoder has learned.
            train_only: Parts of the system to train, such as `[scale]`; everything else keeps its
                weights and the statistics of its batch norms. None: train all.
        """
        super().__init__()
        class_list = self._classes = model_classes(classes)
        if not class_weight_offset > 1:
            raise TrainingError(f"class_weight_offset is {class_weight_offset}, expected over 1")
        if not (0 <= warm_up < 1 and 0 < learning_rate < math.inf and 0 <= weight_decay < math.inf):
            raise TrainingError(
                f"warm_up is {warm_up}, learning_rate {learning_rate}, weight_decay {weight_decay},"
                " expected a share below 1, a rate above 0, a decay of 0 or more"
            )
        if not all(0 <= share < 1 and factor >= 0 for share, factor in (steps or {}).items()):
            raise TrainingError(f"steps is {steps}, expected shares from 0 to 1, factors >= 0")
        has_encoder = isinstance(getattr(system, "encoder", None), nn.Module)
        if not 0 < encoder_rate < math.inf or (encoder_rate != 1 and not has_encoder):
            raise TrainingError(
                f"encoder_rate is {encoder_rate}, expected above 0, and 1 where the system (here"
                f" {type(system).__name__}) has no part `encoder`"
            )
        self.train_only = train_only
        if train_only is not None:
            parts = dict(system.named_modules())
            missing = [name for name in train_only if name not in parts]
            if missing or not train_only:
                raise TrainingError(
                    f"train_only is {train_only}, expected parts of {type(system).__name__}, any of"
                    f" {', '.join(name for name, _ in system.named_children())}"
                )
            system.requires_grad_(False)
            for name in train_only:
                parts[name].requires_grad_(True)
        self.save_hyperparameters()
        encoders = [module for module in system.modules() if isinstance(module, Encoder)]
        self._earlier_provenance: dict[str, Any] = merge_provenance(
            *(dict(e.provenance) for e in encoders)
        )
        if weights is not None:
            self._earlier_provenance = merge_provenance(
                provenance_of(Path(weights)), self._earlier_provenance
            )
            missing = start_from(system, Path(weights))
            rank_zero_info(
                f"{weights}: all weights loaded" + f", except {', '.join(missing)}" * bool(missing)
            )
        for part, module in system.named_modules():
            # For so few channels in channels-last layout, torch 2's CPU kernel reads out of bounds.
            narrow = isinstance(module, nn.Conv2d) and module.in_channels < 8
            if narrow and module.kernel_size == (1, 1) and module.stride != (1, 1):
                raise TrainingError(
                    f"the system's {part} has {module.in_channels} channels in, expected at least 8"
                    " in a strided 1x1 convolution: make the encoder wider"
                )
        # The fast kernels of CPUs and GPUs need channels last; the values are the same.
        system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.system = system
        self.objective = Supervised() if objective is None else objective
        self.objective.prepare(system)
        if isinstance(balancer, str):
            if balancer not in BALANCERS:
                raise TrainingError(
                    f"there is no balancer {balancer!r}, expected one of {', '.join(BALANCERS)}"
                )
            balancer = BALANCERS[balancer]()
        self.balancer = balancer
        self.make_optimizer = optimizer  # hparams may have its description only
        kind, tasks = system.depth_kind, system.tasks
        self.card = ModelCard(
            name=name,
            system=type(system).__module__.rpartition(".")[2],
            classes=class_list if "segmentation" in tasks else (),
            depth=DepthRange(kind, min_depth, max_depth) if "depth" in tasks else None,
            network_size=network_size,
            canonical_fx=canonical_fx if kind == "metric" and "depth" in tasks else None,
            depth_confidence=system.predicts_scale,
            needs_background="background" in system.inputs,
            parameters=sum(p.numel() for p in system.parameters()),
            tools={tool: version(tool) for tool in ("torch", "onnx")},
            reducible=True,
        )
        self.served = ServedModel(system, self.card)
        self.register_buffer("class_weights", torch.ones(len(class_list)))
        self.evaluations: list[Evaluation] = []
        self.supervised_tasks: set[str] = set()
        if train_only is not None:
            self.train()

    def train(self, mode: bool = True) -> JointTask:
        """Set the mode; parts that `train_only` freezes stay in evaluation mode."""
        super().train(mode)
        if self.train_only is not None:
            self.system.eval()
            for name in self.train_only:
                self.system.get_submodule(name).train(mode)
        return self

    @property
    def data_module(self) -> MultiDataModule:
        """The trainer's data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # Trainer does not declare it

    def setup(self, stage: str) -> None:
        """Check the weights, prepare gradient accumulation, and compute the class weights."""
        self.seed = torch.initial_seed()
        if stage == "fit":
            self._require_weights()
            self._wrap_loader()
            if Path(self.hparams["weights"] or "").suffix == ".onnx":
                self._recalibrate_batch_norms()
        if stage != "fit" or not self.card.classes or not self.objective.weigh_classes:
            return
        shares = torch.as_tensor(self.data_module.class_shares())
        weights = 1 / torch.log(self.hparams["class_weight_offset"] + shares)
        self.class_weights.copy_(weights / (weights * shares).sum())

    def _require_weights(self) -> None:
        """Raise if frozen parts have random weights.

        Checked when training starts, not in `__init__`: a task is also built to load a checkpoint.
        """
        encoder = getattr(self.system, "encoder", None)
        given = self.hparams["weights"] is not None or self.trainer.ckpt_path is not None
        if self.system.needs_weights and not given:
            raise TrainingError(
                "freeze_depth: the frozen parts have random weights; give the system's"
                " depth_weights, or model.weights"
            )
        if given or not isinstance(encoder, Encoder) or encoder.provenance["trained_on"]:
            return
        frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
        if frozen:
            raise TrainingError(
                f"the encoder's {frozen[0]} is frozen and has random weights: give the encoder"
                " pretrained: true (a vision transformer: its name or folder as vit), or give"
                " model.weights"
            )

    def _wrap_loader(self) -> None:
        """Wrap the training loader of any data module in `AccumulatedLoader`."""
        data = self.data_module
        load = data.train_dataloader

        @functools.wraps(load)
        def train_dataloader() -> AccumulatedLoader:
            return AccumulatedLoader(load(), lambda: data.trainer.accumulate_grad_batches)

        if not hasattr(load, "__wrapped__"):  # wrapped by an earlier fit
            data.train_dataloader = train_dataloader  # type: ignore[assignment]  # replaces the method of this object

    def _recalibrate_batch_norms(self) -> None:
        """Measure the statistics on the first batches, see `weights.recalibrate_batch_norms`."""
        device = self.class_weights.device  # Lightning's `device` is not set yet
        loader = self.data_module.train_dataloader()
        batches = itertools.islice(getattr(loader, "iterables", loader), 8)

        def run() -> None:
            for batch in batches:
                inputs = (batch[name].float() for name in self.system.inputs)
                self.system(*(x.to(device) for x in inputs))

        recalibrate_batch_norms(self.system, run)

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a resumed run gets the same random numbers."""
        torch.manual_seed((self.seed + self.current_epoch) % 2**63)

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Compute the loss of a batch of `TrainDataset`, with `step` if batches are accumulated."""
        step = batch.get("step", ())
        canonical_fx = self.hparams["canonical_fx"]
        classes = self._classes
        context = Context(self.system, batch, self.class_weights, canonical_fx, step, classes)
        parts, present = self.objective(context)
        if not parts:
            raise TrainingError("nothing to learn: the objective has no loss for any task")
        self.supervised_tasks |= {task for task, there in present.items() if there}
        losses = {task: torch.stack(list(p.values())).sum() for task, p in parts.items()}
        total = self.balancer(losses, present)
        # Losses are means over all processes and micro-batches; this is this one's contribution
        # (`losses.numerics`).
        how: dict[str, Any] = {
            "on_epoch": True,
            "sync_dist": True,
            "batch_size": len(batch["labels"]),
        }
        for task, values in parts.items():
            named = {f"loss/{task}/{name}": value for name, value in values.items()}
            self.log_dict(named, on_step=False, **how)
        shown = torch.stack(list(losses.values())).sum().detach()
        self.log("loss", shown, prog_bar=True, on_step=True, **how)
        if not step:
            return total
        # Lightning divides by the configured number; an epoch's last step may have fewer batches.
        return total * (self.trainer.accumulate_grad_batches / len(step))

    def on_train_epoch_end(self) -> None:
        """Warn if a task had no ground truth in the whole epoch."""
        tasks = self.system.tasks
        known = torch.tensor(
            [int(task in self.supervised_tasks) for task in tasks], device=self.device
        )
        for task, processes_with in zip(tasks, summed(known).tolist(), strict=True):
            if not processes_with:
                rank_zero_warn(f"In this epoch no sample had ground truth for {task}")
        self.supervised_tasks.clear()

    def on_validation_start(self) -> None:
        """Create the metrics of each data set."""
        sources = self.data_module.val
        self.evaluations = [
            Evaluation(self.card, s.name, groups=s.groups, own_protocol=s.protocol).to(self.device)
            for s in sources
        ]

    def validation_step(
        self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0
    ) -> None:
        """Evaluate a batch of `EvalDataset` with the graph that a model file has."""
        trainer = self.trainer
        loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        if dataset_index(loaders, dataloader_idx, index) is None:
            return  # another process evaluates it
        outputs = self.served(*(batch[name] for name in self.served.inputs))
        self.evaluations[dataloader_idx].update(outputs, batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/DATA/MEASURE` over all processes; `test` logs `SPLIT/DATA/MEASURE`."""
        sources = self.data_module.val
        for source, evaluation in zip(sources, self.evaluations, strict=True):
            stage = source.split if self.trainer.testing else "val"
            for measure, value in evaluation.compute().items():
                shown = measure in ("miou", "group_miou", "abs_rel")
                name = f"{stage}/{source.name}/{measure}"
                self.log(name, value, prog_bar=shown, sync_dist=True)

    def predict_step(
        self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Return the model file's outputs for a batch of `EvalDataset`, by name."""
        outputs = self.served(*(batch[name] for name in self.served.inputs))
        return dict(zip(self.served.outputs, outputs, strict=True))

    test_step = validation_step
    on_test_start = on_validation_start
    on_test_epoch_end = on_validation_epoch_end

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its learning rate schedule, a function of the run's progress."""
        decay = decayed_parameters(self)
        encoder = set(getattr(self.system, "encoder", nn.Module()).parameters())
        parameters = [p for p in self.parameters() if p.requires_grad]
        options = self._group_options()
        encoder_differs = len(options) > 2
        keys = [(p in decay, p not in encoder or not encoder_differs) for p in parameters]
        optimizer = self.make_optimizer(
            [
                {"params": [p for p, k in zip(parameters, keys, strict=True) if k == key]}
                for key in options
            ]
        )
        for group, own in zip(optimizer.param_groups, options.values(), strict=True):
            group.update(own)
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise TrainingError("the schedule depends on the run's length: give trainer.max_epochs")
        total = max(1, int(total))
        steps, warm_up = self.hparams["steps"], self.hparams["warm_up"]

        def factor(step: int) -> float:
            progress = step / total
            return one_cycle(progress, warm_up) if steps is None else stepped(progress, steps)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Use the configuration's learning rate and weight decay in place of the checkpoint's."""
        self._earlier_provenance = checkpoint["provenance"]
        options = list(self._group_options().values())
        for state in checkpoint.get("optimizer_states", []):
            for group, own in zip(state["param_groups"], options, strict=True):
                group["lr"] *= own["lr"] / group["initial_lr"]
                group.update(initial_lr=own["lr"], weight_decay=own["weight_decay"])
        for state in checkpoint.get("lr_schedulers", []):
            state["base_lrs"] = [own["lr"] for own in options]

    def _group_options(self) -> dict[tuple[bool, bool], dict[str, float]]:
        """Learning rate and weight decay by (parameters decay, they are not the encoder's)."""
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        factor = self.hparams["encoder_rate"]
        return {
            (decays, others): {
                "lr": rate * (1 if others else factor),
                "weight_decay": decay if decays else 0.0,
            }
            for others in ((True, False) if factor != 1 else (True,))
            for decays in (True, False)
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the provenance of all training data, and options without weight files."""
        own = self.data_module.provenance
        checkpoint["provenance"] = merge_provenance(
            own, dict(self.objective.provenance), self._earlier_provenance
        )
        if "hyper_parameters" in checkpoint:
            described: dict[Any, Any] = {}
            for module in self.modules():
                described |= getattr(module, "described", {})
            options = _without_files(checkpoint["hyper_parameters"], described)
            if options.get("classes") not in list(CLASS_LISTS):  # the file may change later
                options["classes"] = describe(self._classes)
            # A task built in Python has modules as options; these cannot be loaded safely.
            checkpoint["modules"] = [k for k, v in options.items() if isinstance(v, nn.Module)]
            checkpoint["hyper_parameters"] = {
                k: v
                for k, v in options.items()
                if not callable(v)  # modules are callable
            }


def _without_files(options: Any, described: Mapping[Any, Any]) -> Any:
    """Remove paths of weight files from the options, since the checkpoint has the weights.

    The name or folder of a vision transformer is replaced by its description, see `models.vit.Vit`.
    """
    if not isinstance(options, dict):
        return options
    start = {"weights": None, "depth_weights": None, "pretrained": False}

    def stored(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _without_files(value, described)
        return described.get(value, value) if key == "vit" else start.get(key, value)

    return {key: stored(key, value) for key, value in options.items()}


def decayed_parameters(module: nn.Module) -> set[nn.Parameter]:
    """Parameters with weight decay: the weights of convolutions and linear layers.

    Biases, norms and scale parameters of any shape have none.
    """
    layers = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)
    return {
        parameter
        for layer in module.modules()
        if isinstance(layer, layers)
        for name, parameter in layer.named_parameters(recurse=False)
        if "weight" in name
    }


def one_cycle(progress: float, warm_up: float = 0.1, start: float = 0.04) -> float:
    """Learning rate / peak at a fraction of the run: up along a cosine, then down to zero.

    After Smith and Topin (2018). It depends on progress only, so a run that is resumed with more
    epochs continues on the longer schedule.
    """
    if progress < warm_up:
        return start + (1 - start) * (1 - math.cos(math.pi * progress / warm_up)) / 2
    return (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up)))) / 2


def stepped(progress: float, steps: dict[float, float]) -> float:
    """Learning rate / peak at a fraction of the run: the factor of the last step reached."""
    return next((steps[s] for s in sorted(steps, reverse=True) if progress >= s), 1.0)
