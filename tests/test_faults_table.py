"""The table that `make faults` writes."""

from benchmarks.faults import table

RESULTS = """<testsuites><testsuite>
<testcase name="test_a_camera_dies"><properties>
  <property name="recovered" value="0.52"/></properties></testcase>
<testcase name="test_a_runtime_fails[raise]"><failure message="no"/></testcase>
<testcase name="test_rounds"><properties>
  <property name="growth" value="0.004"/></properties></testcase>
</testsuite></testsuites>"""


def test_a_row_says_what_a_test_showed():
    assert table(RESULTS).splitlines()[2:] == [
        "| a camera dies | yes | 0.5 |  |",
        "| a runtime fails: raise | no |  |  |",
        "| rounds | yes |  | 0.40 |",
    ]
