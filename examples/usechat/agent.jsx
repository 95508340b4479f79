// A thread of AG-UI's client, without a framework: text, thoughts, tools and interrupts.
import { HttpAgent } from "@ag-ui/client";

if (!location.hash) location.replace(`#${crypto.randomUUID()}`);
const threadId = location.hash.slice(1);
const [form, question, messages, state] =
  ["form", "question", "messages", "state"].map(id => document.getElementById(id));
const agent = new HttpAgent({ url: "/api/agent", threadId });

function show() {
  messages.replaceChildren(
    ...agent.messages.map(message => {
      const line = document.createElement("p");
      const calls = (message.toolCalls ?? []).map(call => call.function.name);
      line.className = message.role;
      line.textContent = [message.content, ...calls].filter(Boolean).join(" ");
      return line;
    }),
  );
}

function button(text, className, onclick) {
  const made = document.createElement("button");
  Object.assign(made, { textContent: text, className, onclick });
  return made;
}

async function run(options) {
  let end = "error";
  state.textContent = "streaming";
  try {
    await agent.runAgent(options, {
      onMessagesChanged: show,
      onRunFinishedEvent: ({ event }) => {
        end = event.outcome?.type === "interrupt" ? "waiting" : "ready";
        for (const asked of event.outcome?.interrupts ?? []) ask(asked);
      },
      onRunErrorEvent: ({ event }) => void (end = `error: ${event.message}`),
    });
  } catch (error) {
    end = `error: ${error.message}`;
  }
  state.textContent = end;
  show();
}

function ask({ id, message, reason }) {
  const line = document.createElement("p");
  line.className = "approval";
  const answer = payload => {
    line.remove();
    run({ resume: [{ interruptId: id, status: "resolved", payload }] });
  };
  line.append(message, " ");
  if (reason === "input_required") {
    line.append(button("Answer", "yes", () => answer({ feedback: prompt(message) ?? "" })));
  } else {
    line.append(button("Yes", "yes", () => answer({ approved: true })));
    line.append(button("No", "no", () => answer({ approved: false })));
  }
  state.before(line);
}

form.onsubmit = event => {
  event.preventDefault();
  agent.addMessage({ id: crypto.randomUUID(), role: "user", content: question.value });
  question.value = "";
  show();
  run();
};

// After a reload: the newest run again, from the backend's own endpoint. The protocol has none.
const again = await fetch(`/api/agent/${threadId}/connect?protocolVersion=1.0`);
if (again.status === 200) {
  agent.fetch = async () => again;
  await run();
  agent.fetch = (url, init) => fetch(url, init);
}
