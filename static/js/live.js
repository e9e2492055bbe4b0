/* What htmx cannot say by itself: the server is gone, "are you sure", and that what is
 * being clicked must not be replaced meanwhile. */
(() => {
  const lost = "The server cannot be reached. What you see may be old; nothing is lost. The page tries again by itself where it shows progress.";

  const showLost = () => {
    const notices = document.getElementById("notices");
    if (!notices || document.getElementById("server-lost")) return;
    const notice = document.createElement("p");
    notice.id = "server-lost";
    notice.className = "notice notice--warning";
    notice.textContent = lost;
    notices.append(notice);
  };

  document.addEventListener("htmx:sendError", showLost);
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.xhr.status) document.getElementById("server-lost")?.remove();
  });
  let pressed = false;
  document.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) {
    // The click comes after the pointer is up.
    document.addEventListener(end, () => setTimeout(() => { pressed = false; }));
  }
  document.addEventListener("htmx:beforeSwap", (event) => {
    const trigger = event.detail.elt.getAttribute("hx-trigger") ?? "";
    if (pressed && trigger.startsWith("every")) event.detail.shouldSwap = false;
  });
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
})();
