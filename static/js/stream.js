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
  let half = false; // whether the shown text is unfinished

  const setRunning = (request) => {
    running = request;
    // A button that is hidden loses the focus: move it first.
    if (!request && document.activeElement === stop) $("generate").focus();
    if (!request && document.activeElement === stopHere) text.focus({ preventScroll: true });
    stop.hidden = stopHere.hidden = !request;
    // Not on an ancestor of the status line: screen readers stay silent about what is busy.
    for (const box of [text, strip]) box.setAttribute("aria-busy", String(Boolean(request)));
  };
  const halt = () => {
    if (!running) return;
    const { ctx, connection } = running;
    setRunning(null);
    if (connection?.reader) connection.reader.cancel();
    else ctx.request.abort();
  };
  // An interrupted text can be continued, whatever the reason.
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

  // An aborted request is no error: answer it with 204, "nothing new".
  const quietly = (fetch) => (...request) => fetch(...request).catch((error) => {
    if (error.name !== "AbortError") throw error;
    return new Response(null, { status: 204 });
  });
  // Only the newest request for a target counts. htmx bug: when an aborted request ends, htmx
  // drops its record of the request that replaced it, so we keep our own.
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
  // A form with hx-post ignores the formaction of the button that submits it.
  form.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    const address = ctx.sourceEvent?.submitter?.getAttribute("formaction");
    if (address) ctx.request.action = address;
  });
  // The candidates belong to a text that is changing.
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
    if ($("status").querySelector("[data-finish-reason]")) {
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
  // Chips of an earlier prompt would mislead. An equal note is not replaced, so that a screen
  // reader reads it once.
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

  // A changed field loses its message.
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

  // Keep the newest token in sight unless the reader scrolled up. A distance from the end does
  // not show that: tokens may have arrived since our last scroll. The direction does.
  const pinned = new Map([[text, true], [strip, true]]);
  for (const box of pinned.keys()) {
    let last = 0;
    box.addEventListener("scroll", () => {
      const at = box.scrollTop, left = box.scrollHeight - at - box.clientHeight;
      if (left < 2 || (left < 24 && at >= last)) pinned.set(box, true);
      else if (at < last) pinned.set(box, false);
      last = at;
    });
    // Before the scroll event, or the next token's scroll would undo the reader's.
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

// The button "Try again" is replaced by the progress: focus its container, which htmx keeps.
document.addEventListener("submit", ({ target }) => target.closest("#model")?.focus());

// Copy buttons: data-copy is the id of the element whose text is copied. Without https or
// localhost there is no clipboard; the text is selected instead.
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
