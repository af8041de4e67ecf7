// The pages work without this. It submits a complete code, adds a countdown to "Send again",
// reads codes from text messages where the browser can (WebOTP), and stops double submits. It leaves other parts of the
// app's layout alone.
(() => {
  "use strict";

  const again = document.querySelector("button[data-resend-in]");
  let countDown = () => {};

  if (again) {
    const label = again.textContent;
    const status = again.form.querySelector("[role=status]");
    const ready = Date.now() + 1000 * Number(again.dataset.resendIn);
    let timer = 0;
    countDown = () => {
      const left = Math.ceil((ready - Date.now()) / 1000);
      again.disabled = left > 0;
      if (left > 0) {
        const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
        again.textContent = again.dataset.wait.replace("{}", clock);
        timer ||= setInterval(countDown, 1000);
      } else if (timer) {
        clearInterval(timer);
        timer = 0;
        again.textContent = label;
        status.textContent = again.dataset.ready; // said once, when it is news
      }
    };
  }

  let isUnderWay = false;
  const release = () => {
    isUnderWay = false;
    for (const button of document.querySelectorAll(".otp form button")) button.disabled = false;
    countDown();
  };
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || !event.target.closest(".otp")) return;
    isUnderWay = true;
    setTimeout(() => {
      for (const button of event.target.querySelectorAll("button")) button.disabled = true;
    });
    setTimeout(release, 10000); // the answer never came: let them try again
  });
  addEventListener("pageshow", release); // also when the page comes back from the history

  for (const button of document.querySelectorAll("[data-print], [data-copy]")) {
    if ("copy" in button.dataset && !navigator.clipboard) continue; // only where the page is safe
    button.hidden = false;
    button.addEventListener("click", () => {
      if ("print" in button.dataset) return print();
      const lines = document.querySelectorAll(`#${button.dataset.copy} li`);
      navigator.clipboard.writeText([...lines].map((line) => line.textContent.trim()).join("\n"))
        .then(() => { button.parentElement.querySelector("[role=status]").textContent = button.dataset.done; })
        .catch(() => {}); // refused: people can select the text
    });
  }

  const code = document.querySelector("input[autocomplete=one-time-code]");

  // Only where the page says so: a box beside the code must be ticked before.
  const length = Number(code?.dataset.submitsAt);
  let tried = "";
  const submitOnce = () => {
    const typed = code.value.normalize("NFKC").match(/[\p{L}\p{N}]/gu) ?? [];
    const isComplete = typed.length === length;
    const isNew = typed.join("") !== tried; // after a failure the same code is not sent twice
    tried = isComplete ? typed.join("") : "";
    if (isComplete && isNew && !isUnderWay) code.form.requestSubmit();
  };
  if (length) {
    code.form.querySelector("[data-submits]").hidden = false; // people are told before
    code.addEventListener("input", (event) => { if (!event.isComposing) submitOnce(); });
    code.addEventListener("compositionend", submitOnce);
  }

  if (code && "OTPCredential" in window) {
    const abort = new AbortController();
    document.addEventListener("submit", () => abort.abort());
    navigator.credentials.get({ otp: { transport: ["sms"] }, signal: abort.signal })
      .then((message) => {
        if (!message) return;
        code.value = message.code;
        if (length) submitOnce();
      })
      .catch(() => {}); // refused, aborted or timed out: people can type
  }
})();
