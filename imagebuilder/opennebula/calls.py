"""What can become of a call of oned, where it makes a difference to who has asked."""

from imagebuilder.errors import RemoteError


class NotThereError(RemoteError):
    """oned has no such object."""


class AnswerLostError(RemoteError):
    """The call was sent, and whether oned has done it is not known."""


class WrongStateError(RemoteError):
    """oned has the object, but not in a state in which this can be done: it may be later."""
