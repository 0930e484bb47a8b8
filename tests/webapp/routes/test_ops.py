"""/healthz: whether this worker can generate."""

from gpt2core.settings import Settings
from webapp import create_app


def test_a_loaded_model_is_healthy(client):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json["status"] == "ok"
    assert answer.json["model"] == "demo"
    assert {"running", "waiting"} <= set(answer.json)


def test_it_is_not_cached_or_shown_as_ok_while_the_model_cannot_be_loaded(tmp_path):
    settings = Settings(model="absent", models_dir=str(tmp_path))
    app = create_app(settings)
    client = app.test_client()
    client.get("/healthz")
    app.extensions["model_server"].wait_until_loaded(timeout=60)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json["status"] == "failed"


def test_a_health_check_starts_no_generation(client):
    assert client.get("/healthz").json["waiting"] == 0


def test_page_json_and_health_say_which_weights_generate():
    app = create_app(Settings(weights="int8"))
    model_server = app.extensions["model_server"]
    model_server.start()
    model_server.wait_until_loaded(timeout=60)
    client = app.test_client()
    try:
        assert client.get("/healthz").json["weights"] == "int8"
        answer = client.post("/generate", json={"prompt": "Once", "n_tokens": 2, "seed": 1})
        assert answer.json["weights"] == "int8" and len(answer.json["tokens"]) == 2
        assert "8-bit weights" in client.get("/model").text
        assert "float32 weights" in client.get("/inside?prompt=Once").text
    finally:
        model_server.stop()


def test_float32_weights_are_the_default(client):
    assert client.get("/healthz").json["weights"] == "float32"
    assert "8-bit" not in client.get("/model").text + client.get("/inside?prompt=Once").text
