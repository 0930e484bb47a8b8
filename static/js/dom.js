// Small helpers over the document. No module state.

export const byId = (id) => document.getElementById(id);

/** A new element with these properties and children. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The element inside the `<template>` with this id, copied. */
export const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** A paragraph that is announced if it is a problem. */
export function note(className, message) {
  const paragraph = make("p", { className, textContent: message });
  if (className === "problem") paragraph.setAttribute("role", "alert");
  return paragraph;
}

/** Tell a screen reader. */
export function say(message) {
  byId("said").textContent = message;
}

/** What `access` returns, or null where pages may not store anything. */
export function stored(access) {
  try {
    return access();
  } catch {
    return null;
  }
}

// The server counts characters as Unicode does; strings here count UTF-16 units.
export function unitsOf(string, characters) {
  return Array.from(string).slice(0, characters).join("").length;
}

export function charactersOf(string, units) {
  return Array.from(string.slice(0, units)).length;
}

/** The chip that `node` lies in or whose text it shows, or null. */
export function chipAt(node) {
  const chip = node?.closest?.(".strip .chip");
  if (chip) return chip;
  const span = node?.closest?.(".running [data-first], #text [data-first]");
  if (!span) return null;
  const strip = byId(span.closest("#text") ? "strip" : "prompt-strip");
  return strip?.querySelector(`[data-index="${span.dataset.first}"]`) ?? null;
}

/** Ids of the generated tokens before the token `index`: the form's field `kept`. */
export function generatedIds(index = Infinity) {
  return [...byId("strip").querySelectorAll(".generated")]
    .filter((chip) => Number(chip.dataset.index) < index)
    .map((chip) => chip.dataset.id);
}

export const pace = () => byId("form").elements.pace.value;
