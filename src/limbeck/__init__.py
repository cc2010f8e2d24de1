"""Limbeck distills language models: prompts in, a small, measured, registered student out.

Reading order: `pipeline` (the river, top to bottom), `records` (what travels), then the stages in its order:
`intake`, `synthesis`, `curation`, `training`, `evaluation`, `registry`. `recipe` is one job, typed.

    import limbeck

    model = limbeck.distill("recipe.yaml")
    print(limbeck.load(model.name).answer("My kettle trips the fuse."))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Model", "Recipe", "__version__", "distill", "evaluate", "export", "fine_tune", "load", "pretrain"]

if TYPE_CHECKING:
    from limbeck.library import Model, distill, evaluate, export, fine_tune, load, pretrain
    from limbeck.recipe import Recipe


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `import limbeck` alone must not wait for torch."""
    if name == "Recipe":
        from limbeck.recipe import Recipe

        return Recipe
    if name in __all__:
        from limbeck import library

        return getattr(library, name)
    raise AttributeError(f"module 'limbeck' has no attribute '{name}'")
