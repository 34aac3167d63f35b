import subprocess
import sys

SCRIPT = """
import sys
from tests.workers import jobs
from tumorseg.workers.pool import run_cases
print("begun")
print(sorted(outcome.value for outcome in run_cases(jobs.double, [(str(i), i) for i in range(4)], num_workers=2)))
"""


def test_a_script_without_a_main_guard_may_use_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    for command, text in (([str(tmp_path / "script.py")], None), (["-"], SCRIPT)):
        done = subprocess.run(
            [sys.executable, *command], input=text, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."}
        )
        assert done.stdout == "begun\n[0, 2, 4, 6]\n", done.stderr
