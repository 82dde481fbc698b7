// npm's better-sse as somebody would use it: three events a connection from the client's last id on, 204 after six.
import { createServer } from "node:http";
import { createSession } from "better-sse";

const server = createServer(async (request, response) => {
  if (Number(request.headers["last-event-id"] ?? 0) >= 6) {
    response.writeHead(204).end();
    return;
  }
  const session = await createSession(request, response);
  const start = Number(session.lastId || 0);
  for (let id = start + 1; id <= start + 3; id++) {
    session.push({ text: `žluť\n${id}` }, id % 2 ? "message" : "even", String(id));
  }
  setTimeout(() => response.end(), 20); // it writes in turns of its own
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
