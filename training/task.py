"""The training task: what happens to a batch, whichever system is trained."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from depthseg_ros.model_card import DepthRange, ModelCard

from . import losses
from .blocks import resize
from .classes import CLASS_LISTS
from .errors import TrainingError
from .export import ServedModel
from .metrics import Evaluation


class JointTask(L.LightningModule):
    """Segmentation and depth together, each loss over the pixels whose truth is known."""

    class_weights: Tensor

    def __init__(
        self,
        system: nn.Module,
        name: str = "street",
        classes: str = "camvid",
        network_size: tuple[int, int] = (480, 360),
        canonical_fx: float = 420.0,
        min_depth: float = 0.5,
        max_depth: float = 100.0,
        depth_weight: float = 2.0,
        gradient_weight: float = 0.5,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.02,
    ) -> None:
        """Set up the task.

        Args:
            system: The network, see `training.systems`.
            name: What the model is called on its card.
            classes: A name in `classes.CLASS_LISTS`.
            network_size: Width and height at which the network sees whole pictures.
            canonical_fx: Focal length of the camera that depth is learned in, pixels.
            min_depth: Least metric depth that is served, metres.
            max_depth: Greatest metric depth that is served, metres.
            depth_weight: Weight of `losses.relative_l1` against the cross-entropy.
            gradient_weight: Weight of `losses.log_gradient` against the cross-entropy.
            learning_rate: Peak of the schedule, see `one_cycle`.
            weight_decay: AdamW's.
        """
        super().__init__()
        if classes not in CLASS_LISTS:
            raise TrainingError(f"unknown classes {classes!r}, expected one of {list(CLASS_LISTS)}")
        self.save_hyperparameters()
        # Channels last is how the fast kernels of CPUs and GPUs want it; the values are the same.
        self.system = system.to(memory_format=torch.channels_last)
        self.card = ModelCard(
            name=name,
            system=type(system).__module__.rpartition(".")[2],
            classes=CLASS_LISTS[classes],
            depth=DepthRange("metric", min_depth, max_depth),
            network_size=network_size,
            canonical_fx=canonical_fx,
            parameters=sum(p.numel() for p in system.parameters()),
            tools={tool: version(tool) for tool in ("torch", "onnx")},
        )
        self.served = ServedModel(system, self.card)
        self.register_buffer("class_weights", torch.ones(len(self.card.classes)))
        self.evaluations = nn.ModuleList()

    def on_fit_start(self) -> None:
        """Weigh rare classes up, by how often the data has each (ENet, Paszke et al. 2016)."""
        shares = torch.as_tensor(self.trainer.datamodule.class_shares())  # type: ignore[attr-defined]
        weights = 1 / torch.log(1.1 + shares)
        self.class_weights.copy_(weights / (weights * shares).sum())

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """One batch of `transforms.Augmented`."""
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        prediction = self.system(image)
        size = batch["image"].shape[2:]
        logits = resize(prediction["logits"], size)
        log_depth = resize(prediction["log_depth"], size)[:, 0]
        log_range = self.system.log_range
        parts = {
            "segmentation": losses.cross_entropy(logits, batch["labels"], self.class_weights),
            "depth": self.hparams["depth_weight"]
            * losses.relative_l1(log_depth, batch["depth"], log_range),
            "gradient": self.hparams["gradient_weight"]
            * losses.log_gradient(log_depth, batch["depth"], log_range),
        }
        total = torch.stack(list(parts.values())).sum()
        self.log_dict({f"loss/{k}": v for k, v in parts.items()}, on_step=False, on_epoch=True)
        self.log("loss", total, prog_bar=True, on_step=True, on_epoch=True)
        return total

    def on_validation_start(self) -> None:
        """Measure each data set apart."""
        names = self.trainer.datamodule.val_names  # type: ignore[attr-defined]
        self.evaluations = nn.ModuleList(Evaluation(self.card) for _ in names).to(self.device)

    def validation_step(
        self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0
    ) -> None:
        """One batch of `transforms.Whole`, through the very graph that a model file has."""
        labels, _, depth = self.served(batch["image"], batch["fx"])
        self.evaluations[dataloader_idx].update(labels, depth, batch)  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Log `val/DATA/MEASURE`."""
        names = self.trainer.datamodule.val_names  # type: ignore[attr-defined]
        for name, evaluation in zip(names, self.evaluations, strict=True):
            for measure, value in evaluation.compute().items():  # type: ignore[operator]
                shown = measure in ("miou", "abs_rel")
                self.log(f"val/{name}/{measure}", value, prog_bar=shown)

    def configure_optimizers(self) -> Any:
        """AdamW with one cycle over the whole run; norms and biases do not decay."""
        parameters = [p for p in self.system.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        peak = self.hparams["learning_rate"]
        optimizer = torch.optim.AdamW(
            groups, lr=peak, weight_decay=self.hparams["weight_decay"], fused=True
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / max(steps, 1))
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the network was trained on, for its card."""
        checkpoint["provenance"] = self.trainer.datamodule.provenance  # type: ignore[attr-defined]


def one_cycle(progress: float, warm_up: float = 0.1, start: float = 0.04) -> float:
    """Share of the peak learning rate at a share of the run: up along a cosine, then down to zero.

    After Smith and Topin (2018). A function of progress alone, so that a run that is resumed with
    more epochs than it was planned for goes on along the longer schedule.
    """
    if progress < warm_up:
        return start + (1 - start) * (1 - math.cos(math.pi * progress / warm_up)) / 2
    return (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up)))) / 2
