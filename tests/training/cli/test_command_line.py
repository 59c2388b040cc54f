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

"""`python -m training`, as its users run it: fit, resume, evaluate, export, serve."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
import yaml

from benchmarks import training_throughput
from depthseg_ros import street
from depthseg_ros.perception import Perception
from training.__main__ import main
from training.data.module import MultiDataModule
from training.data.synthetic.composites import Composites
from training.data.synthetic.rendered import FIRST_SEED, RenderedStreets
from training.data.transforms import TrainDataset
from training.engine.fit import CommandLine
from training.engine.pictures import PredictionImages
from training.engine.task import JointTask, one_cycle
from training.engine.weights import start_from
from training.errors import TrainingError
from training.evaluation import comparison
from training.evaluation.comparison import override
from training.models.encoders import StandardResNet
from training.models.systems.depthsegnet import DepthSegNet, Vgg
from training.models.systems.lateral_sharing import LateralSharing
from training.models.systems.semantic_guided import SemanticGuided
from training.models.systems.shared_encoder import SharedEncoder
from training.models.systems.two_image_u2net import TwoImageU2Net
from training.models.systems.two_stream_fcn import TwoStreamFcn

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "training" / "configs" / "street.yaml"
SMALL = """
model:
  system:
    class_path: training.models.systems.shared_encoder.SharedEncoder
    init_args:
      widths: [16, 16, 16, 16]
      depths: [1, 1, 1, 1]
      context: 16
      decoder: [16, 16, 16]
      heads: [8, 8]
  network_size: [160, 120]
  canonical_fx: 140.0
  optimizer: OPTIMIZER
data:
  train: {streets: 4, camvid: 0}
  val: {streets: 1, camvid: 0}
  options:
    streets: {streets: 2, moments: 2}
  crop: [96, 64]
  scale_range: [0.6, 1.6]
  crop_schedule: [[0, 0.5], [0.5, 1]]
  batch_size: 2
  workers: 0
trainer:
  default_root_dir: runs
  max_epochs: 2
  check_val_every_n_epoch: 2
  gradient_clip_val: CLIP
  enable_progress_bar: false
  callbacks: CALLBACKS
"""


def small():
    """SMALL with optimizer, callbacks and clipping of the default model, which are thus tested."""
    config = yaml.safe_load(CONFIG.read_text())
    text = SMALL.replace("CALLBACKS", json.dumps(config["trainer"]["callbacks"]))
    text = text.replace("OPTIMIZER", json.dumps(config["model"]["optimizer"]))
    return text.replace("CLIP", str(config["trainer"]["gradient_clip_val"]))


STREETS = ("--data.train", "{streets: 4}", "--data.val", "{streets: 1}")


class Result(NamedTuple):
    code: int
    out: str
    err: str


def training(*arguments, folder):
    """Run the command line in a folder, in this process, because importing torch takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """A folder in CamVid's layout, of rendered images."""
    root = tmp_path_factory.mktemp("camvid")
    for split, seeds in (("train", (1, 2, 3)), ("val", (4,))):
        (root / split).mkdir()
        (root / f"{split}annot").mkdir()
        for seed in seeds:
            frame = street.Street(seed, 160, 120).frame(0)
            cv2.imwrite(str(root / split / f"{seed}.png"), frame.image[..., ::-1])
            cv2.imwrite(str(root / f"{split}annot" / f"{seed}.png"), frame.labels)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, camvid):
    """A folder in which a small model has been trained on streets and CamVid."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(small())
    saved = []
    train_dataloader = MultiDataModule.train_dataloader

    def spied(self):  # called at the beginning of every epoch
        saved.append((folder / "runs" / "last.ckpt").exists())
        if saved[-1]:
            shutil.copy(folder / "runs" / "last.ckpt", folder / "half.ckpt")
        return train_dataloader(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiDataModule, "train_dataloader", spied)
        result = training(
            "fit", "--config", "small.yaml", "--data.folders.camvid", camvid, folder=folder
        )
    assert result.code == 0, result.err
    assert saved == [False, True]  # a run that is stopped can go on from its last epoch
    return folder


def logged(folder, name):
    """All values of a figure in the CSV logs of a run, in order."""
    values = []
    for file in sorted(folder.glob("runs/version_*/metrics.csv")):
        with file.open() as lines:
            values += [float(row[name]) for row in csv.DictReader(lines) if row.get(name)]
    return values


def test_fit_logs_every_loss_and_measure(run):
    for name in ("segmentation/cross_entropy", "depth/relative_l1", "depth/log_gradient"):
        values = logged(run, f"loss/{name}")
        assert len(values) == 2 and np.isfinite(values).all()
    assert 0 <= logged(run, "val/camvid/miou")[-1] <= 1
    assert logged(run, "val/streets/abs_rel")[-1] > 0


def test_fit_resumes_from_a_checkpoint(run, camvid):
    result = training(
        "fit", "--config", "small.yaml", "--data.folders.camvid", camvid, "--trainer.max_epochs", 3,
        "--ckpt_path", "runs/last.ckpt", folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert [p.name for p in (run / "runs").glob("*.ckpt")] == ["last.ckpt"]
    checkpoint = torch.load(run / "runs" / "last.ckpt", weights_only=True)
    # 4 streets and 3 images of CamVid are 3 batches of 2 in an epoch.
    assert checkpoint["global_step"] == 9


def test_a_resumed_run_has_the_same_losses_as_one_without_a_stop(run, camvid, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "streets").symlink_to(run / "runs" / "streets")
    (tmp_path / "small.yaml").write_text(small())
    result = training(
        "fit", "--config", "small.yaml", "--data.folders.camvid", camvid,
        "--ckpt_path", run / "half.ckpt", folder=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.err
    for loss in ("segmentation/cross_entropy", "depth/relative_l1"):
        (again,) = logged(tmp_path, f"loss/{loss}")
        assert again == pytest.approx(logged(run, f"loss/{loss}")[1], rel=1e-5)


def test_a_resumed_run_uses_the_new_learning_rate_and_weight_decay(run, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "streets").symlink_to(run / "runs" / "streets")
    (tmp_path / "small.yaml").write_text(small())
    result = training(
        "fit", "--config", "small.yaml", *STREETS, "--ckpt_path", run / "half.ckpt",
        "--model.learning_rate", 1e-4, "--model.weight_decay", 0.5, folder=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.err
    checkpoint = torch.load(tmp_path / "runs" / "last.ckpt", weights_only=True)
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert [g["initial_lr"] for g in groups] == checkpoint["lr_schedulers"][0]["base_lrs"]
    assert [g["initial_lr"] for g in groups] == [1e-4, 1e-4]
    assert all(0 <= g["lr"] <= 1e-4 for g in groups)
    assert [g["weight_decay"] for g in groups] == [0.5, 0.0]


def test_a_diverging_run_fails_and_saves_no_checkpoint(run, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "streets").symlink_to(run / "runs" / "streets")
    (tmp_path / "small.yaml").write_text(small())
    result = training(
        "fit", "--config", "small.yaml", *STREETS, "--model.learning_rate", 1e30,
        "--trainer.gradient_clip_val", "null", folder=tmp_path,
    )  # fmt: skip
    assert result.code == 1
    assert "training: the loss is nan in epoch 0: lower model.learning_rate" in result.err
    assert not list(tmp_path.glob("runs/*.ckpt"))


def test_a_terminated_run_exits_with_an_error_code(run, tmp_path):
    (tmp_path / "small.yaml").write_text(small())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "streets").symlink_to(run / "runs" / "streets")
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "fit", "--config", "small.yaml", *STREETS,
         "--trainer.max_epochs", "10000"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "runs" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in errors
    torch.load(tmp_path / "runs" / "last.ckpt", weights_only=True)


def test_evaluate_prints_json_for_each_data_set(run, camvid):
    result = training(
        "evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", f"camvid={camvid}",
        "--count", 2, "--json", folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    measured = json.loads(result.out)
    assert set(measured) == {"streets-test", "camvid-val"}
    assert {"miou", "abs_rel", "rmse", "delta3", "abs_rel/border", "abs_rel/10-30m"} <= set(
        measured["streets-test"]
    )
    assert "abs_rel" not in measured["camvid-val"]


def test_images_of_predictions_are_written(run):
    for data in ("streets", "camvid"):
        sheet = cv2.imread(str(run / "runs" / "images" / data / "epoch_002.png"))
        assert sheet.shape == (240 + 4, 5 * 320, 3)
        image, overlay = sheet[:240, :320], sheet[:240, 320:640]
        assert image.std() > 10 and not np.array_equal(image, overlay)


def built(folder, *options):
    """The trainer of a command line, which is not run, and the folder that each part writes to."""
    arguments = ["--config", "small.yaml", *STREETS, *options]
    with contextlib.chdir(folder):
        command_line = CommandLine(arguments, run=False, save_config_callback=None)
    trainer = command_line.trainer
    folders = {type(x).__name__: x.save_dir for x in trainer.loggers}
    for callback in trainer.callbacks:
        kind = type(callback).__name__
        assert kind not in folders, f"{kind} twice"
        folders[kind] = str(getattr(callback, "dirpath", getattr(callback, "folder", "")))
    return trainer, folders


OWN_PARTS = """
trainer:
  default_root_dir: elsewhere
  check_val_every_n_epoch: 3
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args: {save_dir: own, name: log}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: own, filename: best, monitor: loss}
    - class_path: lightning.pytorch.callbacks.LearningRateMonitor
      init_args: {logging_interval: epoch}
    - class_path: training.engine.pictures.PredictionPictures
      init_args: {folder: own/pictures, every_n_epochs: 7}
    - class_path: lightning.pytorch.callbacks.TQDMProgressBar
  enable_progress_bar: true
"""


def test_the_folder_of_a_run_holds_all_that_the_run_writes(run, tmp_path):
    trainer, folders = built(run, "--trainer.default_root_dir", str(tmp_path))
    own = str(tmp_path)
    assert trainer.default_root_dir == own and folders["ModelCheckpoint"] == own
    assert folders["CSVLogger"] == folders["TensorBoardLogger"] == own
    assert folders["PredictionImages"] == f"{own}/images"
    named = ("--trainer.default_root_dir", "null", "--model.name", "mine")
    _, folders = built(run, *named, "--trainer.enable_progress_bar", "true")
    assert folders["ModelCheckpoint"] == str(run / "runs" / "mine")
    assert "ProgressBar" in folders and "LearningRateMonitor" in folders


def test_loggers_and_callbacks_of_the_configuration_replace_the_default_ones(run):
    (run / "own.yaml").write_text(OWN_PARTS)
    trainer, folders = built(run, "--config", "own.yaml")
    assert [type(logger).__name__ for logger in trainer.loggers] == ["CSVLogger"]
    assert (folders["CSVLogger"], folders["PredictionImages"]) == ("own", "own/pictures")
    assert trainer.checkpoint_callback.monitor == "loss"
    assert folders["ModelCheckpoint"] == str(run / "own")
    assert "TQDMProgressBar" in folders and "ProgressBar" not in folders
    (images,) = (c for c in trainer.callbacks if isinstance(c, PredictionImages))
    assert images.every_n_epochs == 7


def test_logger_and_checkpoints_can_be_turned_off(run):
    off = ("--trainer.logger", "false", "--trainer.enable_checkpointing", "false")
    trainer, folders = built(run, *off)
    assert not trainer.loggers and trainer.checkpoint_callback is None
    assert "LearningRateMonitor" not in folders and "ProgressBar" not in folders


def test_tensorboard_gets_the_same_images_and_the_curves(run):
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    folder = run / "runs" / "version_0"  # later tests of this folder write more
    board = accumulator.EventAccumulator(str(folder)).Reload()
    assert {"val/streets/miou", "val/streets/abs_rel"} <= set(board.Tags()["scalars"])
    (shown,) = board.Images("predictions/streets")
    content = np.frombuffer(shown.encoded_image_string, np.uint8)
    sheet = cv2.imread(str(run / "runs" / "images" / "streets" / "epoch_002.png"))
    np.testing.assert_array_equal(cv2.imdecode(content, cv2.IMREAD_COLOR), sheet)


def test_test_and_predict_run_on_a_checkpoint(run, camvid):
    common = ["--config", "small.yaml", "--ckpt_path", "runs/last.ckpt"]
    common += ["--data.train", "{streets: 4}", "--data.val", "{streets: 2}"]
    tested = training("test", *common, folder=run)
    assert tested.code == 0 and "test/streets/miou" in tested.out
    assert training("predict", *common, folder=run).code == 0
    assert sorted(p.name for p in (run / "runs/images/streets").glob("0*.png")) == [
        "00000.png", "00001.png"
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_losses(run, tmp_path):
    losses = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "runs").mkdir()
        (folder / "runs" / "streets").symlink_to(run / "runs" / "streets")
        (folder / "small.yaml").write_text(small())
        result = training(
            "fit", "--config", "small.yaml", "--data.train", "{streets: 4}", "--data.val",
            "{streets: 1}", "--trainer.max_epochs", 1, folder=folder,
        )  # fmt: skip
        assert result.code == 0, result.err
        losses.append(logged(folder, "loss/depth/relative_l1"))
    assert losses[0] == losses[1]


def test_exported_files_have_the_same_accuracy_and_can_be_loaded(run):
    evaluate = ("evaluate", "--data", "streets", "--count", 2, "--checkpoint")
    table = training(*evaluate, "runs/last.ckpt", folder=run)
    assert "abs_rel" in table.out

    def measured(file):
        result = training(*evaluate, file, "--json", "--reliability", "reliability.png", folder=run)
        assert result.code == 0, result.err
        return json.loads(result.out)

    before = measured("runs/last.ckpt")
    (run / "measured.json").write_text(json.dumps(before))
    exported = training(
        "export", "--checkpoint", "runs/last.ckpt", "--output", "out/model.onnx",
        "--metrics", "measured.json", "--with-int8", "--data", "streets", "--count", 2, folder=run,
    )  # fmt: skip
    assert exported.code == 0, exported.err
    perception = Perception(run / "out" / "model", precision="fp32")
    card = perception.card
    assert card.precision == "fp32"
    assert card.metrics["streets-test/miou"] == round(before["streets-test"]["miou"], 4)
    assert card.trained_on == ("rendered streets train", "CamVid (11 classes) train")
    assert "research use" in card.terms
    assert Perception(run / "out" / "model", precision="int8").card.precision == "int8"
    fp32 = measured("out/model.onnx")["streets-test"]
    for measure, value in before["streets-test"].items():
        if "ece" not in measure:  # the file has a temperature
            assert fp32[measure] == pytest.approx(value, rel=5e-3, abs=2e-3), measure
    int8 = measured("out/model-int8.onnx")["streets-test"]
    assert int8["abs_rel"] == pytest.approx(fp32["abs_rel"], rel=0.2)
    assert 0 <= int8["ece"] <= 1
    assert cv2.imread(str(run / "reliability.png")).std() > 5
    frame = street.Street(FIRST_SEED["test"], 200, 150).frame(0)
    assert perception(frame.image, frame.intrinsics.fx).labels.shape == (150, 200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int8"), "--precision int8 needs --data"),
        (("--precision", "fp16", "--for", "tensorrt"), "--for tensorrt is about int8"),
    ],
)
def test_options_of_export_that_exclude_each_other_are_errors(run, options, message):
    command = ("export", "--checkpoint", "runs/last.ckpt", "--output", "o.onnx", *options)
    refused = training(*command, folder=run)
    assert refused.code == 2 and message in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--checkpoint", "none.ckpt", "--data", "streets"], "no checkpoint none.ckpt"),
        (["evaluate", "--checkpoint", "cut.ckpt", "--data", "streets"], "cut.ckpt is not a checkp"),
        (["evaluate", "--checkpoint", "bad.onnx", "--data", "streets"], "bad.onnx is not an ONNX"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "none"], "no data set 'none'"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "camvid"], "camvid=FOLDER"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "camvid=no"], "no CamVid imag"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "composites"], "classes 'mask'"),
        (["export", "--checkpoint", "cut.ckpt", "--output", "o.onnx"], "cut.ckpt is not a checkp"),
        (["export", "--checkpoint", "runs/last.ckpt", "--output", "o.onnx", "--metrics", "bad"],
         "is not what"),
        (["fit", "--config", "small.yaml", "--data.folders.camvid", "no"], "no CamVid images"),
        (["fit", "--config", "small.yaml"], "--data.folders.camvid FOLDER"),
        (["fit", "--config", "small.yaml", "--data.train", "{foo: 1}"], "no data set 'foo'"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.options", "{streets: {a: 1}}"], "'a'"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.folders.camvid", "x"],
         "data.folders or data.options has entries for unused data sets camvid: remove them"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.classes", "cityscapes"],
         "streets has the classes 'camvid', which are not the model's, 'cityscapes': set"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.crop_schedule", "[[0.5, 1]]"],
         "data.crop_schedule"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.classes", "foo"],
         "unknown classes 'foo'"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.balancer", "luck"],
         "no balancer 'luck'"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.steps", "{2.0: 1}"], "steps is"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.scale_range", "[0,1]"],
         "data.scale_range is"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.crop", "[0,0]"], "data.crop is"),
        (["fit", "--config", "small.yaml", *STREETS, "--ckpt_path", "nope.ckpt"], "nope.ckpt"),
        (["fit", "--config", "small.yaml", *STREETS, "--ckpt_path", "cut.ckpt"],
         "cut.ckpt is not a checkpoint"),
        (["fit", "--config", "small.yaml", "--data.train", "{streets: -4}"], "data.train is"),
        (["fit", "--config", "small.yaml", *STREETS, "--trainer.max_epochs", "-1"],
         "give trainer.max_epochs"),
        (["fit", "--config", "small.yaml", *STREETS,
          "--trainer.reload_dataloaders_every_n_epochs", "0"], "reload_dataloaders_every_n_epochs"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.weights", "cut.ckpt"],
         "cut.ckpt is not a checkpoint"),
        (["fit", "--config", "small.yaml", *STREETS, "--ckpt_path", "last"], "no checkpoint last"),
        (["fit", "--config", "small.yaml", *STREETS, "--ckpt_path", "runs/last.ckpt",
          "--model.system.init_args.context", "24"], "runs/last.ckpt is of another network"),
        (["validate", "--config", "small.yaml", *STREETS], "validate: the network's weights are"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.objective", "Supervised",
          "--model.objective.segmentation", "{foo: 1}"], "no segmentation loss 'foo'"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.objective", "Supervised",
          "--model.objective.depth", "{l1: .inf}"], "depth loss l1 is inf"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.objective", "Supervised",
          "--model.objective.init_args", "{segmentation: {}, depth: {}}"], "nothing to learn"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.system.init_args.widths",
          "[8, 8, 8, 8]"], "make the encoder wider"),
        (["fit", "--config", "small.yaml", *STREETS, "--model.learning_rate", "0"],
         "learning_rate 0"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.workers", "-1"], "data.workers -1"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.options", "{streets: {streets: 0}}"],
         "streets is 0"),
        (["fit", "--config", "small.yaml", *STREETS, "--data.options",
          "{streets: {streets: 1, size: 5}}"], "the options {'streets': 1, 'size': 5} of streets"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", "--options", "{a"],
         "'{a' is not YAML"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", "--options", "a"],
         "--options is a"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", "--options",
          "{camvid: {}}"], "--data does not name camvid"),
        (["compare", "--config", "small.yaml", "--set", "a={"], "'{' is not YAML"),
        (["export", "--checkpoint", "runs/last.ckpt", "--output", "runs"], "runs: it is a folder"),
        (["lr-range-test", "--config", "small.yaml", "--output", "bad/a.png"], "bad is a file"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(run, arguments, message):
    (run / "cut.ckpt").write_bytes((run / "runs" / "last.ckpt").read_bytes()[:5000])
    (run / "bad.onnx").write_bytes(b"bad")
    (run / "bad").write_text("bad")
    result = training(*arguments, folder=run)
    assert result.code == 1
    errors = [line for line in result.err.splitlines() if line.startswith("training: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in result.err
    assert not (run / "o.onnx").exists()


def test_mistakes_found_while_loading_get_one_line_too(run, tmp_path, camvid):
    for name in ("val", "valannot"):
        (tmp_path / name).mkdir()
    (tmp_path / "val" / "a.png").write_bytes((camvid / "val" / "4.png").read_bytes())
    cv2.imwrite(str(tmp_path / "valannot" / "a.png"), np.full((120, 160), 99, np.uint8))
    result = training(
        "evaluate", "--checkpoint", "runs/last.ckpt", "--data", f"camvid={tmp_path}", folder=run
    )
    assert result.code == 1 and "Traceback" not in result.err
    assert result.err.splitlines()[-1] == (
        f"training: {tmp_path}/valannot/a.png has the class ids 99 (19200 pixels), expected 0..11,"
        " or 255 for unlabelled: does the file use another class list?"
    )


def test_without_a_command_the_commands_are_listed(run):
    assert training(folder=run).code == 2
    mistaken = training("tset", folder=run)
    assert mistaken.code == 2 and "no command 'tset'" in mistaken.err
    shown = training("--help", folder=run)
    assert shown.code == 0 and "evaluate" in shown.out


def test_a_misspelt_key_is_named(run):
    result = training("fit", "--config", "small.yaml", "--data.folder.camvid", "x", folder=run)
    assert result.code == 2 and "data.folder" in result.err


def test_mixed_precision_and_accumulation_train(run):
    result = training(
        "fit", "--config", "small.yaml", *STREETS, "--trainer.precision", "bf16-mixed",
        "--trainer.accumulate_grad_batches", 2, "--trainer.max_epochs", 1,
        "--model.balancer", "uncertainty", "--trainer.callbacks", "null",
        "--trainer.enable_checkpointing", "false",
        folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert np.isfinite(logged(run, "loss/depth/relative_l1")).all()


def test_training_starts_from_the_weights_of_another_run(run):
    old = torch.load(run / "runs" / "last.ckpt", weights_only=True)["state_dict"]
    system = SharedEncoder(
        5, widths=(16,) * 4, depths=(1,) * 4, context=16, decoder=(16, 16, 16), heads=(8, 8)
    )  # other classes
    missing = start_from(system, run / "runs" / "last.ckpt")
    assert missing == ["segmentation.output.weight", "segmentation.output.bias"]
    loaded = {f"system.{n}": v for n, v in system.state_dict().items() if n not in missing}
    assert all(torch.equal(old[name], value) for name, value in loaded.items())
    with pytest.raises(TrainingError, match="no weights of a TwoStreamFcn"):
        start_from(TwoStreamFcn(streams=(8,), trunk=(8, 8)), run / "runs" / "last.ckpt")


def test_the_data_benchmark_measures_both_rates(camvid, capsys):
    training_throughput.main(
        ["--data", f"camvid={camvid}", "--workers", "0", "--batches", "2", "--json"]
    )
    rates = json.loads(capsys.readouterr().out)
    assert set(rates) == {"camvid, 0 workers", "training"} and min(rates.values()) > 0


# In a process of its own: torch.compile starts processes that end the one which uses it, later.
TINY_BACKENDS = """
import functools
from benchmarks import backends
small = {"widths": (16, 16, 32, 32), "depths": (1,) * 4, "context": 32}
backends.SharedEncoder = functools.partial(backends.SharedEncoder, **small)
backends.IMAGES = 1
backends.main(["--rounds", "1", "--threads", "1", "--json"])
"""


def test_the_benchmark_of_backends_runs_torch_and_every_runtime(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", TINY_BACKENDS], cwd=tmp_path,  # it renders streets there
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    speeds = json.loads(result.stdout[result.stdout.index("{") :])  # torch may print lines before
    assert set(speeds) >= {"torch eager, fp32", "onnxruntime, fp32", "onnxruntime, int8"}
    assert speeds["torch eager, fp32"]["speed_up"] == 1
    assert all(speed["ms"] > 0 for speed in speeds.values())


def test_the_benchmark_of_planners_compares_with_the_ground_truth():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.planners", "--count", "2", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert 0 < measured["errors"]["height, %"]["median"] < 20
    assert 0 < measured["errors"]["range, %"]["median"] < 20
    assert all(0 <= share <= 100 for share in measured["shares"].values())


def test_a_costmap_of_the_truth_has_all_obstacles_and_that_of_the_model_most():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.planners", "--costmap", "--count", "1", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for mounting, shares in json.loads(result.stdout).items():
        assert shares["truth, semantic layer: covered"] > 98, mounting
        assert shares["truth, semantic layer: true"] > 95, mounting
        assert shares["truth, scan: true"] > 98, mounting
        assert shares["model, semantic layer: covered"] > 80, mounting


def test_lr_range_test_plots_the_curve_and_suggests_a_rate(run):
    result = training(
        "lr-range-test", "--config", "small.yaml", *STREETS, "--steps", 20, "--output", "rates.png",
        folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.out.startswith("suggested learning rate: ")
    assert cv2.imread(str(run / "rates.png")).std() > 5


def test_a_comparison_trains_each_run_and_seed_once_and_prints_one_table(run):
    (run / "comparison.yaml").write_text(
        "config: small.yaml\n"
        "overrides:\n"
        "  trainer.max_epochs: 1\n"
        "  trainer.check_val_every_n_epoch: 1\n"
        "  data.train: {streets: 4}\n"
        "  data.val: {streets: 1}\n"
        "runs:\n"
        "  joint:\n"
        "  depth: {model.system.init_args.tasks: [depth]}\n"
        "sum: [joint, depth]\n"
    )
    arguments = ("compare", "--config", "comparison.yaml", "--count", 1, "--seeds", 2)
    first = training(*arguments, "--jobs", 2, "--json", folder=run)
    assert first.code == 0, first.err
    assert "compare: 4 runs take about 0.0 h" in first.err
    results = json.loads(first.out)
    assert list(results) == ["joint", "depth", "depth - joint"]
    seeds = results["joint"]
    assert len(seeds) == 2 and seeds[0]["streets-test/abs_rel"] != seeds[1]["streets-test/abs_rel"]
    assert "streets-test/miou" in seeds[0] and "streets-test/miou" not in results["depth"][0]
    difference = results["depth - joint"]["streets-test/abs_rel"]
    assert difference["low"] < difference["mean"] < difference["high"]

    root = run / "runs" / "compare" / "comparison"
    assert {"results.csv", "results.md", "results.png"} <= {f.name for f in root.iterdir()}
    checkpoints = sorted(root.glob("*/*/last.ckpt"))
    before = [c.stat().st_mtime_ns for c in checkpoints]
    again = training(*arguments, "--markdown", folder=run)
    assert again.code == 0 and "| measure | joint | depth | depth - joint |" in again.out
    assert [c.stat().st_mtime_ns for c in checkpoints] == before and len(before) == 4
    assert "| joint+depth |" in again.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: {a: }", "is not a comparison: it lacks ['config']"),
        ("- a", "wrong.yaml cannot be read as a comparison: expected"),
        ("a: {", "wrong.yaml cannot be read as a comparison: "),
        ("config: small.yaml\nruns: {a: 5}", "each run must be mappings"),
        ("config: wrong.yaml\nruns: {a: }", "wrong.yaml has no model, data, trainer"),
        ("config: small.yaml\nruns: {a: }\nsum: 1", "'sum' a list"),
        ("config: none.yaml\nruns: {a: }", "none.yaml"),
        ("config: small.yaml\nruns: {a: }\nsum: [b]", "'sum' names ['b'], which are not in 'runs'"),
        ("config: small.yaml\nruns: {a: }\nruuns: 1", "unknown are ['ruuns']"),
        ("config: small.yaml\nruns: {a: {data.crop.x: 1}}", "cannot set data.crop.x"),
    ],
)
def test_a_wrong_comparison_gets_one_line(run, text, message):
    (run / "wrong.yaml").write_text(text)
    result = training("compare", "--config", "wrong.yaml", folder=run)
    assert result.code == 1 and message in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("config", sorted(CONFIG.parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_is_valid(run, config):
    content = yaml.safe_load(config.read_text())
    if "runs" in content:
        content = override(comparison.read(config)["config"], comparison.read(config)["overrides"])
        config = run / "compared.yaml"
        config.write_text(yaml.safe_dump(content))
    result = training("fit", "--config", config, "--print_config", folder=run)
    assert result.code == 0, result.err
    assert content["model"]["system"]["class_path"] in result.out


def tiny_systems():
    """Each system at a small width, with the data and the objective of its configuration."""
    narrow = StandardResNet(18, half=True, width=8)
    return {
        "street": (SharedEncoder(widths=(16, 16, 32, 32), depths=(1,) * 4, context=32), {}),
        "depthsegnet": (
            DepthSegNet(11, encoder=Vgg((8, 16, 16, 16)), decoder=(8, 8, 16, 16)),
            {"stereo": True},
        ),
        "two_image_u2net": (TwoImageU2Net(), None),
        "two_stream_fcn": (TwoStreamFcn(streams=(8, 8), trunk=(16, 16, 24)), None),
        "lateral_sharing": (
            LateralSharing(
                11, encoder=StandardResNet(18, output_stride=8, width=8), widths=(16, 16, 8)
            ),
            {},
        ),
        "semantic_guided": (SemanticGuided(11, encoder=narrow, decoder=(16, 16, 8, 8, 8)),
                            {"video": 6}),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(tiny_systems()))
def test_every_system_learns_with_its_own_objective(name, tmp_path):
    torch.manual_seed(0)
    system, of_streets = tiny_systems()[name]
    described = yaml.safe_load((CONFIG.parent / f"{name}.yaml").read_text())["model"]
    objective = None
    if "objective" in described:
        module, _, kind = described["objective"]["class_path"].rpartition(".")
        objective = getattr(import_module(module), kind)(
            **described["objective"].get("init_args", {})
        )
    size = (96, 64)
    if of_streets is None:
        classes, samples = "mask", Composites("train", 4, size, streets=2, cache=tmp_path)
    else:
        classes = "camvid"
        samples = RenderedStreets("train", 4, 1, size, cache=tmp_path, **of_streets)
    depth = (0.0, 1.0) if classes == "mask" else (0.5, 100.0)
    task = JointTask(
        system, objective, classes=classes, network_size=size, canonical_fx=84.0,
        min_depth=depth[0], max_depth=depth[1],
    ).train()  # fmt: skip
    task.log = task.log_dict = lambda *_, **__: None
    views = (*system.inputs, *system.views)
    augmented = TrainDataset(
        samples, size, task.card, (1, 1), views, color_jitter_prob=0.0, hflip_prob=0
    )
    batch = torch.utils.data.default_collate([augmented[i, i] for i in range(4)])
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = task.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if learned := np.mean(losses[-3:]) < 0.8 * losses[0]:
            break
    assert task.supervised_tasks == {"segmentation", "depth"}
    assert learned, losses


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [one_cycle(step / 100) for step in range(120)]
    assert rates[0] == pytest.approx(0.04) and rates[10] == 1 and max(rates) == 1
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[100] == pytest.approx(0) and rates[-1] == pytest.approx(0)


def test_it_runs_as_a_module_and_prints_help():
    result = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0 and "--checkpoint" in result.stdout
