import json

import pytest

from tests.stages.selection.conftest import small_plan
from tumorseg.errors import PlanError
from tumorseg.schema.training import FineTuning
from tumorseg.schema.tuning import Study
from tumorseg.stages.tuning.opening import open_study, study_folder
from tumorseg.stages.tuning.request import TuneRequest
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import work_folder

FOLDS = (("case_0",), ("case_1",), ("case_2", "case_3", "case_4", "case_5"))
SPACE = {"parameters": [{"name": "real", "field": "optimizer.lr", "low": 1e-4, "high": 0.1, "scale": "log"}]}


@pytest.fixture
def request_of(toy, tmp_path):
    """Return what makes requests of one plan; each test has a work folder of its own, with the toy's notes."""
    roots = toy.roots.changed(work=tmp_path / "runs")
    before = work_folder(toy.roots.work, toy.plan.dataset.name)
    after = work_folder(roots.work, toy.plan.dataset.name)
    after.root.mkdir(parents=True)
    for name in ("source", "fingerprint"):
        getattr(after, name).write_bytes(getattr(before, name).read_bytes())

    def make(**fields):
        usual = {"trials": 3, "proxy_iterations": 27, "space": SPACE, "spared": (0,), "output": tmp_path / "child.json"}
        plan = fields.pop("plan", small_plan(toy.plan, "tuned", folds=FOLDS))
        return TuneRequest(roots=roots, plan=plan, **(usual | fields))

    return make


def opened(request):
    return open_study(request, study_folder(request), "cpu")


def test_a_study_is_begun_as_it_is_asked_for(request_of):
    request = request_of()
    study = opened(request).study
    assert (study.judges, study.spared, study.most_trials) == ((1,), (0,), 3)
    assert study.proxy.rungs == (3, 9, 27)
    assert study.final_seeds == (request.plan.training.seed + 1, request.plan.training.seed + 2)
    (lr,) = study.space.parameters
    assert lr.center == request.plan.configurations["3d_fullres"].optimizer.lr
    seen = {*study.split.training, *study.split.scored}
    assert not seen & {"case_0", "case_1"}
    assert read_record(Study, study_folder(request).study) == study


def test_the_same_request_goes_on_and_may_change_the_limits(request_of):
    first = opened(request_of()).study
    assert opened(request_of()).study == first
    later = opened(request_of(trials=9, hours=2.0)).study
    assert later == first.changed(most_trials=9, hours=2.0)
    assert read_record(Study, study_folder(request_of()).study) == later


def test_what_was_not_asked_for_stays_as_it_was_found(request_of, toy):
    first = opened(request_of(proxy_iterations=None)).study
    work_folder(request_of().roots.work, toy.plan.dataset.name).fingerprint.unlink()
    # Another deal of the cases, and another length, would follow now.
    assert opened(request_of(proxy_iterations=None, trials=4)).study.split == first.split


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sampler": "random"}, 'was begun with sampler "tpe", now "random" is asked for'),
        ({"judges": (2,), "spared": ()}, r"was begun with judges \[1\], now \[2\] is asked for"),
        ({"seed": 5}, "was begun with seed 0, now 5 is asked for"),
        ({"space": "sampling"}, "was begun with another space than is asked for now"),
        ({"proxy_iterations": 54}, "was begun with another proxy than is asked for now"),
        ({"final_iterations": 60}, "now 60 is asked for"),
    ],
)
def test_another_request_is_refused_in_one_line(request_of, changed, words):
    opened(request_of())
    before = study_folder(request_of()).study.read_bytes()
    with pytest.raises(PlanError, match=words) as caught:
        opened(request_of(**changed))
    assert "--study NAME" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert study_folder(request_of()).study.read_bytes() == before


def test_a_plan_for_given_weights_is_not_tuned_from_random_ones(request_of, toy):
    gentle = toy.plan.training.changed(fine_tuning=FineTuning(freeze=("encoder",)))
    with pytest.raises(PlanError, match=r"tune the plan with training\.fine_tuning=null"):
        opened(request_of(plan=toy.plan.changed(training=gentle)))


def test_a_study_of_another_plan_is_named(request_of, toy):
    opened(request_of())
    other = small_plan(toy.plan, "other", folds=FOLDS)
    with pytest.raises(PlanError, match=r"holds a study of plan tuned \(\w+\), not of plan other"):
        opened(request_of(plan=other, study="tuned"))


def test_a_finished_study_stays_as_it_is(request_of):
    request = request_of()
    first = opened(request).study
    study_folder(request).result.write_text(json.dumps({}))
    opened(request_of(trials=9))
    assert read_record(Study, study_folder(request).study) == first


def test_a_time_decides_the_length_by_steps_on_noise(request_of):
    study = opened(request_of(proxy_iterations=None, trials=None, hours=0.5)).study
    assert study.proxy.iterations % 9 == 0
    assert study.hours == 0.5


def test_a_name_that_is_none_of_a_folder_is_refused(request_of):
    with pytest.raises(PlanError):
        study_folder(request_of(study="../elsewhere"))
