// What the scripts know besides what the document shows, and the events they exchange.
//
// Events, all dispatched on the form:
//   glyph:interrupted   a text ended before it was done (Stop, an error, a lost connection);
//                       its chips stay and can be continued
//
// Events of htmx that modules listen to: htmx:before:request, htmx:after:swap, htmx:error,
// htmx:before:sse:connection (a stream begins), htmx:sse:close (it ended).

export const state = {
  /** The generation request in flight: `{ ctx, connection }`, connection once it streams. */
  running: null,
  /** Whether the text that is shown was begun and has not ended. */
  unfinished: false,
  /** Prompt and kept ids of the generation request that was sent last. */
  sent: null,
  /** Prompt and kept ids that the text that is shown was generated from. */
  source: null,
  /** The chip whose card is shown. */
  owner: null,
  /** Whether the card was opened on purpose: it stays until it is closed. */
  pinned: false,
};

export const INTERRUPTED = "glyph:interrupted";
