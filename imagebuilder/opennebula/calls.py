"""What can become of a call of oned, where it makes a difference to who has asked."""

from imagebuilder.errors import RemoteError


class NotThereError(RemoteError):
    """oned has no such object."""


class AnswerLostError(RemoteError):
    """The call was sent, and whether oned has done it is not known."""
