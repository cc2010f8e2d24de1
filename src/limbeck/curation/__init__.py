"""Stage 3: every answered example gets a verdict; what is not trained on is marked with its rule and kept in view.

`sift` is the stage itself.
"""

from limbeck.curation.sift import judge, sift

__all__ = ["judge", "sift"]
