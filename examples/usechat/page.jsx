// A chat with `useChat`: text, thoughts, tools, approvals, and answers that survive a reload.
import { useChat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

// The chat's id is in the address, so that a reload finds it again.
if (!location.hash) location.replace(`#${crypto.randomUUID()}`);
const id = location.hash.slice(1);
const asked = await (await fetch(`/api/chat/${id}/history`)).json();
// Of the past, the newest question: its answer comes with the resume.
const messages = asked
  .slice(-1)
  .map(({ id, text }) => ({ id, role: "user", parts: [{ type: "text", text }] }));

function Chat() {
  const [text, setText] = useState("");
  const chat = useChat({
    id,
    messages,
    resume: messages.length > 0,
    transport: new DefaultChatTransport({ api: "/api/chat" }),
    sendAutomaticallyWhen: done =>
      lastAssistantMessageIsCompleteWithApprovalResponses(done) ||
      lastAssistantMessageIsCompleteWithToolCalls(done),
  });
  const busy = chat.status === "submitted" || chat.status === "streaming";
  const ask = event => {
    event.preventDefault();
    chat.sendMessage({ text });
    setText("");
  };
  const stop = () => fetch(`/api/chat/${id}/stop`, { method: "POST" });
  return (
    <main>
      <div id="messages" aria-live="polite">
        {chat.messages.map(message => (
          <section key={message.id} className={message.role}>
            {message.parts.map((part, at) => (
              <Part key={at} part={part} chat={chat} />
            ))}
          </section>
        ))}
      </div>
      <form onSubmit={ask}>
        <input id="question" value={text} onChange={event => setText(event.target.value)} required />
        <button id="ask" disabled={busy}>Ask</button>
        <button id="stop" type="button" onClick={stop} disabled={!busy}>Stop</button>
        <button id="again" type="button" onClick={() => chat.resumeStream()}>Go on</button>
      </form>
      <p id="state" role="status">{chat.error ? `error: ${chat.error.message}` : chat.status}</p>
    </main>
  );
}

function Part({ part, chat }) {
  if (part.type === "text") return <p className="text">{part.text}</p>;
  if (part.type === "reasoning") return <p className="reasoning"><i>{part.text}</i></p>;
  if (part.type !== "dynamic-tool") return null;
  if (part.state === "approval-requested") {
    const answer = approved => chat.addToolApprovalResponse({ id: part.approval.id, approved });
    return (
      <p className="approval">
        {part.input.prompt}{" "}
        <button className="yes" onClick={() => answer(true)}>Yes</button>
        <button className="no" onClick={() => answer(false)}>No</button>
      </p>
    );
  }
  if (part.toolName === "ask_person" && part.state === "input-available") {
    const answer = event => {
      event.preventDefault();
      const output = event.target.elements.answer.value;
      chat.addToolOutput({ tool: part.toolName, toolCallId: part.toolCallId, output });
    };
    return (
      <form className="asked" onSubmit={answer}>
        {part.input.prompt} <input name="answer" required /> <button>Answer</button>
      </form>
    );
  }
  return <p className="tool">{part.toolName}: {part.state}</p>;
}

createRoot(document.getElementById("chat")).render(<Chat />);
