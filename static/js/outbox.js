/* hardmine.outbox: what a person has decided and the server has not answered yet.
 *
 * It lies in the browser's storage, one item for each entry, so it survives a reload and
 * the closing of the tab; all tabs of a person share it, one sends at a time, in order.
 * Each entry carries a key: sent twice, it is still one verdict; `n` findings, else one.
 * A page that has <div id="outbox" data-user data-sign-in> shows what waits.
 *
 * Events on document: "outbox:answer" {entry, html}, "outbox:refused" {entry, text}, "outbox:change".
 */
(() => {
  const box = document.getElementById("outbox");
  if (!box) return;
  const WAITING = `hardmine.outbox.${box.dataset.user}.`;
  const REFUSED = `hardmine.refused.${box.dataset.user}.`;
  const TIMEOUT = 20_000; // ms; then it counts as lost and is sent again
  const LONGEST = 30_000; // ms between two attempts
  const MAX_FAILURES = 5; // answers with an error of the server, for one entry
  const SLOW = 2_000; // ms; what waits less is not worth a line
  const tab = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const memory = new Map(); // where storage is switched off
  const outbox = { tab, besides: () => [], state: "" };

  /* --- storage --------------------------------------------------------------------- */
  const storage = (() => {
    try {
      window.localStorage.setItem("hardmine.probe", "1");
      window.localStorage.removeItem("hardmine.probe");
      return window.localStorage;
    } catch {
      return null;
    }
  })();
  const put = (name, entry) => {
    const text = JSON.stringify(entry);
    try {
      if (!storage) throw new Error("no storage");
      storage.setItem(name, text);
    } catch {
      memory.set(name, text);
    }
  };
  const drop = (name) => {
    storage?.removeItem(name);
    memory.delete(name);
  };
  const under = (prefix) => {
    const names = storage ? Object.keys(storage) : [];
    return [...names, ...memory.keys()]
      .filter((name) => name.startsWith(prefix))
      .sort()
      .map((name) => ({ name, ...JSON.parse(memory.get(name) ?? storage.getItem(name) ?? "{}") }))
      .filter((entry) => entry.key);
  };
  let number = 0;
  const nameFor = (prefix, key) => {
    number += 1; // several within one millisecond keep their order
    return `${prefix}${String(Date.now()).padStart(15, "0")}${String(number).padStart(6, "0")}.${key}`;
  };

  outbox.entries = () => under(WAITING);
  outbox.uuid = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  };

  /* --- one at a time, over all tabs -------------------------------------------------- */
  let turn = Promise.resolve(); // Web Locks are there only on https and localhost
  const locked = (work) => {
    if (navigator.locks) return navigator.locks.request(WAITING, work);
    turn = turn.then(work, work);
    return turn;
  };

  const change = () => {
    render();
    document.dispatchEvent(new CustomEvent("outbox:change"));
  };
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`outbox:${name}`, { detail }));

  /* Returns [status, html]: 0 where no answer came, 401 where the session has ended. */
  outbox.post = async (url, fields) => {
    const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? "";
    try {
      const response = await fetch(url, {
        method: "POST",
        body: new URLSearchParams([...fields, ["beside", outbox.besides().join(",")]]),
        // Somebody else may have signed in in another tab: these verdicts are not theirs.
        headers: { "Hardmine-Desk": "1", "Hardmine-User": box.dataset.user, "X-CSRFToken": token },
        signal: AbortSignal.timeout?.(TIMEOUT),
      });
      if (response.redirected && new URL(response.url).pathname === box.dataset.signIn) return [401, ""];
      return [response.status, await response.text()];
    } catch {
      return [0, ""];
    }
  };
  outbox.reason = (html) => {
    const said = new DOMParser().parseFromString(html, "text/html").querySelector("#refusal .message, #refusal");
    return said?.textContent.trim().replace(/\s+/g, " ") || "The server refused it without a reason.";
  };

  const refuse = (entry, text, status) => {
    const { name, ...rest } = entry;
    put(nameFor(REFUSED, entry.key), { ...rest, refused: text, status });
    drop(name);
    tell("refused", { entry, text });
  };

  /* Sends the first entry; true where the next may follow. */
  const sendFirst = async () => {
    const entry = outbox.entries()[0];
    if (!entry) {
      outbox.state = "";
      return false;
    }
    const [status, html] = await outbox.post(entry.url, [...entry.fields, ["key", entry.key]]);
    const failures = (entry.failures ?? 0) + (status >= 500 ? 1 : 0);
    const isLost = status === 0 || status === 408 || status === 429 || (status >= 500 && failures < MAX_FAILURES);
    outbox.state = isLost ? "lost" : "";
    if (status === 401) outbox.state = "signed out";
    else if (isLost && status >= 500) put(entry.name, { ...entry, failures });
    else if (!isLost && status >= 400) {
      refuse(entry, status >= 500 ? "The server failed on it. Nothing was recorded." : outbox.reason(html), status);
      return true;
    } else if (!isLost) {
      drop(entry.name);
      tell("answer", { entry, html });
      return true;
    }
    return false;
  };

  /* --- sending ----------------------------------------------------------------------- */
  let sending = false;
  let again = 0; // ms until the next attempt
  let timer;
  outbox.send = async () => {
    clearTimeout(timer);
    if (sending) return;
    sending = true;
    try {
      while (await locked(sendFirst)) change();
    } finally {
      sending = false;
    }
    if (outbox.state === "lost") {
      again = Math.min(LONGEST, Math.max(1000, again * 2));
      timer = setTimeout(outbox.send, again);
    } else again = 0;
    change();
  };
  outbox.add = (entry) => {
    put(nameFor(WAITING, entry.key), { ...entry, tab, at: Date.now() });
    if (outbox.state === "lost") change(); // no attempt before its time: it would only fail
    else outbox.send();
  };
  /* Takes an entry out before it was sent; false: it is gone already. */
  outbox.takeOut = (key) =>
    locked(async () => {
      const entry = outbox.entries().find((other) => other.key === key);
      if (entry) drop(entry.name);
      return Boolean(entry);
    }).then((was) => {
      change();
      return was;
    });

  /* --- what waits, in words ------------------------------------------------------------ */
  const element = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });
  const notice = (kind, ...children) => {
    const line = element("p", "", { className: `notice notice--${kind} outbox__line` });
    line.append(...children);
    return line;
  };
  const verdicts = (n) => (n === 1 ? "1 verdict waits" : `${n} verdicts wait`);
  const waitingLine = (entries) => {
    const n = entries.reduce((sum, entry) => sum + (entry.n ?? 1), 0);
    if (!n) return [];
    if (outbox.state === "signed out") {
      const back = `${box.dataset.signIn}?next=${encodeURIComponent(window.location.pathname + window.location.search)}`;
      const link = element("a", "Sign in", { href: back, className: "btn btn--small" });
      return [notice("warning", element("span", `You are signed out. ${verdicts(n)} in this browser and will be sent when you have signed in.`), link)];
    }
    if (outbox.state === "lost") {
      const now = element("button", "Try now", { type: "button", className: "btn btn--small" });
      now.addEventListener("click", () => { outbox.send(); });
      return [notice("warning", element("span", `${verdicts(n)} for the network, kept in this browser. ${n === 1 ? "It is sent" : "They are sent in order"} when it is back.`), now)];
    }
    return Date.now() - entries[0].at > SLOW ? [notice("info", element("span", `${verdicts(n)} for the server’s answer.`))] : [];
  };
  const refusedLine = (entry) => {
    const look = element("a", "Look at it", { href: entry.link, className: "btn btn--small" });
    const away = element("button", "Put away", { type: "button", className: "btn btn--small" });
    away.addEventListener("click", () => {
      drop(entry.name);
      change();
    });
    const buttons = element("span", "", { className: "toolbar" });
    buttons.append(look);
    if (entry.status >= 500) {
      const retry = element("button", "Send again", { type: "button", className: "btn btn--small" });
      retry.addEventListener("click", () => {
        drop(entry.name);
        outbox.add({ ...entry, failures: undefined });
      });
      buttons.append(retry);
    }
    buttons.append(away);
    return notice("error", element("span", `Not recorded: ${entry.what}. ${entry.refused}`), buttons);
  };
  let shown = "";
  const render = () => {
    const lines = [...waitingLine(outbox.entries()), ...under(REFUSED).map(refusedLine)];
    const html = lines.map((line) => line.outerHTML).join("");
    if (html === shown) return; // a live region says again what is put in again
    shown = html;
    box.replaceChildren(...lines);
  };

  window.addEventListener("online", () => { outbox.send(); });
  // Who was signed out may have signed in in another tab.
  window.addEventListener("focus", () => {
    if (outbox.state === "signed out") outbox.send();
  });
  window.addEventListener("storage", (event) => {
    if (event.key?.startsWith(WAITING) || event.key?.startsWith(REFUSED)) change();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) outbox.send();
  });
  setInterval(render, SLOW);
  window.hardmine = { ...window.hardmine, outbox };
  render();
  outbox.send();
})();
