"""S3: objects by rclone, and in front of it regions, ownership, access lists and preconditions."""

import http.client
from itertools import count
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagebuilder.cloud import RunningCloud
from tests.cloud.clients import Clients, refused

NUMBERS = count()
PART = 5 << 20


@pytest.fixture
def bucket(aws: Clients) -> str:
    name = f"bucket-{next(NUMBERS)}"
    aws.s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def open_bucket(aws: Clients) -> str:
    """A bucket that knows access lists."""
    name = f"open-bucket-{next(NUMBERS)}"
    aws.s3.create_bucket(Bucket=name, ObjectOwnership="BucketOwnerPreferred")
    return name


def grantees(aws: Clients, bucket: str, key: str) -> list[str]:
    grants = aws.s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]
    return [grant["Permission"] for grant in grants]


def test_an_object_comes_back_as_it_was_put(aws: Clients, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="a/b c+d", Body=b"content")

    assert aws.s3.get_object(Bucket=bucket, Key="a/b c+d")["Body"].read() == b"content"


def test_a_large_object_goes_through_in_pieces(aws: Clients, bucket: str) -> None:
    content = bytes(range(256)) * 40_000

    aws.s3.put_object(Bucket=bucket, Key="large", Body=content)

    assert aws.s3.get_object(Bucket=bucket, Key="large")["Body"].read() == content


def test_parts_become_one_object(aws: Clients, bucket: str) -> None:
    upload = aws.s3.create_multipart_upload(Bucket=bucket, Key="whole")["UploadId"]
    first = aws.s3.upload_part(Bucket=bucket, Key="whole", UploadId=upload, PartNumber=1, Body=b"a" * PART)
    second = aws.s3.upload_part(Bucket=bucket, Key="whole", UploadId=upload, PartNumber=2, Body=b"b")
    parts = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}]

    aws.s3.complete_multipart_upload(
        Bucket=bucket,
        Key="whole",
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )

    assert aws.s3.get_object(Bucket=bucket, Key="whole")["Body"].read() == b"a" * PART + b"b"


def put_other(aws: Clients, bucket: str, *, headers_say: bytes, sent: bytes) -> int:
    """The status of a put whose body is another one than its signed headers say, of the same length."""
    address = urlsplit(aws.cloud.endpoint)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    request = AWSRequest("PUT", f"{aws.cloud.endpoint}/{bucket}/other", data=headers_say)
    credentials = Credentials(aws.cloud.credentials.access_key_id, aws.cloud.credentials.secret.reveal().decode())
    S3SigV4Auth(credentials, "s3", aws.region).add_auth(request)
    connection.request("PUT", f"/{bucket}/other", body=sent, headers=dict(request.headers))
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_body_that_is_not_what_was_signed_is_refused(aws: Clients, bucket: str) -> None:
    right = put_other(aws, bucket, headers_say=b"right", sent=b"right")

    wrong = put_other(aws, bucket, headers_say=b"right", sent=b"wrong")

    assert (right, wrong) == (200, 400)
    assert aws.s3.get_object(Bucket=bucket, Key="other")["Body"].read() == b"right"


def test_the_end_of_a_long_body_is_compared_too(aws: Clients, bucket: str) -> None:
    content = bytes(3 << 20)

    status = put_other(aws, bucket, headers_say=content, sent=content[:-1] + b"x")

    assert status == 400
    with refused("NoSuchKey"):
        aws.s3.get_object(Bucket=bucket, Key="other")


def test_a_wrong_checksum_is_refused(aws: Clients, bucket: str) -> None:
    with refused("BadDigest", "CRC32"):
        aws.s3.put_object(Bucket=bucket, Key="a", Body=b"content", ChecksumCRC32="AAAAAA==")


def test_a_wrong_content_md5_is_refused(aws: Clients, bucket: str) -> None:
    with refused("BadDigest"):
        aws.s3.put_object(Bucket=bucket, Key="a", Body=b"content", ContentMD5="XrY7u+Ae7tCTyyK7j1rNww==")


def fetch(url: str) -> tuple[int, bytes]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    connection.request("GET", f"{address.path}?{address.query}")
    answer = connection.getresponse()
    fetched = answer.status, answer.read()
    connection.close()
    return fetched


def test_a_presigned_url_opens_the_object_it_was_made_for(aws: Clients, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"content")
    aws.s3.put_object(Bucket=bucket, Key="b", Body=b"other")

    url = aws.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})

    assert fetch(url) == (200, b"content")
    assert fetch(url.replace(f"/{bucket}/a?", f"/{bucket}/b?"))[0] == 403


def test_a_bucket_that_there_is_not_is_an_error(aws: Clients) -> None:
    with refused("NoSuchBucket"):
        aws.s3.put_object(Bucket="no-such-bucket", Key="a", Body=b"")


def test_an_object_that_there_is_not_is_an_error(aws: Clients, bucket: str) -> None:
    with refused("NoSuchKey"):
        aws.s3.get_object(Bucket=bucket, Key="missing")


@pytest.mark.parametrize("name", ["Upper-Case", "a..b", "10.1.1.99", "-begins"])
def test_a_bucket_name_that_cannot_be_is_refused(aws: Clients, name: str) -> None:
    with refused("InvalidBucketName"):
        aws.s3.create_bucket(Bucket=name)


def test_a_bucket_is_made_once(aws: Clients, bucket: str) -> None:
    with refused("BucketAlreadyOwnedByYou"):
        aws.s3.create_bucket(Bucket=bucket)


def test_a_bucket_with_something_in_it_is_not_deleted(aws: Clients, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"")

    with refused("BucketNotEmpty"):
        aws.s3.delete_bucket(Bucket=bucket)


def test_a_deleted_bucket_has_gone(aws: Clients, bucket: str) -> None:
    aws.s3.delete_bucket(Bucket=bucket)

    with refused("NoSuchBucket"):
        aws.s3.list_objects_v2(Bucket=bucket)


def test_a_bucket_has_the_region_that_it_was_made_for(aws: Clients) -> None:
    aws.s3.create_bucket(Bucket="western", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    west = Clients(aws.cloud, region="eu-west-1")

    assert west.s3.get_bucket_location(Bucket="western")["LocationConstraint"] == "eu-west-1"
    assert west.s3.head_bucket(Bucket="western")["BucketRegion"] == "eu-west-1"


def test_a_bucket_elsewhere_says_where(cloud: RunningCloud, aws: Clients) -> None:
    Clients(cloud, region="eu-west-2").s3.create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"}
    )
    seen: list[str] = []

    def keep(response_dict: dict[str, dict[str, str]], **_others: object) -> None:
        seen.append(f"{response_dict['status_code']} {response_dict['headers'].get('x-amz-bucket-region')}")

    aws.s3.meta.events.register("before-parse.s3.ListObjectsV2", keep)

    aws.s3.list_objects_v2(Bucket="far-away")

    assert seen == ["301 eu-west-2", "200 None"]


@pytest.mark.parametrize("wished", [{}, {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}])
def test_a_regional_endpoint_makes_buckets_at_home_only(aws: Clients, wished: dict[str, str]) -> None:
    south = Clients(aws.cloud, region="sa-east-1")

    with refused("IllegalLocationConstraintException"):
        south.s3.create_bucket(Bucket="southern", **wished)  # type: ignore[arg-type]


def test_the_expected_owner_must_be_the_owner(aws: Clients, bucket: str) -> None:
    with refused("403"):
        aws.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="111122223333")

    assert aws.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="123456789012")["BucketRegion"] == "us-east-1"


def test_a_new_bucket_knows_no_access_lists(aws: Clients, bucket: str) -> None:
    [rule] = aws.s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]

    assert rule == {"ObjectOwnership": "BucketOwnerEnforced"}
    with refused("AccessControlListNotSupported"):
        aws.s3.put_object(Bucket=bucket, Key="a", Body=b"", ACL="aws-exec-read")


def test_a_bucket_can_be_made_to_know_access_lists(aws: Clients, bucket: str) -> None:
    aws.s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )

    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"", ACL="aws-exec-read")

    assert grantees(aws, bucket, "a") == ["FULL_CONTROL", "READ"]


def test_a_bucket_without_ownership_controls_says_so(aws: Clients, bucket: str) -> None:
    aws.s3.delete_bucket_ownership_controls(Bucket=bucket)

    with refused("OwnershipControlsNotFoundError"):
        aws.s3.get_bucket_ownership_controls(Bucket=bucket)


def test_a_new_object_of_the_same_key_has_not_the_old_ones_access_list(aws: Clients, open_bucket: str) -> None:
    aws.s3.put_object(Bucket=open_bucket, Key="a", Body=b"", ACL="public-read")

    aws.s3.put_object(Bucket=open_bucket, Key="a", Body=b"")

    assert grantees(aws, open_bucket, "a") == ["FULL_CONTROL"]


def test_an_object_of_parts_has_the_access_list_it_was_begun_with(aws: Clients, open_bucket: str) -> None:
    upload = aws.s3.create_multipart_upload(Bucket=open_bucket, Key="whole", ACL="aws-exec-read")["UploadId"]
    part = aws.s3.upload_part(Bucket=open_bucket, Key="whole", UploadId=upload, PartNumber=1, Body=b"a")

    aws.s3.complete_multipart_upload(
        Bucket=open_bucket,
        Key="whole",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )

    assert grantees(aws, open_bucket, "whole") == ["FULL_CONTROL", "READ"]


def test_an_access_list_can_be_put_later(aws: Clients, open_bucket: str) -> None:
    aws.s3.put_object(Bucket=open_bucket, Key="a", Body=b"")

    aws.s3.put_object_acl(Bucket=open_bucket, Key="a", ACL="aws-exec-read")

    assert grantees(aws, open_bucket, "a") == ["FULL_CONTROL", "READ"]


def test_an_object_is_not_overwritten_if_one_does_not_want_that(aws: Clients, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"old", IfNoneMatch="*")

    with refused("PreconditionFailed"):
        aws.s3.put_object(Bucket=bucket, Key="a", Body=b"new", IfNoneMatch="*")


def test_what_the_cloud_does_not_do_with_buckets_is_refused(aws: Clients, bucket: str) -> None:
    with refused("NotImplemented", "PutBucketPolicy"):
        aws.s3.put_bucket_policy(Bucket=bucket, Policy="{}")


def test_a_part_of_an_object_has_no_checksum_of_the_whole(aws: Clients, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="ranged", Body=b"0123456789", ChecksumAlgorithm="CRC32")

    part = aws.s3.get_object(Bucket=bucket, Key="ranged", Range="bytes=2-4", ChecksumMode="ENABLED")

    assert part["Body"].read() == b"234"
    assert "ChecksumCRC32" not in part
