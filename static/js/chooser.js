/* hardmine.choose(title, options): a small dialog in which a digit, a click or a tap takes
 * one of the options ({text, take}); Esc takes none. */
(() => {
  const dialog = document.getElementById("chooser");
  if (!dialog) return;
  let taken = null;

  window.hardmine = {
    ...window.hardmine,
    choose: (title, options) => {
      const heading = Object.assign(document.createElement("h2"), { id: "chooser-title", textContent: title });
      const list = document.createElement("ol");
      list.className = "chooser__list";
      options.forEach(({ text, take }, i) => {
        const button = Object.assign(document.createElement("button"), { type: "button", className: "btn" });
        button.append(text, Object.assign(document.createElement("kbd"), { textContent: i < 9 ? String(i + 1) : "" }));
        button.addEventListener("click", () => {
          taken = take;
          dialog.close();
        });
        const item = document.createElement("li");
        item.append(button);
        list.append(item);
      });
      const none = Object.assign(document.createElement("button"), { type: "button", className: "btn btn--quiet" });
      none.append("Leave it ", Object.assign(document.createElement("kbd"), { textContent: "Esc" }));
      none.addEventListener("click", () => dialog.close());
      dialog.replaceChildren(heading, list, none);
      taken = null;
      dialog.showModal();
    },
  };
  dialog.addEventListener("close", () => {
    const take = taken;
    taken = null;
    take?.();
  });
  dialog.addEventListener("keydown", (event) => {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    dialog.querySelectorAll("li button")[digit - 1]?.click();
  });
})();
