"""`python -m training`, as its users run it: fit, resume, evaluate, export, serve."""

import contextlib
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch

from depthseg_ros import street
from depthseg_ros.perception import Perception
from training.__main__ import main
from training.datasets.rendered import FIRST_SEED, RenderedStreets
from training.systems.shared_encoder import SharedEncoder
from training.task import JointTask, one_cycle
from training.transforms import Augmented

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "training" / "configs" / "street.yaml"
SMALL = """
model:
  system:
    class_path: training.systems.shared_encoder.SharedEncoder
    init_args: {widths: [16, 16, 16, 16], depths: [1, 1, 1, 1], context: 16, decoder: [16, 16, 16]}
  network_size: [160, 120]
  canonical_fx: 140.0
data:
  streets: 2
  moments: 2
  draws: 4
  val_streets: 1
  crop: [96, 64]
  zoom: [0.6, 1.6]
  half_size_until: 0.5
  batch_size: 2
  workers: 0
trainer:
  reload_dataloaders_every_n_epochs: 1
  max_epochs: 2
  enable_progress_bar: false
  logger:
    - class_path: lightning.pytorch.loggers.CSVLogger
      init_args: {save_dir: runs, name: log}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: runs, save_top_k: 0, save_last: true, enable_version_counter: false,
        save_on_train_epoch_end: true}
    - class_path: lightning.pytorch.callbacks.EMAWeightAveraging
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


def training(*arguments, folder):
    """Run the command line in a folder, in this process: importing torch anew takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """A folder in CamVid's layout, of rendered pictures."""
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
    (folder / "small.yaml").write_text(SMALL)
    result = training("fit", "--config", "small.yaml", "--data.camvid", camvid, folder=folder)
    assert result.code == 0, result.err
    return folder


def logged(folder, name):
    rows = [
        line.split(",")
        for file in sorted(folder.glob("runs/log/*/metrics.csv"))
        for line in file.read_text().splitlines()
    ]
    column = rows[0].index(name)
    return [float(row[column]) for row in rows[1:] if len(row) > column and row[column]]


def test_fit_logs_every_loss_and_measure(run):
    for name in ("loss/segmentation", "loss/depth", "loss/gradient"):
        assert np.isfinite(logged(run, name)).all()
    assert 0 <= logged(run, "val/camvid/miou")[-1] <= 1
    assert logged(run, "val/streets/abs_rel")[-1] > 0


def test_fit_goes_on_where_it_stopped(run, camvid):
    result = training(
        "fit", "--config", "small.yaml", "--data.camvid", camvid, "--trainer.max_epochs", 3,
        "--ckpt_path", "runs/last.ckpt", folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert [p.name for p in (run / "runs").glob("*.ckpt")] == ["last.ckpt"]
    checkpoint = torch.load(run / "runs" / "last.ckpt", weights_only=True)
    # 4 streets and 3 pictures of CamVid are 3 batches of 2 in an epoch.
    assert checkpoint["global_step"] == 9


def test_evaluate_prints_json_for_each_data_set(run, camvid):
    result = training(
        "evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", camvid,
        "--count", 2, "--json", folder=run,
    )  # fmt: skip
    assert result.code == 0, result.err
    measured = json.loads(result.out)
    assert set(measured) == {"streets-test", "camvid-val"}
    assert {"miou", "abs_rel", "rmse", "delta1", "delta2", "delta3"} <= set(
        measured["streets-test"]
    )
    assert "abs_rel" not in measured["camvid-val"]


def test_the_exported_file_measures_the_same_and_is_served(run):
    table = training(
        "evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", "--count", 2, folder=run
    )
    assert "abs_rel" in table.out
    measured = training(
        "evaluate", "--checkpoint", "runs/last.ckpt", "--data", "streets", "--count", 2, "--json",
        folder=run,
    ).out  # fmt: skip
    (run / "measured.json").write_text(measured)
    exported = training(
        "export", "--checkpoint", "runs/last.ckpt", "--output", "out/model.onnx",
        "--metrics", "measured.json", folder=run,
    )  # fmt: skip
    assert exported.code == 0, exported.err
    perception = Perception(run / "out" / "model.onnx")
    card = perception.card
    assert card.metrics["streets-test/miou"] == round(
        json.loads(measured)["streets-test"]["miou"], 4
    )
    assert card.trained_on == ("rendered streets", "CamVid (11 classes) train")
    assert "research use" in card.terms
    again = training(
        "evaluate", "--checkpoint", "out/model.onnx", "--data", "streets", "--count", 2, "--json",
        folder=run,
    )  # fmt: skip
    for measure, value in json.loads(again.out)["streets-test"].items():
        assert value == pytest.approx(
            json.loads(measured)["streets-test"][measure], rel=1e-3, abs=2e-3
        )
    frame = street.Street(FIRST_SEED["test"], 200, 150).frame(0)
    assert perception(frame.image, frame.intrinsics.fx).labels.shape == (150, 200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--checkpoint", "none.ckpt", "--data", "streets"], "no checkpoint none.ckpt"),
        (["evaluate", "--checkpoint", "cut.ckpt", "--data", "streets"], "cut.ckpt is not a checkp"),
        (["evaluate", "--checkpoint", "bad.onnx", "--data", "streets"], "bad.onnx is not an ONNX"),
        (["evaluate", "--checkpoint", "runs/last.ckpt", "--data", "none"], "no CamVid pictures"),
        (["export", "--checkpoint", "cut.ckpt", "--output", "o.onnx"], "cut.ckpt is not a checkp"),
        (["export", "--checkpoint", "runs/last.ckpt", "--output", "o.onnx", "--metrics", "bad"],
         "is not what"),
        (["fit", "--config", "small.yaml", "--data.camvid", "nowhere"], "no CamVid pictures found"),
        (["fit", "--config", "small.yaml", "--model.classes", "foo"], "unknown classes 'foo'"),
        (["fit", "--config", "small.yaml", "--data.zoom", "[0,1]"], "data.zoom is"),
        (["fit", "--config", "small.yaml", "--data.crop", "[0,0]"], "data.crop is"),
        (["fit", "--config", "small.yaml", "--ckpt_path", "nope.ckpt"], "nope.ckpt"),
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


def test_without_a_command_it_names_those_there_are(run):
    assert training(folder=run).code == 2
    assert training("test", folder=run).code == 2
    shown = training("--help", folder=run)
    assert shown.code == 0 and "evaluate" in shown.out


def test_a_misspelt_key_is_named(run):
    result = training("fit", "--config", "small.yaml", "--data.camvld", "x", folder=run)
    assert result.code == 2 and "camvld" in result.err


def test_the_default_models_configuration_is_valid(run):
    result = training("fit", "--config", CONFIG, "--print_config", folder=run)
    assert result.code == 0 and "SharedEncoder" in result.out


def test_losses_fall(tmp_path):
    """Both tasks are learned from four pictures, in a minute at most."""
    torch.manual_seed(0)
    task = JointTask(SharedEncoder(widths=(16, 16, 32, 32), depths=(1,) * 4, context=32))
    task.log = task.log_dict = lambda *_, **__: None
    samples = Augmented(
        RenderedStreets("train", 4, 1, (160, 120), tmp_path), (96, 64), 160, 140.0, (0.6, 0.6)
    )
    batch = torch.utils.data.default_collate([samples[i] for i in range(4)])
    optimizer = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = task.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [one_cycle(step / 100) for step in range(120)]
    assert rates[0] == pytest.approx(0.04) and rates[10] == 1 and max(rates) == 1
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[100] == pytest.approx(0) and rates[-1] == pytest.approx(0)


def test_it_runs_as_a_module_and_explains_itself():
    result = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0 and "--checkpoint" in result.stdout
