"""One job, typed. A recipe is read from YAML, from flags, or made in Python; unknown keys are refused.

```yaml
kind: distillation
name: service-desk
source: {prompts: prompts.jsonl}
teacher: {model: service-desk-teacher}
student: {shrink: {layers: 6}}
```

Only `kind`, `name`, `source` and (for a distillation) `teacher` must be said; everything else has a default, and
`Recipe.dump` shows the recipe with every default written out.

A module a section: `source`, `teacher`, `student`, `synthesis`, `curation`, `objective`, `training`, `examination`;
`whole` binds them, `unused` knows what a kind makes no use of, and `reading` reads what people write. `rounds` says
what asking for similar prompts takes.
"""

from limbeck.recipe.curation import Curation, Judge, Votes
from limbeck.recipe.examination import Evaluation, Export
from limbeck.recipe.objective import DIVERGENCES, Hidden, Objective, OnPolicy
from limbeck.recipe.reading import TEACHERS, assign, sections, yaml_fault
from limbeck.recipe.source import Columns, Logs, Source
from limbeck.recipe.student import Adapter, Shrink, Student
from limbeck.recipe.synthesis import Augment, Refine, Synthesis
from limbeck.recipe.teacher import REMOTE, Budget, Prices, Teacher, Timeouts, Trial
from limbeck.recipe.training import Training
from limbeck.recipe.whole import MINIMUM_ROWS, RUNNABLE, Kind, Recipe

__all__ = [
    "DIVERGENCES",
    "MINIMUM_ROWS",
    "REMOTE",
    "RUNNABLE",
    "TEACHERS",
    "Adapter",
    "Augment",
    "Budget",
    "Columns",
    "Curation",
    "Evaluation",
    "Export",
    "Hidden",
    "Judge",
    "Kind",
    "Logs",
    "Objective",
    "OnPolicy",
    "Prices",
    "Recipe",
    "Refine",
    "Shrink",
    "Source",
    "Student",
    "Synthesis",
    "Teacher",
    "Timeouts",
    "Training",
    "Trial",
    "Votes",
    "assign",
    "sections",
    "yaml_fault",
]
