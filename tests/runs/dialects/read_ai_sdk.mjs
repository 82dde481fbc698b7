// Reads streams as `useChat` does, by the SDK's own Chat and transport, in each version: stdin has a JSON array of
// addresses; stdout gets, for each version, what the chat holds after each. Its resume is a GET below the address.
import { text } from "node:stream/consumers";
import * as ai5 from "ai5";
import * as ai6 from "ai6";
import * as ai7 from "ai7";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => void this.messages.push(message);
  popMessage = () => void this.messages.pop();
  replaceMessage = (index, message) => void (this.messages[index] = message);
  snapshot = (value) => structuredClone(value);
}

async function read(sdk, url) {
  const data = [];
  const calls = [];
  let finished = null;
  class Chat extends sdk.AbstractChat {}
  const chat = new Chat({
    id: "chat",
    state: new State(),
    transport: new sdk.DefaultChatTransport({ api: url }),
    onData: (part) => data.push(part),
    onToolCall: ({ toolCall }) => calls.push(toolCall.toolCallId),
    onFinish: (event) => (finished = event),
  });
  await chat.resumeStream();
  const message = chat.lastMessage ?? null;
  return { message, calls, status: chat.status, error: chat.error?.message ?? null, failed: finished?.isError ?? null };
}

const urls = JSON.parse(await text(process.stdin));
const found = {};
for (const [name, sdk] of Object.entries({ ai5, ai6, ai7 })) {
  found[name] = [];
  for (let i = 0; i < urls.length; i += 8) {
    found[name].push(...(await Promise.all(urls.slice(i, i + 8).map((url) => read(sdk, url)))));
  }
}
process.stdout.write(JSON.stringify(found));
