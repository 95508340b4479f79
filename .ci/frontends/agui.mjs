// An agent of AG-UI's client without a page, driven by lines of JSON.
//
//     node agui.mjs @ag-ui/client http://127.0.0.1:8000/api/agent thread-1
//
// Each line on stdin is a command; each is answered by a line with what the agent has.
import { createInterface } from "node:readline";

const [, , library, url, threadId] = process.argv;
const { HttpAgent } = await import(library);

// A connection that breaks rejects a promise that the client leaves alone.
process.on("unhandledRejection", () => {});

const agent = new HttpAgent({ url, threadId });
let seen = [];
let failures = [];
let interrupts = [];

const subscriber = {
  onEvent: ({ event }) => void seen.push(event.type),
  onRunErrorEvent: ({ event }) => void failures.push({ message: event.message, code: event.code }),
  onRunFailed: ({ error }) => void failures.push({ failed: error.message }),
  onRunFinishedEvent: ({ event }) => {
    interrupts = event.outcome?.interrupts ?? [];
    outcome = event.outcome?.type;
  },
};
let outcome;
let number = 0;

const run = options => agent.runAgent(options, subscriber).catch(error => error);

const commands = {
  send: async ({ text }) => {
    agent.addMessage({ id: `user-${++number}`, role: "user", content: text });
    await run({});
  },
  resume: ({ answers }) => run({ resume: answers }),
  // What the protocol has no call for: the run again, from the backend's own endpoint.
  connect: async ({ version }) => {
    const again = `${url}/${threadId}/connect${version ? `?protocolVersion=${version}` : ""}`;
    agent.url = again;
    const post = agent.requestInit;
    agent.requestInit = () => ({ method: "GET", headers: { Accept: "text/event-stream" } });
    await run({});
    agent.url = url;
    agent.requestInit = post;
  },
  load: ({ messages }) => void agent.setMessages(messages),
  state: () => {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  if (name !== "state") [seen, failures, interrupts, outcome] = [[], [], [], undefined];
  await commands[name](options);
  const { messages } = agent;
  console.log(JSON.stringify({ messages, seen, failures, interrupts, outcome }));
}
process.exit(0);
