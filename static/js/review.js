/* One key per decision. Every key presses a real button of the page, so whatever works here
   works without this file too. */
(() => {
  const SMALL = 400; // an image narrower than this is shown with its pixels
  const desk = () => document.getElementById("desk");
  const form = () => document.getElementById("desk-form");
  let busy = false; // a key pressed now would judge an image that nobody has seen

  const key = (event) => {
    if (event.key === "?" || event.key.length > 1 || /^[a-z0-9]$/i.test(event.key)) {
      return event.key.length > 1 ? event.key : event.key.toLowerCase();
    }
    // Not a Latin layout: the place on the keyboard decides.
    return event.code.replace(/^(Key|Digit)/, "").toLowerCase();
  };
  const typing = (element) =>
    element.matches("textarea, select, input:not([type=checkbox])") || element.isContentEditable;

  const press = (name) => {
    const control = desk()?.querySelector(`[data-key="${name}"]`);
    if (!control) return false;
    control.click();
    return true;
  };
  const openKeys = () => document.getElementById("keys").showModal();
  const special = {
    Enter: () => press("c"),
    Backspace: () => press("u"),
    r: () => focusOn(document.querySelector("[data-combobox] input")),
    n: () => focusOn(document.getElementById("note")),
    "?": () => {
      openKeys();
      return true;
    },
  };
  const focusOn = (field) => {
    field?.focus();
    field?.select?.();
    return Boolean(field);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const name = key(event);
    if (typing(event.target)) {
      if (name === "Escape" && desk().contains(event.target)) event.target.blur();
      return;
    }
    if (name === "Enter" && event.target.closest("a, button, input, summary")) return;
    if (event.repeat || busy) return;
    if ((special[name] ?? (() => press(name)))()) event.preventDefault();
  });

  /* --- the class menu becomes a box to type in ---------------------------------- */
  const combobox = (box) => {
    const select = box.querySelector("select");
    const options = [...select.options];
    const input = document.createElement("input");
    const list = document.createElement("ul");
    let shown = [];
    let at = -1;

    const label = box.closest("form").querySelector(`label[for="${select.id}"]`);
    input.id = `${select.id}-text`;
    label.htmlFor = input.id;
    label.id = `${select.id}-label`;
    list.id = `${select.id}-list`;
    list.className = "combobox__list";
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-labelledby", label.id);
    input.type = "text";
    input.autocomplete = "off";
    input.spellcheck = false;
    input.value = select.selectedOptions[0]?.text ?? "";
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
    })) input.setAttribute(name, value);
    select.hidden = true;
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
    const open = () => {
      const text = input.value.trim().toLowerCase();
      const chosen = select.selectedOptions[0]?.text.toLowerCase();
      const wanted = text === chosen ? "" : text; // untouched: every class
      const starts = options.filter((o) => o.text.toLowerCase().startsWith(wanted));
      const holds = options.filter((o) => !starts.includes(o) && o.text.toLowerCase().includes(wanted));
      shown = [...starts, ...holds].slice(0, 100);
      list.replaceChildren(...shown.map((option, i) => {
        const item = document.createElement("li");
        item.id = `${list.id}-${i}`;
        item.setAttribute("role", "option");
        item.textContent = option.text;
        item.addEventListener("mousedown", (event) => {
          event.preventDefault(); // the box keeps the focus
          choose(option);
        });
        return item;
      }));
      if (!shown.length) {
        const none = document.createElement("li");
        none.className = "muted";
        none.textContent = "No such class";
        list.append(none);
      }
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      mark(shown.length ? Math.max(0, wanted ? 0 : shown.indexOf(select.selectedOptions[0])) : -1);
    };
    const choose = (option) => {
      select.value = option.value;
      input.value = option.text;
      close();
    };
    const reset = () => {
      input.value = select.selectedOptions[0]?.text ?? "";
      close();
    };

    input.addEventListener("focus", open);
    input.addEventListener("input", open);
    input.addEventListener("blur", reset);
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) open();
        else if (shown.length) mark((at + (event.key === "ArrowDown" ? 1 : -1) + shown.length) % shown.length);
      } else if (event.key === "Enter") {
        event.preventDefault();
        if (event.repeat || busy || (!list.hidden && !shown[at])) return;
        if (!list.hidden) choose(shown[at]);
        document.getElementById("relabel").click();
      }
    });
  };

  /* --- what follows each new desk ------------------------------------------------- */
  const fitImage = (image) => image.classList.toggle("is-small", image.naturalWidth < SMALL);
  const onImage = (event) => {
    if (!event.target.matches?.(".desk__image")) return;
    if (event.type === "load") fitImage(event.target);
    else event.target.classList.add("is-missing");
  };
  document.addEventListener("load", onImage, true);
  document.addEventListener("error", onImage, true);

  const settle = () => {
    for (const box of document.querySelectorAll("[data-combobox]")) {
      if (!box.querySelector("input")) combobox(box);
    }
    const image = document.querySelector(".desk__image");
    if (image?.complete) {
      if (image.naturalWidth) fitImage(image);
      else image.classList.add("is-missing");
    }
  };

  const say = (text) => {
    document.getElementById("desk-live").textContent = text;
  };

  document.addEventListener("htmx:beforeRequest", () => {
    busy = true;
  });
  document.addEventListener("htmx:afterRequest", () => {
    busy = false;
  });
  document.addEventListener("htmx:sendError", () => {
    say("The server cannot be reached. Your verdict was not recorded. Press the key again.");
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, pathInfo } = event.detail;
    const path = new URL(xhr.responseURL, window.location.href).pathname;
    if (path === new URL(pathInfo.requestPath, window.location.href).pathname) return;
    // Signed out meanwhile: the answer is the sign-in page, not a desk.
    event.detail.shouldSwap = false;
    window.location.reload();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "desk") return;
    settle();
    document.getElementById("notices").replaceChildren();
    document.getElementById("desk-title").focus({ preventScroll: true });
    if (desk().getBoundingClientRect().top < 0) desk().scrollIntoView();
    document.title = document.title.replace(/^[^·]*/, `${desk().dataset.pair} `);
    say(document.getElementById("desk-said").textContent);
  });

  let leavingByForm = false; // these forms say themselves what happens to what is held
  // What is held goes back at once when the desk is left, not after the lease.
  window.addEventListener("pagehide", () => {
    if (leavingByForm) return;
    const release = document.getElementById("desk-release");
    const data = new FormData(release);
    data.append("beacon", "1");
    navigator.sendBeacon(release.action, data);
  });
  document.addEventListener("submit", (event) => {
    leavingByForm = !event.defaultPrevented && event.target.matches("#desk-form, #desk-release");
  });
  window.addEventListener("pageshow", () => {
    leavingByForm = false;
  });

  const keysButton = document.getElementById("keys-open");
  keysButton.hidden = false;
  keysButton.addEventListener("click", openKeys);
  settle();
})();
