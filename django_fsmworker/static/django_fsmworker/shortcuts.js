/* Shortcuts of single keys on the pages of rows with a life. Without this script all works the same. */
"use strict";
(() => {
    const KEPT = "fsmworker-shortcuts";
    const FIELDS = "input, textarea, select, [contenteditable]";
    const SECTIONS = "section.fsmworker-row > h2";
    const ROWS = `${SECTIONS}, section.fsmworker-row tbody tr`;

    const found = (id) => document.getElementById(id);
    const dialog = () => found("fsmworker-shortcuts");

    // Where storage is blocked the choice holds for this page.
    let on = true;
    try {
        on = localStorage.getItem(KEPT) !== "off";
    } catch {}

    function turn(value) {
        on = value;
        try {
            localStorage.setItem(KEPT, on ? "on" : "off");
        } catch {}
    }

    function focus(thing) {
        thing?.focus();
        return thing;
    }

    /* Focus the next of these that can be seen, or the one before; the page is scrolled there. */
    function go(selector, step) {
        const here = document.activeElement;
        const seen = [...document.querySelectorAll(selector)].filter((each) => each.getClientRects().length);
        const isBefore = (each) => each.compareDocumentPosition(here) & Node.DOCUMENT_POSITION_FOLLOWING;
        const at = seen.findLastIndex((each) => each.contains(here) || isBefore(each));
        const next = step > 0 ? seen[at + 1] : seen[seen[at]?.contains(here) ? at - 1 : at];
        if (next) next.tabIndex = -1;
        return focus(next);
    }

    // Each returns something if the page has what it is for.
    const VERBS = {
        "r": () => dialog() && (location.reload(), true),
        "j": () => go(ROWS, 1),
        "k": () => go(ROWS, -1),
        "n": () => go(SECTIONS, 1),
        "p": () => go(SECTIONS, -1),
        "/": () => focus(found("searchbar")),
        "?": () => dialog() && (dialog().showModal(), true),
    };

    function press(event) {
        if (!on || event.defaultPrevented || event.isComposing) return;
        if (event.ctrlKey || event.altKey || event.metaKey) return;
        if (event.target.closest?.(FIELDS) || document.querySelector("dialog[open]")) return;
        // Otherwise the key would be typed into the field that it leads to.
        if (Object.hasOwn(VERBS, event.key) && VERBS[event.key]()) event.preventDefault();
    }

    function prepare() {
        const opens = found("fsmworker-shortcuts-open");
        const chosen = found("fsmworker-shortcuts-on");
        if (!opens || !chosen) return;
        chosen.checked = on;
        chosen.addEventListener("change", () => turn(chosen.checked));
        opens.addEventListener("click", () => dialog().showModal());
        opens.hidden = false;
    }

    document.addEventListener("keydown", press);
    document.addEventListener("DOMContentLoaded", prepare);
})();
