from __future__ import annotations

import pytest

from benchmarks.http_messages import Head, request_body, response_body

CHUNKED = b"4;chunk-signature=ab\r\nwiki\r\n5\r\npedia\r\n0\r\nx-amz-checksum-crc32:abc=\r\n\r\n"


def head_of(*lines: bytes) -> Head:
    return Head(b"\r\n".join([*lines, b"", b""]))


def test_a_header_is_found_in_any_case_and_not_inside_others() -> None:
    head = head_of(b"GET /b/k HTTP/1.1", b"X-Content-Length: 7", b"CONTENT-LENGTH:  5 ", b"Host: h:1")
    assert head.words == [b"GET", b"/b/k", b"HTTP/1.1"]
    assert head.get(b"content-length") == b"5"
    assert head.get(b"range") is None


def test_a_body_of_known_length_ends_there() -> None:
    body = request_body(head_of(b"PUT /b/k HTTP/1.1", b"Content-Length: 5"))
    assert [body.take(b"abc"), body.done, body.take(b"defgh"), body.done] == [3, False, 2, True]


def test_a_request_without_a_length_has_no_body() -> None:
    assert request_body(head_of(b"GET /b/k HTTP/1.1", b"Host: h")).done


@pytest.mark.parametrize("step", [1, 2, 7, len(CHUNKED)])
def test_chunks_end_with_their_trailer_however_they_are_cut(step: int) -> None:
    body = response_body(head_of(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"), b"GET")
    stream, taken = CHUNKED + b"GET / HTTP/1.1\r\n", 0
    for begin in range(0, len(stream), step):
        taken += body.take(stream[begin : begin + step])
    assert body.done
    assert taken == len(CHUNKED)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"304 Not Modified")])
def test_answers_that_only_name_a_length_have_no_body(method: bytes, status: bytes) -> None:
    assert response_body(head_of(b"HTTP/1.1 " + status, b"Content-Length: 99"), method).done


def test_an_answer_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a length nor chunks"):
        response_body(head_of(b"HTTP/1.1 200 OK", b"Server: x"), b"GET")
