"""What the client wants and sent: kinds of response, fields, line ends, a closed connection."""

import socket
import ssl

import pytest

from tests.helpers.web import HTMX, JSON, wait_until
from webapp.request import (
    client_left,
    remembered_fields,
    response_kind,
    submitted_fields,
    unix_line_ends,
)

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("headers", "options", "kind"),
    [
        ({}, {}, "page"),
        (BROWSER, {}, "page"),
        ({"Accept": "*/*"}, {}, "page"),
        (JSON, {}, "json"),
        (HTMX, {}, "htmx"),
        ({"Accept": "text/event-stream"}, {}, "htmx"),
        ({"Accept": "*/*"}, {"json": {}}, "json"),
        ({}, {"path": "/tokens.json"}, "json"),
        (BROWSER, {"path": "/tokens.json"}, "page"),
    ],
)
def test_the_kind_of_response_follows_from_what_the_client_accepts_and_sends(
    app, headers, options, kind
):
    with app.test_request_context(headers=headers, **options):
        assert response_kind() == kind


class TestFields:
    def fields(self, app, path="/generate", **options) -> dict:
        with app.test_request_context(path, method="POST", **options):
            assert remembered_fields() == {}
            fields = submitted_fields()
            assert remembered_fields() == fields
            return fields

    def test_a_field_that_comes_twice_has_the_value_of_the_button(self, app):
        fields = self.fields(app, data={"kept": ["262", "749"], "prompt": "a"})
        assert fields == {"kept": "749", "prompt": "a"}

    def test_the_flag_in_the_address_is_a_field(self, app):
        fields = self.fields(app, "/generate?regenerate=1&kept=9", data={"kept": "1"})
        assert fields == {"kept": "1", "regenerate": "1"}

    def test_a_browsers_line_ends_are_those_of_its_text_area(self, app):
        data = {"prompt": "a\r\nb\r\n\nc"}
        assert self.fields(app, data=data)["prompt"] == "a\nb\n\nc"
        assert self.fields(app, data=data, headers=HTMX)["prompt"] == data["prompt"]
        assert self.fields(app, json=data)["prompt"] == data["prompt"]

    @pytest.mark.parametrize("body", ["prompt=a%FFb", b"prompt=a\xffb"])
    def test_bytes_that_are_not_utf8_become_the_replacement_character(self, app, body):
        kind = "application/x-www-form-urlencoded"
        assert self.fields(app, data=body, content_type=kind) == {"prompt": "a\ufffdb"}
        assert self.fields(app, data="prompt=%25FF+%C3%A9", content_type=kind) == {
            "prompt": "%FF é"
        }

    def test_multipart_forms_are_forms(self, app):
        data = {"prompt": "é\nb"}
        assert self.fields(app, data=data, content_type="multipart/form-data") == data

    @pytest.mark.parametrize(
        ("text", "shown"), [("a\r\nb", "a\nb"), ("a\rb", "a\nb"), ("\r\r\n\n\r", "\n\n\n\n")]
    )
    def test_every_line_end_becomes_one_newline(self, text, shown):
        assert unix_line_ends(text) == shown


class TestClientLeft:
    @pytest.fixture
    def pair(self):
        """Two ends of a connection."""
        here, there = socket.socketpair()
        with here, there:
            yield here, there

    def left(self, app, client_socket) -> bool:
        with app.test_request_context(environ_overrides={"gunicorn.socket": client_socket}):
            return client_left()

    def test_a_closed_connection_is_noticed(self, app, pair):
        here, there = pair
        assert not self.left(app, here)
        there.send(b"more")
        assert not self.left(app, here)
        here.recv(4)
        there.close()
        assert self.left(app, here)

    def test_a_client_that_only_closed_its_sending_side_waits_for_the_answer(self, app):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            there = socket.create_connection(listening.getsockname())
            here, _ = listening.accept()
        with here, there, app.test_request_context(environ_overrides={"gunicorn.socket": here}):
            there.shutdown(socket.SHUT_WR)
            assert not client_left() and not client_left()
            assert there.recv(99) == b"HTTP/1.1 100 Continue\r\n\r\n"  # one, however often asked
            here.sendall(b"the answer")
            assert there.recv(99) == b"the answer"

    def test_a_client_that_closed_both_sides_has_left(self, app):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            there = socket.create_connection(listening.getsockname())
            here, _ = listening.accept()
        with here, app.test_request_context(environ_overrides={"gunicorn.socket": here}):
            there.close()
            wait_until(client_left, "the reset of a closed connection")

    def test_an_encrypted_connection_counts_as_open(self, app, pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here = context.wrap_socket(pair[0], server_side=True, do_handshake_on_connect=False)
        with here:
            assert not self.left(app, here)

    def test_without_gunicorn_the_client_counts_as_connected(self, app):
        with app.test_request_context():
            assert not client_left()
