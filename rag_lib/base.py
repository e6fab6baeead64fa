"""The one exception for what a user can mend."""


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what, what is allowed and what to do.

    The command line prints the message alone, and so does a notebook: IPython asks an exception for
    `_render_traceback_` before it formats one itself.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"Error: {self}"]
