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

"""docs/tutorials/own_images.md, its own file and commands, on a small folder that is made up."""

import contextlib
import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from depthseg_ros import model_card
from depthseg_ros.cli.main import main as depthseg
from depthseg_ros.street import Street
from training.__main__ import main
from training.engine.checkpoints import load_checkpoint

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "tutorials" / "own_images.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"tested by [^\n]*\n```\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
SMALL = [
    *("--model.weights", "null", "--model.network_size", "[96,72]", "--trainer.max_epochs", "1"),
    *("--model.system.init_args.widths", "[16,16,16,16]", "--data.crop", "[96,72]"),
    *("--model.system.init_args.decoder", "[16,16,16]", "--model.system.init_args.context", "16"),
    *("--model.system.init_args.heads", "[8,8]", "--data.batch_size", "2", "--data.workers", "0"),
    *("--trainer.check_val_every_n_epoch", "1"),
]
STREETS = [
    *("--data.train", "{folder: 4, streets: 2}", "--data.val", "{folder: 0, streets: 1}"),
    *("--data.options.streets", "{streets: 2, moments: 1}"),
]


@pytest.fixture
def place(tmp_path):
    """A folder of images as on the page, and the checkout's files, to run commands in."""
    folder = tmp_path / "FOLDER"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    ids = np.full(256, 5, np.uint8)  # of CamVid's: what the page's file calls them
    ids[[3, 4, 5, 1, 9]] = 0, 0, 2, 3, 4
    for number in range(4):
        frame = Street(number, 96, 72).frame(0)
        name = f"drive{number // 2}_{number:04}"
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), frame.image[..., ::-1])
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), ids[frame.labels])
    (text,) = re.findall(r"`dataset.yaml` says [^\n]*\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "dataset.yaml").write_text(text)
    for name in ("training", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command, *more):
    assert command[:3] == ["python", "-m", "training"]
    assert main([*command[3:], *more]) in (0, None)


def test_the_pages_commands_lead_to_a_model(place, capsys):
    look, fit, compare, export, fit_own, export_own, predict = COMMANDS
    with contextlib.chdir(place):
        run(look, "--json")
        (result,) = json.loads(capsys.readouterr().out).values()
        groups = {name for name in result if name.startswith("iou/")}
        assert "iou/road+pavement" in groups and "group_miou" in result and "miou" not in result
        run(fit, *SMALL, *STREETS)
        capsys.readouterr()
        run(compare, "--json")
        results = json.loads(capsys.readouterr().out)
        assert list(results) == [
            "models/street.onnx: folder-val",
            "runs/own_images/last.ckpt: folder-val",
        ]
        run(export)
        card = model_card.read(Path("mine.onnx"))
        assert len(card.classes) == 11 and card.depth is not None
        assert "Campus train" in card.trained_on and "our own" in card.terms

        assert predict[0] == "depthseg" and depthseg(predict[1:]) in (0, None)
        assert len(list(Path("out").glob("*.labels.png"))) == 4

        file = Path("FOLDER/dataset.yaml")
        text = file.read_text()
        file.write_text(text[: text.index("map:")] + text[text.index("splits:") :])
        run(fit_own, *SMALL)
        file.unlink()  # the checkpoint has the classes
        card = load_checkpoint(Path("runs/own_images/last.ckpt"))[0].card
        names = ["drivable", "grass", "vegetation", "facade", "person"]
        assert [(c.id, c.name) for c in card.classes] == list(enumerate(names))
        assert card.depth is None and export_own == export
