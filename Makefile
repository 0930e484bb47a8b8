# make run       the page on http://127.0.0.1:8000 (installs what is missing, once)
# make test      the whole test suite (installs what is missing, once)
# make lint      style, formats and types
# make engines   the main page in Firefox and WebKit, where they are installed
# make lighthouse  Lighthouse's figures of four pages (needs Node and Chromium)
# make coverage  the tests without a browser, and which lines they run
PYTHON ?= python3
VENV := .venv
PRETTIER := prettier@3.10.1

.PHONY: run test engines lighthouse lint coverage clean
run: $(VENV)/run.stamp
	@exec $(VENV)/bin/gunicorn "webapp:create_app()"

# Four processes also on two processors: tests of the page mostly wait for a browser.
test: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n 4 --dist loadfile

engines: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -m slow tests/browser/test_engines.py

lighthouse: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -m slow tests/browser/test_lighthouse.py

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@if command -v npx >/dev/null; then npx --yes $(PRETTIER) --check static; \
	else echo "prettier not run: it needs Node (https://nodejs.org)"; fi

coverage: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest --ignore tests/browser --cov --cov-report term

clean:
	rm -rf $(VENV)

# The stamps make installing idempotent: it runs again only when a list has changed.
$(VENV)/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@
