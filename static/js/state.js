// What the scripts know besides what the document shows, and the events they exchange.
//
// Events of htmx that modules listen to, on the form or the document: htmx:before:request,
// htmx:config:request, htmx:after:swap, htmx:error, htmx:before:sse:connection (a stream
// begins) and htmx:sse:close (it ended).

export const state = {
  /** The request of the form in flight: `{ ctx, connection }`, connection once it streams. */
  running: null,
  /** Whether the text that is shown was begun and has not ended. */
  unfinished: false,
  /** `{ prompt, kept, isOfLink }` of the request of the form that was sent last: kept is an array
      of ids, isOfLink true if the page's link asks for it. */
  sent: null,
  /** The same of the text that is shown; null if there is none. */
  source: null,
  /** Snapshots of earlier texts, the newest last; see text.js. */
  history: [],
  /** The chip whose details are shown. */
  owner: null,
};

/** On the form: the text that is shown is another one, or ended. */
export const CHANGED = "glyph:changed";
/** On the form: give up the request in flight. */
export const ABORT = "glyph:abort";
/** Send one of the two to the form. */
export const emit = (type) => document.getElementById("form").dispatchEvent(new Event(type));
/** On the prompt: tokenize it again. */
export const RETRY = "glyph:retry";
