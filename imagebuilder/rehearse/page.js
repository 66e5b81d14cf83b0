"use strict";
// Shows some of the checks: by verdict, which the page's address keeps (page.html#failed), and by words.
(() => {
  const form = document.getElementById("filter");
  const search = form.querySelector("input");
  const unfold = document.getElementById("unfold");
  const buttons = [...form.querySelectorAll("[data-show]")];
  const checks = [...document.querySelectorAll(".check")];
  const contents = new Map(checks.map((check) => [check, check.textContent.toLowerCase()]));
  let verdict = "";

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const check of checks) {
      const fits = !verdict || check.dataset.verdict === verdict;
      check.hidden = !(fits && words.every((word) => contents.get(check).includes(word)));
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector(".check:not([hidden])");
    }
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.show === verdict));
    }
    const shown = checks.filter((check) => !check.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${checks.length} shown`;
  }

  function follow() {
    const fragment = location.hash.slice(1);
    const isVerdict = buttons.some((button) => button.dataset.show === fragment);
    const check = checks.find((one) => one.id === fragment);
    if (isVerdict || check) {
      verdict = isVerdict ? fragment : "";
    }
    if (check) {
      search.value = "";
    }
    show();
    if (isVerdict && fragment) {
      document.getElementById("checks").scrollIntoView();
    } else if (check) {
      check.querySelector("details")?.setAttribute("open", "");
      check.scrollIntoView();
    }
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      verdict = button.dataset.show;
      history.replaceState(null, "", `#${verdict || "checks"}`);
      show();
    });
  }
  unfold.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") === "false";
    unfold.setAttribute("aria-pressed", String(open));
    for (const details of document.querySelectorAll(".check details")) {
      details.open = open;
    }
  });
  search.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", follow);
  form.hidden = false;
  follow();
})();
