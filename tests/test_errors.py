from imagebuilder.errors import Leftover, LeftoversError


def test_leftovers_are_listed_each_with_the_command_that_removes_it() -> None:
    snapshot = Leftover(what="the snapshot snap-1", undo_command="aws ec2 delete-snapshot --snapshot-id snap-1")
    part = Leftover(what="s3://images/w.part.0", undo_command="aws s3 rm s3://images/w.part.0")

    error = LeftoversError("AccessDenied", where="s3://images", leftovers=[snapshot, part], fix="allow it")

    assert str(error).splitlines() == [
        "s3://images: AccessDenied",
        "  fix: allow it",
        "  left behind; remove each with the command below it:",
        "  the snapshot snap-1",
        "    aws ec2 delete-snapshot --snapshot-id snap-1",
        "  s3://images/w.part.0",
        "    aws s3 rm s3://images/w.part.0",
    ]
