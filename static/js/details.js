// Links the strip and the text: hovering, focusing or selecting one highlights the other. A
// chip opens a card that describes the token and, for a generated one, lists the candidates.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("form"), prompt = $("prompt"), mirror = $("mirror");
  const text = $("text"), strip = $("strip"), card = $("card");

  // HTML cannot hold a NUL, so a text with one is also in data-value, as JSON.
  for (const area of document.querySelectorAll("textarea[data-value]")) area.defaultValue = JSON.parse(area.dataset.value);
  if (!form) return;

  // The server counts characters as Unicode does; strings here count UTF-16 units.
  const units = (string, characters) => Array.from(string).slice(0, characters).join("").length;
  const characters = (string, unit) => Array.from(string.slice(0, unit)).length;
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // --- lighting up -------------------------------------------------------------------
  const toggle = (element, lit) => element.classList.toggle("lit", lit);
  const lightResult = (first, last) => {
    for (const chip of strip.querySelectorAll("[data-index]")) {
      toggle(chip, chip.dataset.index >= first && chip.dataset.index <= last);
    }
    for (const span of text.querySelectorAll("[data-first]")) {
      toggle(span, span.dataset.first <= last && span.dataset.last >= first);
    }
  };
  const lightPromptChips = (start, end) => {
    for (const chip of document.querySelectorAll("#prompt-strip [data-index]")) {
      toggle(chip, chip.dataset.start < end && chip.dataset.end > start);
    }
  };
  const lightPrompt = (start, end) => {
    lightPromptChips(start, end);
    const value = prompt.value, from = units(value, start), to = units(value, end);
    mirror.replaceChildren(value.slice(0, from), make("mark", { textContent: value.slice(from, to) }), value.slice(to), "\n");
    mirror.scrollTop = prompt.scrollTop;
  };
  const dark = () => {
    lightResult(1, 0);
    lightPromptChips(0, 0);
    mirror.replaceChildren();
  };
  const lightChip = (chip) => {
    dark();
    if (strip.contains(chip)) {
      const index = Number(chip.dataset.index);
      lightResult(index, index);
      // Bytes that make no character appear as text before the last token of their group.
      const first = Number((chip.closest(".group") ?? chip.parentElement).querySelector(".chip").dataset.index);
      for (const span of text.querySelectorAll("[data-first]")) {
        toggle(span, Number(span.dataset.first) <= index && Number(span.dataset.last) >= first);
      }
    } else {
      lightPrompt(Number(chip.dataset.start), Number(chip.dataset.end));
    }
  };
  const hovers = matchMedia("(hover: hover)");
  const chipAt = (node) => node.closest?.(".strip .chip");
  // While nothing else is hovered, the selection stays highlighted.
  const lightSelection = () => {
    dark();
    if (document.activeElement === prompt) {
      const { value, selectionStart, selectionEnd } = prompt;
      if (selectionStart !== selectionEnd) lightPromptChips(characters(value, selectionStart), characters(value, selectionEnd));
      return;
    }
    const selection = getSelection();
    if (selection.isCollapsed || !selection.containsNode(text, true)) return;
    const spans = [...text.querySelectorAll("[data-first]")].filter((span) => selection.containsNode(span, true));
    if (spans.length) lightResult(Number(spans[0].dataset.first), Number(spans.at(-1).dataset.last));
  };

  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target), span = target.closest?.("#text [data-first]");
    if (chip) {
      lightChip(chip);
      if (hovers.matches) showCard(chip); // a finger opens it by tapping
    } else if (!card.contains(target)) {
      lightSelection();
      if (span && getSelection().isCollapsed) lightResult(Number(span.dataset.first), Number(span.dataset.last));
      if (!pinned) hideCard();
    }
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (chip) {
      rove(chip);
      lightChip(chip);
      showCard(chip);
    } else if (!pinned && !card.contains(target)) {
      dark();
      hideCard();
    }
  });
  document.addEventListener("selectionchange", () => {
    if (!owner || document.activeElement === prompt) lightSelection();
  });
  prompt.addEventListener("input", () => {
    dark();
    hideCard();
  });
  prompt.addEventListener("scroll", () => { mirror.scrollTop = prompt.scrollTop; });

  // --- the card ----------------------------------------------------------------------
  let owner = null; // the chip whose card is shown
  let pinned = false; // opened on purpose: stays until closed

  const hideCard = () => {
    const back = card.contains(document.activeElement) ? owner : null;
    owner?.removeAttribute("aria-describedby");
    back?.focus(); // while still pinned, so that it is not shown again
    card.hidden = true;
    owner = null;
    pinned = false;
  };
  const showCard = (chip, pin = false, focus = pin) => {
    if (pinned && !pin) return;
    owner?.removeAttribute("aria-describedby");
    owner = chip;
    pinned = pin;
    card.replaceChildren(...describe(chip, pin));
    card.classList.toggle("pinned", pin);
    card.setAttribute("role", pin ? "dialog" : "tooltip");
    if (!pin) chip.setAttribute("aria-describedby", "card");
    chip.removeAttribute("title"); // the card says more
    card.hidden = false;
    const at = chip.getBoundingClientRect(), room = document.documentElement.clientWidth;
    const below = at.bottom + 6 + card.offsetHeight < innerHeight;
    card.style.left = `${Math.max(8, Math.min(at.left, room - card.offsetWidth - 8))}px`;
    card.style.top = `${Math.max(8, below ? at.bottom + 6 : at.top - 6 - card.offsetHeight)}px`;
    if (focus) (card.querySelector("a, button") ?? card).focus();
  };

  const describe = (chip, pin) => {
    const { bytes, start, end, rank, id, candidates } = chip.dataset;
    const data = Uint8Array.from(bytes.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const group = chip.closest(".group"), shared = group?.dataset.text;
    const inside = (element, name) => element.querySelector(name).textContent; // as the strip makes it visible
    let own = null;
    try {
      own = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
    } catch { /* only part of a character */ }
    const shown = own ?? shared ?? "";
    const codePoints = Array.from(shown, (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
    const facts = {
      Text: own !== null ? `“${inside(chip, ".readable")}”` : shared ? `part of “${inside(group, ".shared")}”` : "not a whole character",
      Bytes: bytes.replace(/../g, "$& ").trim(),
      "Code points": codePoints.slice(0, 8).join(" ") + (codePoints.length > 8 ? " …" : ""),
      Characters: end - start > 1 ? `${start} to ${end - 1}` : end > start ? start : "none: it ends the text",
      "Made by": rank !== undefined ? `merge rank ${Number(rank).toLocaleString("en")} of ${Number(card.dataset.merges).toLocaleString("en")}` : data.length === 1 ? "no merge: a single byte" : "no merge: a special token",
      Id: Number(id).toLocaleString("en"),
    };
    const list = make("dl", {});
    for (const [name, value] of Object.entries(facts)) {
      if (value !== "") list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
    }
    const parts = [
      make("p", { className: "card-title" }, make("span", { className: "piece", textContent: inside(chip, ".piece") })),
      list,
    ];
    if (!pin) return [...parts, make("p", { className: "hint", textContent: candidates ? "Click to see what else it might have been." : "Click for more." })];
    if (shown) parts.push(make("p", {}, make("a", { href: `/bpe?${new URLSearchParams({ text: shown })}`, textContent: "How BPE got there" })));
    if (candidates) parts.push(...alternatives(chip, JSON.parse(candidates)));
    if (chip.classList.contains("generated")) {
      const keep = make("button", { type: "button", textContent: "Cut the text after this token" });
      keep.addEventListener("click", () => cutAfter(chip));
      parts.push(keep);
    }
    return parts;
  };

  // --- what else it might have been --------------------------------------------------
  // Numbers are shown as the server spelled them: {id, piece, probability, percent, level}.
  const alternatives = (chip, candidates) => {
    const rows = candidates.map(({ id, piece, probability, percent }) => {
      const meter = make("meter", { min: 0, max: 1, value: probability });
      meter.setAttribute("aria-label", percent);
      const button = make("button", { type: "button", className: "candidate", title: "Go on from here with this token" },
        make("span", { className: "piece", textContent: piece }));
      button.addEventListener("click", () => goOn([...madeIds(chip.dataset.index), id]));
      const chosen = String(id) === chip.dataset.id ? " chosen" : "";
      return make("li", { className: chosen }, button, meter, make("span", { textContent: percent + chosen }));
    });
    return [
      make("p", { className: "card-head", textContent: "The model’s ten likeliest here; choose one to branch off" }),
      make("ol", { className: "alternatives" }, ...rows),
    ];
  };
  const madeChips = () => [...strip.querySelectorAll(".generated")];
  const madeIds = (before = Infinity) => madeChips().filter((c) => Number(c.dataset.index) < before).map((c) => c.dataset.id);

  // A button that submits the form with these tokens kept, as the server's own do.
  const keepButton = (ids, label) => {
    const button = make("button", { name: "kept", value: ids.join(","), textContent: label });
    button.setAttribute("form", "form");
    return button;
  };
  // What can follow a text that was stopped or cut back.
  const offer = (...buttons) => $("after").replaceChildren(make("div", { className: "actions" }, ...buttons));
  form.addEventListener("glyph:stopped", () => {
    const made = madeIds(), again = keepButton(madeAfter, "Regenerate");
    again.setAttribute("formaction", `${form.getAttribute("action")}?regenerate=1`);
    offer(...(made.length ? [keepButton(made, "Continue")] : []), again);
  });
  const goOn = (ids) => {
    const button = keepButton(ids, "Continue");
    $("after").append(button);
    form.requestSubmit(button);
    button.remove();
    text.focus({ preventScroll: true }); // the card that had the focus is gone
  };
  const cutAfter = (chip) => {
    const last = Number(chip.dataset.index);
    hideCard();
    form.dispatchEvent(new Event("glyph:halt"));
    for (const item of strip.querySelectorAll("li")) {
      const chips = [...item.querySelectorAll(".chip")];
      const left = chips.filter((c) => !c.matches(".generated") || Number(c.dataset.index) <= last);
      // The tokens left of a bracket no longer make its character, so they stand alone.
      if (left.length < chips.length) item.replaceWith(...left.map((one) => make("li", {}, one)));
    }
    for (const span of text.querySelectorAll(".made")) if (Number(span.dataset.last) > last) span.remove();
    offer(keepButton(madeIds(), "Continue from here"));
    $("status").textContent = `Cut back to ${madeIds().length} generated tokens.`;
    $("progress").replaceChildren();
    $("candidates").replaceChildren();
    chip.focus();
  };

  // Kept tokens belong to the prompt from which they were generated: restore it.
  let sent = null, madeFrom = $("prompt-text").firstElementChild && prompt.defaultValue, madeAfter = [];
  form.addEventListener("submit", ({ submitter }) => {
    const kept = submitter?.name === "kept" ? submitter.value : "";
    if (kept && submitter.closest("#after") && madeFrom && prompt.value !== madeFrom) {
      prompt.value = madeFrom;
      prompt.dispatchEvent(new Event("input", { bubbles: true }));
    }
    const after = submitter?.name === "kept" ? kept : form.querySelector('input[name="kept"]')?.value;
    sent = [prompt.value, after ? after.split(",") : []];
  }, true);
  form.addEventListener("htmx:before:sse:connection", () => { [madeFrom, madeAfter] = sent; }); // it was accepted

  // A stream draws kept chips again without their candidates. Those are still on the page, and
  // valid as long as all tokens before are the same: carry them over.
  let remembered = [];
  form.addEventListener("htmx:before:request", ({ target }) => {
    if (target !== form) return;
    hideCard();
    remembered = [...strip.querySelectorAll(".chip")];
  });
  form.addEventListener("htmx:after:swap", ({ detail }) => {
    const { sourceElement, response } = detail.ctx;
    if (sourceElement !== form || response.status === 204) return; // 204: one that was given up
    if (owner && !owner.isConnected) redrawn();
    const now = remembered.length ? [...strip.querySelectorAll(".chip")] : [];
    for (const [at, chip] of now.entries()) {
      const before = remembered[at];
      if (!before || (at > 0 && now[at - 1].dataset.id !== remembered[at - 1].dataset.id)) break;
      if (!before.dataset.candidates || !chip.matches(".generated:not([data-candidates])")) continue;
      chip.dataset.candidates = before.dataset.candidates;
      const same = chip.dataset.id === before.dataset.id;
      const mine = JSON.parse(before.dataset.candidates).find(({ id }) => String(id) === chip.dataset.id);
      const share = same ? before.querySelector(".probability")?.textContent : mine?.percent;
      if (!share) continue;
      chip.classList.add(same ? before.className.match(/\bp\d+\b/)[0] : `p${mine.level}`);
      chip.append(make("span", { className: "probability", textContent: share }));
    }
    remembered = [];
  });
  // Chips of a character that is now complete were replaced by a bracket of new ones.
  const redrawn = () => {
    const chip = strip.querySelector(`[data-index="${owner.dataset.index}"]`);
    if (!chip) return hideCard();
    const focused = document.activeElement === document.body && owner.tabIndex === 0;
    if (owner.tabIndex === 0) rove(chip);
    if (focused) chip.focus({ preventScroll: true });
    else showCard(chip, pinned, false);
  };

  // --- clicking and the keyboard -----------------------------------------------------
  document.addEventListener("click", (event) => {
    const chip = chipAt(event.target);
    if (!chip) {
      if (pinned && !card.contains(event.target)) hideCard();
      return;
    }
    rove(chip);
    const mouse = event.pointerType === "mouse";
    if (!strip.contains(chip)) {
      const { value } = prompt;
      prompt.setSelectionRange(units(value, chip.dataset.start), units(value, chip.dataset.end));
      if (mouse) {
        prompt.focus({ preventScroll: true });
        return showCard(chip, true, false);
      }
    }
    showCard(chip, true);
  });
  const rove = (chip) => {
    for (const other of chip.closest(".strip").querySelectorAll('.chip[tabindex="0"]')) other.tabIndex = -1;
    chip.tabIndex = 0;
  };
  const inRow = (chips, at, step) => {
    const top = (c) => c.closest("li").getBoundingClientRect().top; // one for all of a row
    const left = (c) => c.getBoundingClientRect().left;
    const from = top(chips[at]), away = chips.filter((c) => step * (top(c) - from) > 1);
    if (!away.length) return null;
    const row = top(step > 0 ? away[0] : away.at(-1));
    const distance = (c) => Math.abs(left(c) - left(chips[at]));
    return away.filter((c) => Math.abs(top(c) - row) <= 1).sort((a, b) => distance(a) - distance(b))[0];
  };
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape" && !card.hidden) {
      event.stopImmediatePropagation(); // the first Esc closes the card, the next one stops
      return hideCard();
    }
    const chip = chipAt(document.activeElement ?? document.body);
    if (!chip) return;
    const chips = [...chip.closest(".strip").querySelectorAll(".chip")], at = chips.indexOf(chip);
    const next = {
      ArrowRight: () => chips[at + 1],
      ArrowLeft: () => chips[at - 1],
      ArrowDown: () => inRow(chips, at, 1),
      ArrowUp: () => inRow(chips, at, -1),
      Home: () => chips[0],
      End: () => chips.at(-1),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (target) {
      rove(target);
      target.focus();
    }
  }, true);

  // --- how chips are shown -----------------------------------------------------------
  const show = (view) => { document.documentElement.dataset.view = view; };
  const remember = (work) => {
    try {
      return work();
    } catch { /* the reader forbids pages to remember anything */ }
  };
  const saved = remember(() => localStorage.getItem("view"));
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    if (radio.value === saved) radio.checked = true;
    radio.addEventListener("change", () => {
      show(radio.value);
      remember(() => localStorage.setItem("view", radio.value));
    });
  }
  show(saved ?? "piece");
})();
