/* Which action a key means here. The page brings the keys as JSON: action -> key. */
(() => {
  const element = document.getElementById("keys");
  const keys = element ? JSON.parse(element.textContent) : {};
  const actions = new Map(
    Object.entries(keys).filter(([, key]) => key).map(([action, key]) => [key, action]),
  );

  const actionOf = (event) => {
    const written = event.key.toLowerCase();
    if (actions.has(written)) return actions.get(written);
    // Digits need shift on some layouts; letters have another place only where the
    // layout has no Latin letters, not on Dvorak.
    const [, letter, digit] = /^(?:Key([A-Z])|(?:Digit|Numpad)(\d))$/.exec(event.code) ?? [];
    if (digit) return actions.get(digit);
    return letter && !/^[\x21-\x7e]$/.test(event.key) ? actions.get(letter.toLowerCase()) : undefined;
  };

  const typing = (target) =>
    target.matches("textarea, select, input:not([type=checkbox], [type=radio])") || target.isContentEditable;

  /* A key of this page: none with a modifier, in a field, under a dialog or on repeat. */
  const isOurs = (event) =>
    !(event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) &&
    !typing(event.target) && !document.querySelector("dialog[open]");

  window.hardmine = { ...window.hardmine, keys: { all: keys, actionOf, isOurs, typing } };
})();
