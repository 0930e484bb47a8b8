// Small helpers over the document. No module state.

export const byId = (id) => document.getElementById(id);

/** A new element with these properties and children. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The one element inside the `<template>` with this id, copied. */
export function clone(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

// The server counts characters as Unicode does; strings here count UTF-16 units.
export function unitsOf(string, characters) {
  return Array.from(string).slice(0, characters).join("").length;
}

export function charactersOf(string, units) {
  return Array.from(string.slice(0, units)).length;
}

/** The chip that `node` lies in, or null. */
export const chipAt = (node) => node?.closest?.(".strip .chip") ?? null;

/** The chips of the text that the model wrote, in order. */
export const generatedChips = () => [...byId("strip").querySelectorAll(".generated")];

/** Ids of the generated tokens before the token `index`: the form's field `kept`. */
export function generatedIds(index = Infinity) {
  return generatedChips()
    .filter((chip) => Number(chip.dataset.index) < index)
    .map((chip) => chip.dataset.id);
}
