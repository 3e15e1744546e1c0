"""The errors aweigh raises on purpose, each with the exit code of the command line.

    AweighError
    ├── CheckFailed   exit 1   a comparison was made and did not hold
    ├── BadInput      exit 2   a file, flag, annotation or request that cannot be used
    │   ├── NotAnImage         bytes that are no image file
    │   ├── TooLarge           an image file with more pixels or bytes than allowed
    │   └── Undecodable        an image file that is truncated, corrupt or of an unsupported kind
    └── CannotRun     exit 3   this machine lacks what was asked for (device, library, disk space)

A message says what was got, what was expected and what to do. Any other exception that reaches the user is a defect of
aweigh.
"""


class AweighError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class CheckFailed(AweighError):
    """A comparison (receipt, conformance, self-test) was made and did not hold."""

    exit_code = 1


class BadInput(AweighError):
    """A file, flag, annotation or request that cannot be used as it is."""

    exit_code = 2


class NotAnImage(BadInput):
    """Bytes that are no image file of a known format, or cut off within the header."""


class TooLarge(BadInput):
    """An image file with more pixels or bytes than allowed."""


class Undecodable(BadInput):
    """An image file of a known format that is truncated, corrupt or of a kind that cannot be decoded."""


class CannotRun(AweighError):
    """This machine cannot do what was asked: no such device, a missing extra, no space left."""

    exit_code = 3
