/* The offer under a verdict: the same one for nearly identical images. The answer to a
 * verdict brings it as #alike; its key (action "alike") or its button takes it. */
(() => {
  const say = (form, text, { isDone }) => {
    const line = document.createElement("p");
    line.className = "alike";
    line.setAttribute("role", "status");
    line.textContent = text;
    if (isDone) form.replaceWith(line);
    else form.querySelector(".alike__title").textContent = text;
  };
  const keys = new WeakMap(); // form -> idempotency key: a second try is the same verdict

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.id !== "alike" || event.defaultPrevented) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { outbox } = window.hardmine;
    if (form.dataset.busy || !form.querySelector("[name=finding]:checked")) return;
    form.dataset.busy = "1";
    if (!keys.has(form)) keys.set(form, outbox.uuid());
    const [status, text] = await outbox.post(form.action, [...new FormData(form), ["key", keys.get(form)]]);
    delete form.dataset.busy;
    if (status === 200) {
      say(form, JSON.parse(text).said, { isDone: true });
      document.dispatchEvent(new Event("alike:done")); // what waits ready may be decided now
    } else if (status === 0 || status >= 500) say(form, "The server cannot be reached. Nothing is lost; press it again.", { isDone: false });
    else if (status === 401) say(form, "You are signed out. Sign in in another tab, then press it again.", { isDone: false });
    else say(form, outbox.reason(text), { isDone: true });
  }, true);

  const sayNone = () => {
    const { outbox, toast } = window.hardmine;
    const text = outbox.entries().length ? "The server has not answered yet." : "Nothing nearly identical waits.";
    document.getElementById("desk-live").textContent = text;
    toast(text, { kind: "info" });
  };
  document.addEventListener("keydown", (event) => {
    const form = document.getElementById("alike");
    const { actionOf, isOurs } = window.hardmine.keys;
    if (!isOurs(event) || actionOf(event) !== "alike") return;
    event.preventDefault();
    if (form?.tagName === "FORM") form.requestSubmit();
    else sayNone();
  });
})();
