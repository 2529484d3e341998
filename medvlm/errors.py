"""The one exception family of the package."""


class MedVLMError(Exception):
    """A problem the user can act on: one sentence that says what, where and what to do.

    The command line prints the sentence and exits with code 2; library callers catch this class.
    """


class MissingExtraError(MedVLMError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}': install it with pip install 'medvlm-specialist[{extra}]'."
        )
