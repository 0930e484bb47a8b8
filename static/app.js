// The few things of the page that HTML and htmx do not do by themselves: one stream at a
// time, Stop, the keyboard, and following the newest token.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("form");
  if (!form) return;
  const prompt = $("prompt"), stop = $("stop"), text = $("text"), strip = $("strip");
  const stopHere = $("stop-here"); // the same beside the text, where a window is too small for both
  let running = null; // the request that is under way: {ctx, connection once it streams}
  let half = false; // whether the text that is shown was begun and is not finished

  const setRunning = (request) => {
    running = request;
    // The one that goes away takes the focus with it.
    if (!request && document.activeElement === stop) $("generate").focus();
    if (!request && document.activeElement === stopHere) text.focus({ preventScroll: true });
    stop.hidden = stopHere.hidden = !request;
    // Not around the status line: what is busy is not read out.
    for (const box of [text, strip]) box.setAttribute("aria-busy", String(Boolean(request)));
  };
  const halt = () => {
    if (!running) return;
    const { ctx, connection } = running;
    setRunning(null);
    if (connection?.reader) connection.reader.cancel();
    else ctx.request.abort();
  };
  // A text that broke off can go on, whatever the reason.
  const brokeOff = (status) => {
    setRunning(null);
    $("status").textContent = status;
    $("progress").querySelector(".meanwhile")?.remove();
    if (half) form.dispatchEvent(new Event("glyph:stopped"));
  };
  const stopped = () => {
    if (!running) return;
    halt();
    brokeOff("Stopped.");
  };

  // Giving up a request is no error: answer it with "nothing new" instead.
  const quietly = (fetch) => (...request) => fetch(...request).catch((error) => {
    if (error.name !== "AbortError") throw error;
    return new Response(null, { status: 204 });
  });
  // Of several requests for one place the newest counts. htmx knows only the last but one:
  // when a request that it gave up ends, it forgets the one that took its place.
  const newest = new WeakMap(); // target -> request
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    ctx.fetch = quietly(ctx.fetch);
    if (event.target !== form) {
      newest.get(ctx.target)?.abort();
      newest.set(ctx.target, ctx.request);
      return;
    }
    halt(); // a new request replaces the one before
    for (const box of pinned.keys()) pinned.set(box, true);
    setRunning({ ctx });
  });
  // Candidates for a text that is changing are of no use any more.
  form.addEventListener("input", () => newest.get($("next"))?.abort());
  form.addEventListener("htmx:before:sse:connection", (event) => {
    if (!running) return;
    running.connection = event.detail.connection;
    half = true;
    // Chips and buttons are about to be drawn anew.
    if (document.activeElement?.closest("#after, #strip")) text.focus({ preventScroll: true });
    form.addEventListener("htmx:after:sse:message", reveal, { once: true }); // when there is something to see
  });
  form.addEventListener("htmx:sse:close", (event) => {
    if (event.detail.connection !== running?.connection) return; // one that was replaced
    if ($("status").textContent.startsWith("Done")) {
      half = false;
      setRunning(null);
    } else if ($("problem").firstElementChild) {
      brokeOff("");
    } else {
      lost();
    }
  });
  form.addEventListener("htmx:error", (event) => {
    const { ctx } = event.detail;
    if (ctx && ctx === running?.ctx) lost();
    if (ctx?.sourceElement === prompt && ctx.request === newest.get(ctx.target)) {
      notCut("problem", "The prompt was not cut: the server cannot be reached.");
    }
  });
  const lost = () => {
    brokeOff("");
    $("problem").replaceChildren(note("problem", "The connection to the server was lost. Check that it is running, then try again."));
  };
  form.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail;
    if (ctx.sourceElement === prompt) {
      markInvalid(false); // too long even to be cut
      if (ctx.response.status === 422) notCut("hint", "The prompt was not cut.");
    }
    if (ctx.sourceElement !== form) return;
    if (ctx.response.status >= 400) brokeOff("");
    if (ctx.response.status === 422 || form.querySelector("[aria-invalid]")) {
      markInvalid(ctx.response.status === 422);
    }
    follow();
  });
  for (const button of [stop, stopHere]) button.addEventListener("click", stopped);
  form.addEventListener("glyph:halt", halt);

  const note = (className, message) => {
    const p = document.createElement("p");
    p.className = className;
    if (className === "problem") p.setAttribute("role", "alert");
    p.textContent = message;
    return p;
  };
  // Chips of an earlier prompt would mislead. Said once, however much is typed meanwhile.
  const notCut = (className, why) => {
    if ($("tokens").textContent !== why) $("tokens").replaceChildren(note(className, why));
  };

  // In a small window the result lies below the form.
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const reveal = () => {
    const { top } = $("result").getBoundingClientRect();
    if (top >= 0 && top < innerHeight / 2) return;
    $("result").scrollIntoView({ behavior: calm.matches ? "instant" : "smooth" });
  };
  new MutationObserver(() => {
    if ($("problem").firstElementChild) reveal();
  }).observe($("problem"), { childList: true });

  // Whoever changes a field is mending it: its message has been read.
  form.addEventListener("input", ({ target }) => {
    $(`error-${target.name}`)?.replaceChildren();
    target.removeAttribute("aria-invalid");
  });
  // Tokens that a link keeps belong to its prompt.
  prompt.addEventListener("input", () => {
    if (prompt.value !== prompt.defaultValue) $("kept").replaceChildren();
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
    if (event.isComposing) return; // the key is for the input method
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Escape") {
      stopped();
    }
  });
})();

// "Try again" gives way to what it leads to, and the focus goes there; htmx then keeps it.
document.addEventListener("submit", ({ target }) => target.closest("#model")?.focus());

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
