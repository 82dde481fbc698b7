// `newswire`: streams of Server-Sent Events in a browser, from where each reader left off.

export { connect } from "./connect.ts";
export { SourceError, type ErrorCode } from "./errors.ts";
export type * from "./types.ts";
