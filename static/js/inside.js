// What HTML and htmx do not do by themselves on the inside views: light up one token wherever
// it stands, walk the strip and a table with the arrow keys, let the newest choice count, keep
// focus and address after a swap, put a message beside its field, and say the new selection.
// Everything works without this file.
(() => {
  "use strict";
  const inside = () => document.getElementById("inside");

  // --- one token, lit everywhere -----------------------------------------------------
  const light = (at) => {
    for (const element of inside().querySelectorAll("[data-at]")) {
      element.classList.toggle("lit", element.dataset.at === at);
    }
  };
  const pointed = ({ target }) => light(target.closest?.("#inside [data-at]")?.dataset.at);
  document.addEventListener("pointerover", pointed);
  document.addEventListener("focusin", pointed);

  // --- arrow keys --------------------------------------------------------------------
  // One stop for Tab in each strip or table of buttons; the arrows move inside it.
  const ROVING = ".inside-strip, .inside-cells";
  const STOP = "button, a, [type=checkbox]";
  const stops = (box) => [...box.querySelectorAll(STOP)];
  const rove = (stop) => {
    for (const other of stops(stop.closest(ROVING))) other.tabIndex = other === stop ? 0 : -1;
  };
  const settle = () => {
    for (const box of inside().querySelectorAll(ROVING)) {
      const first = box.querySelector("[aria-current]") ?? stops(box)[0];
      if (!first) continue;
      rove(first);
      // A long text scrolls inside its strip, so that the chosen token is in sight.
      if (box.scrollHeight > box.clientHeight)
        box.scrollTop = first.offsetTop - box.clientHeight / 2;
    }
  };
  // A row of steps or columns that scrolls sideways shows the current one.
  const reveal = () => {
    const { at } = inside().querySelector(".inside-strip [aria-current]")?.dataset ?? {};
    const columns = `thead [data-at="${at}"]`;
    for (const current of inside().querySelectorAll(`.inside-nav [aria-current], ${columns}`)) {
      const row = current.closest(".inside-scroll, ol, ul");
      const { left, right } = row.getBoundingClientRect();
      const { left: from, right: to } = current.getBoundingClientRect();
      if (from < left || to > right) row.scrollLeft += (from + to - left - right) / 2;
    }
  };
  const move = (box, stop, key) => {
    const all = stops(box),
      at = all.indexOf(stop);
    const row = stop.closest("tr"),
      column = row && [...row.querySelectorAll(STOP)].indexOf(stop);
    const inRow = (other) => other && [...other.querySelectorAll(STOP)][column];
    return {
      ArrowRight: () => all[at + 1],
      ArrowLeft: () => all[at - 1],
      ArrowDown: () => (row ? inRow(row.nextElementSibling) : all[at + 1]),
      ArrowUp: () => (row ? inRow(row.previousElementSibling) : all[at - 1]),
      Home: () => all[0],
      End: () => all.at(-1),
    }[key]?.();
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return light(undefined);
    const stop = document.activeElement,
      box = stop?.closest?.(ROVING);
    if (!box || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = move(box, stop, event.key);
    if (!next) return;
    event.preventDefault();
    rove(next);
    next.focus();
  });

  // --- fields that were refused ------------------------------------------------------
  const mark = () => {
    const box = document.getElementById("inside-problem");
    for (const old of inside().querySelectorAll("[data-field]")) {
      if (!box.contains(old)) old.remove();
    }
    for (const field of inside().querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-errormessage");
    }
    for (const message of box.querySelectorAll("[data-field]")) {
      const field = inside().querySelector(
        `[name="${message.dataset.field}"]:is(input:not([type="hidden"]), select)`,
      );
      if (!field) continue;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-errormessage", message.id);
      (field.closest("label") ?? field).after(message);
    }
  };

  // --- Stop beside texts that are being written ---------------------------------------
  // Without scripts both texts are whole when the page arrives, so the button stays hidden.
  let writing = null; // the connection that brings both texts
  const endTexts = (said) => {
    const button = document.getElementById("texts-stop");
    writing = null;
    if (!button) return;
    // A button that disappears takes the focus with it.
    if (document.activeElement === button) document.getElementById("off-run").focus();
    button.hidden = true;
    document.getElementById("texts-writing").textContent = said;
  };
  document.addEventListener("htmx:before:sse:connection", ({ target, detail }) => {
    if (!target.matches?.(".inside-two")) return; // the document, for an element that is gone
    writing = detail.connection;
    document.getElementById("texts-stop").hidden = false;
  });
  document.addEventListener("click", ({ target }) => {
    if (target.id !== "texts-stop" || !writing) return;
    writing.reader?.cancel();
    endTexts("Stopped.");
  });
  document.addEventListener("htmx:after:swap", () => {
    // The last message empties it; the stream closes a moment later.
    if (writing && !document.getElementById("texts-writing")?.textContent) endTexts("");
  });
  document.addEventListener("htmx:sse:close", ({ detail }) => {
    if (writing && detail.connection === writing) endTexts("");
  });

  // --- requests ----------------------------------------------------------------------
  // The newest choice counts, and what a view still asks for ends with it. htmx would lose a
  // choice whose answer comes second, and let the server write texts that nobody sees.
  const asked = new Set(); // the contexts of requests without an answer
  const abort = (isOld) => [...asked].filter(isOld).forEach(({ request }) => request.abort());
  document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
    abort(({ target }) => target === ctx.target);
    asked.add(ctx);
  });
  document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => asked.delete(ctx));
  document.addEventListener("htmx:after:swap", () => {
    abort(({ sourceElement }) => !sourceElement.isConnected);
  });

  // --- after a swap ------------------------------------------------------------------
  let focused = null; // what had the focus before a swap, as a selector
  document.addEventListener("htmx:before:request", () => {
    const { id, name, value, tagName } = document.activeElement ?? {};
    // Where nothing has the focus, new content asked for more; what was pressed still counts.
    if ((id || name) && inside()?.contains(document.activeElement)) {
      focused = id
        ? `#${id}`
        : `${tagName}[name="${name}"]${tagName === "BUTTON" ? `[value="${value}"]` : ""}`;
    }
  });
  let shown = inside();
  document.addEventListener("htmx:after:swap", () => {
    if (!inside()) return;
    settle();
    reveal();
    mark();
    if (inside() !== shown) {
      // A view is named and said once, however many messages of a stream follow.
      shown = inside();
      const { link, sentence } = shown.dataset;
      if (link) history.replaceState(null, "", link);
      document.getElementById("inside-said").textContent = sentence ?? "";
    }
    if (focused) inside().querySelector(focused)?.focus({ preventScroll: true });
    focused = null; // a row that a stream brings later leaves the focus where it is
  });
  settle();
  reveal();
})();
