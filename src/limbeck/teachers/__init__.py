"""What answers. `Teacher` is the small interface (`base`), `ask` puts questions through a store so that none is
asked twice (`asking`), `local` answers with a model in this process, `scripted` from a list, for tests.
"""

from limbeck.teachers.asking import ask
from limbeck.teachers.base import Teacher

__all__ = ["Teacher", "ask"]
