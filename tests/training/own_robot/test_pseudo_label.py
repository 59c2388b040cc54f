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

"""`python -m training pseudo-label`: what teachers make of a data set, part by part."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as tf

from depthseg_ros.street import Street
from training.cli.pseudo_label import main
from training.data.classes import CAMVID
from training.data.shards import ShardWriter, complete_shards, write_json
from training.errors import TrainingError
from training.own_robot import labeller as pseudo_label
from training.own_robot.alignment import Alignment
from training.own_robot.labeller import Labeller, consensus
from training.own_robot.teachers import OnnxTeacher, Teacher, TeacherOutput

STREET = str(Path(__file__).resolve().parents[3] / "models" / "street.onnx")
OWN = ["--depth-teacher", STREET, "--segmentation-teacher", STREET, "--scales", "1.0"]
CPU = torch.device("cpu")


class Scene:
    """A street, whose frames are rendered once."""

    def __init__(self, seed, width, height):
        self.street = Street(seed, width, height)
        self.frames = {}

    def __call__(self, index):
        if index not in self.frames:
            self.frames[index] = self.street.frame(index)
        return self.frames[index]


@pytest.fixture(scope="module")
def scene():
    return Scene(1000, 96, 72)


def png(array):
    array = array[..., ::-1] if array.ndim == 3 else array
    return cv2.imencode(".png", array)[1].tobytes()


def encoded(depth):
    return png(np.rint(np.nan_to_num(depth.clip(0, 255)) * 256).astype(np.uint16))


def write_part(data, number, scene, indices, packed=False, back=0, calibrated=True, truth=True):
    """A part as `training bag` writes it; `back`: how many frames before it the view `previous`."""
    writer = ShardWriter(data, f"part-{number:05}", packed)
    for index in indices:
        frame = scene(index)
        camera = frame.intrinsics
        stamp = 10**18 + round(index / 30 * 1e9)
        words = {
            "key": f"{number // 2:03}-{stamp:019}",
            "stamp": stamp,
            "width": camera.width,
            "height": camera.height,
            "picture": "png",
            "previous": -back / 30 if back else None,
            "next": None,
            "camera": {
                **{k: getattr(camera, k) for k in ("fx", "fy", "cx", "cy")},
                "lens": {"model": "plumb_bob", "coefficients": []},
            },
        }
        if not calibrated:
            words["camera"] = None
        files = {"png": png(frame.image)}
        if truth:
            files["truth_depth.png"] = encoded(frame.depth)
        if back:
            files["previous.png"] = png(scene(index - back).image)
        writer.add(words, files)
    writer.finish(recording="000", until=stamp)
    write_json(data / "card.json", {"format": 1, "recordings": []})


def picture(part, key, ending):
    return cv2.imdecode(np.frombuffer(part.read(key, ending), np.uint8), cv2.IMREAD_UNCHANGED)


def run(data, *arguments, teachers=OWN):
    main(["--data", str(data), *teachers, *map(str, arguments)])


class Truth(Teacher):
    """Knows the pictures by their looks, and says the truth, mirrored where they are."""

    count = 11

    def __init__(self, frames, depth="metric", sure=0.9):
        self.frames, self.depth, self.sure = frames, depth, sure
        self.calls = 0

    def __call__(self, images_NHW3, fx_N, scale):
        shares, depths = [], []
        for image in images_NHW3.numpy():
            mirrored = not any(np.array_equal(image, f.image) for f in self.frames)
            image = image[:, ::-1] if mirrored else image
            (frame,) = (f for f in self.frames if np.array_equal(image, f.image))
            share = np.eye(11, dtype=np.float32)[frame.labels].transpose(2, 0, 1) * self.sure
            depth = frame.depth
            if self.depth == "relative":  # each time of another scale and offset
                self.calls += 1
                depth = np.nan_to_num(1 / depth) * (30 + 10 * self.calls) + self.calls
            if mirrored:
                share, depth = share[..., ::-1], depth[:, ::-1]
            shares.append(share.copy())
            depths.append(depth.astype(np.float32).copy())
        return TeacherOutput(torch.from_numpy(np.stack(shares)), torch.from_numpy(np.stack(depths)))


def labeller(teacher, alignment=None, scales=(1.0, 0.75), batch=2, min_trust=0.5):
    alignment = alignment or Alignment(teacher.depth, CAMVID)
    return Labeller(teacher, teacher, CAMVID, alignment, scales, min_trust, batch, CPU)


def label(data, maker):
    """Labels of the first part, as a part."""
    (data / "labels").mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        list(maker.label(complete_shards(data)[0], data / "labels", pool))
    return complete_shards(data / "labels")[0]


# --- The whole command


def test_labels_of_a_small_teacher_carry_information(tmp_path):
    """A network that saw four streets for seconds labels other moments of one of them."""
    torch.manual_seed(0)
    streets = [Scene(seed, 96, 64) for seed in (1000, 1, 2, 3)]
    frames = [street(index) for street in streets for index in (0, 60, 120, 180)]
    images = torch.from_numpy(np.stack([f.image for f in frames])).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(np.stack([f.labels for f in frames])).long()
    names = [f"the {c.name}" for c in CAMVID]
    config = tf.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=48,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    processor = tf.SegformerImageProcessor(size={"height": 64, "width": 96})
    mean, std = (
        torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std)
    )
    values = (images - mean) / std
    model = tf.SegformerForSemanticSegmentation(config)
    steps = 80
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        chosen, sides = torch.randint(len(values), (6,)), [-1] if step % 2 else []
        logits = model(values[chosen].flip(sides)).logits
        logits = F.interpolate(logits, (64, 96), mode="bilinear")
        loss = F.cross_entropy(logits, labels[chosen].flip(sides))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(tmp_path / "teacher")
    processor.save_pretrained(tmp_path / "teacher")
    lines = [f"{name}: {c.name}" for c, name in zip(CAMVID, names, strict=True)]
    (tmp_path / "map.yaml").write_text("\n".join(lines))

    data = tmp_path / "data"
    moments = (30, 90, 150)
    write_part(data, 0, streets[0], moments)
    run(
        data,
        *("--depth-teacher", STREET, "--segmentation-teacher", tmp_path / "teacher"),
        *("--classes", tmp_path / "map.yaml", "--min-trust", 0.4),
        teachers=["--scales", "1.0", "1.25"],
    )
    (part,) = complete_shards(data / "labels")
    truth = np.stack([streets[0](i).labels for i in moments])
    output = np.stack([picture(part, key, "labels.png") for key in part.keys])
    trust = np.stack([picture(part, key, "labels_trust.png") for key in part.keys])
    known = output != 255
    right = output[known] == truth[known]
    majority = np.bincount(truth.ravel()).max() / truth.size
    assert known.mean() > 0.6
    assert right.mean() > 0.65 > 2 * majority
    # Where it is trusted more it is right more often.
    sure = trust[known] > np.median(trust[known])
    assert right[sure].mean() > right[~sure].mean() + 0.1


def test_our_own_model_labels_a_data_set_in_the_format_that_readers_expect(
    scene, tmp_path, monkeypatch
):
    calls = []
    once = OnnxTeacher.__call__
    monkeypatch.setattr(OnnxTeacher, "__call__", lambda *a: calls.append(1) or once(*a))
    write_part(tmp_path, 0, scene, (0, 30), packed=True)
    run(tmp_path, "--batch", 2)
    assert len(calls) == 2  # of one teacher, as it is and mirrored
    card = json.loads((tmp_path / "labels" / "card.json").read_text())
    assert card["format"] == 1 and card["classes"] == "camvid" and card["min_trust"] == 0.5
    assert card["depth_teacher"] == card["segmentation_teacher"] == STREET
    (part,), (pictures,) = complete_shards(tmp_path / "labels"), complete_shards(tmp_path)
    assert part.packed and part.keys == pictures.keys and part.name == "part-00000"
    for words, index in zip(part.frames, (0, 30), strict=True):
        key, frame = words["key"], scene(index)
        labels, sure = picture(part, key, "labels.png"), picture(part, key, "labels_trust.png")
        depth, depth_sure = picture(part, key, "depth.png"), picture(part, key, "depth_trust.png")
        assert labels.dtype == sure.dtype == depth_sure.dtype == np.uint8
        assert depth.dtype == np.uint16
        assert labels.shape == depth.shape == sure.shape == depth_sure.shape == (72, 96)
        assert ((labels == 255) == (sure == 0)).all() and sure[sure > 0].min() >= 127
        assert ((depth == 0) == (depth_sure == 0)).all()
        assert (depth[labels == 0] == 0).all()  # sky
        assert words["coverage"]["labels"] == pytest.approx((labels != 255).mean(), abs=1e-4)
        assert words["coverage"]["depth"] == pytest.approx((depth > 0).mean(), abs=1e-4)
        assert words["scale"] == 1
        assert words["by_class"]["road"]["share"] == pytest.approx((labels == 3).mean(), abs=1e-4)
        known = labels != 255
        assert (labels == frame.labels)[known].mean() > 0.8
        near = (depth > 0) & (frame.depth < 30)
        assert np.median(np.abs(depth[near] / 256 / frame.depth[near] - 1)) < 0.2


def test_depth_alone_can_be_labelled_and_the_mounting_places_the_ground(scene, tmp_path):
    write_part(tmp_path, 0, scene, [0])
    depth_alone = ["--depth-teacher", STREET, "--segmentation-teacher", "none", "--scales", "1.0"]
    run(tmp_path, teachers=depth_alone)
    (part,) = complete_shards(tmp_path / "labels")
    assert (picture(part, part.keys[0], "labels.png") == 255).all()
    assert part.frames[0]["coverage"]["labels"] == 0 < part.frames[0]["coverage"]["depth"]
    (tmp_path / "labels").rename(tmp_path / "alone")
    run(tmp_path, "--camera-height", scene.street.camera_height, "--camera-pitch",
        -scene.street.pitch)  # fmt: skip
    (part,) = complete_shards(tmp_path / "labels")
    labels, depth = (picture(part, part.keys[0], f"{n}.png") for n in ("labels", "depth"))
    true = scene(0).depth
    near = (labels == 3) & (scene(0).labels == 3) & (depth > 0) & (true < 10)
    assert np.median(np.abs(depth[near] / 256 / true[near] - 1)) < 0.03


def test_the_camera_height_scales_depth(scene, tmp_path):
    write_part(tmp_path, 0, scene, (0, 30))
    height = scene.street.camera_height
    medians = []
    for metres in (height, 2 * height):
        run(tmp_path, "--camera-height", metres)
        (part,) = complete_shards(tmp_path / "labels")
        depth = np.stack([picture(part, key, "depth.png") for key in part.keys])
        medians.append(np.median(depth[depth > 0]))
        (tmp_path / "labels").rename(tmp_path / f"labels-{metres}")
    assert medians[1] / medians[0] == pytest.approx(2, rel=0.03)
    assert part.frames[0]["scale"] == part.frames[1]["scale"] > 1.5


def test_a_full_disk_leaves_complete_parts_and_the_next_run_resumes(scene, tmp_path, monkeypatch):
    for number in range(3):
        write_part(tmp_path, number, scene, [30 * number])
    add = ShardWriter.add

    def full(writer, frame, files):
        if writer._name == "part-00001":
            raise OSError(28, "No space left on device")
        add(writer, frame, files)

    monkeypatch.setattr(ShardWriter, "add", full)
    with pytest.raises(TrainingError, match=r"labels cannot be written: No space left on device;"):
        run(tmp_path)
    labels = tmp_path / "labels"
    assert sorted(p.name for p in labels.iterdir()) == [
        "card.json",
        "part-00000",
        "part-00000.json",
    ]
    monkeypatch.undo()
    before = (labels / "part-00000.json").stat().st_mtime_ns
    run(tmp_path)
    assert (labels / "part-00000.json").stat().st_mtime_ns == before
    assert len(complete_shards(labels)) == 3 and (labels / "report.html").is_file()
    monkeypatch.setattr(pseudo_label, "_labeller", None)  # nothing is left to label
    run(tmp_path, "--pictures", 1)


def test_other_options_than_the_labels_were_made_with_are_one_clear_line(scene, tmp_path):
    write_part(tmp_path, 0, scene, [0])
    run(tmp_path)
    run(tmp_path, "--batch", 1, "--device", "cpu", "--pictures", 0)  # change no label
    with pytest.raises(TrainingError, match=r"other options \(min_trust 0.5 before, 0.7 now\)"):
        run(tmp_path, "--min-trust", 0.7)
    with pytest.raises(
        TrainingError, match="scale 'as the teacher says' before, \"by the camera's"
    ):
        run(tmp_path, "--camera-height", 1.5)
    (tmp_path / "labels" / "card.json").write_text("{")
    with pytest.raises(TrainingError, match=r"card\.json is damaged: remove"):
        run(tmp_path)


def test_processes_share_the_parts_and_the_last_writes_the_report(
    scene, tmp_path, monkeypatch, capsys
):
    for number in range(3):
        write_part(tmp_path, number, scene, [30 * number])
    labels = tmp_path / "labels"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    run(tmp_path)
    assert [part.name for part in complete_shards(labels)] == ["part-00000", "part-00002"]
    assert not (labels / "report.html").exists()
    assert "2 of 3 parts are labelled" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    run(tmp_path)
    assert len(complete_shards(labels)) == 3 and (labels / "report.html").is_file()


def test_a_range_of_parts_can_be_chosen(scene, tmp_path):
    for number in range(3):
        write_part(tmp_path, number, scene, [30 * number])
    run(tmp_path, "--parts", "1-7")
    names = [part.name for part in complete_shards(tmp_path / "labels")]
    assert names == ["part-00001", "part-00002"]
    for wrong, message in (("7-9", "no complete part with these"), ("a-b", "expected FIRST-LAST")):
        with pytest.raises(TrainingError, match=message):
            run(tmp_path, "--parts", wrong)


def test_data_that_cannot_be_labelled_gives_one_line(scene, tmp_path):
    with pytest.raises(TrainingError, match=r"no complete part-\*.json, expected a data set"):
        run(tmp_path)
    write_part(tmp_path, 0, scene, [0], calibrated=False)
    with pytest.raises(TrainingError, match=r"no calibration, which a teacher needs"):
        run(tmp_path)
    with pytest.raises(TrainingError, match=r"--device cuda:99 cannot be used"):
        run(tmp_path, "--device", "cuda:99")
    config = tf.DPTConfig(
        image_size=64,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
    )
    tf.DPTForDepthEstimation(config).save_pretrained(tmp_path / "dpt")
    tf.DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "dpt")
    teachers = ["--depth-teacher", str(tmp_path / "dpt"), "--segmentation-teacher", STREET]
    with pytest.raises(TrainingError, match="predicts relative depth: give --camera-height"):
        run(tmp_path, teachers=teachers)
    (tmp_path / "map.yaml").write_text("road: road")
    with pytest.raises(TrainingError, match=r"lacks 'sky', 'building', .*'bicyclist' of /"):
        run(tmp_path, "--classes", tmp_path / "map.yaml")
    assert not (tmp_path / "labels").exists()


def test_a_damaged_image_gives_one_line(scene, tmp_path):
    write_part(tmp_path, 0, scene, [0])
    (path,) = (tmp_path / "part-00000").glob("000-???????????????????.png")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError, match=r"\.png: .*PNG"):
        run(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--batch", "0"],
        ["--min-trust", "2"],
        ["--scales", "0"],
        ["--camera-height", "-1"],
        ["--align", "truth", "--camera-height", "1"],
        ["--student-classes", "nothing"],
    ],
)
def test_options_are_checked(wrong, tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path, *wrong)


# --- Views


def test_mirrored_views_agree_exactly(scene, tmp_path):
    """The truth, mirrored for mirrored pictures, comes back as it is, whatever the batches."""
    write_part(tmp_path, 0, scene, (0, 30, 60))
    part = label(tmp_path, labeller(Truth([scene(i) for i in (0, 30, 60)])))
    for key, index in zip(part.keys, (0, 30, 60), strict=True):
        frame = scene(index)
        assert (picture(part, key, "labels.png") == frame.labels).all()
        assert (picture(part, key, "labels_trust.png") == round(0.9 * 255)).all()
        depth = picture(part, key, "depth.png") / 256
        known = np.isfinite(frame.depth) & (frame.depth < 255)
        np.testing.assert_allclose(depth[known], frame.depth[known], atol=0.003)
        assert (picture(part, key, "depth_trust.png")[known] == 255).all()
        assert (depth[frame.labels == 0] == 0).all()


def test_labels_and_depth_of_low_confidence_are_left_out(scene, tmp_path):
    write_part(tmp_path, 0, scene, [0])
    part = label(tmp_path, labeller(Truth([scene(0)], sure=0.45)))
    (key,) = part.keys
    assert (picture(part, key, "labels.png") == 255).all()
    assert (picture(part, key, "labels_trust.png") == 0).all()
    assert part.frames[0]["by_class"] == {} and part.frames[0]["coverage"]["labels"] == 0
    # What was thought of the trust stays in the index.
    assert part.frames[0]["histograms"]["labels_trust"][4] == 96 * 72


@pytest.mark.parametrize("by", ["truth", "height"])
def test_relative_depth_of_every_view_becomes_metric(by, scene, tmp_path):
    indices = (0, 30)
    write_part(tmp_path, 0, scene, indices)
    street = scene.street
    how = (
        {"truth": True}
        if by == "truth"
        else {"height": street.camera_height, "pitch": -street.pitch}
    )
    teacher = Truth([scene(i) for i in indices], "relative")
    part = label(tmp_path, labeller(teacher, Alignment("relative", CAMVID, **how)))
    for key, index in zip(part.keys, indices, strict=True):
        depth, truth = picture(part, key, "depth.png") / 256, scene(index).depth
        near = truth < 40
        assert (depth[near] > 0).mean() > 0.9
        near &= depth > 0
        assert np.median(np.abs(depth[near] / truth[near] - 1)) < 0.06


def test_consensus_is_median_and_deviation_of_the_views():
    rng = np.random.default_rng(0)
    views = rng.uniform(1, 50, (5, 2, 20, 30)).astype(np.float32)
    views[rng.random(views.shape) < 0.3] = np.nan
    median, deviation = (x.numpy() for x in consensus(torch.from_numpy(views), True))
    there = np.isfinite(views).sum(0)
    assert np.isnan(median[there <= 2]).all()
    known, views = there > 2, views[:, there > 2]
    np.testing.assert_allclose(median[known], np.nanmedian(views, 0), rtol=1e-6)
    trust = np.exp(-np.square(np.nanstd(np.log(views), 0) / 0.1)) * there[known] / 5
    np.testing.assert_allclose(np.exp(-np.square(deviation[known] / 0.1)), trust, atol=0.01)
    steady = consensus(torch.full((4, 1), 3.0), False)
    assert [x.item() for x in steady] == [3, 0]


def test_depth_confidence_is_lower_if_views_disagree(scene, tmp_path):
    class Unsteady(Truth):
        def __call__(self, images_NHW3, fx_N, scale):
            output = super().__call__(images_NHW3, fx_N, scale)
            output.depth[:, :, :48] *= 1.0 if scale == 1 else 1.12
            return output

    frame = scene(0)
    write_part(tmp_path, 0, scene, [0])
    part = label(tmp_path, labeller(Unsteady([frame]), min_trust=0.0))
    sure = picture(part, part.keys[0], "depth_trust.png")
    known = np.isfinite(frame.depth) & (frame.depth < 200)
    # One of four views errs: the scaled one on the left, and mirrored on the right.
    expected = 255 * np.exp(-((np.std(np.log([1, 1, 1, 1.12])) / 0.1) ** 2))
    assert np.abs(sure[known] - expected).max() <= 1
    depth = picture(part, part.keys[0], "depth.png")[known] / 256
    np.testing.assert_allclose(depth, frame.depth[known], atol=0.003)  # it is outvoted


def test_camera_motion_to_neighbours_is_written(tmp_path):
    scene = Scene(7, 320, 240)
    write_part(tmp_path, 0, scene, [30], back=3)
    part = label(tmp_path, labeller(Truth([scene(30)])))
    motion = json.loads(part.read(part.keys[0], "motion.json"))
    expected = np.linalg.inv(scene(27).pose) @ scene(30).pose
    np.testing.assert_allclose(motion["previous"], expected, atol=0.05)


def test_too_little_memory_is_one_clear_line(scene, tmp_path):
    class Hungry(Truth):
        def __call__(self, *arguments):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    write_part(tmp_path, 0, scene, (0, 30))
    with pytest.raises(
        TrainingError, match=r"not enough memory .* for 2 images at once: lower --batch"
    ):
        label(tmp_path, labeller(Hungry([])))
    assert not list((tmp_path / "labels").iterdir())


# --- The report


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.images, self.words = [], {}, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def test_the_report_is_one_file_with_figures_and_images(scene, tmp_path):
    for number in range(3):
        write_part(tmp_path, number, scene, (30 * number, 30 * number + 15))
    run(tmp_path, "--pictures", 4, "--camera-height", 1.5)
    text = (tmp_path / "labels" / "report.html").read_text()
    page = Page(text)
    assert "http" not in text and "<script" not in text  # nothing is fetched, nothing runs
    assert page.counts["figure"] == 4 and len(page.images) == 5 + 4 * 4 + 1
    charts = []
    for source in page.images:
        kind, _, content = source.partition(",")
        if kind == "data:image/svg+xml;base64":
            charts.append(base64.b64decode(content).decode())
            continue
        assert kind == "data:image/jpeg;base64"
        data = np.frombuffer(base64.b64decode(content), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert len(charts) == 5 and all(chart.count("<path") > 10 for chart in charts)
    assert ">labels</text>" in charts[2] and ">seconds</text>" in charts[3]
    words = " ".join(page.words)
    assert "6 frames" in words and "2 recordings" in words and STREET in words
    assert "by the camera's height of 1.5 m" in words
    assert all(f" {c.name} " in words for c in CAMVID)
    assert words.count("among the least labelled") == 1
