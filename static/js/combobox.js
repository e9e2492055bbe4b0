/* hardmine.combobox(box): a menu of classes becomes a box to type in, recently used
 * classes first. `box` holds a <select>, or an <input type="hidden"> whose classes are
 * the page's JSON "classes" ([id, name] each) but the one in `data-except`.
 * Enter chooses and sends "chosen" from the box, with the id and the name. */
(() => {
  const SHOWN = 100;
  const RECENT = 5;
  const element = document.getElementById("classes");
  const classes = element ? JSON.parse(element.textContent).map(([id, name]) => ({ id: String(id), name })) : [];
  const store = `hardmine.recent.${window.location.pathname.split("/")[2]}`;
  let made = 0;

  const recent = () => {
    try {
      return JSON.parse(window.localStorage.getItem(store)) ?? [];
    } catch {
      return []; // storage is switched off
    }
  };
  const remember = (id) => {
    try {
      const ids = [id, ...recent().filter((other) => other !== id)].slice(0, RECENT);
      window.localStorage.setItem(store, JSON.stringify(ids));
    } catch {
      // Only a convenience.
    }
  };

  const matching = (choices, text) => {
    const used = recent();
    if (!text) {
      const first = used.map((id) => choices.find((c) => c.id === id)).filter(Boolean);
      return [...first, ...choices.filter((c) => !first.includes(c))];
    }
    const starts = choices.filter((c) => c.name.toLowerCase().startsWith(text));
    const holds = choices.filter((c) => !starts.includes(c) && c.name.toLowerCase().includes(text));
    const rank = (c) => (used.includes(c.id) ? used.indexOf(c.id) : RECENT);
    return [...starts.sort((a, b) => rank(a) - rank(b)), ...holds];
  };

  const combobox = (box) => {
    const field = box.querySelector("select, input[type=hidden]");
    const choices = field.options
      ? [...field.options].map((o) => ({ id: o.value, name: o.text }))
      : classes.filter((c) => c.id !== box.dataset.except);
    const input = document.createElement("input");
    const list = document.createElement("ul");
    const nameOf = (id) => choices.find((c) => c.id === id)?.name ?? "";
    let shown = [];
    let at = -1;

    made += 1;
    const label = box.closest("form")?.querySelector(`label[for="${field.id}"]`);
    input.id = `${field.id}-text`;
    list.id = `combobox-${made}`;
    list.className = "combobox__list";
    list.hidden = true;
    list.setAttribute("role", "listbox");
    if (label) {
      label.htmlFor = input.id;
      label.id ||= `${list.id}-label`;
      list.setAttribute("aria-labelledby", label.id);
    }
    input.type = "text";
    input.autocomplete = "off";
    input.spellcheck = false;
    input.value = nameOf(field.value);
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
    })) input.setAttribute(name, value);
    field.hidden = true;
    box.append(input, list);

    const close = () => {
      list.hidden = true;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };
    const mark = (index) => {
      at = index;
      [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
      const item = list.children[at];
      if (item && shown.length) input.setAttribute("aria-activedescendant", item.id);
      item?.scrollIntoView({ block: "nearest" });
    };
    const choose = (choice) => {
      field.value = choice.id;
      input.value = choice.name;
      close();
    };
    const itemOf = (choice, i) => {
      const item = document.createElement("li");
      item.id = `${list.id}-${i}`;
      item.setAttribute("role", "option");
      item.textContent = choice.name;
      item.addEventListener("mousedown", (event) => {
        event.preventDefault(); // the box keeps the focus
        choose(choice);
      });
      return item;
    };
    const open = () => {
      const text = input.value.trim().toLowerCase();
      const wanted = text === nameOf(field.value).toLowerCase() ? "" : text; // untouched: all
      shown = matching(choices, wanted).slice(0, SHOWN);
      list.replaceChildren(...shown.map(itemOf));
      if (!shown.length) {
        const none = document.createElement("li");
        none.className = "muted";
        none.textContent = "No such class";
        list.append(none);
      }
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      const chosen = shown.findIndex((c) => c.id === field.value);
      mark(shown.length ? Math.max(0, wanted ? 0 : chosen) : -1);
    };

    input.addEventListener("focus", open);
    input.addEventListener("input", open);
    input.addEventListener("blur", () => {
      input.value = nameOf(field.value);
      close();
    });
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) open();
        else if (shown.length) mark((at + (event.key === "ArrowDown" ? 1 : -1) + shown.length) % shown.length);
      } else if (event.key === "Enter") {
        event.preventDefault();
        if (event.repeat || (!list.hidden && !shown[at])) return;
        if (!list.hidden) choose(shown[at]);
        box.dispatchEvent(new CustomEvent("chosen", { bubbles: true, detail: { id: field.value, name: input.value } }));
      }
    });
    return input;
  };

  window.hardmine = { ...window.hardmine, combobox, rememberClass: remember };
})();
