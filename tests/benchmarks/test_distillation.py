from benchmarks.distillation import ALONE, FOLD, SEEDS, TAUGHT, TEACHER, TEACHER_SEED, Study, missing, summary


def row(study, arm, seed, dsc, student_s=0.2):
    scores = {label: {f"case {number}": dsc + number / 100 for number in range(4)} for label in "ab"}
    seconds = {} if arm == TEACHER else {"student": student_s, "teacher": 1.0}
    gflops = 20.0 if arm == TEACHER else 2.0
    return study.settings(arm) | {"fold": FOLD, "seed": seed, "dsc": scores, "gflops": gflops, "case_s": seconds}


def test_students_are_held_against_each_other_case_by_case(tmp_path):
    study = Study(tmp_path, tmp_path, 20, 40, ())
    rows = [row(study, TEACHER, TEACHER_SEED, 0.9), row(study, ALONE, 0, 0.7, 0.25), row(study, ALONE, 1, 0.8)]
    rows += [row(study, TAUGHT, 0, 0.75), row(study, TAUGHT, 1, 0.83)]
    # What was made otherwise does not count.
    rows.append(row(study._replace(lessons=("--weight=1",)), TAUGHT, 2, 0.1))
    assert summary(study, rows)[2:] == [
        "| teacher | 20.00 | 0.9150 | 0.9150 | - |",
        "| alone | 2.00 | 0.7150, 0.8150 | 0.7650 | 0.0707 |",
        "| taught | 2.00 | 0.7650, 0.8450 | 0.8050 | 0.0566 |",
        "with its teacher, over 4 cases: +0.0400 [+0.0400, +0.0400]; by seed +0.0500, +0.0300",
        "a student has 10.0% of the teacher's FLOPs",
        "a case takes the teacher 5.0 times as long as the student",
    ]
    assert summary(study, []) == summary(study, rows)[:2]


def test_the_teacher_comes_first_and_again_if_its_weights_are_gone(tmp_path):
    study = Study(tmp_path, tmp_path, 20, 40, ())
    order = list(missing(study, []))
    assert order[:3] == [(TEACHER, TEACHER_SEED), (ALONE, SEEDS[0]), (TAUGHT, SEEDS[0])]
    taught = [row(study, TEACHER, TEACHER_SEED, 0.9)]
    assert list(missing(study, taught)) == order
    study.teacher.mkdir(parents=True)
    (study.teacher / "latest.ckpt").touch()
    assert list(missing(study, taught)) == order[1:]
    everything = taught + [row(study, arm, seed, 0.8) for arm in (ALONE, TAUGHT) for seed in SEEDS]
    assert list(missing(study, everything)) == []


def test_rows_of_other_lengths_or_lessons_are_run_again(tmp_path):
    study = Study(tmp_path, tmp_path, 20, 40, ())
    rows = [row(study, TEACHER, TEACHER_SEED, 0.9)]
    rows += [row(study, arm, seed, 0.8) for arm in (ALONE, TAUGHT) for seed in SEEDS]
    study.teacher.mkdir(parents=True)
    (study.teacher / "latest.ckpt").touch()
    harder, longer = study._replace(lessons=("--weight=1",)), study._replace(steps=40)
    assert list(missing(harder, rows)) == [(TAUGHT, seed) for seed in SEEDS]
    assert harder.taught_plan(0) != study.taught_plan(0)
    assert {arm for arm, _ in missing(longer, rows)} == {ALONE, TAUGHT}
    assert (TEACHER, TEACHER_SEED) in list(missing(study._replace(teacher_steps=80), rows))
