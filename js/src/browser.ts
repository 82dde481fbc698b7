// What `/newswire.js` has: all but the React hooks, in one file for pages without a build.
export * from "./index.ts";
