"""The inside views on a real gunicorn: streams go on, every process answers the same."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from tests.helpers.inside_pages import PATHS
from tests.webapp.test_load import fields_of, streamed_text

TEXT = "The old king said to his daughter"


def body_of(server, path: str, **fields) -> bytes:
    with server.request("GET", f"{path}?{urlencode(fields)}") as response:
        assert response.status == 200
        return response.read()


def test_eight_streams_go_on_while_texts_are_looked_into(own_server):
    with own_server(GPT2_MAX_BATCH=8) as server, ThreadPoolExecutor(8) as clients:
        alone = [server.generate_json(**fields_of(client, 60))["text"] for client in range(8)]
        streams = [
            clients.submit(streamed_text, server, fields_of(client, 60)) for client in range(8)
        ]
        n_views = 0
        while not all(stream.done() for stream in streams):
            body_of(server, PATHS[n_views % len(PATHS)], prompt=f"{TEXT} number {n_views}")
            n_views += 1
        assert [stream.result() for stream in streams] == alone
        assert n_views > 1
        server.wait_for_load(0)


def test_every_process_gives_the_same_answer(servers, own_server):
    with own_server() as other:
        for path in [*PATHS, "/inside.json", "/inside.csv"]:
            fields = {"prompt": TEXT, "at": 4}
            assert body_of(servers("demo"), path, **fields) == body_of(other, path, **fields)
