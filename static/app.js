// The few things of the page that HTML and htmx do not do by themselves: one stream at a
// time, Stop, the keyboard, and following the newest token.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("form");
  if (!form) return;
  const prompt = $("prompt"), stop = $("stop"), text = $("text"), strip = $("strip");
  let running = null; // the request that is under way: {ctx, connection once it streams}

  const setRunning = (request) => {
    running = request;
    if (!request && document.activeElement === stop) $("generate").focus(); // it goes away
    stop.hidden = !request;
    $("result").setAttribute("aria-busy", String(Boolean(request)));
  };
  const halt = (why) => {
    if (!running) return;
    const { ctx, connection } = running;
    setRunning(null);
    if (connection?.reader) connection.reader.cancel();
    else ctx.request.abort();
    if (!why) return;
    $("status").textContent = why;
    form.dispatchEvent(new Event("glyph:stopped"));
  };

  // Giving up a request is no error: answer it with "nothing new" instead.
  const quietly = (fetch) => (...request) => fetch(...request).catch((error) => {
    if (error.name !== "AbortError") throw error;
    return new Response(null, { status: 204 });
  });
  document.addEventListener("htmx:before:request", (event) => {
    event.detail.ctx.fetch = quietly(event.detail.ctx.fetch);
    if (event.target !== form) return;
    halt(); // a new request replaces the one before
    for (const box of pinned.keys()) pinned.set(box, true);
    setRunning({ ctx: event.detail.ctx });
  });
  // Candidates for a text that is changing are of no use any more.
  form.addEventListener("input", () => $("next").dispatchEvent(new Event("htmx:abort")));
  form.addEventListener("htmx:before:sse:connection", (event) => {
    if (running) running.connection = event.detail.connection;
  });
  form.addEventListener("htmx:sse:close", (event) => {
    if (event.detail.connection !== running?.connection) return; // one that was replaced
    const finished = $("status").textContent.startsWith("Done");
    setRunning(null);
    if (!finished && !$("problem").firstElementChild) lost();
  });
  form.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && event.detail.ctx === running?.ctx) lost();
  });
  const lost = () => {
    setRunning(null);
    $("status").textContent = "";
    say("The connection to the server was lost. Check that it is running, then generate again.");
  };
  form.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail;
    if (ctx.sourceElement === prompt) markInvalid(false); // too long even to be cut
    if (ctx.sourceElement !== form) return;
    if (ctx.response.status >= 400) {
      setRunning(null);
      $("status").textContent = "";
    }
    if (ctx.response.status === 422 || form.querySelector("[aria-invalid]")) {
      markInvalid(ctx.response.status === 422);
    }
    follow();
  });
  stop.addEventListener("click", () => halt("Stopped."));
  form.addEventListener("glyph:halt", () => halt());

  const say = (message) => {
    const p = document.createElement("p");
    p.className = "problem";
    p.setAttribute("role", "alert");
    p.textContent = message;
    $("problem").replaceChildren(p);
  };

  // Whoever changes a field is mending it: its message has been read.
  form.addEventListener("input", ({ target }) => {
    $(`error-${target.name}`)?.replaceChildren();
    target.removeAttribute("aria-invalid");
  });

  // The server writes a message beside each bad field; mark the fields, go to the first.
  const markInvalid = (focus) => {
    let first = null;
    for (const input of form.querySelectorAll("[name]")) {
      if ($(`error-${input.name}`)?.textContent.trim()) {
        input.setAttribute("aria-invalid", "true");
        first ??= input;
      } else {
        input.removeAttribute("aria-invalid");
      }
    }
    if (focus) first?.focus();
  };

  // Keep the newest token in sight unless the reader scrolled up. Being away from the end
  // says nothing by itself: more may have come since the last scroll of ours.
  const pinned = new Map([[text, true], [strip, true]]);
  for (const box of pinned.keys()) {
    let last = 0;
    box.addEventListener("scroll", () => {
      const at = box.scrollTop, left = box.scrollHeight - at - box.clientHeight;
      if (left < 2 || (left < 24 && at >= last)) pinned.set(box, true);
      else if (at < last) pinned.set(box, false);
      last = at;
    });
    // At once, or the next token's scroll undoes the reader's own.
    box.addEventListener("wheel", ({ deltaY }) => {
      if (deltaY < 0 && box.scrollTop > 0) pinned.set(box, false);
    }, { passive: true });
  }
  // Once a frame: asking for heights makes the browser lay the page out.
  let following = false;
  const follow = () => {
    if (following) return;
    following = true;
    requestAnimationFrame(() => {
      following = false;
      for (const [box, stay] of pinned) if (stay) box.scrollTop = box.scrollHeight;
    });
  };

  form.addEventListener("click", (event) => {
    const example = event.target.closest("[data-prompt]");
    if (!example || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    prompt.value = example.dataset.prompt;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
    prompt.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Escape") {
      halt("Stopped.");
    }
  });
})();

// Copy buttons: data-copy names the element whose text goes to the clipboard. Away from
// https and localhost browsers withhold the clipboard; then the text is selected instead.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    getSelection().selectAllChildren(source);
    done = "Selected: now copy";
  }
  button.textContent = done;
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
