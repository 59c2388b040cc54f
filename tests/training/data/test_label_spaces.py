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

"""Label spaces: maps of classes, in training, in class weights, in scores."""

from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from depthseg_ros.model_card import ModelCard, SemanticClass
from training.data import label_spaces, sources
from training.data.classes import CAMVID, CITYSCAPES
from training.data.label_spaces import ClassSets, members, read_map
from training.data.module import MultiDataModule
from training.data.sample import Sample
from training.data.sources import Source, open_source
from training.engine.metrics import Evaluation
from training.engine.task import JointTask
from training.errors import TrainingError
from training.models.encoders import ResNet
from training.models.systems.shared_encoder import SharedEncoder

NAMES = {0: "drive", 1: "verge", 7: "far"}
OWN = tuple(SemanticClass(i, name, (0, 0, 0)) for i, name in NAMES.items())
MAP = {"drive": "road", 1: ["pavement", "tree"], "far": ["building", "tree"]}
GROUPS = {"drive": "road", "verge": "pavement", 7: ["tree", "building"]}
ROAD, PAVEMENT, BUILDING, TREE = 3, 4, 1, 5
SIZE = (48, 64)


class Coarse:
    """Samples of the ids 0, 1, 7 and 255 in bands."""

    def __init__(self, ids=(0, 1, 7, 255), count=4):
        self.ids, self.count = ids, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        labels = np.repeat(np.uint8(self.ids), SIZE[0] // len(self.ids))[:, None]
        image = np.full((*SIZE, 3), 40 * index, np.uint8)
        return Sample(image, np.repeat(labels, SIZE[1], 1))


def source(name="coarse", ids=(0, 1, 7, 255), classes=OWN, mapping=MAP, groups=GROUPS):
    return Source(name, "val", Coarse(ids), classes, "", "", mapping, groups)


# --- Maps


def test_a_class_may_become_one_several_or_none():
    rows = members({**MAP, "far": "ignore"}, NAMES, CAMVID, "x")
    assert [np.flatnonzero(row).tolist() for row in rows] == [[ROAD], [PAVEMENT, TREE], []]
    many = members({0: "road", 1: "road", 7: None}, NAMES, CAMVID, "x")
    assert many[:, ROAD].tolist() == [True, True, False]


def test_a_name_that_is_a_number_goes_before_an_id():
    rows = members({"1": "road", "2": "tree"}, {1: "2", 2: "1"}, CAMVID, "x")
    assert rows.argmax(1).tolist() == [TREE, ROAD]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({0: "road", 1: "road"}, "the map of classes lacks 'far' of x"),
        ({**MAP, "moon": "road"}, "has the class 'moon', which x does not have"),
        ({**MAP, False: "road"}, "has the class False, which"),
        ({**MAP, 0: "street"}, "maps 0 to 'street', expected the model's classes, 'sky'"),
        ({**MAP, 0: "road"}, "has 'drive' twice: as 'drive' and 0"),
        ({**MAP, "drive": ["road", "road"]}, "maps 'drive' to 'road' twice"),
        ({**MAP, "drive": []}, r"'drive' is mapped to \[\], expected"),
        ({**MAP, "drive": {"road": 1}}, "'drive' is mapped to {'road': 1}, expected"),
        ({**MAP, "drive": 3}, "'drive' is mapped to 3, expected"),
        ({"road": ["drive"], "tree": ["verge"]}, r"'road', which x .* OWN CLASS: MODEL CLASS"),
    ],
)
def test_wrong_maps_are_one_clear_line(mapping, message):
    with pytest.raises(TrainingError, match=message):
        members(mapping, NAMES, CAMVID, "x")


def test_maps_are_found_by_name_beside_a_file_or_by_path(tmp_path):
    assert read_map("cityscapes_to_camvid")["sidewalk"] == "pavement"
    (tmp_path / "mine.yaml").write_bytes("\ufeffa: road\n".encode())
    assert read_map("mine.yaml", tmp_path) == read_map(tmp_path / "mine.yaml") == {"a": "road"}


@pytest.mark.parametrize(
    "text", ["- road", "road", "road: [", "\x00", "a: road\nb: sky\na: tree", "? [a]\n: road"]
)
def test_files_that_are_no_maps_are_one_clear_line(text, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    for wrong in (path, tmp_path / "missing.yaml"):
        with pytest.raises(TrainingError, match="cannot be read as a map of classes") as error:
            read_map(wrong)
        assert "\n" not in str(error.value)


def test_sets_of_all_data_sets_share_one_table():
    sets = ClassSets(CAMVID)
    rows = members(MAP, NAMES, CAMVID, "x")
    assert [sets.label(row) for row in rows] == [ROAD, 11, 12]
    assert sets.label(rows[2]) == 12 and sets.label(np.zeros(11, bool)) == 255
    assert [np.flatnonzero(row).tolist() for row in sets.table] == [
        [PAVEMENT, TREE],
        [BUILDING, TREE],
    ]


def test_more_sets_than_labels_are_refused():
    sets = ClassSets(CAMVID)
    with pytest.raises(TrainingError, match="do not fit into labels of 8 bits"):
        for number in range(256, 600):
            sets.label(np.array([number >> bit & 1 for bit in range(11)], bool))


# --- Data sets


def test_labels_become_those_of_the_model():
    sets = ClassSets(CAMVID)
    mapped = source().mapped(CAMVID, sets)
    assert np.unique(mapped.samples[1].labels).tolist() == [ROAD, 11, 12, 255]
    other = source(mapping={0: "road", 1: ["car", "pedestrian"], 7: ["tree", "building"]})
    mapped = other.mapped(CAMVID, sets, scored=False)
    assert sorted(set(mapped.samples[0].labels[:, 0].tolist())) == [ROAD, 12, 13, 255]
    assert mapped.sets == len(sets) == 3


def test_ids_that_the_class_list_lacks_are_named():
    with pytest.raises(TrainingError, match=r"sample 2 of coarse has the class ids \[5\], which"):
        source(ids=(0, 1, 5)).mapped(CAMVID).samples[2]


def test_without_a_map_classes_must_be_the_models():
    with pytest.raises(TrainingError, match="classes drive, verge, far, which are not the model's"):
        source(mapping=None).mapped(CAMVID)
    with pytest.raises(TrainingError, match="'cityscapes', which are not the model's, 'camvid'"):
        source(classes="cityscapes", mapping=None).mapped(CAMVID)
    own = (SemanticClass(4, "tree", (0, 0, 0)), SemanticClass(9, "road", (0, 0, 0)))
    mapped = source(ids=(4, 9), classes=own, mapping=None, groups=None).mapped(CAMVID)
    assert mapped.samples[0].labels[[0, -1], 0].tolist() == [TREE, ROAD]  # by their names
    plain = source(classes="camvid", mapping=None)
    assert plain.mapped(CAMVID) is plain
    assert source().mapped(()).samples[0].labels.max() == 255  # a model of depth alone


def test_any_data_set_takes_a_map(tmp_path, monkeypatch):
    class Reader(Coarse):
        def __init__(self, root, split):
            super().__init__((0, 1, 11))

    module = type("module", (), {"R": Reader, "SOURCE": "", "TERMS": "", "CLASSES": "cityscapes"})
    monkeypatch.setitem(sources.READERS, "mine", ("mine", "R"))
    monkeypatch.setattr(sources, "import_module", lambda name: module)
    options = {"map": "cityscapes_to_camvid"}
    mapped = open_source("mine", "val", tmp_path, options=options).mapped(CAMVID)
    assert mapped.samples[0].labels[[0, 20, 40], 0].tolist() == [ROAD, PAVEMENT, 9]
    assert mapped.groups is None  # each of the model's classes is one


# --- Scores


def evaluation(groups, truth, said, classes=CAMVID):
    card = ModelCard("m", "s", classes, None, (64, 48))
    measured = Evaluation(card, "coarse", groups=groups)
    labels = torch.tensor(said, dtype=torch.uint8)[None]
    confidence = torch.full_like(labels, 255)
    measured.update((labels, confidence), {"labels": torch.tensor(truth).byte()[None]})
    return measured.compute()


def test_a_prediction_counts_for_the_group_that_has_it():
    mapped = source().mapped(CAMVID)
    assert mapped.groups.names == ("road", "pavement", "building+tree")
    truth = [[ROAD, ROAD, 11, 11, 12, 12, 255, 255]]
    #                 wrong: in no group     wrong: another group
    said = [[ROAD, 8, PAVEMENT, TREE, TREE, BUILDING, ROAD, 8]]
    result = evaluation(mapped.groups, truth, said)
    assert result["iou/road"] == 0.5 and result["iou/pavement"] == 0.5
    assert result["iou/building+tree"] == pytest.approx(2 / 3)
    assert result["group_miou"] == pytest.approx(5 / 9)
    assert "miou" not in result and "per_image_miou" not in result
    # Confidence is measured where a label is one class: one of two is right.
    assert result["ece"] == 0.5


def test_classes_that_no_label_has_do_not_lower_the_score():
    mapped = source(mapping={0: "road", 1: "tree", 7: "ignore"}, groups=None).mapped(CAMVID)
    result = evaluation(mapped.groups, [[ROAD, TREE, TREE]], [[ROAD, TREE, 8]])
    assert {k for k in result if k.startswith("iou/")} == {"iou/road", "iou/tree"}
    assert result["group_miou"] == 0.75


def test_groups_that_overlap_are_refused_where_they_score():
    overlapping = source(groups=None)
    overlapping.mapped(CAMVID, scored=False)
    with pytest.raises(TrainingError, match=r"'pavement\+tree', 'building\+tree' share .* 'tree'"):
        overlapping.mapped(CAMVID)
    two = source(mapping={0: "road", 1: "road", 7: None}, groups={0: "road", 1: "tree", 7: None})
    with pytest.raises(TrainingError, match="coarse: two classes have the same entry in `map`"):
        two.mapped(CAMVID)
    with pytest.raises(TrainingError, match="the groups of coarse lacks 'far'"):
        source(groups={0: "road", 1: "tree"}).mapped(CAMVID)


# --- Training


@pytest.fixture
def opened(monkeypatch):
    """Names of data sets -> what `MultiDataModule` opens."""
    known = {}
    monkeypatch.setattr("training.data.module.open_source", lambda name, *_: known[name])
    return known


def trained(mixture, **options):
    encoder = ResNet((16, 16, 16, 16), (1, 1, 1, 1), half=True)
    system = SharedEncoder(11, encoder=encoder, context=12, decoder=(8, 8, 8), heads=(8, 8))
    task = JointTask(system, network_size=(64, 48), canonical_fx=60.0)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(task, datamodule=mixture)
    return task, trainer


def set_up(mixture, losses=("cross_entropy",)):
    """What a trainer does before it trains; gives what stands for its task."""
    card = ModelCard("m", "s", CAMVID, None, (64, 48))
    task = SimpleNamespace(card=card, class_weights=torch.ones(11))
    task.objective = SimpleNamespace(segmentation=losses)
    mixture.trainer = SimpleNamespace(lightning_module=task)
    mixture.setup("fit")
    return task


def test_maps_of_several_data_sets_train_together(opened):
    """Also with averaged weights, whose callback copies the task before its own setup."""
    opened["a"] = source("a")
    opened["b"] = source("b", mapping={0: "road", 1: "pavement", 7: ["car", "bicyclist"]})
    opened["b"].group_map = None
    mixture = MultiDataModule(
        {"a": 0, "b": 0}, {"a": 0, "b": 0}, crop=(64, 48), batch_size=2, workers=1
    )
    task, trainer = trained(mixture, callbacks=[EMAWeightAveraging(decay=0.5)])
    assert task.objective.sets.tolist() == mixture.sets.table.tolist()
    assert len(mixture.sets) == 3 and len(mixture.train) == 2
    assert {f"val/{n}/group_miou" for n in "ab"} <= set(trainer.callback_metrics)
    assert trainer.callback_metrics["loss"].isfinite()
    mixture.setup("fit")  # again: labels are not mapped twice
    assert sorted(set(mixture.train[0].samples[0].labels[:, 0].tolist())) == [3, 11, 12, 255]


def test_the_pixels_of_a_set_count_for_its_classes_as_these_are_labelled(opened):
    opened["a"] = source("a", ids=(1, 7))
    single = tuple(SemanticClass(i, n, (0, 0, 0)) for i, n in enumerate(("building", "tree")))
    opened["b"] = source("b", ids=(0, 0, 0, 1), classes=single, mapping=None, groups=None)
    mixture = MultiDataModule({"a": 0, "b": 0}, {}, crop=(64, 48), batch_size=2, workers=0)
    set_up(mixture)
    shares = mixture.class_shares()
    assert shares.sum() == pytest.approx(1)
    # Of the pixels that are looked at, b has 5/6 buildings and 1/6 trees; a has 1/2 pavement or
    # tree, which nearly all go to tree, as no label says pavement, and 1/2 building or tree.
    assert shares[BUILDING] == pytest.approx((5 / 6 + 5 / 12) / 2, abs=1e-3)
    assert shares[TREE] == pytest.approx((1 / 6 + 1 / 2 + 1 / 12) / 2, abs=1e-3)


def test_a_loss_that_does_not_learn_sets_is_warned_of(opened):
    opened["a"] = source("a")
    mixture = MultiDataModule({"a": 0}, {}, crop=(64, 48), batch_size=2, workers=0)
    with pytest.warns(UserWarning, match="only the loss cross_entropy supports"):
        task = set_up(mixture, {"focal": 1})
    assert task.objective.sets.shape == (2, 11)


def test_every_map_of_the_repository_fits_its_class_list():
    own = {c.id: c.name for c in CITYSCAPES}
    assert members(read_map("cityscapes_to_camvid"), own, CAMVID, "x").sum(1).tolist() == [1] * 19
    assert {path.stem for path in label_spaces.MAPS.glob("*.yaml")} == {
        "ade20k31_to_camvid",
        "ade20k_to_camvid",
        "cityscapes_to_camvid",
    }
