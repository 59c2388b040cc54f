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

"""Differences over seeds have Student's interval, and curves come from all logs of a run."""

import csv

import numpy as np
import pytest

from training.evaluation.seeds import (
    cells,
    curves,
    differences,
    figure,
    paired_difference,
    write_csv,
)


def test_the_interval_is_that_of_a_paired_t_test():
    from scipy.stats import ttest_rel

    values, reference = [0.61, 0.64, 0.60, 0.66, 0.63], [0.60, 0.61, 0.60, 0.63, 0.61]
    found = paired_difference(values, reference)
    interval = ttest_rel(values, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(0.018) and found.significant


def test_intervals_have_their_probability_and_the_detectable_difference_is_found():
    random = np.random.default_rng(0)
    covers, detects = [], []
    detectable = np.mean([paired_difference(*random.normal(size=(2, 5))).detectable
                          for _ in range(500)])  # fmt: skip
    for _ in range(2000):
        values, reference = random.normal(size=(2, 5))
        found = paired_difference(values, reference)
        covers.append(found.low <= 0 <= found.high)
        detects.append(paired_difference(values + detectable, reference).low > 0)
    assert np.mean(covers) == pytest.approx(0.95, abs=0.02)
    assert np.mean(detects) == pytest.approx(0.8, abs=0.1)


RESULTS = {
    "joint": [{"d/miou": 0.5 + s, "d/abs_rel": 0.2, "ms": 3.0} for s in (0, 0.01, 0.02)],
    "depth": [{"d/abs_rel": 0.18 + s, "ms": 2.0} for s in (0, 0.01, 0.005)],
}


def test_the_table_has_means_and_differences_of_what_both_measure(tmp_path):
    assert differences(RESULTS)["depth"].keys() == {"d/abs_rel"}
    table = cells(RESULTS)
    assert table["joint"] == {
        "d/miou": "0.5100 ± 0.0100", "d/abs_rel": "0.2000 ± 0.0000", "ms": "3"
    }  # fmt: skip
    assert table["depth - joint"]["d/abs_rel"] == "-0.0150 [-0.0274, -0.0026]*"
    write_csv(tmp_path / "r.csv", RESULTS)
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert len(rows) == 3 * 3 + 3 * 2
    assert rows[3] == {"run": "joint", "seed": "1", "measure": "d/miou", "value": "0.51"}


def test_curves_of_a_resumed_run_are_put_together_and_drawn(tmp_path):
    for version, lines in enumerate((["0,0.1,", "1,0.2,", "1,,5"], ["2,0.3,"])):
        folder = tmp_path / f"log/version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("\n".join(["epoch,val/d/miou,loss_epoch", *lines]))
    assert curves(tmp_path) == {"d/miou": {1: 0.1, 2: 0.2, 3: 0.3}}
    drawn = figure(RESULTS, {name: [tmp_path] * 3 for name in RESULTS})
    assert len(drawn.axes[0].lines) == 6
    assert drawn.axes[-1].get_yticklabels()[0].get_text() == "d/abs_rel (depth)"
