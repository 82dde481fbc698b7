/** What went wrong, for programs. Each says whether more attempts follow where it is reported: see `onError`. */
export type ErrorCode =
  /** No connection, or it broke. */
  | "network"
  /** No answer, or silence on an open stream, for too long. */
  | "timeout"
  /** An answer with a status that is no stream's. */
  | "status"
  /** An answer that is no event stream. */
  | "content-type"
  /** The stream of a POST broke, and it has no id and no address to go on from. */
  | "not-resumable"
  /** Too many attempts in a row that brought nothing. */
  | "attempts"
  /** An event's data is not what `json: true` promises. */
  | "payload"
  /** An event is larger than a client takes. */
  | "too-large";

/** Every error of a connection. */
export class SourceError extends Error {
  override readonly name = "SourceError";
  readonly code: ErrorCode;
  /** The status of the answer; 0 if there was none. */
  readonly status: number;
  readonly headers: Headers | null;
  /** The start of the answer's body. */
  readonly body: string;

  constructor(code: ErrorCode, message: string, answer?: { status: number; headers: Headers | null } | null, body = "", cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.status = answer?.status ?? 0;
    this.headers = answer?.headers ?? null;
    this.body = body;
  }
}
