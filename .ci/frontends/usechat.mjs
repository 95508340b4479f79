// A chat of the AI SDK without a page, driven by lines of JSON.
//
//     node usechat.mjs ai http://127.0.0.1:8000/api/chat chat-1
//
// Each line on stdin is a command; each is answered by a line with the chat's state.
import { createInterface } from "node:readline";

const [, , library, api, id] = process.argv;
const {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} = await import(library);

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = message => void (this.messages = [...this.messages, message]);
  popMessage = () => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((old, at) => (at === index ? this.snapshot(message) : old));
  };
  snapshot = thing => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor(state) {
    super({
      id,
      state,
      transport: new DefaultChatTransport({ api }),
      sendAutomaticallyWhen: chat =>
        lastAssistantMessageIsCompleteWithApprovalResponses(chat) ||
        lastAssistantMessageIsCompleteWithToolCalls(chat),
      onFinish: ({ message, isAbort, isDisconnect, isError, finishReason }) =>
        finishes.push({ isAbort, isDisconnect, isError, finishReason }),
    });
  }
}

let finishes = [];
const state = new State();
const chat = new Chat(state);

const idle = async () => {
  do {
    await new Promise(resolve => setTimeout(resolve, 20));
  } while (state.status === "submitted" || state.status === "streaming");
};

const commands = {
  send: ({ text, files }) => chat.sendMessage({ text, files }),
  begin: ({ text }) => void chat.sendMessage({ text }),
  approve: ({ question, approved, reason }) =>
    chat.addToolApprovalResponse({ id: question, approved, reason }),
  answer: ({ question, text }) =>
    chat.addToolOutput({ tool: "ask_person", toolCallId: question, output: text }),
  regenerate: () => chat.regenerate(),
  resume: () => chat.resumeStream(),
  leave: () => chat.stop(),
  load: ({ messages }) => void (state.messages = messages),
  state: () => {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, wait = true, ...options } = JSON.parse(line);
  finishes = name === "state" ? finishes : [];
  await commands[name](options);
  if (wait && name !== "begin") await idle();
  const { status, messages } = state;
  const error = state.error?.message;
  console.log(JSON.stringify({ status, messages, error, finishes }));
}
process.exit(0);
