"""What kinds of synthesised subjects there are, and their views; loads nothing large."""

from typing import Literal

SubjectKind = Literal["dynamic", "static"]
"""Whether the motion of a subject's first view differs from that of the others."""

VIEWS = ("app", "mot", "recon")
"""A subject's views: how it appears, whose motion it takes, and how it is to be shown with that motion."""
