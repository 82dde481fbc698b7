// `newswire`: streams of Server-Sent Events in a browser, from where each reader left off.

export { connect } from "./connect.ts";
export { SourceError, type ErrorCode } from "./errors.ts";
export { EventSource, type EventSourceOptions } from "./eventsource.ts";
export { resumeRun, streamChat, streamRun, type Run, type RunOptions } from "./run.ts";
export type * from "./types.ts";
