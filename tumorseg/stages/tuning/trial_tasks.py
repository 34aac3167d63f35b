"""Trials as tasks for workers, and whether they can be run."""

from tumorseg.errors import PlanError
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.schema.plan import Plan
from tumorseg.schema.quantities import gb_text
from tumorseg.schema.tuning import Study, Task, Values
from tumorseg.tuning.candidates import DEFAULT
from tumorseg.tuning.trial_plans import over_budget, trial_plan


def stem_of(number: int) -> str:
    """Return the name of a trial's task."""
    return f"trial-{number:05d}"


class TrialTasks:
    """Makes tasks of a study's trials; memory that was counted is kept."""

    def __init__(self, study: Study, plan: Plan) -> None:
        """Begin without any.

        Args:
            study: that the trials are of.
            plan: that it refines.
        """
        self._study, self._plan = study, plan
        self._counter = MemoryCounter()
        self._default_over_bytes: int | None = None

    def task(self, number: int, values: Values) -> Task:
        """Return the task of a trial."""
        return Task(
            tumorseg_version=self._study.tumorseg_version,
            stem=stem_of(number),
            number=number,
            values=values,
            seed=self._plan.training.seed,
            rungs=self._study.proxy.rungs,
        )

    def unfit(self, task: Task) -> tuple[int, str]:
        """Return the bytes that a trial is over the memory budget, and why it cannot be run: nothing if it can."""
        try:
            over_bytes, most = self._over_bytes(task), self._most_over_bytes()
        except PlanError as error:
            return 0, str(error)
        return over_bytes, f"it needs {gb_text(over_bytes)} more than the memory budget" if over_bytes > most else ""

    def _over_bytes(self, task: Task) -> int:
        return over_budget(trial_plan(self._study, self._plan, task), self._counter)

    def _most_over_bytes(self) -> int:
        """Return what trials may take beyond the budget: nothing, unless the plan itself does, which was made so on purpose."""
        if self._default_over_bytes is None:
            self._default_over_bytes = self._over_bytes(self.task(DEFAULT, {}))
        return max(0, self._default_over_bytes)
