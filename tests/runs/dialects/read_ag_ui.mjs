// Reads streams by AG-UI's own agent, with its checks and its reducer: stdin has a JSON array of addresses; stdout gets
// what the agent holds after each.
import { text } from "node:stream/consumers";
import { HttpAgent } from "@ag-ui/client";

const warnings = [];
console.warn = (...said) => warnings.push(said.join(" "));
console.error = () => {}; // the agent prints what it throws

async function read(url) {
  const agent = new HttpAgent({ url, threadId: "thread-1" });
  const found = { custom: [], progress: null, calls: [], finished: null, failed: null, thrown: null };
  warnings.length = 0;
  try {
    const { result } = await agent.runAgent({ runId: "run-7f3a" }, {
      onCustomEvent: ({ event }) => {
        if (event.name === "progress") found.progress = event.value;
        else found.custom.push([event.name, event.value]);
      },
      onToolCallEndEvent: ({ event, toolCallName, toolCallArgs }) =>
        void found.calls.push([event.toolCallId, toolCallName, toolCallArgs]),
      onRunFinishedEvent: ({ event }) => void (found.finished = event),
      onRunErrorEvent: ({ event }) => void (found.failed = event),
    });
    found.result = result ?? null;
  } catch (error) {
    found.thrown = String(error);
  }
  return { ...found, messages: agent.messages, warnings: [...warnings] };
}

const found = [];
for (const url of JSON.parse(await text(process.stdin))) found.push(await read(url));
process.stdout.write(JSON.stringify(found));
