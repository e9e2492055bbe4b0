/* Many findings, one verdict. Everything here presses what the form of the page has too, so
   whatever works here works without this file, one page at a time. */
(() => {
  const BEAT = 120_000; // ms between renewals while somebody works
  const STALE = 540_000; // ms without work after which others may have taken what is shown

  const byId = (id) => document.getElementById(id);
  const form = byId("grid-form");
  const trouble = byId("grid-trouble");
  const { all: keys, actionOf, isOurs, typing } = window.hardmine.keys;
  const { list, box, shown, open, chosen, set, all, settle, show, go, walk, enlarge, here } = window.hardmine.tiles;

  const say = (text) => {
    byId("grid-live").textContent = text;
    delete byId("grid-live").dataset.missing;
  };
  const missing = (text) => {
    say(text);
    byId("grid-live").dataset.missing = ""; // until something is selected
  };

  /* --- what was said, on its way to the server ---------------------------------------- */
  // Verdicts go through the outbox, so that none is lost; `jobs` has the tiles of each.
  const { outbox } = window.hardmine;
  const jobs = new Map(); // key -> tiles, while the answer is awaited
  let takenOut = null; // the key of what is being undone before it was sent

  const refresh = () => {
    show();
    if (jobs.size) byId("grid-empty").hidden = true; // the next batch comes with their answer
  };
  const receive = ({ said = "", decided = [], refused = {}, html, before, left, has_more: more }, tiles = []) => {
    const gone = new Set(decided.map(String));
    for (const tile of tiles) {
      if (gone.has(tile.dataset.id)) tile.remove();
      else tile.hidden = false;
    }
    if (html !== undefined) list.innerHTML = html;
    for (const [id, why] of Object.entries(refused)) refuse(id, why);
    if (before) list.insertAdjacentHTML("afterbegin", before);
    if (left) {
      byId("grid-left").textContent = left;
      byId("grid-more").hidden = !more;
      byId("grid-none").hidden = more;
    }
    settle();
    if (html !== undefined) returnTo();
    refresh();
    say(said);
    if (before) go(list.firstElementChild);
  };
  const refuse = (id, why) => {
    const tile = list.querySelector(`[data-id="${id}"]`);
    if (!tile) return;
    box(tile).checked = false;
    box(tile).disabled = true;
    tile.querySelector(".tile__why")?.remove();
    const reason = document.createElement("p");
    reason.className = "tile__why";
    reason.textContent = why;
    tile.append(reason);
  };
  document.addEventListener("outbox:answer", ({ detail: { entry, html } }) => {
    const tiles = jobs.get(entry.key);
    if (!tiles) return; // of another page
    jobs.delete(entry.key);
    receive(JSON.parse(html), tiles);
  });
  document.addEventListener("outbox:refused", ({ detail: { entry, text } }) => {
    const tiles = jobs.get(entry.key) ?? [];
    jobs.delete(entry.key);
    receive({ said: text }, tiles);
  });
  document.addEventListener("outbox:change", () => {
    const there = new Set(outbox.entries().map((entry) => entry.key));
    for (const [key, tiles] of jobs) {
      if (there.has(key) || key === takenOut) continue;
      jobs.delete(key); // another tab has sent it
      for (const tile of tiles) tile.remove();
      if (!open().length) next();
    }
    refresh();
  });

  /* What is asked for, not said: it can simply be asked again. */
  const ask = async (url) => {
    trouble.hidden = true;
    const [status, text] = await outbox.post(url, [["size", form.elements.size.value]]);
    if (status === 200) return receive(JSON.parse(text));
    const why = { 0: "The server cannot be reached.", 401: "You are signed out. Sign in in another tab, then try again." };
    if (status === 0 || status === 401 || status >= 500) {
      trouble.querySelector("span").textContent = why[status] ?? "The server could not do it just now.";
      trouble.hidden = false;
      trouble.querySelector("button").onclick = () => ask(url);
      return refresh();
    }
    return say(outbox.reason(text));
  };
  const next = () => ask(form.dataset.next);
  const undo = async () => {
    const last = [...jobs.keys()].at(-1);
    const tiles = jobs.get(last) ?? [];
    takenOut = last;
    if (!last || !(await outbox.takeOut(last))) return ask(form.dataset.undo);
    jobs.delete(last);
    for (const tile of tiles) tile.hidden = false;
    go(tiles[0]);
    refresh();
    return say(`${tiles.length} taken back before they were sent. Decide again.`);
  };

  /* --- a verdict ----------------------------------------------------------------------- */
  const label = form.elements.new_label;
  const decide = (verdict) => {
    let tiles = chosen();
    if (!tiles.length && verdict === "skip") tiles = open();
    if (!tiles.length) return missing(`Nothing is selected. Space selects one, ${keys.select_all || "All"} selects all.`);
    if (verdict === "relabel" && !label.value) return relabel();
    const fields = [["size", form.elements.size.value], ["verdict", verdict], ...tiles.map((tile) => ["finding", box(tile).value])];
    for (const name of ["causes", "note", "reason", "new_label"]) {
      fields.push(...new FormData(form).getAll(name).map((value) => [name, value]));
    }
    const rest = open().filter((tile) => !tiles.includes(tile));
    if (!rest.length) fields.push(["next", "1"]);
    const follows = rest.find((tile) => tiles[0].compareDocumentPosition(tile) & Node.DOCUMENT_POSITION_FOLLOWING) ?? rest.at(-1);
    if (verdict === "relabel") window.hardmine.rememberClass(label.value);
    for (const tile of tiles) tile.hidden = true;
    const key = outbox.uuid();
    jobs.set(key, tiles);
    outbox.add({ key, url: form.action, fields, what: `${verdict} ${tiles.length} findings`, n: tiles.length, link: window.location.href });
    clear();
    if (follows) go(follows);
    else document.activeElement.blur();
    refresh();
    return say("");
  };
  // The reason last chosen, here or on the desk; else the first, as on the desk.
  const memory = (() => {
    try {
      return window.sessionStorage;
    } catch {
      return null; // storage is switched off
    }
  })();
  // The desk is left by going back: then what was selected is selected again.
  const PLACE = `hardmine.grid.${form.action}`;
  let place = null; // while the tiles are still to come
  const leaveFor = (tile) => {
    const ids = (tiles) => tiles.map(({ dataset }) => dataset.id);
    const [at, all] = [shown().indexOf(tile), ids(shown())];
    // The one that is decided on the desk is gone: its neighbours come next.
    const near = [...all.slice(at), ...all.slice(0, at).reverse()];
    memory?.setItem(PLACE, JSON.stringify({ chosen: ids(chosen()), near }));
  };
  const comeBack = () => {
    place = JSON.parse(memory?.getItem(PLACE) ?? "null");
    memory?.removeItem(PLACE);
  };
  const returnTo = () => {
    if (!place) return;
    const { chosen: was, near } = place;
    place = null;
    set(open().filter(({ dataset }) => was.includes(dataset.id)), true);
    const tiles = new Map(shown().map((tile) => [tile.dataset.id, tile]));
    go(near.map((id) => tiles.get(id)).find(Boolean));
  };
  list.addEventListener("click", ({ target }) => {
    if (target.closest(".tile__open")) leaveFor(target.closest(".tile"));
  });
  const { reason } = form.elements;
  let usual = memory?.getItem("hardmine.reason") ?? reason.options[0].value;
  reason.addEventListener("change", () => {
    usual = reason.value;
    memory?.setItem("hardmine.reason", usual);
  });
  reason.value = usual;
  const clear = () => {
    reason.value = usual;
    setLabel("");
    for (const field of form.querySelectorAll(".grid-bar__causes input")) field.checked = false;
    form.elements.note.value = "";
    byId("grid-why").open = false;
  };
  const setLabel = (id) => {
    label.value = id;
    classes.value = label.selectedOptions[0]?.text ?? "";
  };
  const relabel = () => {
    if (!chosen().length) return decide("relabel"); // says what is missing
    const predicted = new Set(chosen().map((tile) => tile.dataset.predicted));
    if (predicted.size === 1 && !label.value) setLabel([...predicted][0]);
    classes.focus();
    return classes.select();
  };
  const act = {
    confirm: () => decide("confirm"),
    dismiss: () => decide("dismiss"),
    dismiss_as: () => form.elements.reason.focus(),
    flag: () => decide("flag"),
    skip: () => decide("skip"),
    relabel,
    undo,
    note: () => {
      byId("grid-why").open = true;
      byId("grid-note").focus();
    },
    select_all: all,
    enlarge,
    help: () => byId("grid-keys").showModal(),
  };
  const press = (action) => {
    const field = action?.startsWith("cause_") && form.querySelector(`[data-action="${action}"]`);
    if (field) {
      byId("grid-why").open = true;
      field.checked = !field.checked;
    } else act[action]?.();
    return Boolean(field || act[action]);
  };
  const classes = window.hardmine.combobox(form.querySelector("[data-combobox]"));
  form.addEventListener("chosen", () => decide("relabel"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { value, id } = event.submitter ?? {};
    if (id === "grid-more") next();
    else if (value === "undo") undo();
    else decide(value);
  });
  byId("grid-all").addEventListener("click", all);
  byId("grid-help").addEventListener("click", act.help);
  window.addEventListener("online", () => {
    if (!trouble.hidden) trouble.querySelector("button").click();
  });

  /* --- keys ------------------------------------------------------------------------------ */
  const inField = (event) => {
    if (event.key === "Escape") go(here());
    else if (event.key === "Enter" && event.target === form.elements.reason) {
      event.preventDefault();
      decide("dismiss");
    }
  };
  const onTile = (event) => {
    if (event.target.closest("a, button, summary") || !here()) return false;
    if (event.key === "Enter") here().querySelector(".tile__open").click();
    else if (event.key === " " && !list.contains(event.target)) go(here());
    else return false;
    return true;
  };
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    if (typing(event.target)) {
      inField(event);
    } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      event.preventDefault();
      set(open(), true);
    } else if (walk(event) || (isOurs(event) && (onTile(event) || press(actionOf(event))))) {
      event.preventDefault();
    }
  });

  /* --- what is shown is held --------------------------------------------------------------- */
  let worked = Date.now();
  for (const kind of ["keydown", "pointerdown"]) {
    document.addEventListener(kind, () => {
      if (Date.now() - worked > STALE && !jobs.size) next();
      worked = Date.now();
    }, true);
  }
  setInterval(() => {
    if (Date.now() - worked < BEAT && open().length) outbox.post(form.dataset.renew, []);
  }, BEAT);
  window.addEventListener("pagehide", () => {
    // What waits to be sent stays held; else somebody could take it before it arrives.
    if (!shown().length || outbox.entries().length) return;
    const body = new FormData();
    body.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    body.append("beacon", "1");
    navigator.sendBeacon(form.dataset.release, body);
  });
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    comeBack();
    next(); // what it held was given back when it was left
  });
  byId("grid-all").hidden = false;
  byId("grid-help").hidden = false;
  comeBack();
  settle();
  next();
})();
