// The text of an event stream to events: WHATWG HTML 9.2.6.
//
// Not npm's eventsource-parser, which is the oracle of the tests: it forgets an unknown field that is cut by the end of
// a chunk, and the `channel:` of a stream of several channels is one. Linear in any chunking: an unfinished line is
// kept in pieces until its end comes.

import { SourceError } from "./errors.ts";

/** An event as it stands on the wire. */
export interface Raw {
  event: string;
  data: string;
  id: string;
  /** Whether the event brought its id itself. */
  own: boolean;
  channel: string | null;
}

/** What a decoder reports, in the order of the stream. */
export interface DecoderSink {
  event(event: Raw): void;
  /** The last event ID changed, with or without an event. */
  id(id: string): void;
  /** The reconnection time, in milliseconds. */
  retry?(milliseconds: number): void;
  comment?(text: string): void;
}

const MOST = 16 << 20; // characters of one event; a stream without line ends would fill the memory
const END = /\r\n?|\n/g;

/** Returns a function that takes the text of a stream piece by piece. */
export function decoder(sink: DecoderSink, lastId = ""): (text: string) => void {
  let pieces: string[] = []; // of the line that has no end yet
  let open = 0; // characters in them
  let held = 0; // characters in `data`
  let started = false;
  let afterCR = false;
  let id = lastId;
  let event = "";
  let data: string[] = [];
  let channel: string | null = null;
  let own = false;

  function line(text: string): void {
    if (!text) {
      // "Set the last event ID string of the event source to the value of the last event ID buffer": even without data.
      if (id !== lastId) sink.id((lastId = id));
      if (data.length) sink.event({ event: event || "message", data: data.join("\n"), id, own, channel });
      event = "";
      data = [];
      channel = null;
      own = false;
      held = 0;
      return;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + (text[colon + 1] === " " ? 2 : 1));
    if (field === "data") {
      data.push(value);
      held += value.length;
    } else if (field === "event") event = value;
    else if (field === "id" && !value.includes("\0")) [id, own] = [value, true];
    else if (field === "channel") channel = value;
    else if (field === "retry") /^\d+$/.test(value) && sink.retry?.(+value);
    else if (!field) sink.comment?.(value);
  }

  return (text) => {
    // "one leading U+FEFF BYTE ORDER MARK character, if any, is ignored"
    if (!started && text) text = text.slice((started = true) && text[0] === "\uFEFF" ? 1 : 0);
    if (!text) return;
    END.lastIndex = afterCR && text[0] === "\n" ? 1 : 0; // 1: the second half of a CRLF
    afterCR = text.endsWith("\r");
    let from = END.lastIndex;
    for (let end; (end = END.exec(text)); from = END.lastIndex) {
      let whole = text.slice(from, end.index);
      if (open) {
        whole = pieces.join("") + whole;
        pieces = [];
        open = 0;
      }
      line(whole);
      END.lastIndex = end.index + end[0].length; // another stream may have used it meanwhile
    }
    if (from < text.length) {
      pieces.push(text.slice(from));
      open += text.length - from;
    }
    if (open + held > MOST) throw new SourceError("too-large", "an event is larger than 16 MB");
  };
}
