"use strict";
// Shows what the built-in receiver was told, as it arrives.

(async () => {
  const list = document.getElementById("deliveries");
  let after = 0;
  for (;;) {
    try {
      const answer = await fetch("/demo/receiver/deliveries?wait=20s&after=" + after);
      if (answer.status === 404) {
        list.textContent = "There is no built-in receiver: this installation has downstreams of its own.";
        return;
      }
      if (!answer.ok) throw new Error("status " + answer.status);
      const { items, next } = await answer.json();
      for (const item of items) list.prepend(row(item));
      after = next;
    } catch {
      await new Promise((wait) => setTimeout(wait, 1000)); // the server restarts: ask again
      after = 0;
      list.replaceChildren();
    }
  }

  function row(item) {
    const line = document.createElement("li");
    line.dataset.purpose = item.change.purpose;
    line.dataset.type = item.change.type;
    line.dataset.subject = item.change.subject;
    line.dataset.signature = item.signature_valid ? "valid" : "invalid";
    const what = document.createElement("strong");
    what.textContent = item.change.type + " " + item.change.purpose;
    const who = document.createElement("div");
    who.textContent = item.change.subject + ", version " + item.change.version + (item.outdated ? " (older than one it has: ignored)" : "");
    const signature = document.createElement("div");
    signature.className = item.signature_valid ? "valid" : "invalid";
    signature.textContent = (item.signature_valid ? "signature valid" : "signature invalid") + ", received " + item.received_at;
    line.append(what, who, signature);
    return line;
  }
})();
