"""Signature Version 4 by the examples of its documentation."""

import pytest

from lakery_cloud.providers.s3.signing import (
    authorization,
    encode_path,
    encode_query,
    signing_key,
)

# AWS documentation, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)", Examples.
KEY = signing_key(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", date="20130524", region="us-east-1"
)
TIME = "20130524T000000Z"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WELCOME = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


@pytest.mark.parametrize(
    ("method", "key", "parameters", "payload_hash", "headers", "signature"),
    [
        (
            "GET",
            "test.txt",
            {},
            EMPTY,
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "test$file.text",
            {},
            WELCOME,
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "", {"lifecycle": ""}, EMPTY, {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "",
            {"prefix": "J", "max-keys": "2"},
            EMPTY,
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get an object", "put an object", "get the lifecycle", "list"],
)
def test_signature_is_the_documented_one(
    method: str, key: str, parameters: dict[str, str], payload_hash: str, headers: dict[str, str], signature: str
) -> None:
    sent = {
        **headers,
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": payload_hash,
        "x-amz-date": TIME,
    }
    made = authorization(
        KEY,
        method,
        "/" + encode_path(key),
        query=encode_query(parameters),
        headers=dict(sorted(sent.items())),
        time=TIME,
        payload_hash=payload_hash,
    )
    assert made == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={';'.join(sorted(sent))},Signature={signature}"
    )


def test_key_shows_no_secret() -> None:
    assert "secret=<lakery_cloud.engine.secret_key.SecretKey object at " in repr(KEY)
    with pytest.raises(TypeError):
        vars(KEY.secret)


def test_paths_and_queries_are_encoded_once() -> None:
    assert encode_path("a b/ä+%7E~") == "a%20b/%C3%A4%2B%257E~"
    assert encode_query({"b": "x/y=z ~", "a": "&"}) == "a=%26&b=x%2Fy%3Dz%20~"
