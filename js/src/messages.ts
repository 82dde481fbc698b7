// What the tabs of a group say to one another; see `shared.ts`.

import { SourceError, type ErrorCode } from "./errors.ts";
import type { Raw } from "./decoder.ts";

/** Raised with each change to what follows: tabs of another version make a group of their own. */
export const VERSION = 1;

export type Term = readonly [number: number, tab: string];
export type Head = { url: string; status: number; headers: [string, string][] };
export type Failure = {
  code: ErrorCode;
  message: string;
  status: number;
  headers: [string, string][] | null;
  body: string;
  cause: Failure | null; // if that is an error of a connection too
};

export type Stream = { ready: boolean; reading: number; past: boolean | null; lives: boolean; channels: string[]; cursor: string };

export type Message =
  | { is: "join"; tab: string; channels: string[]; cursor: string }
  | { is: "leave"; tab: string }
  | { is: "ping" }
  // What the leader's stream has, how far it is, and whether it is open. `ready`: it has asked for that stream. `past`: a
  // reader without a cursor first gets what was before (up to `newswire.live`, if `lives`); null if that is not known yet.
  // `reading`: counts how often it has begun to read at another place.
  | ({ is: "lead"; term: Term; head: Head | null; hidden: boolean } & Stream)
  | { is: "events"; term: Term; events: Raw[]; cursor: string }
  | { is: "lost"; term: Term; failure: Failure | null; wait: number }
  | { is: "closed"; term: Term; failure: Failure | null };

/** How two cursors of one log are ordered; NaN if they can't be compared. */
export function compare(one: string, other: string): number {
  if (one === other) return 0;
  const [first, second] = [one, other].map((id) => /^(\w+-)?(\d+)$/.exec(id));
  return first && second && first[1] === second[1] ? Number(first[2]) - Number(second[2]) : NaN;
}

export function plain(error: Error): Failure {
  const { code = "network", status = 0, headers, body = "", cause } = error as Partial<SourceError>;
  const before = cause instanceof SourceError ? plain(cause) : null;
  return { code, message: error.message, status, headers: headers ? [...headers] : null, body, cause: before };
}

export function failed({ code, message, status, headers, body, cause }: Failure): SourceError {
  return new SourceError(code, message, { status, headers: headers && new Headers(headers) }, body, cause ? failed(cause) : undefined);
}
